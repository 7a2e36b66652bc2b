//! The budgets of the design, measured against a gateway in a process of its own, over real sockets.
//!
//! `cargo bench --bench budgets -- [memory] [connects] [post] [push] [latency] [delay] [durable] [start] [topic] [acked] [tracing] [cluster]`;
//! without a name, all of them.
//! Generator and gateway share the machine's cores: rates are an order of magnitude, counts and processor time are better.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program prints, waits and reads clocks"
)]

mod cluster;
mod durable;
mod measure;
#[path = "../../tests/black_box/nats_server.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the tests use more of it, and it fails as tests do")]
mod nats_server;
mod process;
#[path = "../running/gateway.rs"]
mod running;
mod tracing;
mod wire;

const MEASUREMENTS: [&str; 12] = [
    "memory", "connects", "post", "push", "latency", "delay", "durable", "start", "topic", "acked",
    "tracing", "cluster",
];

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = wanted.iter().find(|name| !MEASUREMENTS.contains(&name.as_str())) {
        println!("unknown measurement {unknown}; there are: {}", MEASUREMENTS.join(", "));
        std::process::exit(1);
    }
    // Under `cargo test --benches` nothing is measured.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    // Ten thousand sockets need as many descriptors; whether it worked shows when they are opened.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    for name in MEASUREMENTS {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            continue;
        }
        runtime.block_on(async {
            match name {
                "memory" => measure::memory().await,
                "connects" => measure::connects().await,
                "post" => measure::post().await,
                "push" => measure::push().await,
                "latency" => measure::latency().await,
                "delay" => measure::delay().await,
                "durable" => durable::durable().await,
                "start" => durable::start().await,
                "topic" => durable::topic().await,
                "acked" => durable::acked().await,
                "cluster" => cluster::cluster().await,
                _ => tracing::tracing().await,
            }
        });
    }
}
