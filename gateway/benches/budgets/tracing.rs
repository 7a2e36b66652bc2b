//! What traces cost: gateways with and without, side by side, in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::measure::{names, receive};
use crate::process::Process;
use crate::wire::Poster;

const SESSIONS: usize = 500;
const TURNS: usize = 9;
const SENDS_A_TURN: usize = 80;
const POSTS_A_TURN: usize = 4_000;

/// A collector that takes every span and keeps none.
struct Sink;

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A gateway with its sessions, and its processor time for each frame and each POST of every turn, in microseconds.
struct Candidate {
    name: &'static str,
    process: Process,
    received: Arc<AtomicU64>,
    frame: Vec<f64>,
    post: Vec<f64>,
}

/// Processor time for a frame and for a POST: without traces, with traces of which none, 1 % and all are recorded.
pub(crate) async fn tracing() {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let collector = format!("http://{}", incoming.local_addr().expect("it is bound"));
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Sink));
    tokio::spawn(server.serve_with_incoming(incoming));

    let mut candidates = Vec::new();
    for (name, ratio) in [
        ("off", None),
        ("none recorded", Some("0")),
        ("1 % recorded", Some("0.01")),
        ("all recorded", Some("1")),
    ] {
        let variables = match ratio {
            None => vec![],
            Some(ratio) => vec![
                ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", ratio),
            ],
        };
        let process = Process::start_with_variables(&variables);
        let received = Arc::new(AtomicU64::new(0));
        receive(&process.http, SESSIONS, &received).await;
        candidates.push(Candidate { name, process, received, frame: Vec::new(), post: Vec::new() });
    }
    for turn in 0..TURNS {
        // Who comes first has the warmer machine: each is first in turn.
        candidates.rotate_left(turn % 2 + 1);
        for candidate in &mut candidates {
            candidate.take_turn().await;
        }
    }
    candidates.sort_by_key(|candidate| {
        ["off", "none recorded", "1 % recorded"].iter().position(|name| *name == candidate.name).unwrap_or(3)
    });
    let (frame, post) = (median(&candidates[0].frame), median(&candidates[0].post));
    for candidate in &candidates {
        let (its_frame, its_post) = (median(&candidate.frame), median(&candidate.post));
        println!(
            "tracing {}: {its_frame:.2} us a frame ({:+.1} %), {its_post:.1} us a POST ({:+.1} %); medians of {TURNS} turns, \
             user and system",
            candidate.name,
            (its_frame / frame - 1.0) * 100.0,
            (its_post / post - 1.0) * 100.0,
        );
    }
}

impl Candidate {
    /// Pushes to every session, then POSTs to users who are away.
    async fn take_turn(&mut self) {
        let mut poster = Poster::connect(&self.process.http).await.expect("it accepts");
        let push = format!(r#"{{"to":[{}],"body":"{}","ttl_seconds":60}}"#, names(SESSIONS), "x".repeat(100));
        let before = self.process.seconds_on_processor();
        for _ in 0..SENDS_A_TURN {
            let expected = self.received.load(Ordering::Relaxed) + SESSIONS as u64;
            poster.post("/v1/notifications", &push).await.expect("it takes it");
            while self.received.load(Ordering::Relaxed) < expected {
                tokio::task::yield_now().await;
            }
        }
        let between = self.process.seconds_on_processor();
        for index in 0..POSTS_A_TURN {
            let away = format!(r#"{{"to":["away-{}"],"body":"hello","ttl_seconds":60}}"#, index % 500);
            poster.post("/v1/notifications", &away).await.expect("it takes it");
        }
        let after = self.process.seconds_on_processor();
        let microseconds = |used: f64, count: usize| used * 1e6 / count as f64;
        self.frame.push(microseconds(between - before, SENDS_A_TURN * SESSIONS));
        self.post.push(microseconds(after - between, POSTS_A_TURN));
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
