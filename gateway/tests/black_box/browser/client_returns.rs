//! When the client comes back, and when it does not: every way a connection can end.

use std::ops::RangeInclusive;

use serde_json::json;

use super::BROKEN_LINES;
use super::page::Page;
use super::scripted::Scripted;

/// So long that nobody who waits for it comes back within a test.
const FOR_EVER_MS: u64 = 1_000_000_000;

/// As long as a drain may say, and longer than a test waits for anything.
const MINUTES_MS: u64 = 240_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_comes_back_at_once_or_later_as_the_code_says() {
    let scripted = Scripted::start().await;
    let page = Page::open(&[scripted.address()]).await;
    let patient = |user: &str, pause: u64| json!({"user": user, "transport": "websocket", "minBackoffMs": pause, "maxBackoffMs": pause});

    for code in [4205, 4250] {
        let bob = page.listen_with(patient("bob", FOR_EVER_MS)).await;
        scripted.welcome(10).await.close(code, "at_once").await;
        let line = scripted.welcome(10).await;
        assert_eq!(bob.until_told("open", 2).await["transport"], "websocket");
        bob.close().await;
        drop(line);
    }
    for code in [1011, 1013, 4108, 4112, 4150] {
        let bob = page.listen_with(patient("bob", FOR_EVER_MS)).await;
        scripted.welcome(10).await.close(code, "later").await;
        let waiting = bob.until_told("waiting", 1).await;
        assert_eq!((&waiting["code"], &waiting["reason"]), (&json!(code), &json!("later")));
        let pause = waiting["retryInMs"].as_f64().expect("a pause");
        assert!((0.0..=FOR_EVER_MS as f64).contains(&pause), "{waiting}");
        bob.close().await;
        bob.until_state("closed").await;

        let impatient = page.listen_with(patient("ann", 5)).await;
        scripted.welcome(10).await.close(code, "later").await;
        let line = scripted.welcome(10).await;
        assert_eq!(line.path, "/ws/ann", "nobody else has come");
        impatient.until_told("open", 2).await;
        impatient.close().await;
    }
    page.close(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pauses_grow_up_to_the_longest_and_are_of_any_length_below() {
    const SHORTEST_MS: f64 = 8.0;
    const LONGEST_MS: f64 = 64.0;
    let scripted = Scripted::start().await;
    let page = Page::open(&[scripted.address()]).await;
    let options = json!({"user": "bob", "transport": "websocket", "minBackoffMs": SHORTEST_MS, "maxBackoffMs": LONGEST_MS});
    let bob = page.listen_with(options).await;
    for _ in 0..8 {
        scripted.hang_up().await;
    }
    let _line = scripted.welcome(10).await;
    bob.until_state("open").await;
    let waits = bob.events("state").await;
    let pauses: Vec<f64> = waits.iter().filter_map(|told| told["retryInMs"].as_f64()).collect();
    assert_eq!(pauses.len(), 8, "{waits:?}");
    let mut highest = SHORTEST_MS;
    for pause in &pauses {
        assert!((0.0..=highest).contains(pause), "beyond {highest}: {pauses:?}");
        highest = (highest * 2.0).min(LONGEST_MS);
    }
    assert!(pauses.iter().any(|pause| *pause > SHORTEST_MS), "they never grow: {pauses:?}");
    // The last ones have the same limit.
    assert!(pauses[4..].iter().any(|pause| *pause != pauses[4]), "a crowd would come as one: {pauses:?}");
    page.close(&BROKEN_LINES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_comes_back_when_a_drain_says() {
    let scripted = Scripted::start().await;
    let page = Page::open(&[scripted.address()]).await;
    for code in [1012, 1013] {
        for (pause, told_ms) in [(1, MINUTES_MS), (FOR_EVER_MS, 30)] {
            let options = json!({
                "user": "bob", "transport": "websocket", "minBackoffMs": pause, "maxBackoffMs": pause,
            });
            let bob = page.listen_with(options).await;
            // Whoever is told to come back before it could begin gets no welcome.
            let mut line = if code == 1012 { scripted.welcome(10).await } else { scripted.accept().await };
            line.say(json!({"type": "drain", "reconnect_in_ms": told_ms})).await;
            line.close(code, "later").await;
            let waiting = bob.until_told("waiting", 1).await;
            assert_eq!(waiting["code"], code);
            let about: RangeInclusive<f64> = told_ms as f64 * 0.9 - 30.0..=told_ms as f64;
            assert!(waiting["retryInMs"].as_f64().is_some_and(|pause| about.contains(&pause)), "{waiting}");
            if told_ms < MINUTES_MS {
                scripted.welcome(10).await;
                bob.until_told("open", usize::from(code == 1012) + 1).await;
            }
            bob.close().await;
        }
    }
    page.close(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fatal_code_ends_it_for_good_and_says_why() {
    let scripted = Scripted::start().await;
    let page = Page::open(&[scripted.address()]).await;
    let options =
        |user: &str| json!({"user": user, "transport": "websocket", "minBackoffMs": 1, "maxBackoffMs": 1});
    for (code, reason) in
        [(4003, "forbidden"), (4009, "too_many_sessions"), (4010, "disconnected"), (4042, "of_another_day")]
    {
        let bob = page.listen_with(options("bob")).await;
        scripted.welcome(10).await.close(code, reason).await;
        let closed = bob.until_told("closed", 1).await;
        let error = &closed["error"];
        assert_eq!(error["name"], "ConnectionRefused", "{closed}");
        assert_eq!((&error["code"], &error["reason"]), (&json!(code), &json!(reason)));
        assert_eq!(bob.property("state").await, "closed");
        // Neither a network that comes back nor a click brings it back.
        page.browser.run("window.dispatchEvent(new Event('online'))", json!([])).await;
        bob.call("resume", json!([])).await;
        let other = page.listen_with(options("ann")).await;
        let line = scripted.welcome(10).await;
        assert_eq!(line.path, "/ws/ann", "{code} came back");
        other.until_state("open").await;
        other.close().await;
    }
    page.close(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_comes_back_is_tried_at_once() {
    let scripted = Scripted::start().await;
    let page = Page::open(&[scripted.address()]).await;
    let options = json!({
        "user": "bob", "transport": "websocket", "minBackoffMs": FOR_EVER_MS, "maxBackoffMs": FOR_EVER_MS,
    });
    let bob = page.listen_with(options).await;
    let line = scripted.welcome(10).await;
    bob.until_state("open").await;
    page.browser.go_offline().await;
    drop(line);
    bob.until_state("waiting").await;
    page.browser.go_online().await;
    let mut line = scripted.welcome(10).await;
    bob.until_told("open", 2).await;

    // Whether a line survived nobody can tell: a new one takes its place, and the old one is left.
    page.browser.go_offline().await;
    page.browser.go_online().await;
    let _next = scripted.welcome(10).await;
    bob.until_told("open", 3).await;
    line.gone().await;
    page.close(&BROKEN_LINES).await;
}
