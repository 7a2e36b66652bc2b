//! Tests of spans and their books, with exporters that do as they are told. That spans leave by gRPC is a matter of whole
//! runs: see `tests/black_box/traces.rs`.

use std::sync::Mutex;

use opentelemetry::trace::SpanId;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{Sampler, SpanData};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::collector::locked;

/// Keeps what it gets, or fails.
#[derive(Debug, Clone, Default)]
struct Drawer {
    spans: Arc<Mutex<Vec<SpanData>>>,
    is_broken: bool,
}

impl opentelemetry_sdk::trace::SpanExporter for Drawer {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.is_broken {
            return Err(OTelSdkError::InternalFailure("broken".to_owned()));
        }
        locked(&self.spans).extend(batch);
        Ok(())
    }
}

impl Traces {
    /// Spans of every send, kept in a drawer when the run ends; the queue holds so many.
    fn kept_in(drawer: &Drawer, queue_spans: usize, sampler: Sampler) -> Self {
        let books = Arc::new(Books::default());
        let batch = BatchConfigBuilder::default()
            .with_max_queue_size(queue_spans)
            .with_max_export_batch_size(queue_spans)
            .with_scheduled_delay(Duration::from_secs(3_600))
            .build();
        let exporter = Counting::new(drawer.clone(), books.clone());
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batch).build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_span_processor(Bounded::new(processor, queue_spans, books.clone()))
            .build();
        let run = [KeyValue::new("loadtest.run", "r1"), KeyValue::new("loadtest.scenario", "steady")];
        let server = vec![KeyValue::new("server.address", "::1")];
        Self { tracer: provider.tracer("test"), provider, books, run, server }
    }
}

fn request() -> Request {
    Request {
        method: reqwest::Method::POST,
        path: "/v1/notifications".to_owned(),
        headers: Vec::new(),
        body: bytes::Bytes::new(),
    }
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    found.map(|attribute| attribute.value.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_says_how_it_ended() {
    let drawer = Drawer::default();
    let traces = Traces::kept_in(&drawer, 64, Sampler::AlwaysOn);
    let accepted = (Some(StatusCode::ACCEPTED), Answer::Accepted);
    let refused = (Some(StatusCode::FORBIDDEN), Answer::Refused("403 not today".to_owned()));
    let full = (Some(StatusCode::SERVICE_UNAVAILABLE), Answer::NotNow("503 full".to_owned()));
    let partly = (Some(StatusCode::ACCEPTED), Answer::Unknown("some were refused".to_owned()));
    let broken = (None, Answer::Unknown("timed out".to_owned()));
    let all = [
        (accepted, 0, None),
        (refused, 0, Some("403")),
        (full, 1, Some("503")),
        (partly, 2, Some("_OTHER")),
        (broken, 3, Some("timed out")),
    ];
    for ((status, answer), repetitions, _) in &all {
        let (header, sending) = traces.send(&request(), *repetitions);
        assert!(header.to_str().unwrap().ends_with("-01"));
        sending.expect("it is recorded").end(*status, answer);
    }
    assert_eq!(traces.end().await, None, "nothing is lost");
    let spans = locked(&drawer.spans);
    assert_eq!(spans.len(), all.len());
    for (span, ((status, answer), repetitions, kind)) in spans.iter().zip(&all) {
        assert_eq!((&*span.name, &span.span_kind), ("send notifications", &SpanKind::Client));
        assert_eq!(span.parent_span_id, SpanId::INVALID, "it is a root");
        assert_eq!(attribute(span, "http.request.method").unwrap(), "POST");
        assert_eq!(attribute(span, "server.address").unwrap(), "::1");
        assert_eq!(attribute(span, "loadtest.run").unwrap(), "r1");
        assert_eq!(attribute(span, "loadtest.scenario").unwrap(), "steady");
        assert_eq!(
            attribute(span, "http.response.status_code"),
            status.map(|status| status.as_u16().to_string())
        );
        assert_eq!(attribute(span, "error.type").as_deref(), *kind);
        let resent = (*repetitions > 0).then(|| repetitions.to_string());
        assert_eq!(attribute(span, "http.request.resend_count"), resent);
        assert_eq!(span.status == Status::Unset, *answer == Answer::Accepted, "{:?}", span.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acked_says_so() {
    let drawer = Drawer::default();
    let traces = Traces::kept_in(&drawer, 64, Sampler::AlwaysOn);
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut unacked = Unacked::default();
    assert_eq!(unacked.traceparent(), None);
    for message in ["one", "two"] {
        unacked.push(traces.process(&Traced { message, parent }).unwrap());
    }
    let newest = unacked.traceparent().unwrap();
    unacked.acked();
    assert_eq!(unacked.traceparent(), None, "an ack ends what it acks");
    unacked.push(traces.process(&Traced { message: "three", parent }).unwrap());
    unacked.cut_off();
    assert!(traces.process(&Traced { message: "four", parent: "00-4bf9" }).is_none());
    assert_eq!(traces.end().await, None);
    let spans = locked(&drawer.spans);
    let ends: Vec<_> = spans
        .iter()
        .map(|span| (attribute(span, "messaging.message.id").unwrap(), span.status == Status::Ok))
        .collect();
    assert_eq!(ends, [("one".to_owned(), true), ("two".to_owned(), true), ("three".to_owned(), false)]);
    assert_eq!(newest, traceparent::write(&spans[1].span_context), "the newest one's");
    assert_eq!(attribute(&spans[2], "error.type").unwrap(), "connection_ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsampled_send_has_a_valid_header_and_no_span() {
    let drawer = Drawer::default();
    let off = Sampler::ParentBased(Box::new(Sampler::AlwaysOff));
    let traces = Traces::kept_in(&drawer, 64, off);
    let (header, sending) = traces.send(&request(), 0);
    assert!(sending.is_none());
    let context = traceparent::parse(header.to_str().unwrap()).expect("both ids are there");
    assert!(!context.is_sampled());
    assert_eq!(traces.end().await, None);
    assert!(locked(&drawer.spans).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_queue_does_not_hold_is_counted_and_no_more_is_lost() {
    let drawer = Drawer::default();
    let traces = Traces::kept_in(&drawer, 10, Sampler::AlwaysOn);
    // Nothing leaves the queue while the exporter waits for this lock: it takes at most one batch, which is a whole queue.
    let held = locked(&drawer.spans);
    for _ in 0..100 {
        traces.send(&request(), 0).1.unwrap().end(None, &Answer::Accepted);
    }
    drop(held);
    let said = traces.end().await.expect("a queue of 10 does not hold 100");
    let delivered = locked(&drawer.spans).len();
    assert!((10..=20).contains(&delivered), "{delivered} were exported");
    let lost = 100 - delivered;
    assert!(said.contains(&format!("{lost} of 100 spans did not reach the collector")), "{said}");
    assert!(said.contains(&format!("({lost} found the queue full)")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_exported_is_counted() {
    let drawer = Drawer { is_broken: true, ..Drawer::default() };
    let traces = Traces::kept_in(&drawer, 64, Sampler::AlwaysOn);
    for _ in 0..3 {
        traces.send(&request(), 0).1.unwrap().end(None, &Answer::Accepted);
    }
    // One that never ends is no secret either.
    let forgotten = traces.send(&request(), 0).1;
    let said = traces.end().await.unwrap();
    drop(forgotten);
    assert!(said.contains("4 of 4 spans"), "{said}");
    assert!(said.contains("(3 could not be exported, 1 were still on their way at the end)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_is_not_waited_for_longer_than_two_seconds() {
    // Connections are taken by the kernel, and nobody speaks on them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let variable = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(address.clone()),
        "OTEL_TRACES_SAMPLER" => Some("always_on".to_owned()),
        _ => None,
    };
    let settings = Settings::read(variable).unwrap().unwrap();
    let target = "http://127.0.0.1:8000".parse().unwrap();
    let traces = Traces::start(&settings, "r1", "steady", &target).unwrap();
    traces.send(&request(), 0).1.unwrap().end(Some(StatusCode::ACCEPTED), &Answer::Accepted);
    let begun = Instant::now();
    let said = traces.end().await.unwrap();
    let took = begun.elapsed();
    assert!(took >= END_PATIENCE && took < END_PATIENCE + Duration::from_secs(2), "{took:?}");
    assert!(said.contains("1 of 1 spans"), "{said}");
}

#[test]
fn few_receivers_are_all_followed_and_of_many_some() {
    let followed = |receivers: usize| (0..receivers).filter(|index| is_followed(*index, receivers)).count();
    for few in [1, 2, 16] {
        assert_eq!(followed(few), few);
    }
    for many in [17, 100, 2_000, 100_001] {
        assert!((9..=16).contains(&followed(many)), "{} of {many}", followed(many));
    }
    assert!(is_followed(7, 1) && is_followed(7, 0), "one receiver of its own stream, whatever its number");
}
