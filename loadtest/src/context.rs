//! What everything in a run shares: the target, what is measured, and what the sockets are told to do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::collector::{Collector, Series, locked};
use crate::exporter::Exporter;
use crate::sequence::{Received, SendOutcome, Sent};
use crate::target::{Adapter, Destination};
use crate::trace::Traces;

/// What a run's senders and sockets have in common.
#[derive(Debug)]
pub struct Context {
    /// What every text of this run, and of this part of it, begins with.
    pub marker: String,
    /// Makes the idempotency keys those of this process.
    pub nonce: String,
    /// How the target is spoken to.
    pub adapter: Arc<dyn Adapter>,
    /// What is measured.
    pub collector: Arc<Collector>,
    /// What Prometheus is told.
    pub exporter: Arc<Exporter>,
    /// What makes spans of sends and receptions; absent: nobody collects any.
    pub traces: Option<Arc<Traces>>,
    /// The streams, by number.
    pub streams: Vec<Stream>,
    /// The receivers, by number.
    pub receivers: Vec<Receiver>,
    /// Whether sends are repeated with the same key until somebody can say what became of them.
    pub retry: bool,
    /// What the sockets are to do.
    pub orders: watch::Sender<Orders>,
    /// Cancelled when nothing more is to be sent, whatever waits.
    pub give_up: CancellationToken,
    /// First and last reception of what several receivers get; absent: every stream has one receiver.
    pub spread: Option<Spread>,
}

/// A series of sends to one destination.
#[derive(Debug)]
pub struct Stream {
    /// Who it is for.
    pub destination: Destination,
    /// How many sockets receive it and have not gone.
    pub receivers: AtomicU64,
    /// What was sent.
    pub sent: Mutex<Sent>,
}

/// One socket, over all its connections.
#[derive(Debug)]
pub struct Receiver {
    /// Whose it is.
    pub user: String,
    /// The stream it listens to.
    pub stream: usize,
    /// Whether it is one of those that stop reading.
    pub slow: bool,
    /// Whether it never came, or was told not to come back: what it did not receive is not a loss, it is a socket less.
    pub gone: AtomicBool,
    /// What it received.
    pub received: Mutex<Received>,
}

/// What the sockets are to do, as it stands.
#[derive(Debug, Clone, Default)]
pub struct Orders {
    /// The slow ones read nothing.
    pub slow_ones_rest: bool,
    /// Who is cut off, by the newest order.
    pub cut: Cut,
    /// Come to an end.
    pub finish: bool,
}

/// An order to break the connection without a goodbye and to come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// The order's number; 0: none was given.
    pub number: u64,
    /// Every so many-th socket …
    pub every: usize,
    /// … beginning with this one.
    pub first: usize,
    /// Stay away for at most so many milliseconds, each socket for a time of its own.
    pub away_ms: u64,
}

impl Cut {
    /// Whether a socket is meant.
    #[must_use]
    pub fn means(&self, socket: usize) -> bool {
        self.every > 0 && socket % self.every == self.first % self.every
    }
}

/// Receptions of the same notification by several receivers.
#[derive(Debug, Default)]
pub struct Spread {
    open: Mutex<HashMap<(usize, u32), Receptions>>,
}

#[derive(Debug)]
struct Receptions {
    first: u64,
    last: u64,
    count: u64,
}

impl Context {
    /// Notes how a send ended.
    pub fn settle(&self, stream: usize, number: u32, outcome: SendOutcome) {
        let counters = &self.collector.counters;
        let receivers = self.streams[stream].receivers.load(Ordering::Relaxed);
        let counter = match outcome {
            SendOutcome::Accepted => {
                counters.expected.fetch_add(receivers, Ordering::Relaxed);
                &counters.accepted
            }
            SendOutcome::Refused => &counters.refused,
            SendOutcome::Unknown => {
                counters.possible.fetch_add(receivers, Ordering::Relaxed);
                &counters.unknown
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let exported = &self.exporter.sent;
        match outcome {
            SendOutcome::Accepted => exported.accepted.inc(),
            SendOutcome::Refused => exported.refused.inc(),
            SendOutcome::Unknown => exported.unknown.inc(),
        }
        locked(&self.streams[stream].sent).note(number, outcome);
    }

    /// Sockets that were connected once, are not now, and have not gone for good.
    #[must_use]
    pub fn missing_sockets(&self) -> u64 {
        let counters = &self.collector.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let open = u64::try_from(counters.sockets.load(Ordering::Relaxed)).unwrap_or(0);
        (get(&counters.connected) + get(&counters.connects_failed)).saturating_sub(open + get(&counters.gone))
    }

    /// Notes that a receiver will not come, or not come back.
    pub fn note_gone(&self, receiver: usize) {
        let receiver = &self.receivers[receiver];
        receiver.gone.store(true, Ordering::Relaxed);
        self.streams[receiver.stream].receivers.fetch_sub(1, Ordering::Relaxed);
        self.collector.counters.gone.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a receiver received, now, a number of its stream that was due at `intended`.
    pub fn note_spread(&self, writer: usize, stream: usize, number: u32, intended: u64, now: u64) {
        let Some(spread) = &self.spread else { return };
        let mut open = locked(&spread.open);
        let entry = open.entry((stream, number)).or_insert(Receptions { first: now, last: now, count: 0 });
        entry.first = entry.first.min(now);
        entry.last = entry.last.max(now);
        entry.count += 1;
        if entry.count == self.streams[stream].receivers.load(Ordering::Relaxed) {
            let took = entry.last - entry.first;
            open.remove(&(stream, number));
            drop(open);
            self.collector.note_due(writer, intended, &[(Series::Spread, took)]);
        }
    }
}
