//! What operators read: a strict exposition, complete from the start, bounded, and true.

use std::time::Duration;

use futures_util::future::join_all;
use gateway::domain::OverflowPolicy;
use gateway::protocol::CloseCode;
use serde_json::{Value, json};

use crate::process_harness::{Running, Server, scrape, send, until_metric};
use crate::raw_socket::{CLOSE, FINAL, RawSocket, frame};

const SESSIONS: &str = r#"gateway_sessions{transport="websocket"}"#;

/// Opens a session, says goodbye and waits for the echo.
async fn come_and_go(gateway: std::net::SocketAddr, user: &str) {
    let mut socket = RawSocket::open(gateway, user).await;
    socket.write(&frame(FINAL | CLOSE, &1000_u16.to_be_bytes())).await;
    assert_eq!(socket.frame_of(CLOSE).await.close_code(), 1000);
    socket.end().await;
}

/// So many sessions come and go, 64 at the same time.
async fn cycles(gateway: std::net::SocketAddr, count: usize) {
    const CONCURRENT: usize = 64;
    join_all((0..CONCURRENT).map(async |worker| {
        for round in (worker..count).step_by(CONCURRENT) {
            come_and_go(gateway, &format!("user{round}")).await;
        }
    }))
    .await;
}

/// POSTs a batch of one notification for each user; every item must be accepted.
async fn send_batch(gateway: &Running, users: impl Iterator<Item = String>) {
    let batch: Vec<Value> = users.map(|user| json!({"to": [user], "body": "hello"})).collect();
    let request = reqwest::Client::new().post(format!("{}/v1/notifications/batch", gateway.url()));
    let answer = request.json(&batch).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let items: Vec<Value> = answer.json().await.unwrap();
    assert!(items.iter().all(|item| item["status"] == 202));
}

#[tokio::test]
async fn sessions_that_come_and_go_leave_nothing_behind() {
    const MOST_GROWTH: u64 = 4 << 20;
    let server = Server::start(&[]).await;
    let (http, ops) = (server.addresses.http, server.addresses.ops);
    cycles(http, 1_000).await;
    until_metric(ops, SESSIONS, 0.0).await;
    let early = server.resident_bytes();
    cycles(http, 4_000).await;
    for gauge in [SESSIONS, "gateway_users", "gateway_known_users", "gateway_connections"] {
        until_metric(ops, gauge, 0.0).await;
    }
    let late = server.resident_bytes();
    assert!(late < early + MOST_GROWTH, "{early} bytes grew to {late}");
    let metrics = scrape(ops).await;
    let closed = r#"gateway_sessions_closed_total{code="1000",initiator="client"}"#;
    assert_eq!(metrics.value(closed), 5_000.0);
    assert_eq!(metrics.value("gateway_session_duration_seconds_count"), 5_000.0);
    let opened = r#"gateway_sessions_opened_total{result="accepted",transport="websocket"}"#;
    assert_eq!(metrics.value(opened), 5_000.0);
    assert!(server.open_files() < 64, "descriptors are given back");
}

#[tokio::test]
async fn the_number_of_series_does_not_depend_on_the_number_of_users() {
    let gateway = Running::start_with(|_| {}).await;
    let ops = gateway.addresses.ops;
    // Each route and status has its series from its first request on.
    send_batch(&gateway, (0..1).map(|number| format!("user{number}"))).await;
    assert_eq!(send(gateway.addresses.http, &["a", "b"], "hello").await.0, 202);
    come_and_go(gateway.addresses.http, "first").await;
    let before = scrape(ops).await;
    for thousand in 1..11 {
        send_batch(&gateway, (0..1_000).map(|number| format!("user{}", thousand * 1_000 + number))).await;
    }
    for number in 0..20 {
        come_and_go(gateway.addresses.http, &format!("guest{number}")).await;
    }
    until_metric(ops, "gateway_known_users", 10_003.0).await;
    let after = scrape(ops).await;
    assert_eq!(before.names(), after.names());
    assert!(after.names().len() < 600, "{} series", after.names().len());
    assert_eq!(after.value("gateway_mailbox_depth"), 10_003.0);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_gateway_that_has_served_every_route_in_every_way_has_fewer_than_600_series() {
    let gateway = Running::start_with(|_| {}).await;
    let client = reqwest::Client::new();
    let document: Value =
        client.get(format!("{}/openapi.json", gateway.url())).send().await.unwrap().json().await.unwrap();
    let fill = |path: &str| path.replace("{user}", "bob").replace("{topic}", "news");
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = if path.contains(":id") { path.replace(":id", "none") } else { fill(path) };
        let path = path.split('/').map(|part| if part.starts_with([':', '{']) { "bob" } else { part });
        let url = format!("{}{}", gateway.url(), path.collect::<Vec<_>>().join("/"));
        for method in operations.as_object().unwrap().keys() {
            let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let bodies = ["{", "[]", "{}", r#"["bob"]"#, r#"{"to":["bob"],"body":"hello"}"#];
            for body in bodies.map(str::to_owned).into_iter().chain(["x".repeat(9 << 20)]) {
                let request = client.request(method.clone(), &url).body(body.clone());
                // Streams and sockets answer a head and no more: nobody waits for their body.
                let _ = request.header("content-type", "application/json").send().await;
                let _ = client.request(method.clone(), &url).body(body).send().await;
            }
            let _ = client.request(method.clone(), &url).header("host", "evil.example").send().await;
            let _ = client.request(method, &url).header("origin", "https://evil.example").send().await;
        }
        for method in ["GET", "PUT", "PATCH", "HEAD", "OPTIONS", "BREW"] {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let _ = client.request(method, &url).send().await;
        }
    }
    let metrics = scrape(gateway.addresses.ops).await;
    let answers = metrics.of_family("http_server_requests_total").count();
    assert!(answers > 40, "only {answers} kinds of answers were given");
    // By arithmetic, too: each operation gives every answer that it documents, and pages and refusals give some twenty.
    let operations =
        document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/v1/"));
    let operations = operations.flat_map(|(_, operations)| operations.as_object().unwrap().values());
    let documented: usize = operations.map(|one| one["responses"].as_object().unwrap().len()).sum();
    assert!(documented > 60, "only {documented} answers are documented");
    let most = metrics.names().len() - answers + answers.max(documented + 20);
    // A process has nine of its own.
    assert!(most < 600 - 9, "{most} series, {answers} of answers seen, {documented} documented");
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn paths_and_methods_from_outside_make_no_series() {
    let gateway = Running::start_with(|_| {}).await;
    let client = reqwest::Client::new();
    let ask = async |method: &str, path: &str| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        client.request(method, format!("{}{path}", gateway.url())).send().await.unwrap();
    };
    ask("BREW", "/coffee0").await;
    ask("GET", "/coffee0").await;
    ask("GET", "/v1/users/guest0").await;
    ask("GET", "/ws/guest0").await;
    let before = scrape(gateway.addresses.ops).await;
    for number in 1..50 {
        ask(&format!("BREW{number}"), &format!("/coffee{number}")).await;
        ask("GET", &format!("/v{number}/users/bob?x={number}")).await;
        ask("GET", &format!("/v1/users/guest{number}")).await;
        ask("GET", &format!("/ws/guest{number}")).await;
    }
    let after = scrape(gateway.addresses.ops).await;
    assert_eq!(before.names(), after.names());
    assert!(!after.text().contains("coffee") && !after.text().contains("BREW"));
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn every_combination_of_labels_is_there_before_anything_happened() {
    let gateway = Running::start_with(|_| {}).await;
    let metrics = scrape(gateway.addresses.ops).await;
    let mut expected = Vec::new();
    for target in ["user", "users", "topic", "everybody", "unknown"] {
        for result in ["accepted", "invalid", "too_large", "repeated", "conflict", "rejected", "overloaded"] {
            expected.push(format!(r#"gateway_notifications_total{{result="{result}",target="{target}"}}"#));
        }
    }
    expected.extend(
        ["overflow", "rejected"]
            .map(|reason| format!(r#"gateway_mailbox_dropped_total{{reason="{reason}"}}"#)),
    );
    expected.extend(
        ["low", "normal", "high"]
            .map(|priority| format!(r#"gateway_mailbox_enqueued_total{{priority="{priority}"}}"#)),
    );
    expected.extend(
        ["acked", "collapsed", "withdrawn", "expired", "overflow", "epoch"]
            .map(|reason| format!(r#"gateway_gaps_total{{reason="{reason}"}}"#)),
    );
    expected.extend(
        ["in", "out"].map(|direction| format!(r#"gateway_ws_bytes_total{{direction="{direction}"}}"#)),
    );
    expected.extend(
        ["acked", "collapsed", "withdrawn", "expired", "dropped_overflow", "dropped_rejected"]
            .map(|outcome| format!(r#"gateway_ledger_final_total{{outcome="{outcome}"}}"#)),
    );
    expected.extend(["accepted", "origin", "bad_request", "overloaded"].map(|result| {
        format!(r#"gateway_sessions_opened_total{{result="{result}",transport="websocket"}}"#)
    }));
    expected.extend(
        ["fresh", "resumed", "gap", "foreign"]
            .map(|outcome| format!(r#"gateway_session_resumes_total{{outcome="{outcome}"}}"#)),
    );
    expected.extend(
        ["pong", "frame", "http"].map(|source| format!(r#"gateway_acks_total{{source="{source}"}}"#)),
    );
    expected.extend(
        ["too_large", "full", "unavailable", "ambiguous"]
            .map(|kind| format!(r#"gateway_log_append_errors_total{{kind="{kind}"}}"#)),
    );
    expected.extend(
        ["queue_full", "export_failed"]
            .map(|reason| format!(r#"gateway_otel_spans_dropped_total{{reason="{reason}"}}"#)),
    );
    expected.extend(
        ["queued", "written", "acked"]
            .map(|stage| format!(r#"gateway_push_latency_seconds_count{{stage="{stage}"}}"#)),
    );
    for code in CloseCode::ALL {
        for initiator in ["client", "server"] {
            let code = code.number();
            expected
                .push(format!(r#"gateway_sessions_closed_total{{code="{code}",initiator="{initiator}"}}"#));
        }
    }
    expected.push(r#"gateway_sessions_closed_total{code="1006",initiator="network"}"#.to_owned());
    expected.push(r#"gateway_sessions_closed_total{code="other",initiator="client"}"#.to_owned());
    expected.extend(
        [
            SESSIONS,
            "gateway_mailbox_expired_total",
            "gateway_ledger_accepted_total",
            "gateway_ledger_imbalance",
            "gateway_topics",
            "gateway_topic_memberships",
            "gateway_accept_errors_total",
            "gateway_first_request_timeouts_total",
            "gateway_stored_delivery_age_seconds_count",
            "gateway_draining",
            "gateway_session_replayed_notifications_count",
            "gateway_ping_round_trip_seconds_count",
            "gateway_ws_write_stalls_total",
            "gateway_otel_spans_exported_total",
        ]
        .map(str::to_owned),
    );
    for series in expected {
        assert_eq!(metrics.value(&series), 0.0, "{series}");
    }
    // Nothing beyond the expected: what is pre-created is also all there can be.
    assert_eq!(metrics.of_family("gateway_sessions_closed_total").count(), 2 * CloseCode::ALL.len() + 2);
    assert_eq!(metrics.of_family("gateway_notifications_total").count(), 45);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn the_exposition_keeps_to_its_format_and_its_names() {
    let server = Server::start(&[]).await;
    come_and_go(server.addresses.http, "bob").await;
    assert_eq!(send(server.addresses.http, &["bob"], "hello").await.0, 202);
    // Parsing is strict: this alone fails at a line that breaks the format.
    let metrics = scrape(server.addresses.ops).await;
    for (name, kind) in metrics.families() {
        let known =
            ["gateway_", "http_server_", "process_", "tokio_"].iter().any(|prefix| name.starts_with(prefix));
        assert!(known, "{name} belongs to nobody");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        assert!(!name.ends_with("_ms") && !name.contains("millis"), "{name}: base units are seconds");
    }
    let info =
        format!(r#"gateway_build_info{{revision="{}",version="{}"}}"#, gateway::REVISION, gateway::VERSION);
    assert_eq!(metrics.value(&info), 1.0);
    assert_eq!(metrics.value(r#"gateway_config_info{overflow_policy="drop-oldest"}"#), 1.0);
    assert!(metrics.has("process_resident_memory_bytes"));
    assert!(metrics.has("process_open_fds"));
    for positive in [
        "tokio_workers",
        "tokio_live_tasks",
        "tokio_worker_busy_seconds_total",
        "tokio_worker_parks_total",
        "gateway_memory_limit_bytes",
        "gateway_log_free_bytes",
    ] {
        assert!(metrics.value(positive) > 0.0, "{positive}");
    }
    assert!(metrics.names().len() < 600, "{} series", metrics.names().len());
}

#[tokio::test]
async fn latencies_count_exactly_what_was_pushed_live() {
    let gateway = Running::start_with(|_| {}).await;
    let (http, ops) = (gateway.addresses.http, gateway.addresses.ops);
    for text in ["waits", "waits, too"] {
        assert_eq!(send(http, &["bob", "nobody"], text).await.0, 202);
    }
    let mut bob = RawSocket::open(http, "bob").await;
    let mut twin = RawSocket::open(http, "bob").await;
    let mut eve = RawSocket::open(http, "eve").await;
    for _ in 0..2 {
        bob.frame_of_type("notification").await;
        twin.frame_of_type("notification").await;
    }
    let written = r#"gateway_push_latency_seconds_count{stage="written"}"#;
    let queued = r#"gateway_push_latency_seconds_count{stage="queued"}"#;
    let stored = "gateway_stored_delivery_age_seconds_count";
    until_metric(ops, stored, 4.0).await;
    assert_eq!(scrape(ops).await.value(written), 0.0, "what had waited is no live push");

    for number in 0..10 {
        assert_eq!(send(http, &["bob", "eve", "nobody"], &number.to_string()).await.0, 202);
        for socket in [&mut bob, &mut twin, &mut eve] {
            assert_eq!(socket.frame_of_type("notification").await["body"], number.to_string());
        }
    }
    until_metric(ops, written, 30.0).await;
    let metrics = scrape(ops).await;
    assert_eq!(metrics.value(stored), 4.0);
    assert_eq!(metrics.value("gateway_ws_write_batch_frames_sum"), 34.0);
    // Queued is told once for each notification that somebody was connected for.
    assert_eq!(metrics.value(queued), 10.0, "{}", metrics.text());
    let sum = metrics.value(r#"gateway_push_latency_seconds_sum{stage="written"}"#);
    assert!(sum > 0.0 && sum < 30.0 * 5.0, "{sum} seconds for 30 pushes");
    drop((bob, twin, eve));
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn every_offered_notification_is_counted_once_by_its_answer() {
    let gateway = Running::start_with(|config| {
        config.mailbox.max_notifications = 2;
        config.mailbox.overflow = OverflowPolicy::Reject;
    })
    .await;
    let post = async |body: String| {
        let request = reqwest::Client::new().post(format!("{}/v1/notifications", gateway.url()));
        let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
        answer.status().as_u16()
    };
    let to = |users: Value| json!({"to": users, "body": "hello"}).to_string();
    assert_eq!(post(to(json!(["bob"]))).await, 202);
    assert_eq!(post(to(json!(["bob", "eve"]))).await, 202);
    assert_eq!(post(to(json!(["bob"]))).await, 507);
    assert_eq!(post(to(json!(["bob", "eve"]))).await, 202, "one of the two takes it");
    assert_eq!(post(to(json!([]))).await, 400);
    assert_eq!(post("{".to_owned()).await, 400);
    assert_eq!(post(json!({"to": ["bob"], "body": "x".repeat(40_000)}).to_string()).await, 413);
    let metrics = scrape(gateway.addresses.ops).await;
    let count = |target: &str, result: &str| {
        metrics.value(&format!(r#"gateway_notifications_total{{result="{result}",target="{target}"}}"#))
    };
    assert_eq!((count("user", "accepted"), count("users", "accepted")), (1.0, 2.0));
    assert_eq!((count("user", "rejected"), count("user", "too_large")), (1.0, 1.0));
    assert_eq!(count("unknown", "invalid"), 2.0);
    let all: f64 = metrics.of_family("gateway_notifications_total").map(|(_, value)| value).sum();
    assert_eq!(all, 7.0);
    assert_eq!(metrics.value(r#"gateway_mailbox_dropped_total{reason="rejected"}"#), 2.0);
    assert_eq!(metrics.value(r#"gateway_mailbox_enqueued_total{priority="normal"}"#), 4.0);
    assert_eq!(metrics.value("gateway_mailbox_depth"), 4.0);
    assert_eq!(metrics.value("gateway_mailbox_high_watermark_ratio"), 1.0);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn no_user_and_no_text_is_ever_seen_in_the_metrics() {
    let gateway = Running::start_with(|_| {}).await;
    let (http, ops) = (gateway.addresses.http, gateway.addresses.ops);
    let mut socket = RawSocket::open(http, "zanzibar").await;
    assert_eq!(send(http, &["zanzibar", "timbuktu"], "confidential").await.0, 202);
    socket.frame_of_type("notification").await;
    reqwest::get(format!("{}/v1/users/zanzibar", gateway.url())).await.unwrap();
    reqwest::get(format!("{}/v1/users/zanz%00ibar?zanzibar=1", gateway.url())).await.unwrap();
    reqwest::get(format!("{}/zanzibar", gateway.url())).await.unwrap();
    reqwest::get(format!("{}/ws/zanzibar", gateway.url())).await.unwrap();
    socket.write(&frame(FINAL | CLOSE, b"\x0f\xa0zanzibar")).await;
    socket.end().await;
    until_metric(ops, SESSIONS, 0.0).await;
    let text = scrape(ops).await.text().to_owned();
    for word in ["zanz", "timbuktu", "confidential"] {
        assert!(!text.contains(word), "{word} in:\n{text}");
    }
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn health_answers_on_the_operators_port_and_nothing_of_it_on_the_public_one() {
    let gateway = Running::start_with(|_| {}).await;
    let (http, ops) = (gateway.addresses.http, gateway.addresses.ops);
    let memory = "ready\nlog in memory: what was accepted lives as long as this process\n";
    for (path, text) in [("live", "live\n"), ("ready", memory)] {
        let answer = reqwest::get(format!("http://{ops}/health/{path}")).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), text);
    }
    let answer = reqwest::get(format!("http://{ops}/metrics")).await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    for path in ["/metrics", "/health/live", "/health/ready"] {
        assert_eq!(reqwest::get(format!("http://{http}{path}")).await.unwrap().status(), 404, "{path}");
    }
    assert_eq!(reqwest::get(format!("http://{ops}/v1/users/bob")).await.unwrap().status(), 404);
    // Operators are few, but a crowd of public connections does not lock them out.
    let crowd = join_all((0..100).map(|_| RawSocket::connect(http))).await;
    let ready = reqwest::get(format!("http://{ops}/health/ready"));
    let ready = tokio::time::timeout(Duration::from_secs(5), ready).await.unwrap().unwrap();
    assert_eq!(ready.status(), 200);
    drop(crowd);
    assert_eq!(gateway.stop().await, Ok(()));
}
