//! Shows how far a run is: one live line on a terminal, a line every few seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::collector::{Series, seconds};
use crate::context::Context;
use crate::report::number;

/// How often the live line changes.
const LIVE_EVERY: Duration = Duration::from_millis(200);

/// How often there is a line where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Sockets are being opened.
    Connecting,
    /// Notifications are being sent.
    Offering,
    /// Stragglers are waited for.
    Waiting,
    /// Sockets are being closed.
    Closing,
}

/// Whether and how progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not at all.
    Quiet,
    /// On standard error.
    Shown,
}

/// A display that is going on; it ends when this is dropped.
#[derive(Debug)]
pub struct Shown {
    phase: Arc<AtomicU8>,
    task: Option<JoinHandle<()>>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins to show a run.
    #[must_use]
    pub fn show(self, context: Arc<Context>) -> Shown {
        let phase = Arc::new(AtomicU8::new(0));
        if self == Self::Quiet {
            return Shown { phase, task: None, bar: None };
        }
        let shown_phase = phase.clone();
        if !std::io::stderr().is_terminal() {
            let task = tokio::spawn(async move {
                let mut interval = tokio::time::interval(LINE_EVERY);
                loop {
                    interval.tick().await;
                    // A closed standard error must not end the run.
                    let _ = writeln!(
                        std::io::stderr(),
                        "{}",
                        line(&context, shown_phase.load(Ordering::Relaxed))
                    );
                }
            });
            return Shown { phase, task: Some(task), bar: None };
        }
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner:.cyan} {msg}").expect("a template that parses"));
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let mut interval = tokio::time::interval(LIVE_EVERY);
            loop {
                interval.tick().await;
                shown.set_message(line(&context, shown_phase.load(Ordering::Relaxed)));
                shown.tick();
            }
        });
        Shown { phase, task: Some(task), bar: Some(bar) }
    }
}

impl Shown {
    /// The run does something else now.
    pub fn phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(context: &Context, phase: u8) -> String {
    let counters = &context.collector.counters;
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let phase = ["connecting", "sending", "waiting for the rest", "closing"][usize::from(phase)];
    let sockets = u64::try_from(counters.sockets.load(Ordering::Relaxed)).unwrap_or(0);
    let push = context.collector.distribution(Series::Push);
    let on_the_way = get(&counters.expected).saturating_sub(get(&counters.received));
    let failed = get(&counters.refused) + get(&counters.unknown);
    format!(
        "{:>5.1} s  {phase}: {} sockets, {} sent, {} received, {} on the way, {} failed, push p50 {} p99 {}",
        seconds(context.collector.clock().now()),
        number::count(sockets),
        number::count(get(&counters.sent)),
        number::count(get(&counters.received)),
        number::count(on_the_way),
        number::count(failed),
        number::micros(push.at(0.5)),
        number::micros(push.at(0.99)),
    )
}
