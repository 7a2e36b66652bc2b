//! Making and registering metrics: what the declarations in [`super`] are written with.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::PerLabel;
use super::labels::Label;

pub(super) fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> C {
    let collector = collector.expect("names and labels are fixed and valid");
    registry.register(Box::new(collector.clone())).expect("each name is declared once");
    collector
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help))
}

pub(super) fn counters<L: Label>(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
) -> PerLabel<L, IntCounter> {
    let vector = registered(registry, IntCounterVec::new(Opts::new(name, help), &[label]));
    per_label(|value: L| vector.with_label_values(&[value.as_str()]))
}

pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    edges: &[f64],
    label: &str,
) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(edges.to_vec());
    registered(registry, HistogramVec::new(options, &[label]))
}

pub(super) fn per_label<L: Label, M>(make: impl Fn(L) -> M) -> PerLabel<L, M> {
    PerLabel(L::ALL.iter().map(|label| (*label, make(*label))).collect())
}

pub(super) fn histogram(registry: &Registry, name: &str, help: &str, edges: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(edges.to_vec());
    registered(registry, Histogram::with_opts(options))
}
