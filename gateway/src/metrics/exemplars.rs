//! A histogram that remembers, for each bucket, a trace whose value fell into it.
//!
//! Exemplars are written for sampled notifications only, and never waited for: one that would have to is left out.

use std::sync::{Arc, Mutex};

use prometheus::Histogram;

use crate::domain::TraceContext;

/// A histogram and its exemplars; cheap to clone.
#[derive(Clone)]
pub struct TracedHistogram {
    histogram: Histogram,
    edges: &'static [f64],
    /// One for each edge, and one for what lies beyond.
    latest: Arc<[Mutex<Option<Exemplar>>]>,
}

/// A value and the trace it belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exemplar {
    pub(super) trace: TraceContext,
    pub(super) value: f64,
    /// In microseconds since the Unix epoch.
    pub(super) at_us: u64,
}

impl TracedHistogram {
    pub(super) fn new(histogram: Histogram, edges: &'static [f64]) -> Self {
        let latest = (0..=edges.len()).map(|_| Mutex::new(None)).collect();
        Self { histogram, edges, latest }
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.get_sample_count()
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        self.histogram.observe(value);
    }

    /// Counts a value of a sampled trace, seen at `at_us` (microseconds since the Unix epoch).
    pub fn observe_traced(&self, value: f64, trace: TraceContext, at_us: u64) {
        self.histogram.observe(value);
        let bucket = self.edges.partition_point(|edge| *edge < value);
        if let Ok(mut latest) = self.latest[bucket].try_lock() {
            *latest = Some(Exemplar { trace, value, at_us });
        }
    }

    /// The newest exemplar of a bucket; they are numbered from the lowest edge.
    pub(super) fn exemplar(&self, bucket: usize) -> Option<Exemplar> {
        *self.latest.get(bucket)?.lock().expect("no code panics while it holds an exemplar")
    }
}
