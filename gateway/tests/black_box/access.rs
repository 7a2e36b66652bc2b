//! Who is answered: hosts, origins and handshakes.

use gateway::config::Config;
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Gateway};

const EVIL: &str = "https://evil.example";
const DEVELOPMENT: &str = "http://localhost:5173";

async fn send_as(gateway: &Gateway, header: &str, value: &str) -> Answer {
    let request = gateway.request(Method::POST, "/v1/notifications").header(header, value);
    Answer::of(request.json(&json!({"to": ["bob"], "body": value}))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_names_of_this_machine_are_answered() {
    let gateway = Gateway::start().await;
    let mut receiver = gateway.listen("bob").await;
    for host in
        ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"]
    {
        send_as(&gateway, "host", host).await.refused(403, None);
        for path in ["/", "/docs", "/openapi.json", "/v1/users/bob"] {
            let request = gateway.request(Method::GET, path).header("host", host);
            Answer::of(request).await.refused(403, None);
        }
        for dial in [gateway.dial("bob"), gateway.dial("bob").subprotocol("notify.v1")] {
            dial.header("host", host).connect().await.expect_err("refused").refused(403, None);
        }
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:80", "[::1]:8000"] {
        send_as(&gateway, "host", host).await.accepted();
        assert_eq!(receiver.texts(1).await, [host], "and nothing that was refused");
    }
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_listener_answers_only_names_of_this_machine_too() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.operators_answer_to("localhost:9464").await, 200);
    assert_eq!(gateway.operators_answer_to("evil.example").await, 403, "a page could read the metrics");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_on_this_machine_may_send_and_listen() {
    let gateway = Gateway::start().await;
    let own = format!("http://{}", gateway.address());
    for origin in [DEVELOPMENT, "http://127.0.0.1:3000", &own] {
        let mut receiver = gateway.dial("bob").after("now").header("origin", origin).open().await;
        let answer = send_as(&gateway, "origin", origin).await.accepted();
        assert_eq!(answer.header("access-control-allow-origin"), origin);
        assert!(answer.header("vary").eq_ignore_ascii_case("origin"), "a cache must not mix origins");
        assert_eq!(receiver.texts(1).await, [origin]);

        let permission = gateway.preflight(origin, "content-type").await;
        assert_eq!((permission.status, permission.header("access-control-allow-origin")), (204, origin));
        assert!(permission.header("access-control-allow-methods").contains("POST"));
        let headers = permission.header("access-control-allow-headers").to_ascii_lowercase();
        assert!(headers.contains("content-type"), "{headers}");
    }
    let failed = gateway.request(Method::POST, "/v1/notifications").header("origin", DEVELOPMENT);
    let failed = Answer::of(failed.json(&json!({}))).await;
    failed.refused(400, Some("to"));
    assert_eq!(failed.header("access-control-allow-origin"), DEVELOPMENT, "a page may read why it failed");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_may_neither_send_nor_listen() {
    let gateway = Gateway::start().await;
    let mut receiver = gateway.listen("bob").await;
    let foreign = [EVIL, "null", "http://localhost.evil.example", "https://localhost:5173", "file://"];
    for origin in foreign {
        let answer = send_as(&gateway, "origin", origin).await;
        answer.refused(403, None);
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
        let permission = gateway.preflight(origin, "content-type").await;
        permission.refused(403, None);
        assert_eq!(permission.header("access-control-allow-origin"), "", "{origin}");

        let refusal = gateway.dial("bob").header("origin", origin).connect().await;
        refusal.expect_err("a page may not listen").refused(403, None);
        let dial = gateway.dial("bob").header("origin", origin).subprotocol("notify.v1");
        let (mut told, answer) = dial.connect().await.expect("upgraded, to be told why");
        assert_eq!(answer["sec-websocket-protocol"], "notify.v1");
        assert_eq!(told.expect_closed().await, 4003, "{origin}");
    }
    let refused = 2 * foreign.len();
    let series = r#"gateway_sessions_opened_total{result="origin",transport="websocket"}"#;
    assert_eq!(gateway.metric(series).await, refused as f64);
    assert_eq!(gateway.user("bob").await.body["sessions"], 1);
    gateway.send_text("bob", "control").await;
    assert_eq!(receiver.texts(1).await, ["control"], "nothing of a foreign page was delivered");
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_of_the_configuration_is_allowed_and_no_other() {
    let allow = |config: &mut Config| config.http.allowed_origins = vec!["https://app.example".to_owned()];
    let gateway = Gateway::start_with(allow).await;
    let mut receiver = gateway.dial("bob").header("origin", "https://app.example").open().await;
    let answer = send_as(&gateway, "origin", "https://app.example").await.accepted();
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(receiver.texts(1).await, ["https://app.example"]);

    for origin in [EVIL, "http://app.example", "https://app.example:8443", "https://app.example.evil.example"]
    {
        send_as(&gateway, "origin", origin).await.refused(403, None);
        let refusal = gateway.dial("bob").header("origin", origin).connect().await;
        refusal.expect_err("not listed").refused(403, None);
    }
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_no_browser_needs_no_origin() {
    let gateway = Gateway::start().await;
    let mut receiver = gateway.listen("bob").await;
    let answer = gateway.send_text("bob", "from a back end").await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(receiver.texts(1).await, ["from a back end"]);
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_no_handshake_is_told_how_to_upgrade() {
    let gateway = Gateway::start().await;
    let handshake = |headers: &[(&'static str, &'static str)]| {
        let request = gateway.request(Method::GET, "/ws/bob");
        Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
    };
    let connection = ("connection", "Upgrade");
    let upgrade = ("upgrade", "websocket");
    let version = ("sec-websocket-version", "13");
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");

    for headers in [
        &[][..],
        &[connection, ("upgrade", "h2c"), version, key],
        &[connection, upgrade, key],
        &[connection, upgrade, ("sec-websocket-version", "8"), key],
    ] {
        let answer = handshake(headers).await;
        answer.refused(426, None);
        assert_eq!((answer.header("upgrade"), answer.header("sec-websocket-version")), ("websocket", "13"));
    }
    for headers in [
        &[connection, upgrade, version][..],
        &[connection, upgrade, version, ("sec-websocket-key", "")],
        &[connection, upgrade, version, ("sec-websocket-key", "c2hvcnQ=")],
        &[("connection", "keep-alive"), upgrade, version, key],
    ] {
        handshake(headers).await.refused(400, None);
    }
    let series = r#"gateway_sessions_opened_total{result="bad_request",transport="websocket"}"#;
    assert_eq!(gateway.metric(series).await, 8.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_subprotocol_is_selected_and_a_credential_beside_it_never_echoed() {
    let gateway = Gateway::start().await;
    let dial = gateway.dial("bob").subprotocol("notify.v1, bearer.secret");
    let (mut receiver, answer) = dial.connect().await.expect("upgraded");
    let selected: Vec<_> = answer.get_all("sec-websocket-protocol").iter().collect();
    assert_eq!(selected, ["notify.v1"]);
    assert!(answer.values().all(|value| !value.as_bytes().windows(6).any(|part| part == b"secret")));
    let welcome = receiver.next_frame().await;
    assert!(!welcome.to_string().contains("secret"));

    let (plain, answer) = gateway.dial("bob").connect().await.expect("upgraded");
    assert_eq!(answer.get("sec-websocket-protocol"), None, "what was not offered is not selected");
    drop((receiver, plain));
    gateway.stop().await;
}
