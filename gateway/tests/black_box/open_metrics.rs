//! The scrape in the OpenMetrics format: who gets it, that it says the same, and the exemplars that lead to traces.

mod format;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use gateway::clock::Clock;
use serde_json::{Value, json};

use crate::harness::Collector;
use crate::process_harness::{
    Folder, Running, Server, scrape, send, until_metric, until_some, within_patience,
};
use crate::raw_socket::RawSocket;
use format::{Labels, OpenMetrics, Series};

const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const OLD_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0";

const SENDERS_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SENDERS_TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Asks for metrics; returns the answer's type and text.
async fn ask(ops: SocketAddr, accept: &[&str]) -> (String, String) {
    let mut request = reqwest::Client::new().get(format!("http://{ops}/metrics"));
    for accept in accept {
        request = request.header("accept", *accept);
    }
    let response = within_patience("a scrape", request.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    (kind, response.text().await.unwrap())
}

async fn open_metrics(ops: SocketAddr) -> OpenMetrics {
    let (kind, text) = ask(ops, &[ACCEPT]).await;
    assert_eq!(kind, TYPE);
    OpenMetrics::parse(&text).unwrap_or_else(|reason| panic!("{reason} in:\n{text}"))
}

/// Sends with the sender's `traceparent`.
async fn send_traced(http: SocketAddr, user: &str) {
    let request = reqwest::Client::new().post(format!("http://{http}/v1/notifications"));
    let request = request.header("traceparent", SENDERS_TRACEPARENT);
    let answer =
        within_patience("an answer", request.json(&json!({"to": [user], "body": "hello"})).send()).await;
    assert_eq!(answer.unwrap().status(), 202);
}

/// A name as the older format writes it, taken apart; edges of buckets in the newer way.
fn series_of(name: &str) -> Series {
    let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
    let labels = labels.strip_suffix('}').unwrap();
    let mut labels: Labels = labels
        .split("\",")
        .filter(|label| !label.is_empty())
        .map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        })
        .collect();
    if let Some(edge) = labels.get_mut("le") {
        *edge = edge_of(edge);
    }
    (name.to_owned(), labels)
}

/// The same text for the same edge.
fn edge_of(edge: &str) -> String {
    format!("{:?}", edge.trim_start_matches('+').parse::<f64>().unwrap())
}

#[tokio::test]
async fn both_formats_say_the_same() {
    let server = Server::start(&[]).await;
    let ops = server.addresses.ops;
    let mut socket = RawSocket::open(server.addresses.http, "bob").await;
    assert_eq!(send(server.addresses.http, &["bob"], "hello").await.0, 202);
    socket.frame_of_type("notification").await;
    until_metric(ops, r#"gateway_push_latency_seconds_count{stage="written"}"#, 1.0).await;
    let old = scrape(ops).await;
    let new = open_metrics(ops).await;

    let expected: BTreeSet<Series> = old.names().into_iter().map(series_of).collect();
    let canonical = |(name, labels): &Series| {
        let labels = labels
            .iter()
            .map(|(name, value)| (name.clone(), if name == "le" { edge_of(value) } else { value.clone() }));
        (name.clone(), labels.collect::<Labels>())
    };
    let found: BTreeSet<Series> = new.samples.keys().map(canonical).collect();
    assert_eq!(
        found.difference(&expected).collect::<Vec<_>>(),
        Vec::<&Series>::new(),
        "only in the newer one"
    );
    assert_eq!(
        expected.difference(&found).collect::<Vec<_>>(),
        Vec::<&Series>::new(),
        "only in the older one"
    );

    let families: BTreeSet<(String, String)> = old
        .families()
        .map(|(name, kind)| {
            let name = if kind == "counter" { name.strip_suffix("_total").unwrap() } else { name };
            (name.to_owned(), kind.to_owned())
        })
        .collect();
    assert_eq!(new.families.into_iter().collect::<BTreeSet<_>>(), families);
    for (name, labels) in [
        ("gateway_ledger_accepted_total", &[][..]),
        ("gateway_push_latency_seconds_count", &[("stage", "written")]),
        ("gateway_sessions", &[("transport", "websocket")]),
    ] {
        let series =
            (name.to_owned(), labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
        assert_eq!(new.samples[&series].value, 1.0, "{name}");
    }
}

#[tokio::test]
async fn who_asks_for_open_metrics_gets_it_and_nobody_else() {
    let gateway = Running::start_with(|_| {}).await;
    let ops = gateway.addresses.ops;
    let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                        text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                        application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                        text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    let with_protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                         application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    for accept in [
        &[ACCEPT][..],
        &["application/openmetrics-text"],
        &["application/openmetrics-text; version=1.0.0; charset=utf-8"],
        &["Application/OpenMetrics-Text;Version=1.0.0"],
        &["text/plain;q=0.5, application/openmetrics-text;q=0.9"],
        &["text/plain;q=0.5", "application/openmetrics-text;q=0.9"],
        &[prometheus_2],
        &[prometheus_3],
        &[with_protobuf],
    ] {
        let (kind, text) = ask(ops, accept).await;
        assert_eq!(kind, TYPE, "{accept:?}");
        assert!(text.ends_with("\n# EOF\n"), "{accept:?}");
    }
    for accept in [
        &[][..],
        &["text/plain"],
        &["text/plain;version=0.0.4"],
        &["*/*"],
        &["text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"],
        &["application/json"],
        &["application/openmetrics-text;q=0"],
        &["application/openmetrics-text;q=0.0, text/plain"],
        &["application/openmetrics-text;version=1.0.0;q=0.1, text/plain;version=0.0.4;q=0.9"],
        &["application/openmetrics-textual"],
        &["x/y;z=application/openmetrics-text"],
        &[""],
        &[";;q=,,"],
    ] {
        let (kind, text) = ask(ops, accept).await;
        assert_eq!(kind, OLD_TYPE, "{accept:?}");
        assert!(!text.contains("# EOF"), "{accept:?}");
    }
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn an_exemplar_leads_from_a_slow_bucket_to_the_senders_trace() {
    let collector = Collector::start();
    let trust = ("GATEWAY_TRACE_TRUST_REMOTE_SAMPLING", "true");
    let off = ("OTEL_TRACES_SAMPLER", "parentbased_always_off");
    let server = Server::start(&collector.variables(&[trust, off])).await;
    let (http, ops) = (server.addresses.http, server.addresses.ops);
    let mut bob = RawSocket::open(http, "bob").await;
    assert_eq!(send(http, &["bob"], "not sampled").await.0, 202);
    bob.frame_of_type("notification").await;
    let written = r#"gateway_push_latency_seconds_count{stage="written"}"#;
    until_metric(ops, written, 1.0).await;
    assert_eq!(open_metrics(ops).await.exemplars().count(), 0, "what is not sampled leaves no exemplar");

    let before = Clock::system().now_us() as f64 / 1e6 - 1.0;
    send_traced(http, "bob").await;
    bob.frame_of_type("notification").await;
    until_metric(ops, written, 2.0).await;
    let scraped = until_some("an exemplar", async || {
        let scraped = open_metrics(ops).await;
        let found = scraped.exemplars().any(|((_, labels), _)| labels["stage"] == "written");
        found.then_some(scraped)
    })
    .await;
    let after = Clock::system().now_us() as f64 / 1e6 + 1.0;
    let spans = collector.spans_of("deliver notifications", &json!({}), 1).await;
    assert_eq!(spans[0].trace, SENDERS_TRACE);
    let ids: BTreeSet<String> = collector
        .until("publish, queue and deliver", |spans| {
            let ids: BTreeSet<String> =
                spans.iter().filter(|span| span.trace == SENDERS_TRACE).map(|span| span.id.clone()).collect();
            (ids.len() >= 4).then_some(ids)
        })
        .await;
    for (series, exemplar) in scraped.exemplars() {
        let (name, labels) = series;
        assert_eq!(name, "gateway_push_latency_seconds_bucket");
        assert!(["queued", "written", "acked"].contains(&labels["stage"].as_str()), "{labels:?}");
        assert_eq!(exemplar.labels.keys().collect::<Vec<_>>(), ["span_id", "trace_id"]);
        assert_eq!(exemplar.labels["trace_id"], SENDERS_TRACE);
        assert!(ids.contains(&exemplar.labels["span_id"]), "{exemplar:?} names none of {ids:?}");
        let timestamp = exemplar.timestamp.expect("Prometheus wants to know when");
        assert!((before..after).contains(&timestamp), "{before} {timestamp} {after}");
        // The reader has checked that the bucket holds it; it counts there and in no lower bucket.
        assert!(scraped.samples[series].value >= 1.0);
        assert!((0.0..30.0).contains(&exemplar.value), "{exemplar:?}");
    }
    let of_written = scraped.exemplars().filter(|((_, labels), _)| labels["stage"] == "written").count();
    assert_eq!(of_written, 1, "one push, one bucket");
}

#[tokio::test]
async fn the_older_format_knows_no_exemplars() {
    let collector = Collector::start();
    let server = Server::start(&collector.variables(&[])).await;
    let mut bob = RawSocket::open(server.addresses.http, "bob").await;
    send_traced(server.addresses.http, "bob").await;
    bob.frame_of_type("notification").await;
    until_some("an exemplar", async || {
        (open_metrics(server.addresses.ops).await.exemplars().count() > 0).then_some(())
    })
    .await;
    // The reader of the older format takes no line with an exemplar.
    let old = scrape(server.addresses.ops).await;
    assert!(!old.text().contains(SENDERS_TRACE) && !old.text().contains(" # {"));
}

/// A Prometheus of the test's own, killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: Folder,
}

impl Prometheus {
    /// Starts one that scrapes this gateway every second and keeps exemplars; `None` if the machine has none.
    async fn start(gateway: SocketAddr) -> Option<Self> {
        let folder = Folder::new();
        let configuration = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: gateway\n  static_configs:\n  - targets: ['{gateway}']\n"
        );
        let file = folder.write("prometheus.yml", &configuration);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={file}"))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--enable-feature=exemplar-storage", "--log.level=warn"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().ok()?;
        let prometheus = Self { child, address, _folder: folder };
        until_some("Prometheus to be ready", async || {
            let ready = reqwest::get(format!("http://{address}/-/ready")).await.ok()?;
            ready.status().is_success().then_some(())
        })
        .await;
        Some(prometheus)
    }

    async fn ask(&self, path: &str) -> Value {
        let asking = reqwest::get(format!("http://{}{path}", self.address));
        let answer = within_patience("Prometheus", asking).await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"].clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn prometheus_itself_finds_the_senders_trace_behind_a_push() {
    let collector = Collector::start();
    let server = Server::start(&collector.variables(&[])).await;
    let Some(prometheus) = Prometheus::start(server.addresses.ops).await else {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "a skip is a failure: apt-get install prometheus"
        );
        println!("SKIPPED: there is no `prometheus` here; install: apt-get install prometheus");
        return;
    };
    let mut bob = RawSocket::open(server.addresses.http, "bob").await;
    send_traced(server.addresses.http, "bob").await;
    bob.frame_of_type("notification").await;
    let query = "/api/v1/query_exemplars?start=0&end=9999999999&query=gateway_push_latency_seconds_bucket%7Bstage=%22written%22%7D";
    let found = until_some("the exemplar in Prometheus", async || {
        let found = prometheus.ask(query).await;
        (!found.as_array().unwrap().is_empty()).then_some(found)
    })
    .await;
    let exemplar = &found[0]["exemplars"][0];
    assert_eq!(exemplar["labels"]["trace_id"], SENDERS_TRACE, "{found}");
    let targets = prometheus.ask("/api/v1/targets").await;
    let target = &targets["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")), "{target}");
}
