//! A live notification: POST, publish, queue, deliver, ack.

use futures_util::StreamExt;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use gateway::clock::Clock;

use super::{
    ACK, DELIVER, Listener, POST, PUBLISH, QUEUE, SENDERS_SPAN, SENDERS_TRACE, TRUST, all_spans,
    assert_attributes, names, post, send, traced, traceparent,
};
use crate::harness::{Collector, EventSource};
use crate::process_harness::within_patience;

/// How far the clocks of two processes' spans may seem apart: each process looks once and counts on from there.
const TOLERANCE_NS: u64 = 50_000_000;

#[tokio::test]
async fn one_trace_leads_from_the_senders_own_span_to_the_receivers_ack() {
    let collector = Collector::start();
    let server = traced(&collector, &[TRUST]).await;
    let before = Clock::system().now_us() * 1_000 - TOLERANCE_NS;
    let mut bob = Listener::open(server.addresses.http, "bob").await;
    let answer = send(server.addresses.http, &["bob"], Some(&traceparent("01"))).await;
    let notification = bob.notification().await;
    bob.ack(&notification, None).await;
    let ack = collector.span(ACK, &json!({})).await;
    let after = Clock::system().now_us() * 1_000 + TOLERANCE_NS;
    let session = bob.session.clone();
    drop(bob);

    let spans = all_spans(server, &collector).await;
    let chain: Vec<_> = spans.iter().filter(|span| span.trace == SENDERS_TRACE).collect();
    assert_eq!(chain.len(), 5, "nothing else belongs to it: {chain:#?}");
    let one = |name: &str| *chain.iter().find(|span| span.name == name).expect(name);
    let (server, publish, queue, deliver) = (one(POST), one(PUBLISH), one(QUEUE), one(DELIVER));

    assert_eq!(server.parent.as_deref(), Some(SENDERS_SPAN));
    assert!(publish.is_child_of(server) && queue.is_child_of(publish), "{chain:#?}");
    assert!(deliver.is_child_of(publish) && ack.is_child_of(deliver), "{chain:#?}");
    assert_eq!(
        [server, publish, queue, deliver, &ack].map(|span| span.kind),
        [SpanKind::Server, SpanKind::Producer, SpanKind::Internal, SpanKind::Consumer, SpanKind::Client]
    );
    assert_eq!(deliver.links, [publish.context()]);
    assert!([server, publish, queue, &ack].iter().all(|span| span.links.is_empty()), "{chain:#?}");
    for span in &chain {
        assert_eq!(span.status, StatusCode::Unset, "{span:#?}");
        assert!(span.attribute("error.type").is_null(), "{span:#?}");
        assert!(before <= span.start && span.start <= span.end && span.end <= after, "{span:#?}");
        assert_eq!(span.resource["service.name"], "gateway");
        assert_eq!(span.resource["service.version"], gateway::VERSION);
        assert!(!span.scope.is_empty(), "{span:#?}");
        assert_eq!(span.repeated, [""; 0], "{span:#?}");
    }
    assert_eq!(notification["traceparent"], publish.traceparent());

    assert!(server.start <= publish.start && publish.end <= server.end, "{chain:#?}");
    assert!(publish.start <= queue.start && queue.end <= deliver.start, "{chain:#?}");
    assert!(deliver.start <= ack.start && deliver.end <= ack.end, "{chain:#?}");
    // One moment: written.
    assert!(deliver.end.abs_diff(ack.start) < TOLERANCE_NS, "{chain:#?}");

    assert_attributes(
        server,
        &json!({
            "http.request.method": "POST",
            "http.route": "/v1/notifications",
            // It would name users and topics elsewhere.
            "url.path": null,
            "http.response.status_code": 202,
        }),
    );
    assert_attributes(
        publish,
        &json!({
            "messaging.system": "notification-gateway",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.destination.name": "notifications",
            "messaging.message.id": answer["id"],
            "messaging.batch.message_count": null,
            "gateway.target": "user",
            "gateway.recipients": 1,
            "gateway.online": 1,
            "gateway.position": answer["position"],
        }),
    );
    assert!(publish.attribute("messaging.message.body.size").as_u64().unwrap() >= 24, "{publish:#?}");
    assert_attributes(
        deliver,
        &json!({
            "messaging.system": "notification-gateway",
            "messaging.operation.name": "deliver",
            "messaging.operation.type": "process",
            "messaging.message.id": answer["id"],
            "network.protocol.name": "websocket",
            "gateway.session.id": session,
            "gateway.position": answer["position"],
        }),
    );
    assert_attributes(
        &ack,
        &json!({"messaging.operation.name": "ack", "messaging.operation.type": "settle"}),
    );
    let told = format!("{spans:?}");
    assert!(!told.contains("a body of 24 characters"), "no span tells what was said: {told}");
}

#[tokio::test]
async fn the_clients_own_span_is_linked_from_the_ack_if_the_ack_frame_names_it() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let mut bob = Listener::open(server.addresses.http, "bob").await;
    send(server.addresses.http, &["bob"], None).await;
    let notification = bob.notification().await;
    let own = (SENDERS_TRACE.to_owned(), SENDERS_SPAN.to_owned());
    bob.ack(&notification, Some(&traceparent("01"))).await;
    let first = collector.span(ACK, &json!({})).await;
    assert_eq!(first.links, [own]);
    assert_ne!(first.trace, SENDERS_TRACE, "it stays a child of its deliver span");
}

#[tokio::test]
async fn what_is_no_traceparent_in_an_ack_frame_is_no_link_and_the_ack_counts_all_the_same() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let mut bob = Listener::open(server.addresses.http, "bob").await;
    let sent = [
        json!(null),
        json!(""),
        json!(7),
        json!([traceparent("01")]),
        json!({"traceparent": traceparent("01")}),
        json!("00-nonsense"),
        json!(traceparent("01").to_uppercase()),
        json!("0".repeat(3_000)),
    ];
    for (number, nonsense) in sent.iter().enumerate() {
        send(server.addresses.http, &["bob"], None).await;
        let notification = bob.notification().await;
        let ack = json!({"type": "ack", "position": notification["position"], "traceparent": nonsense});
        bob.say(&ack).await;
        let acks = collector.spans_of(ACK, &json!({}), number + 1).await;
        assert_eq!(acks[number].links, [], "{nonsense}");
    }
}

#[tokio::test]
async fn a_pong_acks_what_was_written_before_its_ping() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let url = format!("ws://{}/ws/bob", server.addresses.http);
    let (mut socket, _) = within_patience("a socket", Box::pin(tokio_tungstenite::connect_async(url)))
        .await
        .expect("an open socket");
    let answer = send(server.addresses.http, &["bob"], None).await;
    let read = async {
        // Reading answers pings.
        while let Some(Ok(message)) = socket.next().await {
            assert!(matches!(message, Message::Text(_) | Message::Ping(_)), "{message:?}");
        }
    };
    let any = json!({});
    let ack = tokio::select! {
        () = read => panic!("the socket ended"),
        ack = collector.span(ACK, &any) => ack,
    };
    let deliver = collector.span(DELIVER, &json!({"messaging.message.id": answer["id"]})).await;
    assert!(ack.is_child_of(&deliver), "{ack:#?}");
    assert_eq!(ack.kind, SpanKind::Client);
    assert!(ack.start <= ack.end);
}

#[tokio::test]
async fn a_stream_of_events_delivers_as_a_socket_does() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let request = reqwest::Client::new().get(format!("{}/sse/bob", server.url()));
    let mut stream = EventSource::open(request).await.expect("the stream is not refused");
    let welcome = stream.next().await.expect("a welcome");
    let answer = send(server.addresses.http, &["bob"], None).await;
    let event = stream.event().await;
    let deliver = collector.span(DELIVER, &json!({})).await;
    let publish = collector.span(PUBLISH, &json!({})).await;
    let queue = collector.span(QUEUE, &json!({})).await;
    assert_eq!(event.frame["traceparent"], publish.traceparent());
    assert!(deliver.is_child_of(&publish) && queue.is_child_of(&publish), "{deliver:#?}");
    assert_eq!((deliver.kind, deliver.status), (SpanKind::Consumer, StatusCode::Unset));
    assert_eq!(deliver.links, [publish.context()]);
    assert_attributes(
        &deliver,
        &json!({
            "network.protocol.name": "sse",
            "gateway.session.id": welcome.frame["session"],
            "messaging.message.id": answer["id"],
            "gateway.position": answer["position"],
        }),
    );
}

#[tokio::test]
async fn each_session_of_a_user_has_its_own_spans() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let http = server.addresses.http;
    let mut phone = Listener::open(http, "bob").await;
    let mut laptop = Listener::open(http, "bob").await;
    send(http, &["bob"], None).await;
    let (at_phone, at_laptop) = (phone.notification().await, laptop.notification().await);
    assert_eq!(at_phone["traceparent"], at_laptop["traceparent"]);
    let publish = collector.span(PUBLISH, &json!({})).await;
    assert_eq!(at_phone["traceparent"], publish.traceparent());
    let delivers = collector.spans_of(DELIVER, &json!({}), 2).await;
    let queues = collector.spans_of(QUEUE, &json!({}), 2).await;
    assert!(delivers.iter().chain(&queues).all(|span| span.is_child_of(&publish)), "{delivers:#?}");
    let mut sessions: Vec<&Value> =
        delivers.iter().map(|span| span.attribute("gateway.session.id")).collect();
    sessions.sort_by_key(ToString::to_string);
    let mut expected = [json!(phone.session), json!(laptop.session)];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(sessions, expected.iter().collect::<Vec<_>>());

    laptop.ack(&at_laptop, None).await;
    let ack = collector.span(ACK, &json!({})).await;
    let laptops = json!({"gateway.session.id": laptop.session});
    let acked = collector.span(DELIVER, &laptops).await;
    assert!(ack.is_child_of(&acked), "the ack belongs to the session that acked: {ack:#?}");
}

#[tokio::test]
async fn one_ack_frame_ends_every_delivery_that_it_covers() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let mut bob = Listener::open(server.addresses.http, "bob").await;
    let mut last = Value::Null;
    for _ in 0..3 {
        send(server.addresses.http, &["bob"], None).await;
        last = bob.notification().await;
    }
    bob.ack(&last, None).await;
    let acks = collector.spans_of(ACK, &json!({}), 3).await;
    let delivers = collector.spans_of(DELIVER, &json!({}), 3).await;
    for deliver in &delivers {
        assert_eq!(acks.iter().filter(|ack| ack.is_child_of(deliver)).count(), 1, "{acks:#?}");
    }
    // The same ack again settles nothing any more.
    bob.ack(&last, None).await;
    drop(bob);
    let spans = all_spans(server, &collector).await;
    assert_eq!(names(&spans).into_iter().filter(|name| *name == ACK).count(), 3);
}

#[tokio::test]
async fn a_batch_is_published_once_and_delivered_one_by_one() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let http = server.addresses.http;
    let mut bob = Listener::open(http, "bob").await;
    let batch: Value = (0..3).map(|number| json!({"to": ["bob"], "body": number.to_string()})).collect();
    let (status, answer) = post(http, "/v1/notifications/batch", Some(&traceparent("01")), &batch).await;
    assert_eq!(status, 202, "{answer}");
    let request = collector.span("POST /v1/notifications/batch", &json!({})).await;
    let publish = collector.spans_of(PUBLISH, &json!({}), 1).await.remove(0);
    assert_eq!(request.trace, SENDERS_TRACE);
    assert!(publish.is_child_of(&request), "{publish:#?}");
    assert_attributes(&publish, &json!({"messaging.batch.message_count": 3, "messaging.message.id": null}));
    for item in answer.as_array().unwrap() {
        assert_eq!(bob.notification().await["traceparent"], publish.traceparent());
        let accepted = &item["accepted"];
        let delivered =
            json!({"messaging.message.id": accepted["id"], "gateway.position": accepted["position"]});
        let deliver = collector.span(DELIVER, &delivered).await;
        assert!(deliver.is_child_of(&publish), "{deliver:#?}");
    }
}

#[tokio::test]
async fn the_publish_span_says_whom_it_was_for() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let http = server.addresses.http;
    let _bob = Listener::open(http, "bob").await;
    let url = format!("http://{http}/v1/topics/news/subscribers/carol");
    let joined = within_patience("a membership", reqwest::Client::new().put(url).send()).await.unwrap();
    assert_eq!(joined.status(), 200);
    for (notification, expected) in [
        (
            json!({"to": ["bob"]}),
            json!({"gateway.target": "user", "gateway.recipients": 1, "gateway.online": 1}),
        ),
        (
            json!({"to": ["bob", "eve", "carol"]}),
            json!({"gateway.target": "users", "gateway.recipients": 3, "gateway.online": 1}),
        ),
        (
            json!({"topic": "news"}),
            json!({"gateway.target": "topic", "gateway.recipients": 1, "gateway.online": 0}),
        ),
        (json!({"topic": "*"}), json!({"gateway.target": "everybody", "gateway.online": 1})),
    ] {
        let (status, answer) = post(http, "/v1/notifications", None, &notification).await;
        assert_eq!(status, 202, "{answer}");
        let publish = collector.span(PUBLISH, &json!({"messaging.message.id": answer["id"]})).await;
        assert_attributes(&publish, &expected);
    }
}
