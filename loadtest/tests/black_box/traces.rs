//! The load test as the two ends of each trace, against a gateway that continues what it is sent and a collector that keeps
//! what it is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::collector::{Collector, Received};
use crate::harness::{Ended, LoadTest, gateway_binary};
use crate::stand_in::{Manners, Queue, StandIn};
use crate::wire::Head;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";

/// What the gateway writes into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frames {
    /// A span of its own in the sender's trace, if that is recorded.
    Continue,
    /// The same, and a trace of its own if there is none.
    Always,
    /// Something that is no `traceparent`.
    Malformed,
}

/// As much of a gateway as a run with traces sees.
struct Traced {
    frames: Frames,
    /// The number of the notification after which its receiver's socket is closed; 0: none.
    closes_after: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sockets: HashMap<String, Queue>,
    /// The header of each send.
    headers: Vec<Option<String>>,
    /// What the frame of each notification said, by the notification's number.
    framed: BTreeMap<u64, Option<String>>,
    /// Acks as they came.
    acks: Vec<Value>,
}

impl Manners for Traced {
    fn answer(&self, head: &Head, body: &[u8]) -> (u16, String) {
        let mut state = self.state.lock().unwrap();
        let header = head.header("traceparent").map(str::to_owned);
        state.headers.push(header.clone());
        let number = state.headers.len() as u64;
        let span = format!("{number:016x}");
        let traceparent = match (self.frames, header) {
            (Frames::Malformed, _) => Some(format!("00-{:032x}-{span}-1", 7)),
            (_, Some(header)) if header.ends_with("-01") => Some(format!("{}-{span}-01", &header[..35])),
            (Frames::Always, _) => Some(format!("00-{:032x}-{span}-01", 7)),
            _ => None,
        };
        state.framed.insert(number, traceparent.clone());
        let notification: Value = serde_json::from_slice(body).unwrap();
        let mut frame = json!({"type": "notification", "position": position(number), "prev": "e-0",
            "id": format!("n-{number}"), "sent_at": "2030-01-01T00:00:00Z", "body": notification["body"]});
        if let Some(traceparent) = traceparent {
            frame["traceparent"] = traceparent.into();
        }
        for user in notification["to"].as_array().unwrap() {
            let queue = &state.sockets[user.as_str().unwrap()];
            // A socket that was closed gets nothing.
            let _ = queue.send(Message::text(frame.to_string()));
            if number == self.closes_after {
                queue.send(Message::Close(None)).unwrap();
            }
        }
        (202, json!({"id": "n", "position": position(number), "recipients": 1, "online": 1}).to_string())
    }

    fn join(&self, head: &Head, queue: Queue) -> Option<&'static str> {
        let user = head.user().expect("no other socket is asked for");
        let welcome = json!({"type": "welcome", "session": "s", "user": user, "position": "e-0", "head": "e-0",
            "heartbeat_ms": 25_000});
        queue.send(Message::text(welcome.to_string())).unwrap();
        self.state.lock().unwrap().sockets.insert(user, queue);
        Some("notify.v1")
    }

    fn hear(&self, text: &str) {
        self.state.lock().unwrap().acks.push(serde_json::from_str(text).unwrap());
    }
}

fn position(number: u64) -> String {
    format!("e-{number}")
}

/// A gateway and a collector.
struct Scene {
    gateway: Arc<Traced>,
    server: StandIn,
    collector: Collector,
}

impl Scene {
    async fn set(frames: Frames) -> Self {
        Self::closing(frames, 0).await
    }

    /// A scene in which a socket is closed as soon as this notification was pushed to it.
    async fn closing(frames: Frames, closes_after: u64) -> Self {
        let gateway = Arc::new(Traced { frames, closes_after, state: Mutex::default() });
        let server = StandIn::start(Arc::clone(&gateway)).await;
        Self { gateway, server, collector: Collector::start().await }
    }

    /// A small run of `steady`, without a word about traces.
    fn steady(&self) -> LoadTest {
        LoadTest::against("steady", &self.server.url()).option("--run-id", "traced")
    }

    /// The same with the collector and a sampler.
    fn traced(&self, sampler: &str) -> LoadTest {
        self.steady().variable(ENDPOINT, &self.collector.url()).variable(SAMPLER, sampler)
    }

    /// The headers of all sends, each of which has one.
    fn headers(&self) -> Vec<String> {
        let headers = self.gateway.state.lock().unwrap().headers.clone();
        assert!(headers.len() >= 300, "{} sends", headers.len());
        headers.into_iter().map(|header| header.expect("every send has a traceparent")).collect()
    }

    /// The `traceparent` of each ack by the acked notification's number; `None`: without.
    fn acks(&self) -> BTreeMap<u64, Option<String>> {
        let acks = self.gateway.state.lock().unwrap().acks.clone();
        assert!(acks.len() >= 40, "each socket acks: {}", acks.len());
        let number = |ack: &Value| ack["position"].as_str().unwrap()[2..].parse().unwrap();
        acks.iter()
            .map(|ack| (number(ack), ack.get("traceparent").map(|text| text.as_str().unwrap().to_owned())))
            .collect()
    }
}

/// Fails if anything is said of spans that were lost.
#[track_caller]
fn no_holes(ended: Ended) -> Ended {
    let ended = ended.with(0, "PASSED");
    assert!(!ended.stdout.contains("spans"), "nothing is said of spans");
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_begins_with_the_send_and_ends_with_the_ack() {
    let scene = Scene::set(Frames::Continue).await;
    no_holes(scene.traced("always_on").run().await);

    let sends = scene.collector.named("send notifications");
    let headers: BTreeSet<String> = scene.headers().into_iter().collect();
    let recorded: BTreeSet<String> = sends.iter().map(|send| send.traceparent()).collect();
    assert_eq!(recorded, headers, "each header names the span of its send");
    let port = scene.server.url().rsplit(':').next().unwrap().to_owned();
    for send in &sends {
        assert_eq!(send.service, "loadtest");
        assert_eq!((send.span.kind(), send.span.parent_span_id.is_empty()), (SpanKind::Client, true));
        assert!(send.span.end_time_unix_nano >= send.span.start_time_unix_nano);
        for (name, value) in [
            ("http.request.method", "POST"),
            ("http.response.status_code", "202"),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
            ("loadtest.run", "traced"),
            ("loadtest.scenario", "steady"),
        ] {
            assert_eq!(send.attribute(name).as_deref(), Some(value), "{name}");
        }
    }

    let processed = scene.collector.named("process notifications");
    let framed = scene.gateway.state.lock().unwrap().framed.clone();
    assert_eq!(processed.len(), framed.len(), "each notification is one to one receiver");
    assert_eq!(scene.collector.count(), sends.len() + processed.len(), "and there is nothing else");
    for process in &processed {
        let id = process.attribute("messaging.message.id").unwrap();
        let number: u64 = id.strip_prefix("n-").unwrap().parse().unwrap();
        assert_eq!(Some(process.parent()), framed[&number], "it continues its frame's trace");
        assert_eq!((process.service.as_str(), process.span.kind()), ("loadtest", SpanKind::Consumer));
        assert_eq!(process.span.status.as_ref().unwrap().code(), StatusCode::Ok);
        for (name, value) in [
            ("messaging.system", "notification-gateway"),
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", "notifications"),
            ("loadtest.run", "traced"),
        ] {
            assert_eq!(process.attribute(name).as_deref(), Some(value), "{name}");
        }
    }

    let by_id = |number: u64| {
        let id = format!("n-{number}");
        processed.iter().find(|process| process.attribute("messaging.message.id").as_deref() == Some(&id))
    };
    for (number, traceparent) in scene.acks() {
        assert_eq!(
            traceparent,
            Some(by_id(number).unwrap().traceparent()),
            "the ack of {number} names its span"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_recorded_has_a_header_that_says_so_and_no_span() {
    let scene = Scene::set(Frames::Continue).await;
    no_holes(scene.traced("parentbased_always_off").run().await);
    let headers = scene.headers();
    for header in &headers {
        assert!(header.len() == 55 && header.starts_with("00-") && header.ends_with("-00"), "{header}");
    }
    let traces: BTreeSet<&str> = headers.iter().map(|header| &header[3..35]).collect();
    assert_eq!(traces.len(), headers.len(), "each send has a trace of its own");
    assert_eq!(scene.collector.count(), 0);
    assert!(scene.acks().values().all(Option::is_none));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sampler_about_one_send_in_a_hundred_is_recorded() {
    let scene = Scene::set(Frames::Continue).await;
    no_holes(scene.steady().variable(ENDPOINT, &scene.collector.url()).run().await);
    let headers = scene.headers();
    let recorded = headers.iter().filter(|header| header.ends_with("-01")).count();
    assert!(recorded < headers.len() / 10, "{recorded} of {} are recorded", headers.len());
    assert_eq!(scene.collector.count(), 2 * recorded, "sent and received");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_a_recorded_trace_is_followed_although_the_send_was_not_recorded() {
    let scene = Scene::set(Frames::Always).await;
    no_holes(scene.traced("parentbased_always_off").run().await);
    assert!(scene.collector.named("send notifications").is_empty());
    assert_eq!(scene.collector.named("process notifications").len(), scene.headers().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_whose_connection_ends_before_the_ack_says_so() {
    let scene = Scene::closing(Frames::Continue, 100).await;
    // Slowly: what came before is acked before the next one comes. What is not pushed again is lost, which is not the point.
    scene.traced("always_on").option("--rate", "100").run().await;
    let processed = scene.collector.named("process notifications");
    assert!(processed.len() >= 150, "{} arrived", processed.len());
    let failed = processed.iter().filter(|process| process.attribute("error.type").is_some());
    let [failed] = &failed.collect::<Vec<_>>()[..] else { panic!("one is not acked") };
    assert_eq!(failed.attribute("messaging.message.id").as_deref(), Some("n-100"));
    assert_eq!(failed.attribute("error.type").as_deref(), Some("connection_ended"));
    assert_eq!(failed.span.status.as_ref().unwrap().code(), StatusCode::Error);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_real_gateway_the_way_from_the_send_to_the_ack_is_one_trace() {
    let collector = Collector::start().await;
    let test = LoadTest::spawning("steady").await.variable(ENDPOINT, &collector.url());
    let ended = no_holes(test.variable(SAMPLER, "always_on").run().await);
    let sent = usize::try_from(ended.summary().deliveries.sent).unwrap();
    let [sends, requests, published, delivered, processed, acked] = [
        "send notifications",
        "POST /v1/notifications",
        "publish notifications",
        "deliver notifications",
        "process notifications",
        "ack notifications",
    ]
    .map(|name| collector.named(name));
    assert!(sent >= 300 && sends.len() == sent, "{} spans of {sent} sends", sends.len());
    let names = |spans: &[Received]| spans.iter().map(Received::traceparent).collect::<BTreeSet<_>>();
    for (what, children, parents) in [
        ("requests of sends", &requests, &sends),
        ("publications of requests", &published, &requests),
        ("deliveries of publications", &delivered, &published),
        ("receptions of publications", &processed, &published),
        ("acks of deliveries", &acked, &delivered),
    ] {
        assert_eq!(children.len(), sent, "{what}");
        let parents_named: BTreeSet<String> = children.iter().map(Received::parent).collect();
        assert_eq!(parents_named, names(parents), "{what}");
    }
    for (spans, service) in [(&sends, "loadtest"), (&processed, "loadtest"), (&acked, "gateway")] {
        assert!(spans.iter().all(|received| received.service == service), "{service}");
    }
    // What is acked was taken by a client, and that is a span of ours.
    let clients: BTreeSet<String> = acked.iter().flat_map(Received::links).collect();
    assert!(!clients.is_empty() && clients.is_subset(&names(&processed)), "{clients:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_the_run_is_told_of_the_collector_and_to_follow_the_run() {
    let collector = Collector::start().await;
    let folder = TempDir::new().unwrap();
    let (program, said) = (folder.path().join("gateway"), folder.path().join("environment"));
    let gateway = gateway_binary().await;
    let script = format!("#!/bin/sh\nenv > {}\nexec {} \"$@\"\n", said.display(), gateway.to_str().unwrap());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let test = LoadTest::spawning("steady").await.option("--gateway-binary", program.to_str().unwrap());
    let test = test.variable(ENDPOINT, &collector.url()).variable("OTEL_SERVICE_NAME", "mine");
    test.variable("OTEL_TRACES_SAMPLER_ARG", "0.5").run().await.with(0, "PASSED");

    let said = std::fs::read_to_string(said).unwrap();
    let of_traces = |line: &&str| line.starts_with("OTEL_") || line.starts_with("GATEWAY_");
    let told: BTreeSet<&str> = said.lines().filter(of_traces).collect();
    let endpoint = format!("{ENDPOINT}={}", collector.url());
    let sampler = format!("{SAMPLER}=parentbased_always_off");
    let trust = "GATEWAY_TRACE_TRUST_REMOTE_SAMPLING=true";
    assert_eq!(told, BTreeSet::from([endpoint.as_str(), &sampler, trust]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_traceparent_in_a_frame_is_ignored() {
    let scene = Scene::set(Frames::Malformed).await;
    no_holes(scene.traced("always_on").run().await);
    assert_eq!(scene.collector.count(), scene.headers().len(), "nothing but sends");
    assert!(scene.acks().values().all(Option::is_none));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_receivers_of_one_notification_some_are_followed() {
    let scene = Scene::set(Frames::Continue).await;
    let test = LoadTest::against("fanout", &scene.server.url())
        .flag("--by-list")
        .option("--rate", "20")
        .variable(ENDPOINT, &scene.collector.url())
        .variable(SAMPLER, "always_on");
    no_holes(test.run().await);
    let sent = scene.collector.named("send notifications").len();
    assert!(sent >= 20, "{sent}");
    // Every third of forty.
    assert_eq!(scene.collector.named("process notifications").len(), 14 * sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_nothing_is_sent_and_nothing_is_acked_beside_the_position() {
    let scene = Scene::set(Frames::Always).await;
    no_holes(scene.steady().variable(SAMPLER, "always_on").run().await);
    let headers = scene.gateway.state.lock().unwrap().headers.clone();
    assert!(headers.len() >= 300 && headers.iter().all(Option::is_none), "{headers:?}");
    assert!(scene.acks().values().all(Option::is_none));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_names_the_service() {
    let scene = Scene::set(Frames::Continue).await;
    let test = scene.traced("always_on").variable("OTEL_SERVICE_NAME", "mine");
    no_holes(test.run().await);
    let sends = scene.collector.named("send notifications");
    assert!(!sends.is_empty() && sends.iter().all(|send| send.service == "mine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_changes_no_verdict_and_the_loss_is_told() {
    let scene = Scene::set(Frames::Continue).await;
    // Nobody listens where somebody just did; and a listener that never answers.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [closed, silent.local_addr().unwrap()] {
        let test = scene.steady().variable(ENDPOINT, &format!("http://{address}"));
        let ended = test.variable(SAMPLER, "always_on").run().await.with(0, "PASSED");
        let sent = ended.summary().deliveries.sent;
        let note = ended.summary().notes.iter().find(|note| note.contains("did not reach the collector"));
        let note = note.expect("the loss is in the summary");
        let count = |number: u64| loadtest::report::number::count(number);
        assert!(note.contains(&format!("{0} of {0} spans", count(2 * sent))), "{note}");
        // Broken into lines on the terminal.
        let said = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(note), "the loss is on the terminal");
        for library in ["OpenTelemetry", "BatchSpan", "Export", "tonic", "h2"] {
            assert!(!ended.stderr.contains(library), "{library} keeps its logs to itself");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_cannot_be_spoken_to_is_a_mistake_in_the_command_line() {
    let scene = Scene::set(Frames::Continue).await;
    for (name, value) in [
        (ENDPOINT, "https://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        (SAMPLER, "all"),
    ] {
        let test = scene.steady().variable(ENDPOINT, &scene.collector.url()).variable(name, value);
        let ended = test.run().await.refused(1);
        assert_eq!(ended.stderr.lines().count(), 1, "one line");
        assert!(ended.stderr.contains(name), "it names {name}");
    }
    assert!(scene.gateway.state.lock().unwrap().headers.is_empty(), "nothing was sent");
}
