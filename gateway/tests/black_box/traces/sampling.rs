//! Who decides what is traced: the gateway's own sampler, or the sender if the operator trusts it.
//!
//! Whatever is not sampled leaves nothing: no span of any kind, and nothing in the frame.

use serde_json::{Value, json};

use super::{
    DELIVER, Listener, POST, PUBLISH, SENDERS_SPAN, SENDERS_TRACE, TRUST, all_spans, post, send, traced,
    traceparent,
};
use crate::harness::{Collector, Span};
use crate::process_harness::Server;

const OFF: (&str, &str) = ("OTEL_TRACES_SAMPLER", "parentbased_always_off");

/// What a connected receiver gets for each `traceparent` of a sender, and all spans, those of opening the socket left out.
async fn sent_with(
    variables: &[(&str, &str)],
    traceparents: &[Option<&str>],
) -> (Vec<Option<String>>, Vec<Span>) {
    let collector = Collector::start();
    let server = traced(&collector, variables).await;
    let mut bob = Listener::open(server.addresses.http, "bob").await;
    let mut told = Vec::new();
    for traceparent in traceparents {
        send(server.addresses.http, &["bob"], *traceparent).await;
        let notification = bob.notification().await;
        told.push(notification.get("traceparent").map(|text| text.as_str().unwrap().to_owned()));
        bob.ack(&notification, None).await;
    }
    drop(bob);
    let mut spans = all_spans(server, &collector).await;
    spans.retain(|span| span.name != "GET /ws/{user}");
    (told, spans)
}

fn of_name<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test]
async fn a_sender_that_is_not_trusted_cannot_ask_to_be_traced() {
    let zero = [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0")];
    for variables in [&zero[..], &[OFF], &[("OTEL_TRACES_SAMPLER", "always_off")]] {
        let (told, spans) = sent_with(variables, &[Some(&traceparent("01")), None]).await;
        assert_eq!(told, [None, None], "{variables:?}");
        assert!(spans.is_empty(), "{variables:?}: {spans:#?}");
    }
}

#[tokio::test]
async fn a_sender_that_is_not_trusted_cannot_ask_not_to_be_traced_and_its_trace_goes_on() {
    let (told, spans) = sent_with(&[], &[Some(&traceparent("00"))]).await;
    let (requests, publishes) = (of_name(&spans, POST), of_name(&spans, PUBLISH));
    assert_eq!(
        (requests[0].trace.as_str(), requests[0].parent.as_deref()),
        (SENDERS_TRACE, Some(SENDERS_SPAN))
    );
    assert_eq!(told, [Some(publishes[0].traceparent())]);
    assert_eq!(of_name(&spans, DELIVER).len(), 1);
}

#[tokio::test]
async fn a_trusted_sender_decides_both_ways_and_the_sampler_decides_for_the_others() {
    let (yes, no) = (traceparent("01"), traceparent("00"));
    // Of the flags only the last bit means something to us.
    let (random_yes, random_no) = (traceparent("03"), traceparent("02"));
    let traceparents = [Some(&*yes), Some(&*no), None, Some(&*random_yes), Some(&*random_no)];
    let (told, spans) = sent_with(&[TRUST, OFF], &traceparents).await;
    assert_eq!(told.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, true, false]);
    assert_eq!(of_name(&spans, POST).len(), 2, "{spans:#?}");
    assert!(spans.iter().all(|span| span.trace == SENDERS_TRACE), "{spans:#?}");

    let (told, spans) = sent_with(&[TRUST], &traceparents).await;
    assert_eq!(told.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true, false]);
    let publishes: Vec<Option<String>> =
        of_name(&spans, PUBLISH).iter().map(|span| Some(span.traceparent())).collect();
    assert!(told.iter().flatten().all(|told| publishes.contains(&Some(told.clone()))), "{told:?}");
    assert_eq!(publishes.len(), 3);
}

#[tokio::test]
async fn a_ratio_traces_a_part_whole_traces_only() {
    const SENDS: usize = 64;
    for sampler in ["traceidratio", "parentbased_traceidratio"] {
        let variables = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", "0.5")];
        let (told, spans) = sent_with(&variables, &[None; SENDS]).await;
        let sampled = told.iter().flatten().count();
        // Beyond these bounds a fair coin falls about once in ten thousand million runs.
        assert!((8..=SENDS - 8).contains(&sampled), "{sampled} of {SENDS} for {sampler}");
        for name in [POST, PUBLISH, DELIVER, super::QUEUE, super::ACK] {
            assert_eq!(of_name(&spans, name).len(), sampled, "{name} with {sampler}");
        }
    }
}

#[tokio::test]
async fn a_sampler_without_an_argument_and_no_sampler_at_all_trace_everything() {
    for variables in [
        &[][..],
        &[("OTEL_TRACES_SAMPLER", "")],
        &[("OTEL_TRACES_SAMPLER", "always_on")],
        &[("OTEL_TRACES_SAMPLER", "parentbased_always_on")],
        &[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")],
        &[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "1.0")],
    ] {
        let (told, spans) = sent_with(variables, &[None; 4]).await;
        assert_eq!(told.iter().flatten().count(), 4, "{variables:?}");
        assert_eq!(of_name(&spans, DELIVER).len(), 4, "{variables:?}");
    }
}

#[tokio::test]
async fn frames_say_nothing_of_traces_but_the_traceparent() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    let mut bob = Listener::open(server.addresses.http, "bob").await;
    send(server.addresses.http, &["bob"], None).await;
    let traced = bob.notification().await;
    let keys: Vec<&String> = traced.as_object().map(|frame| frame.keys().collect()).unwrap();
    assert_eq!(keys, ["type", "position", "prev", "id", "sent_at", "body", "traceparent"]);
    assert_ne!(traced["traceparent"], Value::Null);
}

/// By how much the same frame differs in length: `sent_at` is written without the zeros at its end. A `traceparent` is longer.
const TIME_DIGITS: usize = 8;

/// What the gateway answers to a body of so many characters.
async fn answer_to(server: &Server, characters: usize) -> u16 {
    let notification = json!({"to": ["bob"], "body": "x".repeat(characters)});
    post(server.addresses.http, "/v1/notifications", None, &notification).await.0
}

#[tokio::test]
async fn being_traced_makes_no_notification_too_large() {
    let collector = Collector::start();
    let (plain, traced) = tokio::join!(Server::start(&[]), traced(&collector, &[]));
    let (mut fits, mut too_large) = (16 * 1_024, 32 * 1_024);
    assert_eq!((answer_to(&plain, fits).await, answer_to(&plain, too_large).await), (202, 413));
    while too_large - fits > 1 {
        let middle = fits.midpoint(too_large);
        match answer_to(&plain, middle).await {
            202 => fits = middle,
            status => {
                assert_eq!(status, 413);
                too_large = middle;
            }
        }
    }
    let (fits, too_large) = (fits - TIME_DIGITS, too_large + TIME_DIGITS);
    assert_eq!((answer_to(&traced, fits).await, answer_to(&traced, too_large).await), (202, 413));
    let mut bob = Listener::open(traced.addresses.http, "bob").await;
    let frame = bob.notification().await;
    assert!(frame["traceparent"].is_string(), "the largest is traced, too");
    assert_eq!(frame["body"].as_str().unwrap().len(), fits);
}
