//! How often a key and a user may send.

use std::time::Duration;

use gateway::config::{Config, RateLimit};
use serde_json::{Value, json};

use super::credentials::{ApiKey, Issuer, claims, sending_claims};
use super::secured::Secured;
use crate::harness::Answer;

/// A rate as in the configuration; by the hour it refills too slowly for a test to see.
fn at(text: &str) -> RateLimit {
    RateLimit::At(text.parse().expect("a rate"))
}

fn notification() -> Value {
    json!({"to": ["bob"], "body": "x"})
}

/// Fails unless the answer says when to come back, within these seconds.
#[track_caller]
fn come_back_within(answer: &Answer, seconds: u64) {
    answer.refused(429, None);
    let after: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!((1..=seconds).contains(&after), "{after} s");
}

async fn start(configure: impl FnOnce(&mut Config)) -> Secured {
    Secured::start_with(Issuer::hs256(), |config, _| configure(config)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_sends_too_much_is_told_when_to_come_back_and_others_are_not_concerned() {
    let secured = start(|config| config.limits.sends_per_key = at("3/h")).await;
    let slow = ApiKey { sends: Some("1/h"), ..ApiKey::new("slow", &["send"]) };
    let quick = ApiKey { sends: Some("100/h burst 10"), ..ApiKey::new("quick", &["send"]) };
    let other = ApiKey::new("other", &["send"]);
    secured.write_keys(&[&secured.sending, &slow, &quick, &other]);
    secured.until_reload("api_keys", "changed", 1.0).await;
    let mut refused = 0.0;
    for (key, sends) in [(&secured.sending, 3), (&slow, 1), (&quick, 10), (&other, 3)] {
        for _ in 0..sends {
            secured.send_as(&key.text(), &notification()).await.accepted();
        }
        for _ in 0..2 {
            come_back_within(&secured.send_as(&key.text(), &notification()).await, 3_600);
            refused += 1.0;
        }
    }
    // A user is no key.
    let alice = secured.issuer.token(&sending_claims("alice"));
    for _ in 0..5 {
        secured.send_as(&alice, &notification()).await.accepted();
    }
    assert_eq!(secured.notifications("rate_limited").await, refused);
    assert_eq!(secured.metric(r#"gateway_limited_total{limit="sends_per_key"}"#).await, refused);
    assert_eq!(secured.metric(r#"gateway_limited_total{limit="sends_per_user"}"#).await, 0.0);
    assert_eq!(secured.refused().await, 0.0, "too much is not too little right");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_sends_so_much_with_all_tokens_together() {
    let secured = start(|config| config.limits.sends_per_user = at("4/h")).await;
    let mut other_token = sending_claims("alice");
    other_token["exp"] = json!(other_token["exp"].as_u64().unwrap() + 1);
    let tokens = [secured.issuer.token(&sending_claims("alice")), secured.issuer.token(&other_token)];
    for number in 0..4 {
        secured.send_as(&tokens[number % 2], &notification()).await.accepted();
    }
    for token in &tokens {
        come_back_within(&secured.send_as(token, &notification()).await, 3_600);
    }
    let bob = secured.issuer.token(&sending_claims("bob"));
    secured.send_as(&bob, &notification()).await.accepted();
    // Keys go by their own limit, even one that has the user's name.
    for _ in 0..6 {
        secured.tell("bob", "x").await;
    }
    assert_eq!(secured.notifications("rate_limited").await, 2.0);
    assert_eq!(secured.metric(r#"gateway_limited_total{limit="sends_per_user"}"#).await, 2.0);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_as_many_as_its_items_and_is_taken_whole_or_not_at_all() {
    let secured = start(|config| config.limits.sends_per_key = at("5/h")).await;
    let key = secured.sending.text();
    let batch = |items: usize, text: &str| Value::Array(vec![json!({"to": ["bob"], "body": text}); items]);
    let post = async |body: Value| secured.post_as(&key, "/v1/notifications/batch", &body).await;
    post(batch(3, "first")).await.accepted();
    come_back_within(&post(batch(3, "refused")).await, 3_600);
    post(batch(2, "second")).await.accepted();
    come_back_within(&post(batch(1, "refused")).await, 3_600);

    let token = secured.issuer.token(&claims("bob"));
    let page = Answer::of(secured.pull("bob", &token)).await;
    let texts: Vec<_> =
        page.body["frames"].as_array().unwrap().iter().map(|frame| frame["body"].as_str()).collect();
    assert_eq!(texts, [[Some("first"); 3].as_slice(), &[Some("second"); 2]].concat());
    assert_eq!(secured.notifications("accepted").await, 5.0);
    assert_eq!(secured.metric(r#"gateway_limited_total{limit="sends_per_key"}"#).await, 4.0);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_notification_of_a_refused_batch_is_counted() {
    let secured = start(|config| config.limits.sends_per_key = at("1/h burst 3")).await;
    secured.tell("bob", "x").await;
    let batch = Value::Array(vec![notification(); 3]);
    let answer = secured.post_as(&secured.sending.text(), "/v1/notifications/batch", &batch).await;
    come_back_within(&answer, 3_600);
    assert_eq!(secured.notifications("rate_limited").await, 3.0, "the metric counts notifications");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_back_when_told_is_served() {
    let secured = start(|config| config.limits.sends_per_key = at("1/s")).await;
    secured.tell("bob", "x").await;
    let early = secured.send_as(&secured.sending.text(), &notification()).await;
    come_back_within(&early, 1);
    // The one wait here that is a promise of time.
    tokio::time::sleep(Duration::from_secs(early.header("retry-after").parse().unwrap())).await;
    secured.tell("bob", "y").await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_use_up_nobodys_rate() {
    let secured = start(|config| {
        config.limits.sends_per_key = at("2/h");
        config.limits.sends_per_user = at("2/h");
    })
    .await;
    let stranger = Issuer::hs256().token(&sending_claims("alice"));
    let not_allowed = secured.issuer.token(&claims("alice"));
    let forged = secured.sending.replaced().text();
    for credential in [&stranger, &not_allowed, &forged] {
        for _ in 0..5 {
            let status = secured.send_as(credential, &notification()).await.status;
            assert!([401, 403].contains(&status), "{status}");
        }
    }
    let alice = secured.issuer.token(&sending_claims("alice"));
    for _ in 0..2 {
        secured.tell("bob", "x").await;
        secured.send_as(&alice, &notification()).await.accepted();
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_of_none_is_no_limit() {
    let secured = start(|config| {
        config.limits.sends_per_key = RateLimit::Unlimited;
        config.limits.sends_per_user = RateLimit::Unlimited;
    })
    .await;
    let alice = secured.issuer.token(&sending_claims("alice"));
    let batch = Value::Array(vec![notification(); 500]);
    for _ in 0..3 {
        secured.post_as(&alice, "/v1/notifications/batch", &batch).await.accepted();
    }
    assert_eq!(secured.notifications("accepted").await, 1_500.0);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_default_is_a_hundred_at_once() {
    let secured = Secured::start().await;
    let alice = secured.issuer.token(&sending_claims("alice"));
    let batch = |items: usize| Value::Array(vec![notification(); items]);
    secured.post_as(&alice, "/v1/notifications/batch", &batch(90)).await.accepted();
    assert_eq!(secured.post_as(&alice, "/v1/notifications/batch", &batch(90)).await.status, 429);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_larger_than_the_bucket_is_no_way_around_it() {
    let secured = start(|config| config.limits.sends_per_user = at("1/s burst 2")).await;
    let alice = secured.issuer.token(&sending_claims("alice"));
    let batch = Value::Array(vec![notification(); 100]);
    let started = tokio::time::Instant::now();
    let (mut accepted, mut refused) = (0, 0);
    while refused < 200 {
        match secured.post_as(&alice, "/v1/notifications/batch", &batch).await.status {
            202 => accepted += 100,
            _ => refused += 1,
        }
    }
    let fair = 2 + started.elapsed().as_secs() + 1;
    assert!(accepted <= fair, "{accepted} notifications where the rate allows {fair}");
    secured.stop().await;
}
