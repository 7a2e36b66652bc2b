//! Who did what is written down where somebody may ask about it later, by the name of the key.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::credentials::{ApiKey, Issuer, claims, keys_file};
use crate::process_harness::{Folder, Server, within_patience};

#[tokio::test]
async fn changes_and_what_a_key_does_in_a_users_place_are_written_down() {
    let files = Folder::new();
    let (reader, operator) = (ApiKey::new("reader", &["read", "send"]), ApiKey::new("operator", &["admin"]));
    let issuer = Issuer::hs256();
    let keys = files.write("keys.toml", &keys_file(&[&reader, &operator]));
    let secret = files.write("secret.key", &issuer.file);
    let mut server = Server::start(&[
        ("GATEWAY_AUTH_API_KEYS_FILE", keys.as_str()),
        ("GATEWAY_AUTH_TOKEN_KEY_FILES", secret.as_str()),
        ("GATEWAY_TELEMETRY_FORMAT", "json"),
    ])
    .await;
    let (base, client) = (server.url(), reqwest::Client::new());
    let ask = async |method: Method, path: &str, credential: &str, body: Value| {
        let request = client.request(method, format!("{base}{path}")).bearer_auth(credential).json(&body);
        within_patience("an answer", request.send()).await.unwrap()
    };
    let notification = json!({"to": ["bob"], "body": "hello"});
    let sent = ask(Method::POST, "/v1/notifications", &reader.text(), notification).await;
    assert_eq!(sent.status(), StatusCode::ACCEPTED);
    let position = sent.json::<Value>().await.unwrap()["position"].clone();
    let ack = json!({"position": position});

    // Neither a send nor a user's own ack is worth a line each; what follows is, and comes in its order.
    let token = issuer.token(&claims("bob"));
    for credential in [&token, &reader.text()] {
        let acked = ask(Method::POST, "/v1/users/bob/acks", credential, ack.clone()).await;
        assert_eq!(acked.status(), StatusCode::ACCEPTED);
    }
    drop(ask(Method::GET, "/sse/bob", &reader.text(), Value::Null).await);
    let refused = ask(Method::DELETE, "/v1/users/bob", &reader.text(), Value::Null).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let forgotten = ask(Method::DELETE, "/v1/users/bob", &operator.text(), Value::Null).await;
    assert_eq!(forgotten.status(), StatusCode::NO_CONTENT);

    let mut lines = Vec::new();
    for _ in 0..3 {
        let line: Value = serde_json::from_str(&server.process.complaint("\"audit\":true").await).unwrap();
        assert_eq!((&line["caller"], &line["client"]), (&json!("key"), &json!("127.0.0.1")), "{line}");
        lines.push((
            line["message"].clone(),
            line["name"].clone(),
            line["method"].clone(),
            line["path"].clone(),
        ));
    }
    let expected = [
        (json!("done"), json!("reader"), json!("POST"), json!("/v1/users/bob/acks")),
        (json!("receives"), json!("reader"), Value::Null, Value::Null),
        (json!("done"), json!("operator"), json!("DELETE"), json!("/v1/users/bob")),
    ];
    assert_eq!(lines, expected);
}
