//! A collector that is late, slow, dead or not wanted costs senders nothing: at most a counted span.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Listener, PUBLISH, TRUST, all_spans, send, traced, traceparent};
use crate::harness::{Collector, CollectorPort, reporting_to};
use crate::process_harness::{EPHEMERAL, Process, Server, scrape, until_some};

/// Each send to somebody who is away makes two: the request's and the publish span.
const SPANS_OF_A_SEND: usize = 2;

/// An export that takes longer has failed, in milliseconds.
const EXPORT_TIMEOUT: (&str, &str) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "500");

/// Of five seconds, where somebody who waited for an export would have to show although the machine is busy.
const LONG_EXPORT_TIMEOUT: (&str, &str) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000");

/// What a stopping gateway may take on a busy machine, the two seconds for the collector included.
const STOP: Duration = Duration::from_secs(8);

/// What the gateway says it made of its spans.
#[derive(Debug, PartialEq)]
struct Counted {
    exported: f64,
    queue_full: f64,
    export_failed: f64,
}

impl Counted {
    async fn of(server: &Server) -> Self {
        let metrics = scrape(server.addresses.ops).await;
        let dropped = |reason: &str| {
            metrics.value(&format!(r#"gateway_otel_spans_dropped_total{{reason="{reason}"}}"#))
        };
        Self {
            exported: metrics.value("gateway_otel_spans_exported_total"),
            queue_full: dropped("queue_full"),
            export_failed: dropped("export_failed"),
        }
    }

    fn total(&self) -> f64 {
        self.exported + self.queue_full + self.export_failed
    }

    const NOTHING: Self = Self { exported: 0.0, queue_full: 0.0, export_failed: 0.0 };
}

/// Waits until every one of so many spans is accounted for.
async fn until_accounted(server: &Server, spans: usize) -> Counted {
    until_some(&format!("{spans} spans to be accounted for"), async || {
        let counted = Counted::of(server).await;
        assert!(counted.total() <= spans as f64, "more than were made: {counted:?}");
        (counted.total() == spans as f64).then_some(counted)
    })
    .await
}

async fn send_many(server: &Server, count: usize) {
    for _ in 0..count {
        send(server.addresses.http, &["nobody"], None).await;
    }
}

/// Stops it and says how long that took.
async fn stop(server: Server) -> Duration {
    let started = Instant::now();
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    started.elapsed()
}

#[tokio::test]
async fn what_the_collector_takes_is_counted_as_exported() {
    let collector = Collector::start();
    let server = traced(&collector, &[]).await;
    assert_eq!(Counted::of(&server).await, Counted::NOTHING, "every series is there from the start");
    send_many(&server, 50).await;
    let counted = until_accounted(&server, 50 * SPANS_OF_A_SEND).await;
    assert_eq!(counted, Counted { exported: 100.0, ..Counted::NOTHING });
    assert_eq!(collector.spans().len(), 100);
}

#[tokio::test]
async fn spans_that_are_not_due_yet_reach_the_collector_before_the_process_ends() {
    let collector = Collector::start();
    let server = traced(&collector, &[("OTEL_BSP_SCHEDULE_DELAY", "3600000")]).await;
    send_many(&server, 5).await;
    assert_eq!(collector.spans().len(), 0, "nothing was due");
    assert_eq!(all_spans(server, &collector).await.len(), 5 * SPANS_OF_A_SEND);
}

#[tokio::test]
async fn a_collector_that_comes_late_gets_what_comes_after_it() {
    let port = CollectorPort::reserve();
    let endpoint = port.endpoint();
    let server = Server::start(&reporting_to(&endpoint, &[EXPORT_TIMEOUT])).await;
    send_many(&server, 5).await;
    until_some("a failed export", async || (Counted::of(&server).await.export_failed > 0.0).then_some(()))
        .await;
    let collector = port.listen();
    // What is made now is new: whatever was lost, this is not.
    let arrived = until_some("a span to arrive", async || {
        send_many(&server, 1).await;
        (!collector.spans().is_empty()).then_some(())
    });
    arrived.await;
    let last = send(server.addresses.http, &["nobody"], None).await;
    collector.span(PUBLISH, &json!({"messaging.message.id": last["id"]})).await;

    let sends = scrape(server.addresses.ops)
        .await
        .value(r#"gateway_notifications_total{result="accepted",target="user"}"#);
    let counted = until_accounted(&server, sends as usize * SPANS_OF_A_SEND).await;
    assert!(counted.exported >= 2.0 && counted.export_failed > 0.0, "{counted:?}");
    assert_eq!(collector.spans().len() as f64, counted.exported);
}

#[tokio::test]
async fn a_collector_that_dies_is_missed_by_nobody_and_found_again() {
    let port = CollectorPort::reserve();
    let endpoint = port.endpoint();
    let collector = port.listen();
    let server = Server::start(&reporting_to(&endpoint, &[EXPORT_TIMEOUT])).await;
    send_many(&server, 3).await;
    until_accounted(&server, 3 * SPANS_OF_A_SEND).await;
    assert_eq!(collector.spans().len(), 3 * SPANS_OF_A_SEND);
    collector.die().await;
    send_many(&server, 20).await;
    let counted = until_accounted(&server, 23 * SPANS_OF_A_SEND).await;
    assert!(counted.export_failed > 0.0, "{counted:?}");

    let collector = port.listen();
    let found = until_some("it to be found again", async || {
        send_many(&server, 1).await;
        (!collector.spans().is_empty()).then_some(())
    });
    found.await;
    let last = send(server.addresses.http, &["nobody"], None).await;
    collector.span(PUBLISH, &json!({"messaging.message.id": last["id"]})).await;
}

#[tokio::test]
async fn nobody_waits_for_a_collector_that_is_dead_or_says_nothing() {
    let (port, silent) = (CollectorPort::reserve(), Collector::start_silent());
    for endpoint in [&*port.endpoint(), silent.endpoint()] {
        let server = Server::start(&reporting_to(endpoint, &[LONG_EXPORT_TIMEOUT])).await;
        let http = server.addresses.http;
        let mut bob = Listener::open(http, "bob").await;
        let started = Instant::now();
        for _ in 0..50 {
            let answer = send(http, &["bob"], None).await;
            let notification = bob.notification().await;
            assert_eq!(notification["id"], answer["id"]);
            assert!(notification["traceparent"].is_string(), "{notification}");
            bob.ack(&notification, None).await;
        }
        // One export's timeout for each send, or one in ten, would show.
        assert!(started.elapsed() < Duration::from_secs(20), "{:?} for {endpoint}", started.elapsed());
        let dropped = until_some("spans to be dropped", async || {
            let counted = Counted::of(&server).await;
            (counted.export_failed > 0.0).then_some(counted)
        });
        assert_eq!(dropped.await.exported, 0.0);
        drop(bob);
        let took = stop(server).await;
        assert!(took < STOP, "{took:?} for {endpoint}");
    }
}

#[tokio::test]
async fn the_end_waits_two_seconds_for_a_collector_that_says_nothing_and_no_longer() {
    let silent = Collector::start_silent();
    // Neither the export nor the batch gives up by itself.
    let patient = [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "60000"),
        ("GATEWAY_SHUTDOWN_TIMEOUT", "60s"),
    ];
    let untraced = Server::start(&patient[2..]).await;
    send_many(&untraced, 3).await;
    let usual = stop(untraced).await;
    let server = Server::start(&silent.variables(&patient)).await;
    send_many(&server, 3).await;
    // One export waits for its answer already.
    silent.span(PUBLISH, &json!({})).await;
    let took = stop(server).await;
    // The library's own patience would be five seconds.
    assert!(took < usual + Duration::from_secs(4), "{took:?}, without traces {usual:?}");
}

#[tokio::test]
async fn a_full_queue_drops_spans_counts_them_and_holds_nobody_up() {
    const SENDS: usize = 100;
    const QUEUE: usize = 16;
    let silent = Collector::start_silent();
    let variables = [("OTEL_BSP_MAX_QUEUE_SIZE", "16"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")];
    let server = Server::start(&silent.variables(&variables)).await;
    send_many(&server, SENDS).await;
    let counted = Counted::of(&server).await;
    // One batch is on its way, one queue is full.
    let least = (SENDS * SPANS_OF_A_SEND - 2 * QUEUE) as f64;
    assert!(counted.queue_full >= least, "{counted:?}, expected {least} or more");
    assert!(counted.total() <= (SENDS * SPANS_OF_A_SEND) as f64, "{counted:?}");
    assert_eq!(counted.exported, 0.0);
    assert!(stop(server).await < STOP);
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_traced() {
    let collector = Collector::start();
    let disabled = collector.variables(&[TRUST, ("OTEL_SDK_DISABLED", "true")]);
    let capitals = collector.variables(&[TRUST, ("OTEL_SDK_DISABLED", "TRUE")]);
    let cases: [&[(&str, &str)]; 5] = [
        &[TRUST],
        &[TRUST, ("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        &[TRUST, ("OTEL_TRACES_SAMPLER", "always_on")],
        &disabled,
        &capitals,
    ];
    for variables in cases {
        let server = Server::start(variables).await;
        let mut bob = Listener::open(server.addresses.http, "bob").await;
        send(server.addresses.http, &["bob"], Some(&traceparent("01"))).await;
        let notification = bob.notification().await;
        assert_eq!(notification.get("traceparent"), None, "{variables:?}");
        bob.ack(&notification, Some(&traceparent("01"))).await;
        bob.say_goodbye().await;
        drop(bob);
        assert_eq!(Counted::of(&server).await, Counted::NOTHING, "{variables:?}");
        stop(server).await;
    }
    assert_eq!(collector.spans().len(), 0);
}

#[tokio::test]
async fn the_endpoint_of_traces_is_enough_and_wins_over_the_general_one() {
    let (general, of_traces) = (CollectorPort::reserve(), Collector::start());
    let general = general.endpoint();
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", of_traces.endpoint());
    let soon = ("OTEL_BSP_SCHEDULE_DELAY", "100");
    for variables in [&[traces, soon][..], &[traces, soon, ("OTEL_EXPORTER_OTLP_ENDPOINT", &general)]] {
        let server = Server::start(variables).await;
        let answer = send(server.addresses.http, &["nobody"], None).await;
        of_traces.span(PUBLISH, &json!({"messaging.message.id": answer["id"]})).await;
    }
}

#[tokio::test]
async fn an_exporter_or_sampler_that_is_not_there_is_refused_with_78_and_one_line() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    let ratio = ("OTEL_TRACES_SAMPLER", "traceidratio");
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 12] = [
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:4317")], &["OTEL_EXPORTER_OTLP_ENDPOINT"]),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317")], &["OTEL_EXPORTER_OTLP_ENDPOINT", "localhost"]),
        (
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "HTTPS://[::1]:4317")],
            &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"],
        ),
        (
            &[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
            &["OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"],
        ),
        (
            &[endpoint, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")],
            &["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"],
        ),
        (&[endpoint, ("OTEL_TRACES_SAMPLER", "sometimes")], &["OTEL_TRACES_SAMPLER", "sometimes"]),
        (&[endpoint, ("OTEL_TRACES_SAMPLER", "jaeger_remote")], &["OTEL_TRACES_SAMPLER", "jaeger_remote"]),
        (&[("GATEWAY_TRACE_TRUST_REMOTE_SAMPLING", "perhaps")], &["trace.trust_remote_sampling", "perhaps"]),
        (&[endpoint, ratio, ("OTEL_TRACES_SAMPLER_ARG", "half")], &["OTEL_TRACES_SAMPLER_ARG", "half"]),
        (&[endpoint, ratio, ("OTEL_TRACES_SAMPLER_ARG", "1.5")], &["OTEL_TRACES_SAMPLER_ARG", "1.5"]),
        (&[endpoint, ratio, ("OTEL_TRACES_SAMPLER_ARG", "-0.1")], &["OTEL_TRACES_SAMPLER_ARG", "-0.1"]),
        (&[endpoint, ratio, ("OTEL_TRACES_SAMPLER_ARG", "NaN")], &["OTEL_TRACES_SAMPLER_ARG"]),
    ];
    for (variables, expected) in cases {
        for arguments in [&EPHEMERAL[..], &["check-config"]] {
            let ended = Process::run(arguments, variables).await;
            assert_eq!(ended.code, Some(78), "{arguments:?} {variables:?}: {ended:?}");
            assert_eq!(ended.complained.len(), 1, "one line for the operator: {ended:?}");
            let line = &ended.complained[0];
            assert!(line.starts_with("gateway: "), "{line}");
            assert!(expected.iter().all(|part| line.contains(part)), "{line} should say {expected:?}");
        }
    }
}

#[tokio::test]
async fn the_protocol_that_there_is_may_be_named() {
    let collector = Collector::start();
    let server = traced(&collector, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).await;
    send_many(&server, 1).await;
    assert_eq!(all_spans(server, &collector).await.len(), SPANS_OF_A_SEND);
}
