//! What is told by a link instead of a parent: deliveries to many, and deliveries that came late.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use futures_util::future::join_all;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use super::{
    ACK, DELIVER, FAN_OUT, Listener, PUBLISH, QUEUE, SENDERS_TRACE, all_spans, assert_attributes, names,
    post, send, traced, traceparent,
};
use crate::harness::{Collector, Span};
use crate::process_harness::{Folder, Server, within_patience};

/// More recipients than this are told by links.
const MOST_CHILDREN: usize = 16;

/// About 16 sessions of many get a span; chance may make it some more.
const MOST_ROOTS: usize = 60;

fn users(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number}")).collect()
}

/// Whom one send addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Users,
    Topic,
    Everybody,
}

/// Sends once to so many users who are all connected and ack; returns the answer, a frame and all spans.
async fn send_to_connected(count: usize, to: To) -> (Value, Value, Vec<Span>) {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let http = server.addresses.http;
    let users = users(count);
    let mut listeners = join_all(users.iter().map(|user| Listener::open(http, user))).await;
    let notification = match to {
        To::Users => json!({"to": users, "body": "to many"}),
        To::Topic => {
            let url = format!("http://{http}/v1/topics/news/subscribers");
            let joined = reqwest::Client::new().put(url).json(&users).send();
            assert_eq!(within_patience("memberships", joined).await.unwrap().status(), 200);
            json!({"topic": "news", "body": "to many"})
        }
        To::Everybody => json!({"topic": "*", "body": "to many"}),
    };
    let (status, answer) = post(http, "/v1/notifications", Some(&traceparent("01")), &notification).await;
    assert_eq!((status, &answer["online"]), (202, &json!(count)), "{answer}");
    let frames = join_all(listeners.iter_mut().map(async |listener| {
        let notification = listener.notification().await;
        if notification.get("position").is_some() {
            listener.ack(&notification, None).await;
        }
        notification
    }))
    .await;
    // A goodbye that is answered comes after the ack was taken.
    for listener in &mut listeners {
        listener.say_goodbye().await;
    }
    drop(listeners);
    let frame = frames.into_iter().next().expect("at least one listener");
    let mut spans = all_spans(server, &collector).await;
    // Opening the sockets and joining the topic is not what this is about.
    spans.retain(|span| span.kind != SpanKind::Server);
    (answer, frame, spans)
}

fn of_name<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// A delivery that began a trace of its own but knows what it delivers.
#[track_caller]
fn assert_linked_root(deliver: &Span, publish: &Span, stored: bool) {
    assert_eq!((deliver.kind, &deliver.parent), (SpanKind::Consumer, &None), "{deliver:#?}");
    assert_ne!(deliver.trace, publish.trace, "{deliver:#?}");
    assert_eq!(deliver.links, [publish.context()], "{deliver:#?}");
    assert_attributes(deliver, &json!({"gateway.publish.trace_id": publish.trace, "gateway.stored": stored}));
}

#[tokio::test]
async fn sixteen_recipients_are_still_children_of_the_publish_span() {
    let (_, _, spans) = send_to_connected(MOST_CHILDREN, To::Users).await;
    let publish = of_name(&spans, PUBLISH)[0];
    assert_attributes(publish, &json!({"gateway.recipients": 16, "gateway.online": 16}));
    for name in [QUEUE, DELIVER] {
        let found = of_name(&spans, name);
        assert_eq!(found.len(), MOST_CHILDREN, "{name}");
        assert!(found.iter().all(|span| span.is_child_of(publish)), "{found:#?}");
    }
    assert_eq!(of_name(&spans, ACK).len(), MOST_CHILDREN);
    assert_eq!(of_name(&spans, FAN_OUT).len(), 0);
}

#[tokio::test]
async fn more_than_sixteen_recipients_are_one_span_and_a_few_linked_deliveries() {
    for (count, to) in [(MOST_CHILDREN + 1, To::Users), (200, To::Users), (100, To::Topic)] {
        let (answer, frame, spans) = send_to_connected(count, to).await;
        let publish = of_name(&spans, PUBLISH)[0];
        assert_eq!(frame["traceparent"], publish.traceparent());
        let fan_outs = of_name(&spans, FAN_OUT);
        assert_eq!(fan_outs.len(), 1, "{fan_outs:#?}");
        let fan_out = fan_outs[0];
        assert!(fan_out.is_child_of(publish) && fan_out.kind == SpanKind::Internal, "{fan_out:#?}");
        assert_attributes(fan_out, &json!({"gateway.recipients": count, "gateway.online": count}));
        assert!(publish.start <= fan_out.start && fan_out.start <= fan_out.end, "{fan_out:#?}");
        assert_eq!(of_name(&spans, QUEUE).len(), 0, "no span for each recipient");

        let delivers = of_name(&spans, DELIVER);
        let most = count.min(MOST_ROOTS);
        assert!((1..=most).contains(&delivers.len()), "{} of {count}", delivers.len());
        for deliver in &delivers {
            assert_linked_root(deliver, publish, false);
            assert_attributes(deliver, &json!({"messaging.message.id": answer["id"]}));
        }
        let traces: BTreeSet<&str> = delivers.iter().map(|deliver| deliver.trace.as_str()).collect();
        assert_eq!(traces.len(), delivers.len(), "each has a trace of its own");
        let sessions: BTreeSet<String> =
            delivers.iter().map(|deliver| deliver.attribute("gateway.session.id").to_string()).collect();
        assert_eq!(sessions.len(), delivers.len());
        // Whoever has a deliver span has an ack span below it, and nobody else.
        let acks = of_name(&spans, ACK);
        assert_eq!(acks.len(), delivers.len());
        assert!(acks.iter().all(|ack| delivers.iter().any(|deliver| ack.is_child_of(deliver))), "{acks:#?}");
    }
}

#[tokio::test]
async fn a_large_batch_is_one_span_and_a_few_linked_deliveries() {
    const ITEMS: usize = 200;
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let http = server.addresses.http;
    let mut bob = Listener::open(http, "bob").await;
    let batch = vec![json!({"to": ["bob"], "body": "one of many"}); ITEMS];
    let (status, _) = post(http, "/v1/notifications/batch", None, &json!(batch)).await;
    assert_eq!(status, 202);
    let mut last = Value::Null;
    for _ in 0..ITEMS {
        last = bob.notification().await;
    }
    bob.ack(&last, None).await;
    bob.say_goodbye().await;
    let spans = all_spans(server, &collector).await;
    let publish = of_name(&spans, PUBLISH);
    assert_eq!(publish.len(), 1);
    assert_attributes(publish[0], &json!({"messaging.batch.message_count": ITEMS}));
    assert_eq!(last["traceparent"], publish[0].traceparent());
    let delivers = of_name(&spans, DELIVER);
    assert!((1..=MOST_ROOTS).contains(&delivers.len()), "{} of {ITEMS}", delivers.len());
    delivers.iter().for_each(|deliver| assert_linked_root(deliver, publish[0], false));
    assert_eq!((of_name(&spans, QUEUE).len(), of_name(&spans, FAN_OUT).len()), (0, 0));
}

#[tokio::test]
async fn a_notification_for_everybody_makes_no_more_spans_than_one_for_many() {
    let (_, frame, spans) = send_to_connected(200, To::Everybody).await;
    let publish = of_name(&spans, PUBLISH)[0];
    assert_eq!(frame["traceparent"], publish.traceparent());
    assert_attributes(publish, &json!({"gateway.target": "everybody", "gateway.online": 200}));
    assert!(spans.len() <= 2 + MOST_ROOTS, "{:?}", names(&spans));
    assert!(
        of_name(&spans, DELIVER).iter().all(|deliver| deliver.links == [publish.context()]),
        "{spans:#?}"
    );
}

#[tokio::test]
async fn many_recipients_of_whom_one_is_connected_are_a_fan_out_all_the_same() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let http = server.addresses.http;
    let mut listener = Listener::open(http, "user-0").await;
    let users = users(MOST_CHILDREN + 1);
    send(http, &users.iter().map(String::as_str).collect::<Vec<_>>(), None).await;
    listener.notification().await;
    drop(listener);
    let spans = all_spans(server, &collector).await;
    let fan_outs = of_name(&spans, FAN_OUT);
    assert_attributes(fan_outs[0], &json!({"gateway.recipients": 17, "gateway.online": 1}));
    let publish = of_name(&spans, PUBLISH)[0];
    // One session is not thinned out, however many others were meant.
    let delivers = of_name(&spans, DELIVER);
    assert_eq!(delivers.len(), 1);
    assert_linked_root(delivers[0], publish, false);
}

/// A receiver who comes to what waits; returns what it got.
async fn come(http: SocketAddr) -> (Listener, Value) {
    let mut bob = Listener::open(http, "bob").await;
    let notification = bob.notification().await;
    (bob, notification)
}

#[tokio::test]
async fn what_waited_for_its_receiver_is_delivered_in_a_trace_of_its_own() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let http = server.addresses.http;
    let answer = send(http, &["bob"], Some(&traceparent("01"))).await;
    let publish = collector.span(PUBLISH, &json!({})).await;
    assert_eq!(publish.trace, SENDERS_TRACE);
    assert_attributes(&publish, &json!({"gateway.online": 0, "gateway.recipients": 1}));

    let (mut bob, notification) = come(http).await;
    assert_eq!(notification["traceparent"], publish.traceparent());
    let deliver = collector.span(DELIVER, &json!({})).await;
    assert_linked_root(&deliver, &publish, true);
    assert_attributes(
        &deliver,
        &json!({
            "messaging.message.id": answer["id"],
            "gateway.position": answer["position"],
            "gateway.session.id": bob.session,
        }),
    );
    bob.ack(&notification, None).await;
    let ack = collector.span(ACK, &json!({})).await;
    assert!(ack.is_child_of(&deliver), "{ack:#?}");

    // The next one comes live, in the trace of its own publish span again.
    let live = send(http, &["bob"], None).await;
    bob.notification().await;
    let live_publish = collector.span(PUBLISH, &json!({"messaging.message.id": live["id"]})).await;
    let live_deliver = collector.span(DELIVER, &json!({"messaging.message.id": live["id"]})).await;
    assert!(live_deliver.is_child_of(&live_publish), "{live_deliver:#?}");
    assert_ne!(live_deliver.attribute("gateway.stored"), &json!(true));
    drop(bob);
    let spans = all_spans(server, &collector).await;
    assert_eq!(
        names(&spans).into_iter().filter(|name| *name == QUEUE).count(),
        1,
        "only what came live queued"
    );
}

#[tokio::test]
async fn what_was_not_acked_and_comes_again_is_delivered_in_another_trace() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let http = server.addresses.http;
    let mut first = Listener::open(http, "bob").await;
    send(http, &["bob"], None).await;
    let notification = first.notification().await;
    let publish = collector.span(PUBLISH, &json!({})).await;
    let live = collector.spans_of(DELIVER, &json!({}), 1).await.remove(0);
    assert!(live.is_child_of(&publish), "{live:#?}");
    drop(first);

    let (mut second, again) = come(http).await;
    assert_eq!(again["traceparent"], notification["traceparent"]);
    let stored = collector.span(DELIVER, &json!({"gateway.session.id": second.session})).await;
    assert_linked_root(&stored, &publish, true);
    second.ack(&again, None).await;
    let ack = collector.spans_of(ACK, &json!({}), 1).await.remove(0);
    assert!(ack.is_child_of(&stored), "{ack:#?}");
    drop(second);
    assert!(!all_spans(server, &collector).await.iter().any(Span::failed), "nothing failed");
}

#[tokio::test]
async fn a_crash_and_a_restart_do_not_break_the_thread_from_publish_to_deliver() {
    let collector = Collector::start();
    let folder = Folder::new();
    let server = Server::start_on_disk(folder.path(), &collector.variables(&[])).await;
    let answer = send(server.addresses.http, &["bob"], Some(&traceparent("01"))).await;
    let publish = collector.span(PUBLISH, &json!({})).await;
    server.kill();

    // Not even a gateway that traces nothing by itself forgets it: the sender's trace was sampled.
    let off = [("OTEL_TRACES_SAMPLER", "always_off")];
    let server = Server::start_on_disk(folder.path(), &collector.variables(&off)).await;
    let (bob, notification) = come(server.addresses.http).await;
    assert_eq!(notification["traceparent"], publish.traceparent());
    let deliver = collector.span(DELIVER, &json!({})).await;
    assert_linked_root(&deliver, &publish, true);
    assert_attributes(
        &deliver,
        &json!({"messaging.message.id": answer["id"], "gateway.position": answer["position"]}),
    );
    drop(bob);
    assert_eq!(all_spans(server, &collector).await.iter().filter(|span| span.name == DELIVER).count(), 1);
}

#[tokio::test]
async fn what_was_not_sampled_stays_so_over_a_restart() {
    let collector = Collector::start();
    let folder = Folder::new();
    let off = [("OTEL_TRACES_SAMPLER", "always_off")];
    let server = Server::start_on_disk(folder.path(), &collector.variables(&off)).await;
    send(server.addresses.http, &["bob"], Some(&traceparent("01"))).await;
    server.kill();
    let server = Server::start_on_disk(folder.path(), &collector.variables(&[])).await;
    let (bob, notification) = come(server.addresses.http).await;
    assert_eq!(notification.get("traceparent"), None, "{notification}");
    drop(bob);
    let spans = all_spans(server, &collector).await;
    assert!(spans.is_empty(), "{spans:#?}");
}
