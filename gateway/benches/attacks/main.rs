//! Attacks in full size on a gateway in a process of its own, and what they cost: it, and those who behave well beside them.
//!
//! `cargo bench --bench attacks -- [name]`; without a name all of them. Exits with 1 when a bound is missed. The attackers are
//! those of `tests/black_box/attacks`; they share the machine's cores with the gateway, which goes first, and the table has their
//! processor time, too. Before each attack it is calm for a while, and then all cores are busy with nothing for a while: what
//! is as bad then is no doing of the gateway.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measuring program prints, waits and reads clocks"
)]

mod battle;
#[path = "../../tests/black_box/attacks/bystanders.rs"]
mod bystanders;
#[path = "../../tests/black_box/attacks/crowds.rs"]
mod crowds;
#[path = "../../tests/black_box/attacks/floods.rs"]
mod floods;
#[path = "../../tests/black_box/attacks/frames.rs"]
mod frames;
mod process;
#[path = "../../tests/black_box/attacks/provider.rs"]
mod provider;
#[path = "../running/gateway.rs"]
mod running;
#[path = "../../tests/black_box/attacks/slow.rs"]
mod slow;
mod spinner;
mod table;
#[path = "../../tests/black_box/attacks/target.rs"]
mod target;
#[path = "../../tests/black_box/attacks/wire.rs"]
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::time::Duration;

use target::Target;
use tokio::time::Instant;
use wire::Tally;

/// An attack on its way.
type Blow = Pin<Box<dyn Future<Output = Tally> + Send>>;

/// An attack and its bounds.
struct Attack {
    name: &'static str,
    size: usize,
    /// With keys and the limits that come with them; else in open mode.
    secured: bool,
    settings: Vec<(&'static str, &'static str)>,
    open_files: Option<u32>,
    /// When attackers stop beginning anything new.
    lasting: Duration,
    /// How much resident memory may grow.
    most_growth: u64,
    blow: Box<dyn Fn(Target, usize, Instant) -> Blow>,
}

fn main() {
    // Under `cargo test --benches` nothing is measured.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    // Ten thousand sockets need as many descriptors; whether it worked shows when they are opened.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(step_back)
        .build();
    // This thread is no worker: gateways and bystanders come from here.
    let missed = runtime.expect("a runtime").block_on(run(&wanted));
    if missed > 0 {
        println!("{missed} attacks were not borne as they should be");
        std::process::exit(1);
    }
}

/// Lets the gateway and the bystanders go first: real attackers have processors of their own.
fn step_back() {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let Some(thread) = thread.as_ref().and_then(|link| link.file_name()) else { return };
    // Where it cannot be done, the numbers are worse.
    let _ = Command::new("renice").args(["-n", "10", "-p"]).arg(thread).stdout(Stdio::null()).status();
}

/// Carries out those whose name contains one of `wanted`; returns how many missed a bound.
async fn run(wanted: &[String]) -> usize {
    println!(
        "{:<23} {:>6} {:<7} | {:>6} {:>6} {:>6} {:>6} {:>6} | {:>6} {:>4} {:>5} | {:>5} {:>5} {:>5} | {:>4} {:>4} {:>4} {:>6}",
        "attack",
        "size",
        "mode",
        "calm50",
        "calm99",
        "busy99",
        "p50 ms",
        "p99 ms",
        "gap ms",
        "lost",
        "refus",
        "s",
        "cpu s",
        "gen s",
        "MiB",
        "most",
        "after",
        "files",
    );
    let provider = provider::Provider::start().await;
    let mut missed = 0;
    for attack in table::attacks(&provider.url) {
        if !wanted.is_empty() && !wanted.iter().any(|name| attack.name.contains(name.as_str())) {
            continue;
        }
        let asked = provider.asked();
        let outcome = battle::fight(&attack).await;
        println!("{}", outcome.row);
        outcome.details.iter().for_each(|line| println!("    {line}"));
        if provider.asked() > asked {
            println!("    the provider was asked {} times", provider.asked() - asked);
        }
        if !outcome.missed.is_empty() {
            missed += 1;
            println!("    MISSED: {}", outcome.missed.join("; "));
        }
    }
    missed
}
