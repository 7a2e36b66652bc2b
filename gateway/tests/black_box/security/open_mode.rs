//! Without keys nothing changes: nobody needs a credential, and one that is shown means nothing.

use reqwest::Method;
use serde_json::json;

use super::credentials::{ApiKey, Issuer, claims};
use crate::harness::{Answer, EventSource, Gateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_open_mode_nobody_needs_a_credential_and_whatever_is_shown_is_ignored() {
    let gateway = Gateway::start().await;
    let shown = [
        None,
        Some("nonsense".to_owned()),
        Some(ApiKey::new("orders", &["send"]).text()),
        Some(Issuer::hs256().token(&claims("alice"))),
        Some(Issuer::hs256().token(&json!({"sub": "bob", "exp": 1}))),
    ];
    for credential in shown {
        let with = |method: Method, path: &str| {
            let request = gateway.request(method, path);
            credential.iter().fold(request, |request, text| request.bearer_auth(text))
        };
        let sent = with(Method::POST, "/v1/notifications");
        let sent =
            Answer::of(sent.json(&json!({"to": ["bob"], "body": "x", "from": "carol"}))).await.accepted();
        let id = sent.body["id"].as_str().unwrap();
        for (method, path) in [
            (Method::GET, format!("/v1/notifications/{id}")),
            (Method::GET, "/v1/users/bob".to_owned()),
            (Method::GET, "/v1/users/bob/topics".to_owned()),
            (Method::GET, "/v1/users/bob/notifications".to_owned()),
            (Method::PUT, "/v1/topics/news/subscribers/bob".to_owned()),
            (Method::GET, "/v1/topics/news".to_owned()),
            (Method::DELETE, "/v1/topics/news/subscribers/bob".to_owned()),
            (Method::DELETE, "/v1/users/bob/sessions".to_owned()),
        ] {
            let answer = Answer::of(with(method.clone(), &path)).await;
            assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.body);
        }
        let ack = with(Method::POST, "/v1/users/bob/acks").json(&json!({"position": sent.position()}));
        assert_eq!(Answer::of(ack).await.status, 202);

        let text = credential.as_deref().unwrap_or("x");
        let bearer = format!("Bearer {text}");
        let mut by_header = gateway.dial("bob").after("now").header("authorization", &bearer).open().await;
        let browser = format!("notify.v1, bearer.{text}");
        let mut by_name = gateway.dial("bob").after("now").subprotocol(&browser).open().await;
        let stream = with(Method::GET, "/sse/bob?after=now");
        let mut stream = EventSource::open(stream).await.expect("opened");
        assert_eq!(stream.next().await.expect("a welcome").kind, "welcome");
        gateway.send(json!({"to": ["bob"], "body": "y", "from": "carol"})).await.accepted();
        for socket in [&mut by_header, &mut by_name] {
            let notification = socket.notification().await;
            assert_eq!((&notification["body"], &notification["from"]), (&json!("y"), &json!("carol")));
        }
        assert_eq!(stream.texts(1).await, ["y"]);
        drop((by_header, by_name, stream));
        // The sessions are gone before the next credential's begin.
        gateway.until_sessions("bob", 0).await;
    }
    let refused =
        super::secured::total(&gateway.metrics_text().await, "gateway_auth_refused_total", "reason=");
    assert_eq!(refused, 0.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_open_mode_one_sender_may_send_as_fast_as_it_can() {
    let gateway = Gateway::start().await;
    let batch = vec![json!({"to": ["bob"], "body": "x"}); 1_000];
    for _ in 0..30 {
        gateway.sender().post("/v1/notifications/batch", &json!(batch)).await.accepted();
    }
    assert_eq!(gateway.metric(r#"gateway_limited_total{limit="sends_per_key"}"#).await, 0.0);
    gateway.stop().await;
}
