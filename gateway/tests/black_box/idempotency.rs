//! Trying again: with an `Idempotency-Key` a notification is sent once, however often its sender asks.

use futures_util::future::join_all;
use gateway::domain::OverflowPolicy;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Receiver};

const REPLAYED: &str = "idempotent-replayed";

fn hello() -> Value {
    json!({"to": ["bob", "carol"], "body": "hello"})
}

/// Whatever came before was delivered once: the next frames are these texts and nothing else.
async fn expect_exactly(gateway: &Gateway, receiver: &mut Receiver, texts: &[&str]) {
    gateway.send_text("bob", "control").await;
    let mut expected = texts.to_vec();
    expected.push("control");
    assert_eq!(receiver.texts(expected.len()).await, expected);
}

async fn sends(gateway: &Gateway, target: &str, result: &str) -> f64 {
    gateway.metric(&format!(r#"gateway_notifications_total{{result="{result}",target="{target}"}}"#)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_is_answered_as_the_first_was_and_sends_nothing() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.listen("bob").await;
    let first = gateway.send_with_key("k-1", &hello()).await.accepted();
    assert_eq!(first.header(REPLAYED), "");
    assert_eq!((&first.body["recipients"], &first.body["online"]), (&json!(2), &json!(1)));
    let second_session = gateway.listen("carol").await;
    for _ in 0..2 {
        let again = gateway.send_with_key("k-1", &hello()).await.accepted();
        assert_eq!(again.header(REPLAYED), "true");
        assert_eq!(again.body, first.body, "the answer of then, although carol is online now");
    }
    let other = gateway.send_with_key("k-2", &hello()).await.accepted();
    assert_eq!(other.header(REPLAYED), "");
    assert_ne!(other.body["id"], first.body["id"], "another key is another notification");
    expect_exactly(&gateway, &mut bob, &["hello", "hello"]).await;
    assert_eq!(
        (sends(&gateway, "users", "repeated").await, sends(&gateway, "users", "accepted").await),
        (2.0, 2.0)
    );
    let reached = gateway.metric(r#"gateway_fanout_recipients_count{target="users"}"#).await;
    assert_eq!(reached, 2.0, "what changed nothing reached nobody");
    drop((bob, second_session));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_with_another_body_is_a_mistake() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.listen("bob").await;
    let first = gateway.send_with_key("k-1", &hello()).await.accepted();
    let mistake = gateway.send_with_key("k-1", &json!({"to": ["bob"], "body": "something else"})).await;
    mistake.refused(422, None);
    let again = gateway.send_with_key("k-1", &hello()).await.accepted();
    assert_eq!(again.body["id"], first.body["id"], "the mistake changed nothing");
    expect_exactly(&gateway, &mut bob, &["hello"]).await;
    assert_eq!(sends(&gateway, "user", "conflict").await, 1.0);
    drop(bob);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_requests_at_the_same_time_one_is_sent() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.listen("bob").await;
    let notification = hello();
    for round in 0..10 {
        let key = format!("k-{round}");
        let answers = join_all((0..8).map(|_| gateway.send_with_key(&key, &notification))).await;
        let (accepted, busy): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 202);
        let fresh = accepted.iter().filter(|answer| answer.header(REPLAYED).is_empty()).count();
        assert_eq!(fresh, 1, "exactly one changed something");
        assert!(accepted.iter().all(|answer| answer.body["id"] == accepted[0].body["id"]));
        for answer in busy {
            answer.refused(409, None);
            assert_eq!(answer.header("retry-after"), "1");
        }
    }
    expect_exactly(&gateway, &mut bob, &["hello"; 10]).await;
    drop(bob);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_of_a_batch_has_a_key_of_its_own() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.listen("bob").await;
    let batch = |texts: [&str; 2]| {
        let items: Value = texts.iter().map(|text| json!({"to": ["bob"], "body": text})).collect();
        let request = gateway.request(Method::POST, "/v1/notifications/batch");
        Answer::of(request.header("idempotency-key", "k-1").json(&items))
    };
    let first = batch(["a", "b"]).await.accepted();
    assert!(first.body.as_array().expect("a list").iter().all(|item| item.get("replayed").is_none()));

    let again = batch(["a", "b"]).await.accepted();
    let changed = batch(["a", "c"]).await.accepted();
    for (answer, index) in [(&again, 0), (&again, 1), (&changed, 0)] {
        assert_eq!(answer.body[index]["replayed"], true, "{}", answer.body);
        assert_eq!(answer.body[index]["accepted"], first.body[index]["accepted"]);
    }
    assert_eq!(changed.body[1]["status"], 422, "{}", changed.body);

    let alone = gateway.send_with_key("k-1/1", &json!({"to": ["bob"], "body": "b"})).await.accepted();
    assert_eq!((alone.header(REPLAYED), &alone.body["id"]), ("true", &first.body[1]["accepted"]["id"]));
    expect_exactly(&gateway, &mut bob, &["a", "b"]).await;
    assert_eq!(sends(&gateway, "user", "repeated").await, 4.0);
    drop(bob);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_refused_used_no_key() {
    let gateway = Gateway::start_with(|config| {
        config.mailbox.max_notifications = 1;
        config.mailbox.overflow = OverflowPolicy::Reject;
    })
    .await;
    let filling = gateway.send_text("bob", "fills the mailbox").await;
    let notification = json!({"to": ["bob"], "body": "later"});
    gateway.send_with_key("k-1", &notification).await.refused(507, None);
    gateway
        .send_with_key("k-1", &json!({"to": ["bob"], "ttl_seconds": -1}))
        .await
        .refused(400, Some("ttl_seconds"));
    gateway.ack("bob", &filling.position()).await;
    let accepted = gateway.send_with_key("k-1", &notification).await.accepted();
    assert_eq!(accepted.header(REPLAYED), "", "the first that counts");
    let again = gateway.send_with_key("k-1", &notification).await.accepted();
    assert_eq!((again.header(REPLAYED), &again.body["id"]), ("true", &accepted.body["id"]));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_may_wait_for_what_the_first_did_not() {
    let gateway = Gateway::start().await;
    let notification = json!({"to": ["bob"], "body": "hello"});
    let first = gateway.send_with_key("k-1", &notification).await.accepted();
    gateway.ack("bob", &first.position()).await;
    let path = "/v1/notifications?wait=acked";
    let request = gateway.request(Method::POST, path).header("idempotency-key", "k-1");
    let waited = Answer::of(request.json(&notification)).await;
    assert_eq!((waited.status, waited.header(REPLAYED)), (200, "true"));
    assert_eq!(waited.body["outcomes"]["recipients"], json!([{"user": "bob", "state": "acked"}]));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_breaks_a_rule_is_refused_and_never_overlooked() {
    let gateway = Gateway::start().await;
    let long = "x".repeat(256);
    let malformed: [&[u8]; 6] = [b"", b"a b", b"a\tb", "schlüssel".as_bytes(), b"\xff", long.as_bytes()];
    for path in ["/v1/notifications", "/v1/notifications/batch"] {
        let body = if path.ends_with("batch") { json!([hello()]) } else { hello() };
        for key in malformed {
            println!("refused: {key:?}");
            let key = HeaderValue::from_bytes(key).expect("a header may hold it");
            let request = gateway.request(Method::POST, path).header("idempotency-key", key);
            Answer::of(request.json(&body)).await.refused(400, Some("Idempotency-Key"));
        }
        let twice = gateway.request(Method::POST, path).header("idempotency-key", "a");
        let twice = twice.header("idempotency-key", "b").json(&body);
        Answer::of(twice).await.refused(400, Some("Idempotency-Key"));
    }
    assert_eq!(gateway.user("bob").await.body["pending"], 0, "nothing was sent");
    gateway.send_with_key(&"!".repeat(255), &hello()).await.accepted();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_to_everybody_reaches_nobody_twice() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.listen("bob").await;
    let to_all = json!({"topic": "*", "body": "to all of you"});
    let first = gateway.send_with_key("k-1", &to_all).await.accepted();
    let again = gateway.send_with_key("k-1", &to_all).await.accepted();
    assert_eq!((&again.body["id"], again.header("idempotent-replayed")), (&first.body["id"], "true"));
    gateway.send_text("bob", "what comes next").await;
    assert_eq!(bob.texts(2).await, ["to all of you", "what comes next"]);
    drop(bob);
    gateway.stop().await;
}
