//! The client keeps its position as the protocol says, against a gateway that says what the test wants.

use serde_json::{Value, json};

use super::page::Page;
use super::scripted::{Line, Scripted, at};

/// A page with a client of bob, and its socket, welcomed at 10.
async fn open(scripted: &Scripted, options: Value) -> (Page, Line) {
    let page = Page::open(&[scripted.address()]).await;
    let mut all = json!({"user": "bob", "transport": "websocket", "minBackoffMs": 1, "maxBackoffMs": 5});
    for (name, value) in options.as_object().expect("options") {
        all[name] = value.clone();
    }
    // The first one on the page: the test finds it by `bob`.
    page.listen_with(all).await;
    let line = scripted.welcome(10).await;
    (page, line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_position_moves_as_the_protocol_says_and_never_otherwise() {
    let scripted = Scripted::start().await;
    let (page, mut line) = open(&scripted, json!({})).await;
    let bob = page.client(0);
    assert_eq!((line.path.as_str(), line.offered.as_str()), ("/ws/bob", "notify.v1"));
    assert_eq!((line.parameter("ack"), line.parameter("after")), (Some("client"), None));
    bob.until_position(&at(10)).await;

    line.notify(12, 10).await;
    // Duplicates: the same once more, and one from before.
    line.notify(12, 10).await;
    line.notify(11, 10).await;
    // None of these has a place that counts.
    line.say(json!({"type": "heartbeat", "position": at(90)})).await;
    line.say(json!({"type": "novelty", "position": at(91), "until": at(91)})).await;
    line.say(json!({"type": "refreshed", "expires_at": "2026-11-23T01:49:59Z"})).await;
    let id = "01a205e1-9e13-7d2c-8e1f-5a4b6c7d8e9f";
    line.say(json!({"type": "notification", "id": id, "sent_at": "2026-11-23T00:50:06.547Z", "body": "all", "topic": "*"}))
        .await;
    bob.until_texts(2).await;
    assert_eq!(bob.property("position").await, at(12));
    // Behind a place from before: no hole.
    line.notify(15, 9).await;
    bob.until_position(&at(15)).await;
    assert_eq!(bob.texts().await, ["12", "all", "15"]);

    let mut until = 15;
    let reasons = ["overflow", "expired", "withdrawn", "collapsed", "acked"];
    for reason in reasons {
        until += 2;
        let gap = json!({"type": "gap", "after": at(until - 2), "until": at(until), "reason": reason});
        line.say(gap).await;
    }
    bob.until_position(&at(25)).await;
    line.say(json!({"type": "gap", "after": at(25), "until": at(30), "count": 3, "reason": "overflow"}))
        .await;
    line.notify(31, 30).await;
    bob.until_position(&at(31)).await;
    let gaps = bob.events("gap").await;
    let losses: Vec<_> = gaps.iter().map(|gap| (&gap["reason"], &gap["isLoss"])).collect();
    let expected: Vec<_> =
        reasons.iter().map(|reason| (json!(reason), json!(*reason == "overflow"))).collect();
    assert_eq!(losses[..5], expected.iter().map(|(reason, loss)| (reason, loss)).collect::<Vec<_>>());
    let last = &gaps[5];
    assert_eq!((&last["type"], &last["count"]), (&json!("gap"), &json!(3)));
    assert_eq!((&last["after"], &last["until"]), (&json!(at(25)), &json!(at(30))));
    line.hear_ack(31).await;
    page.close(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_that_nobody_announced_is_asked_for_again() {
    let scripted = Scripted::start().await;
    let (page, mut line) = open(&scripted, json!({})).await;
    let bob = page.client(0);
    line.notify(12, 10).await;
    line.notify(20, 18).await;
    line.gone().await;
    let mut line = scripted.accept().await;
    assert_eq!(line.parameter("after"), Some(at(12).as_str()));
    line.welcome(12).await;
    line.notify(18, 12).await;
    line.notify(20, 18).await;
    assert_eq!(bob.until_texts(3).await, ["12", "18", "20"]);
    let ack = line.hear_ack(20).await;
    assert_eq!(ack["after"], at(10), "where its unbroken reading began: {ack}");
    page.close(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_epoch_is_a_loss_that_is_told_even_if_the_connection_breaks_before_the_gap() {
    const OTHER: &str = "d0qnsdn0y03pk";
    let scripted = Scripted::start().await;
    let (page, mut line) = open(&scripted, json!({})).await;
    let bob = page.client(0);
    line.notify(12, 10).await;
    line.hear_ack(12).await;
    line.close(1011, "internal_error").await;

    let welcome = json!({
        "type": "welcome", "session": "1", "user": "bob", "heartbeat_ms": 25_000,
        "position": format!("{OTHER}-1"), "head": format!("{OTHER}-3"),
    });
    let gap = json!({"type": "gap", "after": at(12), "until": format!("{OTHER}-1"), "reason": "epoch"});
    let mut line = scripted.accept().await;
    assert_eq!(line.parameter("after"), Some(at(12).as_str()));
    line.say(welcome.clone()).await;
    bob.until_events("welcome", 2).await;
    line.close(1011, "internal_error").await;

    let mut line = scripted.accept().await;
    let again = line.parameter("after").map(str::to_owned);
    line.say(welcome).await;
    if again == Some(at(12)) {
        line.say(gap).await;
    }
    let place = |number: u64| format!("{OTHER}-{number}");
    // The first came before, at another position, and has the id that it had.
    for (number, body, id) in [(2, "12", "000000000012"), (3, "new", "000000000013")] {
        line.say(json!({
            "type": "notification", "position": place(number), "prev": place(number - 1), "body": body,
            "id": format!("01a205e1-959c-75a4-8ff2-{id}"), "sent_at": "2026-11-23T00:50:06.547Z",
        }))
        .await;
    }
    assert_eq!(bob.until_texts(2).await, ["12", "new"]);
    let gaps = bob.events("gap").await;
    assert_eq!(gaps.len(), 1, "the loss is told once: {gaps:?}");
    assert_eq!((&gaps[0]["reason"], &gaps[0]["isLoss"]), (&json!("epoch"), &json!(true)));
    bob.until_position(&place(3)).await;
    page.close(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_go_in_batches_and_a_client_that_leaves_says_its_last_one() {
    const MANY: u64 = 500;
    let scripted = Scripted::start().await;
    let (page, mut line) = open(&scripted, json!({})).await;
    for number in 11..=10 + MANY {
        line.notify(number, number - 1).await;
    }
    let mut acks = 1;
    while line.hear().await.expect("the client is there")["position"] != at(10 + MANY) {
        acks += 1;
    }
    assert!(acks <= MANY / 10, "{acks} acks for {MANY} notifications");

    // It leaves while it is told the last one: that is dealt with once its listener returns, and no ack went out by itself yet.
    let leave = "receivers.get(arguments[0]).client.addEventListener('notification', \
                 ({ target, detail }) => detail.body === arguments[1] && target.close())";
    let (first, second) = (11 + MANY, 12 + MANY);
    page.browser.run(leave, json!([page.client(0).name(), second.to_string()])).await;
    line.notify(first, first - 1).await;
    line.notify(second, first).await;
    let last_words = line.gone().await;
    assert_eq!(last_words.last().expect("an ack")["position"], at(second), "{last_words:?}");
    page.client(0).until_state("closed").await;
    page.close(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_acks_by_hand_acks_what_he_says_and_everything_before() {
    let scripted = Scripted::start().await;
    let (page, mut line) = open(&scripted, json!({"ack": "manual"})).await;
    let bob = page.client(0);
    for number in 11..=15 {
        line.notify(number, number - 1).await;
    }
    bob.until_texts(5).await;
    assert_eq!(bob.property("position").await, at(10), "nothing was dealt with yet");
    bob.call("ack", json!([at(12)])).await;
    bob.until_position(&at(12)).await;
    assert_eq!(line.hear().await.expect("an ack")["position"], at(12));
    // An old one changes nothing, and a notification is a place, too.
    bob.call("ack", json!([at(11)])).await;
    let newest = bob.events("notification").await[3].clone();
    bob.call("ack", json!([newest])).await;
    bob.until_position(&at(14)).await;
    let acks = line.hear_ack(14).await;
    assert_eq!(acks["type"], "ack");

    // What was told is not told again, whether it was acked or not.
    line.close(1011, "internal_error").await;
    let mut line = scripted.accept().await;
    let resumed = line.parameter("after").expect("a position").to_owned();
    assert!([at(14), at(15)].contains(&resumed), "{resumed}");
    line.welcome(if resumed == at(14) { 14 } else { 15 }).await;
    if resumed == at(14) {
        line.notify(15, 14).await;
    }
    line.notify(16, 15).await;
    assert_eq!(bob.until_texts(6).await, ["11", "12", "13", "14", "15", "16"]);
    assert_eq!(bob.property("position").await, at(14));
    page.close(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_welcome_beyond_its_place_moves_no_client_that_has_one() {
    let scripted = Scripted::start().await;
    let (page, mut line) = open(&scripted, json!({})).await;
    let bob = page.client(0);
    line.notify(12, 10).await;
    line.hear_ack(12).await;
    line.close(1011, "internal_error").await;
    let mut line = scripted.welcome(15).await;
    bob.until_events("welcome", 2).await;
    assert_eq!(bob.property("position").await, at(12));
    // What lies between is announced, or it is a hole.
    line.say(json!({"type": "gap", "after": at(12), "until": at(15), "count": 2, "reason": "expired"})).await;
    line.notify(16, 15).await;
    assert_eq!(bob.until_texts(2).await, ["12", "16"]);
    assert_eq!(bob.events("gap").await.len(), 1);
    line.close(1011, "internal_error").await;

    let mut line = scripted.welcome(18).await;
    line.notify(19, 18).await;
    line.gone().await;
    let line = scripted.accept().await;
    assert_eq!(line.parameter("after"), Some(at(16).as_str()), "the hole is asked for again");
    page.close(&[]).await;
}
