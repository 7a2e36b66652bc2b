//! Whoever sends is named truly, and nobody meets another's Idempotency-Key.

use serde_json::{Value, json};

use super::credentials::{ApiKey, claims, sending_claims};
use super::secured::Secured;
use crate::harness::{Answer, Receiver};
use reqwest::Method;

async fn listen(secured: &Secured, user: &str) -> Receiver {
    let token = secured.issuer.token(&claims(user));
    secured.dial(user).subprotocol(&format!("notify.v1, bearer.{token}")).open().await
}

async fn send_once(secured: &Secured, credential: &str, idempotency: &str, body: &Value) -> Answer {
    let request = secured.request_of(credential, Method::POST, "/v1/notifications");
    Answer::of(request.header("idempotency-key", idempotency).json(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_sends_is_named_whatever_the_request_says() {
    let secured = Secured::start().await;
    let mut bob = listen(&secured, "bob").await;
    let alice = secured.issuer.token(&sending_claims("alice"));
    for from in [Some("mallory"), Some("bob"), Some(""), Some("alice"), Some("operations"), None] {
        let mut notification = json!({"to": ["bob"], "body": "x"});
        if let Some(from) = from {
            notification["from"] = json!(from);
        }
        let answer = secured.send_as(&alice, &notification).await;
        if from == Some("") && answer.status == 400 {
            continue;
        }
        answer.accepted();
        assert_eq!(bob.notification().await["from"], "alice", "claimed to be {from:?}");
    }
    let batch = json!([
        {"to": ["bob"], "body": "x", "from": "mallory"},
        {"to": ["bob"], "body": "y"},
        {"to": ["bob"], "body": "z", "from": "alice", "title": "t", "data": {"from": "mallory"}},
    ]);
    secured.post_as(&alice, "/v1/notifications/batch", &batch).await.accepted();
    for text in ["x", "y", "z"] {
        let notification = bob.notification().await;
        assert_eq!((&notification["body"], &notification["from"]), (&json!(text), &json!("alice")));
    }
    drop(bob);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_named_to_topics_and_to_everybody_too() {
    let secured = Secured::start().await;
    let admin = secured.administrating.text();
    let subscribed = secured.request_of(&admin, Method::PUT, "/v1/topics/news/subscribers/bob");
    assert!(Answer::of(subscribed).await.status < 300);
    let mut bob = listen(&secured, "bob").await;
    let alice = secured.issuer.token(&sending_claims("alice"));
    for topic in ["news", "*"] {
        secured.send_as(&alice, &json!({"topic": topic, "body": topic, "from": "mallory"})).await.accepted();
        let notification = bob.notification().await;
        assert_eq!((&notification["body"], &notification["from"]), (&json!(topic), &json!("alice")));
    }
    drop(bob);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_send_in_anybodys_name() {
    let secured = Secured::start().await;
    let mut bob = listen(&secured, "bob").await;
    let key = secured.sending.text();
    secured.send_as(&key, &json!({"to": ["bob"], "body": "x", "from": "alice"})).await.accepted();
    assert_eq!(bob.notification().await["from"], "alice");
    secured.send_as(&key, &json!({"to": ["bob"], "body": "x"})).await.accepted();
    assert_eq!(bob.notification().await.get("from"), None, "the name of a key is the operator's affair");
    drop(bob);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_not_delivered() {
    let secured = Secured::start().await;
    let mut bob = listen(&secured, "bob").await;
    let notification = json!({"to": ["bob"], "body": "refused"});
    let credentials = [secured.reading.text(), secured.issuer.token(&claims("bob")), "nonsense".to_owned()];
    for credential in &credentials {
        let answer = secured.send_as(credential, &notification).await;
        assert!([401, 403].contains(&answer.status), "{}", answer.status);
        let batch = secured.post_as(credential, "/v1/notifications/batch", &json!([notification])).await;
        assert_eq!(batch.status, answer.status);
    }
    assert_eq!(secured.notifications("unauthorized").await, 6.0, "one for each request");
    assert_eq!(secured.notifications("accepted").await, 0.0);
    secured.tell("bob", "control").await;
    assert_eq!(bob.texts(1).await, ["control"]);
    drop(bob);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guard_comes_before_the_body_is_understood() {
    let secured = Secured::start().await;
    for body in ["", "{", "[[[[", "{\"to\": 7}"] {
        let request = secured.request(Method::POST, "/v1/notifications").body(body);
        Answer::of(request.header("content-type", "application/json")).await.refused(401, None);
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotency_keys_of_different_senders_never_meet() {
    let secured = Secured::start().await;
    let other = ApiKey::new("billing", &["send"]);
    // A user may have the name that an operator gave to a key.
    let namesake = ApiKey::new("alice", &["send"]);
    secured.write_keys(&[&secured.sending, &other, &namesake]);
    secured.until_reload("api_keys", "changed", 1.0).await;
    let senders = [
        secured.sending.text(),
        other.text(),
        namesake.text(),
        secured.issuer.token(&sending_claims("alice")),
        secured.issuer.token(&sending_claims("orders")),
        secured.issuer.token(&sending_claims(&secured.sending.id)),
        secured.issuer.token(&sending_claims("bob")),
    ];
    let mut ids = Vec::new();
    for (number, sender) in senders.iter().enumerate() {
        let body = json!({"to": ["bob"], "body": number.to_string()});
        let answer = send_once(&secured, sender, "the-same", &body).await;
        assert_eq!(answer.status, 202, "sender {number}: {}", answer.body);
        assert_eq!(answer.header("idempotent-replayed"), "", "sender {number}");
        let again = send_once(&secured, sender, "the-same", &body).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (202, "true"), "sender {number}");
        assert_eq!(again.body["id"], answer.body["id"]);
        ids.push(answer.body["id"].as_str().unwrap().to_owned());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), senders.len(), "nobody was told another's id");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_replaced_remembers_what_its_predecessor_sent() {
    let secured = Secured::start().await;
    let body = json!({"to": ["bob"], "body": "once"});
    let first = send_once(&secured, &secured.sending.text(), "one", &body).await.accepted();
    let next = ApiKey::new(&secured.sending.name, &["send"]);
    secured.write_keys(&[&next]);
    secured.until_reload("api_keys", "changed", 1.0).await;
    let again = send_once(&secured, &next.text(), "one", &body).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, "true"), "{}", again.body);
    assert_eq!(again.body["id"], first.body["id"]);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_new_token_remembers_what_the_old_one_sent() {
    let secured = Secured::start().await;
    let body = json!({"to": ["bob"], "body": "once"});
    let mut later = sending_claims("alice");
    later["exp"] = json!(later["exp"].as_u64().unwrap() + 60);
    let first = send_once(&secured, &secured.issuer.token(&sending_claims("alice")), "one", &body).await;
    let again = send_once(&secured, &secured.issuer.token(&later), "one", &body).await;
    assert_eq!(again.header("idempotent-replayed"), "true", "{}", again.body);
    assert_eq!(again.body["id"], first.accepted().body["id"]);
    secured.stop().await;
}
