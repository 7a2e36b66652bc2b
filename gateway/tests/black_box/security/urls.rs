//! An address is written into logs and histories: what stands in it opens nothing, and spoils what stands beside it.

use reqwest::Method;
use serde_json::json;

use super::credentials::{claims, sending_claims};
use super::doors::{Door, Verdict};
use super::secured::Secured;
use crate::harness::{Answer, Gateway, segment};

/// What people call a credential in an address.
const NAMES: [&str; 7] = ["token", "access_token", "jwt", "api_key", "key", "authorization", "bearer"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_in_the_address_is_refused_by_each_of_its_names() {
    let secured = Secured::start().await;
    let place = secured.place("bob").await;
    let good = secured.issuer.token(&sending_claims("bob"));
    let mut wrong = Vec::new();
    let mut knocks = 0;
    for name in NAMES {
        for value in [good.as_str(), "short", &secured.reading.text()] {
            let place = place.with_parameter(format!("{name}={value}"));
            for (what, header) in [("alone", None), ("beside a good header", Some(good.as_str()))] {
                let what = format!("{name}={} {what}", &value[..5]);
                wrong.extend(place.unlike(Verdict::Unauthorized, &Door::ALL, &what, header).await);
                knocks += Door::ALL.len();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(secured.refused_because("in_url").await, knocks as f64);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_its_case_nor_its_encoding_nor_its_place_hides_a_credential() {
    let secured = Secured::start().await;
    let place = secured.place("bob").await;
    let good = secured.issuer.token(&sending_claims("bob"));
    let key = secured.reading.text();
    let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut wrong = Vec::new();
    for pair in [
        format!("Token={good}"),
        format!("ACCESS_TOKEN={good}"),
        format!("%74oken={good}"),
        format!("x=1&token={good}"),
        format!("token={good}&x=1"),
        format!("x={good}"),
        format!("x={}", segment(&good)),
        format!("x={}", good.replace('.', "%2E")),
        format!("x=Bearer%20{good}"),
        format!("x={key}"),
        format!("x={encoded}"),
    ] {
        let place = place.with_parameter(pair.clone());
        let doors = [Door::Pull, Door::NamedSocket, Door::Stream, Door::Send];
        wrong.extend(place.unlike(Verdict::Unauthorized, &doors, &pair, Some(&good)).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_without_a_name_is_noticed_too() {
    let secured = Secured::start().await;
    let place = secured.place("bob").await;
    let good = secured.issuer.token(&sending_claims("bob"));
    let mut wrong = Vec::new();
    for pair in [good.clone(), secured.reading.text(), format!("{good}=")] {
        let place = place.with_parameter(pair.clone());
        wrong.extend(place.unlike(Verdict::Unauthorized, &Door::ALL, &pair, Some(&good)).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_is_noticed_before_the_rest_of_the_query_is_understood() {
    let secured = Secured::start().await;
    let place = secured.place("bob").await;
    let good = secured.issuer.token(&sending_claims("bob"));
    let mut wrong = Vec::new();
    for pair in [format!("after={}", secured.reading.text()), format!("after={good}"), format!("ack={good}")]
    {
        let place = place.with_parameter(pair.clone());
        wrong.extend(place.unlike(Verdict::Unauthorized, &Door::RECEIVING, &pair, Some(&good)).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_refuses_a_credential_in_its_address() {
    let secured = Secured::start().await;
    let key = secured.administrating.text();
    for (method, path) in [
        (Method::GET, "/v1/users/bob"),
        (Method::DELETE, "/v1/users/bob"),
        (Method::GET, "/v1/users/bob/topics"),
        (Method::DELETE, "/v1/users/bob/sessions"),
        (Method::GET, "/v1/topics/news"),
        (Method::PUT, "/v1/topics/news/subscribers/bob"),
        (Method::DELETE, "/v1/topics/news/subscribers/bob"),
        (Method::GET, "/v1/notifications/0190a0a0-0000-7000-8000-000000000000"),
        (Method::DELETE, "/v1/notifications/0190a0a0-0000-7000-8000-000000000000"),
    ] {
        let path = format!("{path}?api_key={key}");
        let answer = Answer::of(secured.request_of(&key, method.clone(), &path)).await;
        assert_eq!(answer.status, 401, "{method} {path}");
        assert!(!answer.body.to_string().contains(&secured.administrating.secret), "{}", answer.body);
    }
    let batch = json!([{"to": ["bob"], "body": "x"}]);
    let path = format!("/v1/notifications/batch?key={}", secured.sending.text());
    assert_eq!(secured.post_as(&secured.sending.text(), &path, &batch).await.status, 401);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_resembles_a_credential_may_stand_in_an_address() {
    let secured = Secured::start().await;
    let token = secured.issuer.token(&claims("bob"));
    let position = secured.tell("bob", "x").await.position();
    for query in [
        format!("after={position}&limit=10"),
        "after=start".to_owned(),
        "after=now".to_owned(),
        "x=a.b.c".to_owned(),
        "x=1.2.3".to_owned(),
        "x=www.example.org".to_owned(),
        "tokens=1".to_owned(),
        "keys=1".to_owned(),
        "x=gwk".to_owned(),
    ] {
        let path = format!("/v1/users/bob/notifications?{query}");
        let answer = Answer::of(secured.request_of(&token, Method::GET, &path)).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_open_mode_an_address_may_say_what_it_likes() {
    let gateway = Gateway::start().await;
    for name in NAMES {
        assert_eq!(gateway.get(&format!("/v1/users/bob?{name}=secret")).await.status, 200, "{name}");
        drop(gateway.dial("bob").parameter(&format!("{name}=secret")).open().await);
    }
    gateway.stop().await;
}
