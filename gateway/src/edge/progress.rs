//! How far a session's notifications have come, for the latencies and the spans: composed, written, acked.

use super::unacked::{Unacked, Written};
use crate::delivery::{Delivery, Frame};
use crate::domain::TraceContext;
use crate::metrics::{Metrics, Stage, TracedHistogram};
use crate::telemetry::{Attempt, SpanRecord};

/// What is on its way to the client, and what the client has not acked.
#[derive(Default)]
pub struct Progress {
    /// Put together, not written yet.
    composed: Vec<Composed>,
    unacked: Unacked,
}

/// A notification on its way to the connection.
struct Composed {
    /// Its place in the log, if its ack is waited for here.
    number: Option<u64>,
    accepted_at_us: u64,
    /// It came while the session was attached.
    live: bool,
    trace: Option<Box<(SpanRecord, TraceContext)>>,
}

impl Progress {
    /// A frame is on its way. With `acks` its ack will be told here, too.
    pub fn composed(&mut self, frame: &Frame, attempt: Attempt, acks: bool, delivery: &Delivery) {
        // Nearly always there is none, and no clock is read.
        let trace = frame.trace.as_deref().and_then(|published| {
            let record = delivery.tracing().deliver(published, attempt, delivery.clock().now_us())?;
            Some(Box::new((record, published.context)))
        });
        self.composed.push(Composed {
            number: attempt.position.filter(|_| acks).map(|position| position.number),
            accepted_at_us: frame.accepted_at_us,
            live: attempt.live,
            trace,
        });
    }

    /// Everything composed was handed on; returns how many that were.
    pub fn written(&mut self, metrics: &Metrics, delivery: &Delivery) -> usize {
        if self.composed.is_empty() {
            return 0;
        }
        let now_us = delivery.clock().now_us();
        let written = metrics.push_latency.of(Stage::Written);
        let composed = std::mem::take(&mut self.composed);
        let count = composed.len();
        for Composed { number, accepted_at_us, live, trace } in composed {
            let context = trace.as_ref().map(|trace| trace.1);
            if live {
                observe(written, accepted_at_us, context, now_us);
            } else {
                metrics.stored_delivery_age.observe(seconds_between(accepted_at_us, now_us));
            }
            let delivered = trace.and_then(|trace| Some((trace.0.written(now_us)?, trace.1)));
            if let Some(number) = number
                && (live || delivered.is_some())
            {
                let accepted_at_us = live.then_some(accepted_at_us);
                self.unacked.push(Written { number, accepted_at_us, trace: delivered.map(Box::new) });
            }
        }
        count
    }

    /// The client has everything up to `number`; `client` is its own span.
    pub fn acked(
        &mut self,
        number: u64,
        client: Option<TraceContext>,
        metrics: &Metrics,
        delivery: &Delivery,
    ) {
        let now_us = delivery.clock().now_us();
        let acked = metrics.push_latency.of(Stage::Acked);
        while let Some(written) = self.unacked.pop(number) {
            if let Some(accepted_at_us) = written.accepted_at_us {
                observe(acked, accepted_at_us, written.trace.as_ref().map(|trace| trace.1), now_us);
            }
            if let Some(trace) = written.trace {
                // One ack may settle several; the client's span is that of the last one, or of one in its trace.
                let last = written.number == number;
                let client = client.filter(|client| last || client.trace_id == trace.1.trace_id);
                delivery.tracing().acked(trace.0, client, now_us);
            }
        }
    }
}

fn observe(histogram: &TracedHistogram, accepted_at_us: u64, trace: Option<TraceContext>, now_us: u64) {
    let seconds = seconds_between(accepted_at_us, now_us);
    match trace {
        Some(trace) => histogram.observe_traced(seconds, trace, now_us),
        None => histogram.observe(seconds),
    }
}

fn seconds_between(earlier_us: u64, later_us: u64) -> f64 {
    later_us.saturating_sub(earlier_us) as f64 / 1e6
}
