//! Where a client begins: what the page asks for, and what was kept of an earlier one.

use serde_json::{Value, json};

use super::BROKEN_LINES;
use super::page::Page;
use super::proxy::{Proxy, Trouble};
use crate::harness::Gateway;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_anywhere_loads_the_client_from_the_gateway_that_it_then_talks_to() {
    let gateway = Gateway::start().await;
    let page = Page::open(&[gateway.address()]).await;
    let load = "const { NotificationClient } = await import(arguments[0]); \
         window.client = new NotificationClient({ user: 'bob' }); window.heard = []; \
         client.addEventListener('notification', ({ detail }) => heard.push(detail.body)); return client.url";
    let origin = format!("http://{}", gateway.address());
    let url = page.browser.run_async(load, json!([format!("{origin}/client.js")])).await;
    assert_eq!(url, origin);
    gateway.send_text("bob", "hello").await;
    page.browser.until("the text", "heard.includes('hello')", json!([])).await;
    page.close(&[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_place_begins_where_the_page_says() {
    let gateway = Gateway::start().await;
    let mut positions = Vec::new();
    for text in ["one", "two", "three"] {
        positions.push(gateway.send_text("bob", text).await.position());
    }
    gateway.ack("bob", &positions[0]).await;
    let page = Page::open(&[gateway.address()]).await;
    // By hand: what one of them has read the next one finds as it was.
    let beginning = |after: Value| json!({"user": "bob", "ack": "manual", "after": after});

    let start = page.listen_with(beginning(json!("start"))).await;
    assert_eq!(start.until_texts(3).await, ["one", "two", "three"]);
    let behind = page.listen_with(beginning(json!(positions[1]))).await;
    assert_eq!(behind.until_texts(1).await, ["three"]);
    let unacked = page.listen_with(json!({"user": "bob", "ack": "manual"})).await;
    assert_eq!(unacked.until_texts(2).await, ["two", "three"]);
    let now = page.listen_with(beginning(json!("now"))).await;
    now.until_state("open").await;
    gateway.send_text("bob", "four").await;
    assert_eq!(now.until_texts(1).await, ["four"]);
    assert_eq!(start.until_texts(4).await, ["one", "two", "three", "four"]);
    page.close(&[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_loaded_anew_goes_on_behind_what_was_dealt_with() {
    let gateway = Gateway::start().await;
    let page = Page::open(&[gateway.address()]).await;
    // What it begins with counts only while nothing is kept.
    let automatic = json!({"user": "bob", "storage": "bob's place", "after": "start"});
    let first = page.listen_with(automatic.clone()).await;
    gateway.send_text("bob", "one").await;
    let two = gateway.send_text("bob", "two").await;
    first.until_texts(2).await;
    gateway.until_acked("bob", &two.position()).await;
    page.reload().await;
    let second = page.listen_with(automatic).await;
    gateway.send_text("bob", "three").await;
    assert_eq!(second.until_texts(1).await, ["three"]);

    let by_hand = json!({"user": "ann", "storage": "ann's place", "ack": "manual"});
    let third = page.listen_with(by_hand.clone()).await;
    for text in ["one", "two", "three"] {
        gateway.send_text("ann", text).await;
    }
    third.until_texts(3).await;
    let first_of_ann = third.events("notification").await[0].clone();
    third.call("ack", json!([first_of_ann])).await;
    gateway.until_acked("ann", first_of_ann["position"].as_str().expect("a position")).await;
    // The page goes away at once: what it keeps was kept before.
    page.reload().await;
    let fourth = page.listen_with(by_hand).await;
    assert_eq!(fourth.until_texts(2).await, ["two", "three"], "what was not dealt with comes again");
    assert_eq!(fourth.property("position").await, first_of_ann["position"]);
    page.close(&[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_the_pages_own_is_asked_once_and_told_of_every_place() {
    let gateway = Gateway::start().await;
    let one = gateway.send_text("bob", "one").await;
    gateway.send_text("bob", "two").await;
    let page = Page::open(&[gateway.address()]).await;
    let bob = page.name_client();
    let listen = "const [name, options, position] = arguments; window.kept = { loads: 0, saved: [], cleared: 0 }; \
         const store = { async load() { kept.loads++; return { position, since: position } }, \
                         save(bookmark) { kept.saved.push(bookmark) }, clear() { kept.cleared++ } }; \
         page.listen(name, { ...options, store })";
    let options = json!({"user": "bob", "url": format!("http://{}", gateway.address())});
    page.browser.run(listen, json!([bob.name(), options.clone(), one.position()])).await;
    let last = gateway.send_text("bob", "three").await;
    assert_eq!(bob.until_texts(2).await, ["two", "three"], "behind the place that was kept");
    let saved = "kept.saved.find(({ position }) => position === arguments[0])";
    let saved = page.browser.until("the last place", saved, json!([last.position()])).await;
    assert_eq!((&saved["position"], &saved["since"]), (&json!(last.position()), &json!(one.position())));
    assert_eq!(page.browser.run("return kept.loads", json!([])).await, 1);
    let resumed = format!("after={}", one.position());
    let requests = page.browser.sights().await.requests;
    assert!(requests.iter().any(|url| url.contains(&resumed)), "{requests:#?}");
    assert_eq!(page.browser.run("return kept.cleared", json!([])).await, 0);

    let late = page.name_client();
    page.browser.run(listen, json!([late.name(), options, "0000000000000-7"])).await;
    late.until_events("gap", 1).await;
    page.browser.until("the store to be cleared", "kept.cleared === 1", json!([])).await;
    page.close(&[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_of_somebody_else_is_none_and_one_that_means_nothing_any_more_is_forgotten() {
    let gateway = Gateway::start().await;
    let page = Page::open(&[gateway.address()]).await;
    let one = gateway.send_text("bob", "one").await.position();
    gateway.send_text("bob", "two").await;
    let keep = |bookmark: Value| {
        let keep = "localStorage.setItem('shared', JSON.stringify(arguments[0]))";
        page.browser.run(keep, json!([bookmark]))
    };
    let listen = async |expected: &[&str]| {
        let bob = page.listen_with(json!({"user": "bob", "storage": "shared", "ack": "manual"})).await;
        assert_eq!(bob.until_texts(expected.len()).await, expected);
        let gaps = bob.events("gap").await;
        bob.close().await;
        gaps
    };
    keep(json!({"position": one, "since": one, "user": "ann"})).await;
    assert_eq!(listen(&["one", "two"]).await, [] as [Value; 0]);
    keep(json!({"position": one, "since": one})).await;
    assert_eq!(
        listen(&["two"]).await,
        [] as [Value; 0],
        "one that says nothing of a user is the client's own"
    );

    let old = "0000000000000-7";
    keep(json!({"position": old, "since": old, "user": "bob"})).await;
    let gaps = listen(&["one", "two"]).await;
    assert_eq!((&gaps[0]["reason"], &gaps[0]["after"]), (&json!("epoch"), &json!(old)), "the loss is told");
    let kept = page.browser.run("return localStorage.getItem('shared')", json!([])).await;
    assert!(!kept.to_string().contains(old), "{kept}");
    for nonsense in [json!("no bookmark"), json!({"position": 7}), json!({"position": "x", "since": "y"})] {
        keep(nonsense).await;
        assert_eq!(listen(&["one", "two"]).await, [] as [Value; 0]);
    }
    page.close(&[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_of_one_user_each_receive_everything_and_an_ack_in_one_is_the_users() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.address());
    let page = Page::open(&[gateway.address(), proxy.address()]).await;
    // One store for both, as tabs of one page have it.
    let left = page.browser.tab().await;
    let bob = page
        .listen_with(json!({
            "user": "bob", "storage": "bob", "url": proxy.url(), "minBackoffMs": 1, "maxBackoffMs": 20,
        }))
        .await;
    bob.until_state("open").await;
    let right = page.open_tab().await;
    let other = page.listen_with(json!({"user": "bob", "storage": "bob"})).await;
    other.until_state("open").await;
    gateway.until_sessions("bob", 2).await;
    gateway.send_text("bob", "one").await;
    gateway.send_text("bob", "two").await;
    other.until_texts(2).await;
    page.browser.switch_to(&left).await;
    bob.until_texts(2).await;

    // One tab is away while the other one goes on, and the place that they share with it.
    proxy.refuse().await;
    proxy.strike(Trouble::Reset);
    bob.until_state("waiting").await;
    let three = gateway.send_text("bob", "three").await;
    gateway.until_outcome(&three, "acked", 1).await;
    page.browser.switch_to(&right).await;
    assert_eq!(other.until_texts(3).await, ["one", "two", "three"]);
    page.browser.switch_to(&left).await;
    proxy.forward();
    assert_eq!(
        bob.until_texts(3).await,
        ["one", "two", "three"],
        "its own place counts, not the other tab's"
    );
    assert_eq!(gateway.user("bob").await.body["pending"], 0);
    assert_eq!(bob.events("gap").await, [] as [Value; 0]);
    page.close(&BROKEN_LINES).await;
    drop(proxy);
    gateway.stop().await;
}
