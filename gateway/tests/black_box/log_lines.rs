//! What the process writes down: lines that parse, that lead to their trace, and that tell nothing of what was said.

use serde_json::{Map, Value, json};

use crate::harness::{Collector, CollectorPort, EventSource, reporting_to};
use crate::process_harness::{Folder, Server, scrape, send, until_metric, until_some, within_patience};
use crate::raw_socket::{FINAL, RawSocket, TEXT, frame, handshake};
use crate::traces::reserve_beyond;

const EVERYTHING: (&str, &str) = ("GATEWAY_TELEMETRY_FILTER", "trace");
const JSON: (&str, &str) = ("GATEWAY_TELEMETRY_FORMAT", "json");

const SENDERS_TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const SENDERS_TRACEPARENT: &str = "00-80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-01";

/// Said only in a body, a header or a frame.
const SECRETS: [&str; 8] = [
    "the-body-is-private",
    "the-title-is-private",
    "the-data-is-private",
    "bearer-of-a-secret",
    "cookie-of-a-secret",
    "key-of-a-secret",
    "a-mistake-is-private",
    "an-ack-is-private",
];

/// Each line as the JSON object that it has to be.
fn parsed(lines: &[String]) -> Vec<Map<String, Value>> {
    let lines = lines.iter().map(|line| match serde_json::from_str(line) {
        Ok(Value::Object(object)) => object,
        other => panic!("a line is a JSON object, this is {other:?}: {line}"),
    });
    lines.collect()
}

fn is_hexadecimal(text: &Value, length: usize) -> bool {
    let digits = text.as_str().unwrap_or_default();
    digits.len() == length
        && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        && digits.bytes().any(|byte| byte != b'0')
}

/// A request in which everything that the sender says and shows is private.
fn private_request(server: &Server, body: String) -> reqwest::RequestBuilder {
    reqwest::Client::new()
        .post(format!("{}/v1/notifications", server.url()))
        .header("authorization", "Bearer bearer-of-a-secret")
        .header("cookie", "session=cookie-of-a-secret")
        .header("traceparent", SENDERS_TRACEPARENT)
        .header("content-type", "application/json")
        .body(body)
}

/// Sends, listens by socket and by stream, acks, and makes a mistake of each kind.
async fn say_everything_in_private(server: &Server) {
    let http = server.addresses.http;
    let mut bob = RawSocket::connect(http).await;
    let headers = "Sec-WebSocket-Protocol: notify.v1\r\nAuthorization: Bearer bearer-of-a-secret\r\n";
    bob.write(handshake("bob", headers).as_bytes()).await;
    assert!(bob.head().await.starts_with("HTTP/1.1 101 "));
    let stream = reqwest::Client::new().get(format!("{}/sse/bob", server.url()));
    let stream = stream.header("authorization", "Bearer bearer-of-a-secret");
    let mut stream = EventSource::open(stream).await.expect("the stream is not refused");

    let notification = json!({
        "to": ["bob"],
        "title": "the-title-is-private",
        "body": "the-body-is-private",
        "data": {"is": "the-data-is-private"},
    });
    let request =
        private_request(server, notification.to_string()).header("idempotency-key", "key-of-a-secret");
    assert_eq!(within_patience("an answer", request.send()).await.unwrap().status(), 202);
    for (mistake, status) in [
        (r#"{"to": ["bob"], "body": "a-mistake-is-private" "#, 400),
        (r#"{"to": ["bob"], "body": ["a-mistake-is-private"]}"#, 400),
        (r#"{"to": ["bob"], "ttl_seconds": "a-mistake-is-private"}"#, 400),
    ] {
        let answer = within_patience("a refusal", private_request(server, mistake.to_owned()).send()).await;
        assert_eq!(answer.unwrap().status(), status, "{mistake}");
    }

    let received = bob.frame_of_type("notification").await;
    while stream.event().await.kind != "notification" {}
    let ack = json!({"type": "ack", "position": received["position"], "note": "an-ack-is-private"});
    bob.write(&frame(FINAL | TEXT, ack.to_string().as_bytes())).await;
    until_metric(server.addresses.ops, r#"gateway_ledger_final_total{outcome="acked"}"#, 1.0).await;
    bob.write(&frame(FINAL | TEXT, b"{\"type\": \"an-ack-is-private\"}")).await;
    bob.end().await;
}

/// Everything that a gateway wrote from its start to its end.
async fn lines_of(server: Server) -> Vec<String> {
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    [ended.complained, ended.printed].concat()
}

#[tokio::test]
async fn no_line_at_any_level_tells_what_was_said_or_by_which_right() {
    let collector = Collector::start();
    let traced = collector.variables(&[EVERYTHING, JSON]);
    let human = collector.variables(&[EVERYTHING, ("GATEWAY_TELEMETRY_FORMAT", "human")]);
    for variables in [&traced, &human, &vec![EVERYTHING, JSON]] {
        let folder = Folder::new();
        let server = Server::start_on_disk(folder.path(), variables).await;
        say_everything_in_private(&server).await;
        let lines = lines_of(server).await;
        assert!(lines.len() > 2, "at this level something is written: {lines:?}");
        for line in &lines {
            let told = SECRETS.iter().find(|secret| line.contains(**secret));
            assert_eq!(told, None, "{line}");
        }
    }
    let told = format!("{:?}", collector.spans());
    assert!(!SECRETS.iter().any(|secret| told.contains(secret)), "spans tell no more than lines: {told}");
}

#[tokio::test]
async fn every_json_line_is_an_object_with_a_time_a_level_and_a_message() {
    let collector = Collector::start();
    // No format is named: standard error is no terminal here.
    let server = Server::start(&collector.variables(&[EVERYTHING])).await;
    say_everything_in_private(&server).await;
    server.process.terminate();
    let ended = server.process.ended().await;
    let lines = parsed(&ended.complained);
    assert!(!lines.is_empty());
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["message"].is_string(), "{line:?}");
        let level = line["level"].as_str().unwrap_or_default();
        assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&level), "{line:?}");
    }
}

/// The lines of a gateway that could not keep what was sent to it: the send failed in the middle of its request.
async fn lines_of_a_failed_send(variables: &[(&str, &str)]) -> Vec<Map<String, Value>> {
    let folder = Folder::new();
    let reserve = reserve_beyond(folder.path());
    let variables = [variables, &[EVERYTHING, JSON, ("GATEWAY_LOG_DISK_RESERVE", &*reserve)]].concat();
    let server = Server::start_on_disk(folder.path(), &variables).await;
    let request = private_request(&server, json!({"to": ["bob"], "body": SECRETS[0]}).to_string());
    let answer = within_patience("an answer", request.send()).await.unwrap();
    assert_eq!(answer.status(), 503);
    let problem: Value = answer.json().await.unwrap();
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = parsed(&ended.complained);
    let told = lines.iter().filter(|line| {
        let line = Value::Object((*line).clone()).to_string();
        problem["detail"].as_str().is_some_and(|detail| line.contains(detail))
    });
    assert_eq!(told.count(), 1, "a failure is told once: {problem} among {lines:#?}");
    lines
}

#[tokio::test]
async fn a_line_written_within_a_request_leads_to_its_trace() {
    let collector = Collector::start();
    let lines = lines_of_a_failed_send(&collector.variables(&[])).await;
    let within: Vec<_> =
        lines.iter().filter(|line| line.get("trace_id") == Some(&json!(SENDERS_TRACE))).collect();
    assert!(!within.is_empty(), "no line knows the trace among {lines:#?}");
    let spans = collector.spans();
    for line in within {
        let known = spans.iter().any(|span| span.trace == SENDERS_TRACE && json!(span.id) == line["span_id"]);
        assert!(known, "{line:?} names none of {spans:#?}");
    }
    for line in &lines {
        let (trace, span) = (line.get("trace_id"), line.get("span_id"));
        let both = trace.is_some_and(|trace| is_hexadecimal(trace, 32))
            && span.is_some_and(|span| is_hexadecimal(span, 16));
        assert!(both || (trace.is_none() && span.is_none()), "{line:?}");
    }
    assert!(lines.iter().any(|line| !line.contains_key("trace_id")), "the end belongs to no request");
}

#[tokio::test]
async fn a_line_for_people_leads_to_its_trace_as_well() {
    let collector = Collector::start();
    let folder = Folder::new();
    let reserve = reserve_beyond(folder.path());
    let human = [("GATEWAY_TELEMETRY_FORMAT", "human"), ("GATEWAY_LOG_DISK_RESERVE", &*reserve)];
    let server = Server::start_on_disk(folder.path(), &collector.variables(&human)).await;
    let request = private_request(&server, json!({"to": ["bob"], "body": "hello"}).to_string());
    assert_eq!(within_patience("an answer", request.send()).await.unwrap().status(), 503);
    let lines = lines_of(server).await;
    let told =
        lines.iter().find(|line| line.contains("a notification was not taken")).expect("a failure is told");
    assert!(told.contains(&format!("trace_id={SENDERS_TRACE} span_id=")), "{told}");
    let end = lines.iter().find(|line| line.contains("stopping")).expect("the end is told");
    assert!(!end.contains("trace_id"), "{end}");
}

#[tokio::test]
async fn without_traces_no_line_names_one() {
    for variables in [&[][..], &[("OTEL_TRACES_SAMPLER", "always_on")]] {
        for line in lines_of_a_failed_send(variables).await {
            assert!(!line.contains_key("trace_id") && !line.contains_key("span_id"), "{line:?}");
        }
    }
}

#[tokio::test]
async fn exporting_spans_does_not_itself_write_lines() {
    let collector = Collector::start();
    let server = Server::start(&collector.variables(&[("GATEWAY_TELEMETRY_FILTER", "info")])).await;
    for _ in 0..20 {
        assert_eq!(send(server.addresses.http, &["bob"], "hello").await.0, 202);
    }
    collector.spans_of("publish notifications", &json!({}), 20).await;
    server.process.terminate();
    let ended = server.process.ended().await;
    let lines = parsed(&ended.complained);
    assert!(lines.len() <= 3, "start and end, and nothing for a span: {lines:#?}");
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_told_at_most_a_few_times() {
    let port = CollectorPort::reserve();
    let endpoint = port.endpoint();
    let variables = reporting_to(&endpoint, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "200")]);
    let server = Server::start(&variables).await;
    for _ in 0..200 {
        assert_eq!(send(server.addresses.http, &["bob"], "hello").await.0, 202);
    }
    until_some("spans to be dropped", async || {
        let metrics = scrape(server.addresses.ops).await;
        let dropped = metrics.value(r#"gateway_otel_spans_dropped_total{reason="export_failed"}"#);
        (dropped >= 400.0).then_some(())
    })
    .await;
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.complained.len() < 40, "not a line for each span: {:#?}", ended.complained);
    parsed(&ended.complained);
}
