//! Which requests are recorded.

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample};

use crate::domain::TraceParent;

/// Decides once, when a request comes. Everything that it causes follows: there is no span of what is not recorded, so the
/// SDK itself is told to record every one.
#[derive(Debug)]
pub(super) struct Decision {
    root: Sampler,
    trust_remote: bool,
    random: RandomIdGenerator,
}

impl Decision {
    /// A sender's decision counts only if it is trusted; otherwise `root` is asked.
    pub(super) fn new(root: Sampler, trust_remote: bool) -> Self {
        Self { root, trust_remote, random: RandomIdGenerator::default() }
    }

    /// Whether a request is recorded whose `traceparent` says `parent`.
    ///
    /// A ratio is asked with an id of ours: it decides by the id alone, and whoever may choose that could choose one that is
    /// always recorded.
    pub(super) fn records(&self, parent: Option<TraceParent>) -> bool {
        match parent {
            Some(parent) if self.trust_remote => parent.sampled,
            _ => self.root_records(self.random.new_trace_id()),
        }
    }

    fn root_records(&self, id: TraceId) -> bool {
        let none: &[KeyValue] = &[];
        let result = self.root.should_sample(None, id, "", &SpanKind::Server, none, &[]);
        result.decision == SamplingDecision::RecordAndSample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TraceContext;

    fn parent(sampled: bool) -> Option<TraceParent> {
        // The smallest trace id there is: a ratio that looked at it would record it.
        let context =
            TraceContext { trace_id: [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1], span_id: [1; 8] };
        Some(TraceParent { context, sampled })
    }

    #[test]
    fn a_stranger_s_decision_counts_only_if_it_is_trusted() {
        for (root, own) in [(Sampler::AlwaysOff, false), (Sampler::AlwaysOn, true)] {
            let wary = Decision::new(root.clone(), false);
            let trusting = Decision::new(root, true);
            for sampled in [false, true] {
                assert_eq!(wary.records(parent(sampled)), own);
                assert_eq!(trusting.records(parent(sampled)), sampled);
            }
            assert_eq!((wary.records(None), trusting.records(None)), (own, own));
        }
    }

    #[test]
    fn nobody_can_choose_an_id_that_is_always_recorded() {
        let wary = Decision::new(Sampler::TraceIdRatioBased(0.001), false);
        let recorded = (0..1_000).filter(|_| wary.records(parent(true))).count();
        assert!(recorded < 20, "{recorded} of 1,000 at a thousandth");
        let half = Decision::new(Sampler::TraceIdRatioBased(0.5), false);
        let recorded = (0..1_000).filter(|_| half.records(None)).count();
        assert!((300..700).contains(&recorded), "{recorded} of 1,000 at a half");
    }
}
