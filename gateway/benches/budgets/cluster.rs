//! Two gateways on one stream, on a nats-server and on three: sends, pushes from one node to the other, and a node that comes
//! later. Servers, gateways and generator share the machine's cores.

use std::time::{Duration, Instant};

use crate::durable::{Directory, fill};
use crate::measure::{SEND, closed_loop, latency_of, settle};
use crate::nats_server::NatsCluster;
use crate::process::Process;
use crate::wire::metric;

const STREAM: &str = "budgets";

/// Both kinds of stream.
pub(crate) async fn cluster() {
    for servers in [1, 3] {
        let cluster = NatsCluster::start(servers).await;
        let directory = Directory::new();
        let node = |name: &str| {
            let copy = directory.0.join(name).display().to_string();
            Process::start_with(
                &cluster.log(STREAM),
                &[("GATEWAY_NATS_REPLICAS", &servers.to_string()), ("GATEWAY_NATS_COPY_DIRECTORY", &copy)],
            )
        };
        let nodes = [node("first"), node("second")];
        sends(servers, &nodes).await;
        let name = format!("a stream on {servers} server(s), from one node to the other");
        latency_of(&name, &nodes[0], &nodes[1], 1_000).await;
        if servers == 1 {
            drop(nodes);
            comes_later(node).await;
        }
    }
}

/// POSTs to one node, closed loop, with so many in flight; the other node hosts nobody.
async fn sends(servers: usize, [asked, idle]: &[Process; 2]) {
    let body = |index: usize| {
        format!(
            r#"{{"to":["user-{}"],"from":"alice","title":"Hello","body":"Your parcel is at the door.","ttl_seconds":60}}"#,
            index % 10_000
        )
    };
    for in_flight in [1, 64, 512] {
        let before = (asked.processor_time(), idle.processor_time());
        let started = Instant::now();
        let (requests, latency) =
            closed_loop(&asked.http, SEND, &body, in_flight, Duration::from_secs(8)).await;
        let elapsed = started.elapsed().as_secs_f64();
        let accepted = |ops| metric(ops, "gateway_ledger_accepted_total");
        let all = accepted(&asked.ops).await;
        settle(|| async { accepted(&idle.ops).await >= all }).await;
        let each = |used: crate::process::ProcessorTime| (used.user + used.system) * 1e6 / requests as f64;
        println!(
            "cluster, {servers} server(s), {in_flight} in flight: {:.0}/s; p50 {} us, p99 {} us, p99.9 {} us, max {} us; \
             {:.1} us of processor each, {:.1} us on the node that hosts nobody",
            requests as f64 / elapsed,
            latency.value_at_quantile(0.5),
            latency.value_at_quantile(0.99),
            latency.value_at_quantile(0.999),
            latency.max(),
            each(asked.processor_time() - before.0),
            each(idle.processor_time() - before.1),
        );
    }
}

/// A node that finds a million entries of a million users: without a copy, and with the one that it made.
async fn comes_later(node: impl Fn(&str) -> Process) {
    const USERS: usize = 1_000_000;
    let filling = node("first");
    let waiting = metric(&filling.ops, "gateway_mailbox_depth").await;
    fill(&filling, "receiver", USERS).await;
    let bytes = metric(&filling.ops, "gateway_log_bytes").await;
    let entries = metric(&filling.ops, "gateway_log_entries").await;
    println!("cluster: {USERS} more entries; the stream has {entries} and {:.0} MB", bytes / 1e6);
    for what in ["without a copy", "with its copy"] {
        let started = Instant::now();
        let process = node("later");
        let elapsed = started.elapsed().as_secs_f64();
        let used = process.processor_time();
        let depth = metric(&process.ops, "gateway_mailbox_depth").await;
        assert!(depth >= USERS as f64, "{depth} of {USERS}, beside {waiting} of before");
        println!(
            "cluster: a node {what} is ready after {elapsed:.2} s ({:.0} entries/s; {:.2} s of processor), RSS {} MB, \
             {:.0} notifications pending",
            entries / elapsed,
            used.user + used.system,
            process.resident_bytes() / 1_000_000,
            depth,
        );
    }
}
