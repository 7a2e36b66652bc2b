//! What begins a trace, and what continues one.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use super::{
    Listener, POST, PUBLISH, SENDERS_SPAN, SENDERS_TRACE, all_spans, assert_attributes, send, traced,
    traceparent,
};
use crate::harness::{Collector, EventSource, Span};
use crate::process_harness::within_patience;
use crate::raw_socket::{RawSocket, handshake};

/// The spans of a send to nobody who is connected: the request's and the publish span.
async fn send_and_see(
    collector: &Collector,
    http: std::net::SocketAddr,
    traceparent: Option<&str>,
) -> [Span; 2] {
    let answer = send(http, &["nobody"], traceparent).await;
    let publish = collector.span(PUBLISH, &json!({"messaging.message.id": answer["id"]})).await;
    let request = collector
        .until("the request of a publish span", |spans| {
            spans.iter().find(|span| publish.is_child_of(span)).cloned()
        })
        .await;
    assert_eq!(request.name, POST);
    [request, publish]
}

#[tokio::test]
async fn without_a_traceparent_a_trace_begins_with_the_request() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let [first, _] = send_and_see(&collector, server.addresses.http, None).await;
    let [second, _] = send_and_see(&collector, server.addresses.http, None).await;
    assert_eq!((&first.parent, &second.parent), (&None, &None));
    assert_ne!(first.trace, second.trace);
    assert!(first.links.is_empty());
}

#[tokio::test]
async fn a_traceparent_that_breaks_the_rules_is_ignored() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let (trace, span) = (SENDERS_TRACE, SENDERS_SPAN);
    let capitals = (trace.to_uppercase(), span.to_uppercase());
    let malformed = [
        String::new(),
        "01".to_owned(),
        "hello, gateway".to_owned(),
        format!("00-{trace}-{span}"),
        format!("00-{trace}-{span}-"),
        format!("00-{trace}-{span}-1"),
        format!("00-{trace}-{span}-001"),
        format!("00-{trace}-{span}-0x"),
        format!("00-{trace}-{span}-01-more"),
        format!("00-{trace}-{span}-01-"),
        format!("00-{}-{span}-01", capitals.0),
        format!("00-{trace}-{}-01", capitals.1),
        format!("00-{}-{span}-01", &trace[1..]),
        format!("00-{trace}0-{span}-01"),
        format!("00-{trace}-{}-01", &span[1..]),
        format!("00-{trace}-{span}0-01"),
        format!("00-{}-{span}-01", "0".repeat(32)),
        format!("00-{trace}-{}-01", "0".repeat(16)),
        format!("00-{}g-{span}-01", &trace[1..]),
        format!("00_{trace}_{span}_01"),
        format!("ff-{trace}-{span}-01"),
        format!("0-{trace}-{span}-01"),
        format!("{trace}-{span}-01"),
        format!("00-{trace}-{span}-01, 00-{trace}-{span}-01"),
    ];
    for traceparent in &malformed {
        let [request, _] = send_and_see(&collector, server.addresses.http, Some(traceparent)).await;
        assert_eq!(request.parent, None, "{traceparent:?} has no span to continue");
        assert_ne!(request.trace, SENDERS_TRACE, "{traceparent:?}");
    }
    let good = format!("00-{trace}-{span}-01");
    let [request, _] = send_and_see(&collector, server.addresses.http, Some(&good)).await;
    assert_eq!((request.trace.as_str(), request.parent.as_deref()), (trace, Some(span)));
}

#[tokio::test]
async fn header_lines_that_no_client_should_send_break_no_request() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let good = format!("00-{SENDERS_TRACE}-{SENDERS_SPAN}-01");
    let other = good.replace('4', "5");
    let later = good.replacen("00", "cc", 1);
    for (lines, continues) in [
        (b"traceparent: \xff\xfe\r\n".to_vec(), false),
        (b"traceparent:\r\n".to_vec(), false),
        (format!("traceparent: {good}\r\ntraceparent: {other}\r\n").into_bytes(), false),
        (format!("traceparent: {}\r\n", "0".repeat(4_000)).into_bytes(), false),
        (format!("TraceParent:  {good} \r\n").into_bytes(), true),
        // Later versions may say more; what this one knows stands in the same place (W3C Trace Context, 2.2.4).
        (format!("traceparent: {later}\r\n").into_bytes(), true),
        (format!("traceparent: {later}-and-more\r\n").into_bytes(), true),
        (format!("traceparent: {later}.\r\n").into_bytes(), false),
    ] {
        let body = json!({"to": ["nobody"]}).to_string();
        let head = "POST /v1/notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
        let end = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let mut socket = RawSocket::connect(server.addresses.http).await;
        socket.write(&[head.as_bytes(), &lines, end.as_bytes()].concat()).await;
        let (head, answer) = socket.answer().await;
        let told = String::from_utf8_lossy(&lines);
        assert!(head.starts_with("HTTP/1.1 202 "), "{told}: {head}");
        let publish = collector.span(PUBLISH, &json!({"messaging.message.id": answer["id"]})).await;
        assert_eq!(publish.trace == SENDERS_TRACE, continues, "{told}");
        assert!(!head.to_ascii_lowercase().contains("traceparent"), "nothing is echoed: {head}");
    }
}

#[tokio::test]
async fn each_operation_has_a_span_named_by_its_route_and_pages_and_operators_have_none() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let client = reqwest::Client::new();
    let ask = async |url: String| {
        let answer = within_patience("an answer", client.get(url).send()).await.unwrap();
        answer.bytes().await.unwrap();
    };
    for path in ["/docs", "/openapi.json"] {
        ask(format!("{}{path}", server.url())).await;
    }
    for path in ["/metrics", "/health/live", "/health/ready"] {
        ask(format!("{}{path}", server.ops_url())).await;
    }
    for path in ["/v1/users/bob", "/v1/users/%C3%A9ve/topics", "/v1/notifications/none?limit=1"] {
        ask(format!("{}{path}", server.url())).await;
    }
    let spans = all_spans(server, &collector).await;
    let mut seen: Vec<_> = spans
        .iter()
        .map(|span| {
            assert_eq!((span.kind, &span.parent), (SpanKind::Server, &None), "{span:#?}");
            let text = |name: &str| span.attribute(name).as_str().unwrap_or_default().to_owned();
            let status = span.attribute("http.response.status_code").as_u64();
            (span.name.clone(), text("http.route"), status)
        })
        .collect();
    seen.sort();
    let expected =
        [("/v1/notifications/{id}", 400), ("/v1/users/{user}", 200), ("/v1/users/{user}/topics", 200)];
    let expected = expected.map(|(route, status)| (format!("GET {route}"), route.to_owned(), Some(status)));
    assert_eq!(seen, expected);
    for span in &spans {
        let values = serde_json::to_string(&span.attributes).unwrap();
        assert!(!values.contains("bob") && !values.contains("ve"), "nobody is named: {values}");
    }
}

#[tokio::test]
async fn paths_and_methods_from_outside_name_no_span() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let client = reqwest::Client::new();
    for (method, path) in [("GET", "/nowhere-42"), ("BREW", "/v1/users/coffee"), ("GET", "/v9/users/bob")] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = client.request(method, format!("{}{path}", server.url())).send();
        let status = within_patience("an answer", request).await.unwrap().status();
        assert!(status.is_client_error(), "{path}: {status}");
    }
    send_and_see(&collector, server.addresses.http, None).await;
    for span in all_spans(server, &collector).await {
        let told = ["nowhere", "BREW", "coffee", "v9", "bob"].iter().find(|word| span.name.contains(**word));
        assert_eq!(told, None, "{span:#?}");
        assert!(!span.failed(), "the fault is the client's: {span:#?}");
    }
}

#[tokio::test]
async fn the_request_that_opens_a_session_ends_while_the_session_goes_on() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    // Without a trace of its client's, opening a session is none: a storm of reconnects is no storm of spans.
    let untraced = Listener::open(server.addresses.http, "dora").await;
    let mut socket = RawSocket::connect(server.addresses.http).await;
    let header = format!("traceparent: {}\r\n", traceparent("01"));
    socket.write(handshake("bob", &header).as_bytes()).await;
    assert!(socket.head().await.starts_with("HTTP/1.1 101 "));
    let upgrade = collector.span("GET /ws/{user}", &json!({})).await;
    assert_attributes(
        &upgrade,
        &json!({
            "http.request.method": "GET",
            "http.route": "/ws/{user}",
            "http.response.status_code": 101,
        }),
    );
    let request = reqwest::Client::new().get(format!("{}/sse/carol", server.url()));
    let request = request.header("traceparent", traceparent("01"));
    let mut stream = EventSource::open(request).await.expect("the stream is not refused");
    let opening = collector.span("GET /sse/{user}", &json!({})).await;
    assert_attributes(&opening, &json!({"http.route": "/sse/{user}", "http.response.status_code": 200}));
    assert_eq!((upgrade.kind, opening.kind), (SpanKind::Server, SpanKind::Server));
    assert!(!upgrade.failed() && !opening.failed());

    // Both still receive, in traces that have nothing to do with those of their opening.
    send(server.addresses.http, &["bob", "carol"], None).await;
    socket.frame_of_type("notification").await;
    while stream.event().await.kind != "notification" {}
    let spans = collector.spans_of(super::DELIVER, &json!({}), 2).await;
    assert!(spans.iter().all(|span| span.trace != upgrade.trace && span.trace != opening.trace));
    drop(untraced);
    drop((socket, stream));
    let opened = all_spans(server, &collector).await;
    assert_eq!(opened.iter().filter(|span| span.name == "GET /ws/{user}").count(), 1);
}

#[tokio::test]
async fn what_somebody_asks_for_does_not_fill_the_queue_of_spans() {
    /// With the other headers it fits `http.max_header`.
    const LONGEST: usize = 15_000;
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let long = format!("/v1/{}", "a".repeat(LONGEST));
    let request = reqwest::Client::new().get(format!("{}{long}", server.url())).send();
    assert_eq!(within_patience("an answer", request).await.unwrap().status(), 404);
    let span = collector.span("GET", &json!({"http.response.status_code": 404, "http.route": null})).await;
    let size = span.name.len() + serde_json::to_string(&span.attributes).unwrap().len();
    assert!(size < 1_000, "{size} bytes of a path from outside: {span:#?}");
}

#[tokio::test]
async fn the_process_is_described_as_the_operator_wishes() {
    let name = |name| ("OTEL_SERVICE_NAME", name);
    let attributes = |list| ("OTEL_RESOURCE_ATTRIBUTES", list);
    for (variables, expected) in [
        (&[][..], "gateway"),
        (&[name("")], "gateway"),
        (&[name("notifier")], "notifier"),
        (&[attributes("service.name=notifier")], "notifier"),
        (&[attributes("service.namespace=shop,peer.service.name=bank")], "gateway"),
        // The variable of the name wins over the list (OpenTelemetry, SDK environment variables).
        (&[name("notifier"), attributes("service.name=overruled,service.namespace=shop")], "notifier"),
    ] {
        let collector = Collector::start();
        let server = traced(&collector, variables).await;
        for span in send_and_see(&collector, server.addresses.http, None).await {
            assert_eq!(span.resource["service.name"], expected, "{variables:?}");
            assert_eq!(span.resource["service.version"], gateway::VERSION, "{variables:?}");
            let listed = variables.iter().any(|(_, value)| value.contains("service.namespace=shop"));
            let namespace = span.resource.get("service.namespace");
            assert_eq!(namespace, listed.then_some(&json!("shop")), "{variables:?}");
        }
    }
}
