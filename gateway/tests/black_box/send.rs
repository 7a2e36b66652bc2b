//! What a sender may post, how a bad request is refused, and that nothing of it is delivered.

use gateway::config::Bytes;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway};

/// A limit of the body that tests reach quickly.
const MAX_BODY: usize = 256 * 1024;

const SEND: &str = "/v1/notifications";
const SEND_BATCH: &str = "/v1/notifications/batch";

async fn small_gateway() -> Gateway {
    Gateway::start_with(|config| config.http.max_body = Bytes(MAX_BODY as u64)).await
}

/// Posts a text that may or may not be JSON.
async fn post(gateway: &Gateway, path: &str, body: impl Into<reqwest::Body>) -> Answer {
    let request = gateway.request(Method::POST, path).header("content-type", "application/json");
    Answer::of(request.body(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_that_breaks_a_rule_is_refused_by_field_and_never_delivered() {
    let gateway = small_gateway().await;
    let mut receiver = gateway.listen("bob").await;
    let too_many: Vec<String> = (0..10_001).map(|number| number.to_string()).collect();
    let too_long = "x".repeat(257);
    let refused = [
        (json!({}), Some("to")),
        (json!({"body": "for nobody"}), Some("to")),
        (json!({"to": ["bob"], "topic": "news"}), Some("to")),
        (json!({"topic": ""}), Some("topic")),
        (json!({"topic": "a\nb"}), Some("topic")),
        (json!({"topic": ["news"]}), Some("topic")),
        (json!({"to": []}), Some("to")),
        (json!({"to": "bob"}), Some("to")),
        (json!({"to": ["bob", ""]}), Some("to[1]")),
        (json!({"to": ["bob", too_long]}), Some("to[1]")),
        (json!({"to": ["bob", "ü".repeat(129)]}), Some("to[1]")),
        (json!({"to": ["bob", "carol\n"]}), Some("to[1]")),
        (json!({"to": ["bob", "a\u{0}"]}), Some("to[1]")),
        (json!({"to": ["bob", "a\u{85}"]}), Some("to[1]")),
        (json!({"to": ["bob", "."]}), Some("to[1]")),
        (json!({"to": ["..", "bob"]}), Some("to[0]")),
        (json!({"to": ["bob", 7]}), Some("to[1]")),
        (json!({"to": too_many}), Some("to")),
        (json!({"to": ["bob"], "collapse_key": ""}), Some("collapse_key")),
        (json!({"to": ["bob"], "collapse_key": "x".repeat(257)}), Some("collapse_key")),
        (json!({"to": ["bob"], "ttl_seconds": 604_801}), Some("ttl_seconds")),
        (json!({"to": ["bob"], "ttl_seconds": -1}), Some("ttl_seconds")),
        (json!({"to": ["bob"], "ttl_seconds": 4_294_967_296_u64}), Some("ttl_seconds")),
        (json!({"to": ["bob"], "ttl_seconds": "60"}), Some("ttl_seconds")),
        (json!({"to": ["bob"], "priority": "urgent"}), Some("priority")),
        (json!({"to": ["bob"], "title": 7}), Some("title")),
        (json!({"to": ["bob"], "body": ["text"]}), Some("body")),
    ];
    for (notification, field) in refused {
        let shown: String = notification.to_string().chars().take(100).collect();
        println!("refused: {shown}");
        gateway.send(notification).await.refused(400, field);
    }
    expect_nothing_but_the_control(&gateway, &mut receiver).await;
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_field_is_refused_by_name() {
    let gateway = Gateway::start().await;
    let mut receiver = gateway.listen("bob").await;
    gateway.send(json!({"to": ["bob"], "ttl": 60})).await.refused(400, Some("ttl"));
    let twice = post(&gateway, SEND, r#"{"to":["carol"],"to":["bob"]}"#).await;
    assert_eq!(twice.status, 400);
    assert!(twice.body["detail"].as_str().is_some_and(|detail| detail.contains("`to`")), "{}", twice.body);
    expect_nothing_but_the_control(&gateway, &mut receiver).await;
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_json_is_refused_with_the_place() {
    let gateway = small_gateway().await;
    let mut receiver = gateway.listen("bob").await;
    for (body, place) in [
        ("", "line 1 column 0"),
        ("{\"to\":\n[\"bob\"],}", "line 2 column 9"),
        (r#"{"to":["bob"]} {"to":["bob"]}"#, "line 1 column 16"),
        (r#"{"to":["bob"],"body":"\ud800"}"#, "line 1 column"),
    ] {
        let answer = post(&gateway, SEND, body).await;
        answer.refused(400, None);
        let detail = answer.body["detail"].as_str().expect("a text");
        assert!(detail.contains(place), "{detail:?} should name {place}");
    }
    post(&gateway, SEND, b"{\"to\":[\"bob\"],\"body\":\"\xff\"}".to_vec()).await.refused(400, None);
    post(&gateway, SEND_BATCH, r#"{"to":["bob"]}"#).await.refused(400, None);
    expect_nothing_but_the_control(&gateway, &mut receiver).await;
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_is_an_object_and_nothing_else() {
    let gateway = Gateway::start().await;
    let mut receiver = gateway.listen("bob").await;
    let fields_in_order = r#"[["bob"],null,"alice","title","body",null,60,"high"]"#;
    for body in [r#"[{"to":["bob"]}]"#, fields_in_order, "[]", "null", r#""bob""#, "7"] {
        println!("refused: {body}");
        post(&gateway, SEND, body).await.refused(400, None);
        let batch = post(&gateway, SEND_BATCH, format!("[{body}]")).await.accepted();
        assert_eq!(batch.body[0]["status"], 400, "{}", batch.body);
    }
    expect_nothing_but_the_control(&gateway, &mut receiver).await;
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_before_it_is_kept() {
    let gateway = small_gateway().await;
    let mut receiver = gateway.listen("bob").await;
    let padded = |size: usize| {
        let (head, tail) = (r#"{"to":["bob"],"body":""#, r#""}"#);
        format!("{head}{}{tail}", "x".repeat(size - head.len() - tail.len()))
    };

    post(&gateway, SEND, padded(40 * 1024)).await.refused(413, None);
    post(&gateway, SEND, padded(MAX_BODY + 1)).await.refused(413, None);
    chunked(&gateway, &padded(MAX_BODY + 1)).await.refused(413, None);
    let item = json!({"to": ["bob"]});
    let items = Value::Array(vec![item; 1_001]);
    gateway.sender().post(SEND_BATCH, &items).await.refused(413, None);

    chunked(&gateway, r#"{"to":["carol"]}"#).await.accepted();
    expect_nothing_but_the_control(&gateway, &mut receiver).await;
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_far_over_the_limit_reads_why_instead_of_a_broken_connection() {
    let gateway = small_gateway().await;
    for _ in 0..20 {
        post(&gateway, SEND, vec![b' '; 64 * MAX_BODY]).await.refused(413, None);
    }
    gateway.stop().await;
}

/// Posts without announcing a length.
async fn chunked(gateway: &Gateway, body: &str) -> Answer {
    let head = "POST /v1/notifications HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    gateway.exchange(format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_no_send_is_refused_as_what_it_is() {
    let gateway = Gateway::start().await;
    let mut receiver = gateway.listen("bob").await;
    let body = r#"{"to":["bob"]}"#;
    for path in [SEND, SEND_BATCH] {
        let request = || gateway.request(Method::POST, path);
        Answer::of(request().body(body)).await.refused(415, None);
        Answer::of(request().header("content-type", "text/plain").body(body)).await.refused(415, None);
        for key in ["", "a b", &"x".repeat(256)] {
            let with_key =
                request().header("content-type", "application/json").header("idempotency-key", key);
            let answer = Answer::of(with_key.body(if path == SEND { body } else { "[]" })).await;
            answer.refused(400, Some("Idempotency-Key"));
        }
    }
    for path in ["/v1", "/v1/nothing", "/v2/notifications", "/v1/notifications/", "/ws"] {
        post(&gateway, path, body).await.refused(404, None);
    }
    for (method, path) in [(Method::DELETE, SEND), (Method::GET, SEND_BATCH), (Method::POST, "/v1/users/bob")]
    {
        let answer = Answer::of(gateway.request(method, path)).await;
        answer.refused(405, None);
    }
    expect_nothing_but_the_control(&gateway, &mut receiver).await;
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_id_in_a_path_follows_the_same_rules() {
    let gateway = Gateway::start().await;
    for user in ["%00", "a%0Ab", "%C2%85", "%2E", "%2e%2E", &"x".repeat(257)] {
        let request =
            format!("GET /v1/users/{user} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        println!("refused: {user}");
        gateway.exchange(request.as_bytes()).await.refused(400, Some("user"));
    }
    let refusal = gateway.dial("a\nb").connect().await.expect_err("no user has such a name");
    refusal.refused(400, Some("user"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_item_fails_alone_and_the_order_stays() {
    let gateway = Gateway::start().await;
    let mut receiver = gateway.listen("bob").await;
    let items = json!([
        {"to": ["bob"], "body": "first"},
        {"to": []},
        {"to": ["bob"], "body": "second"},
        {"to": ["bob"], "surprise": true},
        {"to": ["bob"], "body": "x".repeat(40 * 1024)},
        7,
        {"to": ["bob", "carol"], "body": "third"},
    ]);

    let answer = gateway.sender().post(SEND_BATCH, &items).await.accepted();
    let results = answer.body.as_array().expect("one result an item");
    let statuses: Vec<_> = results.iter().map(|item| item["status"].as_u64().expect("a status")).collect();
    assert_eq!(statuses, [202, 400, 202, 400, 413, 400, 202]);
    assert_eq!(results[1]["problem"]["field"], "to");
    assert_eq!(results[6]["accepted"]["recipients"], 2);
    for item in results {
        assert_ne!(item.get("accepted").is_some(), item.get("problem").is_some(), "{item}");
    }
    for (index, text) in [(0, "first"), (2, "second"), (6, "third")] {
        let notification = receiver.notification().await;
        assert_eq!(notification["body"], text);
        assert_eq!(notification["position"], results[index]["accepted"]["position"]);
        assert_eq!(notification["id"], results[index]["accepted"]["id"]);
    }
    expect_nothing_but_the_control(&gateway, &mut receiver).await;
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusual_names_are_users_of_their_own() {
    let gateway = Gateway::start().await;
    let long = "ü".repeat(128);
    let users =
        ["a/b", "a", "b", "ü", "u\u{308}", "*", "a b", "a+b", "%2e", "%252e", "?", "#", "a%2Fb", "…", &long];
    let mut receivers = Vec::new();
    for user in users {
        receivers.push(gateway.listen(user).await);
    }
    for user in users {
        let answer = gateway.send_text(user, user).await;
        assert_eq!((&answer.body["recipients"], &answer.body["online"]), (&json!(1), &json!(1)));
    }
    for (user, receiver) in users.iter().zip(&mut receivers) {
        assert_eq!(receiver.welcome()["user"], *user);
        assert_eq!(receiver.texts(1).await, [*user]);
        let known = gateway.user(user).await;
        assert_eq!((known.status, &known.body["user"]), (200, &json!(user)));
        assert_eq!((&known.body["sessions"], &known.body["pending"]), (&json!(1), &json!(1)), "{user}");
    }
    gateway.send(json!({"to": users, "body": "to all"})).await.accepted();
    for receiver in &mut receivers {
        assert_eq!(receiver.texts(1).await, ["to all"]);
    }
    drop(receivers);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_never_seen_has_zeros() {
    let gateway = Gateway::start().await;
    let answer = gateway.user("nobody").await;
    assert_eq!(answer.status, 200);
    let zeros = json!({"user": "nobody", "sessions": 0, "pending": 0, "pending_bytes": 0});
    assert_eq!(answer.body, zeros);
    assert_eq!(gateway.metric("gateway_known_users").await, 0.0, "asking makes nobody known");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_named_twice_gets_it_once() {
    let gateway = Gateway::start().await;
    let mut receiver = gateway.listen("bob").await;
    let twice = json!({"to": ["bob", "carol", "bob", "bob"], "body": "once"});
    let answer = gateway.send(twice).await.accepted();
    assert_eq!((&answer.body["recipients"], &answer.body["online"]), (&json!(2), &json!(1)));
    assert_eq!(receiver.texts(1).await, ["once"]);
    expect_nothing_but_the_control(&gateway, &mut receiver).await;
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_recipients_are_taken_if_their_names_fit_an_entry() {
    let gateway = Gateway::start().await;
    let mut last = gateway.listen("user 9999").await;
    let users: Vec<String> = (0..10_000).map(|number| format!("user {number}")).collect();
    let answer = gateway.send(json!({"to": users, "body": "to many"})).await.accepted();
    assert_eq!((&answer.body["recipients"], &answer.body["online"]), (&json!(10_000), &json!(1)));
    assert_eq!(last.texts(1).await, ["to many"]);
    assert_eq!(gateway.metric("gateway_mailbox_depth").await, 10_000.0);

    let long: Vec<String> = (0..10_000).map(|number| format!("{number:0256}")).collect();
    gateway.send(json!({"to": long})).await.refused(413, None);
    assert_eq!(gateway.metric("gateway_mailbox_depth").await, 10_000.0);
    drop(last);
    gateway.stop().await;
}

/// Whatever was refused before was not delivered: the next frame is the one sent now.
async fn expect_nothing_but_the_control(gateway: &Gateway, receiver: &mut crate::harness::Receiver) {
    let control = gateway.send_text("bob", "control").await;
    let next = receiver.notification().await;
    assert_eq!(next["position"], control.body["position"], "only the control was sent: {next}");
}
