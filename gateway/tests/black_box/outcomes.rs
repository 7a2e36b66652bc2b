//! What became of a notification: every state that a recipient's can be in, and how long it can be asked for.

use std::time::Duration;

use gateway::clock::Clock;
use gateway::domain::OverflowPolicy;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Answer, Gateway, SOME_TIME_US};

/// An outcome without those counts that are 0.
fn counts(outcome: &Value) -> Value {
    let mut counts = outcome["counts"].clone();
    counts.as_object_mut().expect("an outcome has counts").retain(|_, count| *count != 0);
    counts
}

async fn send_waiting(gateway: &Gateway, query: &str, notification: &Value) -> Answer {
    let request = gateway.request(Method::POST, &format!("/v1/notifications?{query}"));
    Answer::of(request.json(notification)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_is_pending_until_each_recipient_acked_it() {
    let gateway = Gateway::start().await;
    let sent = gateway.send(json!({"to": ["bob", "carol"], "body": "news"})).await.accepted();
    let pending = gateway.outcome(&sent).await;
    assert_eq!(pending.status, 200);
    let expected = json!({
        "id": sent.body["id"],
        "position": sent.body["position"],
        "counts": {"pending": 2, "acked": 0, "expired": 0, "collapsed": 0, "withdrawn": 0, "dropped": 0},
        "recipients": [{"user": "bob", "state": "pending"}, {"user": "carol", "state": "pending"}],
        "more": false,
    });
    assert_eq!(pending.body, expected);

    let mut bob = gateway.listen("bob").await;
    assert_eq!(bob.texts(1).await, ["news"]);
    let pongs = tokio::spawn(async move { bob.expect_closed().await });
    let half = gateway.until_outcome(&sent, "acked", 1).await;
    assert_eq!(
        half["recipients"][0],
        json!({"user": "bob", "state": "acked"}),
        "its library's pong was the ack"
    );
    assert_eq!(half["recipients"][1], json!({"user": "carol", "state": "pending"}));

    gateway.ack("carol", &sent.position()).await;
    let all = gateway.until_outcome(&sent, "acked", 2).await;
    assert_eq!(counts(&all), json!({"acked": 2}));
    let ended = gateway.ask(Method::DELETE, "/v1/users/bob/sessions").await;
    assert_eq!(ended.body["sessions"], 1);
    assert_eq!(pongs.await.expect("it reads to the end"), 4010);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_acks_in_time_is_expired() {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let gateway = Gateway::start_with_clock(clock, |_| {}).await;
    let brief = gateway.send(json!({"to": ["bob"], "ttl_seconds": 1})).await.accepted();
    let lasting = gateway.send(json!({"to": ["bob"]})).await.accepted();
    hand.set(SOME_TIME_US + 2_000_000);
    let outcome = gateway.until_outcome(&brief, "expired", 1).await;
    assert_eq!(outcome["recipients"], json!([{"user": "bob", "state": "expired"}]));
    assert_eq!(counts(&gateway.outcome(&lasting).await.body), json!({"pending": 1}));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_to_live_of_0_reaches_only_open_sessions_and_expires_soon() {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let gateway = Gateway::start_with_clock(clock, |_| {}).await;
    let mut present = gateway.dial("bob").acks_itself().open().await;
    let before = present.position();
    let now = json!({"to": ["bob", "carol"], "body": "now or never", "ttl_seconds": 0});
    let sent = gateway.send(now).await.accepted();
    assert_eq!((&sent.body["recipients"], &sent.body["online"]), (&json!(2), &json!(1)));
    assert_eq!(present.texts(1).await, ["now or never"]);

    let mut late = gateway.dial("bob").acks_itself().after(&before).open().await;
    let gap = late.gap().await;
    assert_eq!((&gap["until"], &gap["reason"]), (&sent.body["position"], &json!("expired")));
    hand.set(SOME_TIME_US + 7_000_000);
    gateway.until_outcome(&sent, "expired", 2).await;
    drop((present, late));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_one_with_the_same_collapse_key_takes_its_place() {
    let gateway = Gateway::start().await;
    let score = |text: &str| json!({"to": ["bob", "carol"], "body": text, "collapse_key": "score"});
    let first = gateway.send(score("1:0")).await.accepted();
    gateway.ack("carol", &first.position()).await;
    let other = gateway.send(json!({"to": ["bob"], "body": "x", "collapse_key": "other"})).await.accepted();
    let second = gateway.send(score("2:0")).await.accepted();

    let outcome = gateway.outcome(&first).await.body;
    assert_eq!(counts(&outcome), json!({"acked": 1, "collapsed": 1}), "what was acked is final");
    assert_eq!(outcome["recipients"][0], json!({"user": "bob", "state": "collapsed"}));
    for kept in [&other, &second] {
        assert_eq!(gateway.outcome(kept).await.body["counts"]["collapsed"], 0);
    }
    let mut bob = gateway.listen_after("bob", "start").await;
    assert_eq!(bob.texts(2).await, ["x", "2:0"]);
    drop(bob);

    for key in [String::new(), "x".repeat(257), "ü".repeat(129)] {
        let refused = gateway.send(json!({"to": ["bob"], "collapse_key": key})).await;
        refused.refused(400, Some("collapse_key"));
    }
    gateway.send(json!({"to": ["bob"], "collapse_key": "ü".repeat(128)})).await.accepted();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_back_is_withdrawn_where_it_still_waited() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.dial("bob").acks_itself().open().await;
    let start = bob.position();
    let sent = gateway.send(json!({"to": ["bob", "carol"], "body": "by mistake"})).await.accepted();
    assert_eq!(bob.texts(1).await, ["by mistake"]);
    gateway.ack("carol", &sent.position()).await;

    for _ in 0..2 {
        let outcome = gateway.withdraw(&sent).await;
        assert_eq!(outcome.status, 200, "{}", outcome.body);
        assert_eq!(counts(&outcome.body), json!({"acked": 1, "withdrawn": 1}));
        let states = json!([{"user": "bob", "state": "withdrawn"}, {"user": "carol", "state": "acked"}]);
        assert_eq!(outcome.body["recipients"], states);
        assert_eq!(outcome.body, gateway.outcome(&sent).await.body);
    }
    let mut late = gateway.listen_after("bob", &start).await;
    let gap = late.gap().await;
    assert_eq!((&gap["until"], &gap["reason"]), (&sent.body["position"], &json!("withdrawn")));
    drop((bob, late));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_mailbox_pushed_out_or_refused_is_dropped_for_that_reason() {
    let gateway = Gateway::start_with(|config| config.mailbox.max_notifications = 1).await;
    let pushed_out = gateway.send(json!({"to": ["bob", "carol"]})).await.accepted();
    let kept = gateway.send(json!({"to": ["bob"]})).await.accepted();
    let outcome = gateway.outcome(&pushed_out).await.body;
    assert_eq!(counts(&outcome), json!({"pending": 1, "dropped": 1}));
    let dropped = json!({"user": "bob", "state": "dropped", "reason": "overflow"});
    assert_eq!(outcome["recipients"], json!([dropped, {"user": "carol", "state": "pending"}]));
    assert_eq!(counts(&gateway.outcome(&kept).await.body), json!({"pending": 1}));
    gateway.stop().await;

    let gateway = Gateway::start_with(|config| {
        config.mailbox.max_notifications = 1;
        config.mailbox.overflow = OverflowPolicy::Reject;
    })
    .await;
    gateway.send(json!({"to": ["bob"]})).await.accepted();
    let refused = gateway.send(json!({"to": ["bob", "carol"]})).await.accepted();
    assert_eq!(refused.body["rejected"], json!(["bob"]));
    let outcome = gateway.outcome(&refused).await.body;
    let dropped = json!({"user": "bob", "state": "dropped", "reason": "rejected"});
    assert_eq!(outcome["recipients"], json!([dropped, {"user": "carol", "state": "pending"}]));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_waits_is_answered_as_soon_as_it_is_acked() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.listen("bob").await;
    let pongs = tokio::spawn(async move { bob.expect_closed().await });
    let started = Instant::now();
    let answer =
        send_waiting(&gateway, "wait=acked&timeout_ms=30000", &json!({"to": ["bob"], "body": "there?"}))
            .await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!((&answer.body["recipients"], &answer.body["online"]), (&json!(1), &json!(1)));
    let outcomes = &answer.body["outcomes"];
    assert_eq!(counts(outcomes), json!({"acked": 1}));
    assert_eq!(outcomes["recipients"], json!([{"user": "bob", "state": "acked"}]));
    assert_eq!(gateway.outcome(&answer).await.body["recipients"], outcomes["recipients"]);
    gateway.ask(Method::DELETE, "/v1/users/bob/sessions").await;
    assert_eq!(pongs.await.expect("it reads to the end"), 4010);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_waits_in_vain_is_told_what_is_pending() {
    let gateway = Gateway::start().await;
    let notification = json!({"to": ["bob"], "body": "there?"});
    for query in ["wait=acked&timeout_ms=0", "wait=acked&timeout_ms=300"] {
        let started = Instant::now();
        let answer = send_waiting(&gateway, query, &notification).await;
        assert_eq!(
            (answer.status, counts(&answer.body["outcomes"])),
            (200, json!({"pending": 1})),
            "{query}"
        );
        let waited = started.elapsed() >= Duration::from_millis(300);
        assert_eq!(waited, query.ends_with("300"), "{query}: {:?}", started.elapsed());
    }
    for (query, field) in [
        ("wait=done", "wait"),
        ("wait=", "wait"),
        ("wait=acked&timeout_ms=30001", "timeout_ms"),
        ("wait=acked&timeout_ms=-1", "timeout_ms"),
        ("wait=acked&timeout_ms=soon", "timeout_ms"),
    ] {
        println!("refused: {query}");
        send_waiting(&gateway, query, &notification).await.refused(400, Some(field));
    }
    let everybody = json!({"topic": "*", "body": "nobody acks this"});
    send_waiting(&gateway, "wait=acked", &everybody).await.refused(400, Some("wait"));
    assert_eq!(gateway.user("bob").await.body["pending"], 2, "nothing that was refused was sent");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_gateway_lets_no_sender_wait() {
    let gateway = Gateway::start_with(|config| config.shutdown.timeout = Duration::from_secs(25)).await;
    let request = gateway.request(Method::POST, "/v1/notifications?wait=acked&timeout_ms=30000");
    let waiting = tokio::spawn(Answer::of(request.json(&json!({"to": ["bob"]}))));
    gateway.until_metric("gateway_mailbox_depth", 1.0).await;
    assert_eq!(gateway.shut_down().await, Ok(()));
    let answer = waiting.await.expect("it is answered");
    assert_eq!((answer.status, counts(&answer.body["outcomes"])), (200, json!({"pending": 1})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recipients_are_listed_part_by_part() {
    let gateway = Gateway::start().await;
    let users = ["a", "b", "c", "d", "e"];
    let sent = gateway.send(json!({"to": users})).await.accepted();
    let path = format!("/v1/notifications/{}", sent.body["id"].as_str().expect("an id"));
    for (query, listed, more) in [
        ("", &users[..], false),
        ("?limit=2", &users[..2], true),
        ("?limit=2&offset=2", &users[2..4], true),
        ("?limit=2&offset=3", &users[3..], false),
        ("?offset=5", &[], false),
        ("?offset=4294967295", &[], false),
    ] {
        let part = gateway.get(&format!("{path}{query}")).await.body;
        let names: Vec<_> =
            part["recipients"].as_array().expect("a list").iter().map(|one| &one["user"]).collect();
        assert_eq!(
            (names, &part["more"]),
            (listed.iter().map(|name| json!(name)).collect::<Vec<_>>().iter().collect(), &json!(more)),
            "{query}"
        );
        assert_eq!(part["counts"]["pending"], 5, "of all, {query}");
    }
    for (query, field) in [("limit=0", "limit"), ("limit=10001", "limit"), ("offset=-1", "offset")] {
        gateway.get(&format!("{path}?{query}")).await.refused(400, Some(field));
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_was_is_unknown_and_what_is_long_over_is_gone() {
    let gateway = Gateway::start_with(|config| config.outcomes.max_recipients = 2).await;
    let forgotten = gateway.send_text("bob", "first").await;
    let remembered = gateway.send_text("bob", "second").await;
    let everybody = gateway.send(json!({"topic": "*"})).await.accepted();
    gateway.outcome(&forgotten).await.refused(410, None);
    gateway.withdraw(&forgotten).await.refused(410, None);
    assert_eq!(gateway.outcome(&remembered).await.status, 200);
    gateway.outcome(&everybody).await.refused(404, None);
    for method in [Method::GET, Method::DELETE] {
        let never = "/v1/notifications/ffffffff-ffff-7fff-bfff-ffffffffffff";
        gateway.ask(method.clone(), never).await.refused(404, None);
        for malformed in ["x", "7", "019abcde-f012-7345-8678-9abcdef0123", "*"] {
            let path = format!("/v1/notifications/{malformed}");
            gateway.ask(method.clone(), &path).await.refused(400, Some("id"));
        }
    }
    assert_eq!(gateway.user("bob").await.body["pending"], 2, "nothing was taken back");
    gateway.stop().await;
}
