//! The exposition format of OpenMetrics 1.0, which can carry exemplars; the `prometheus` crate writes the older one only.

use std::fmt::Write;

use prometheus::proto::{Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars::Exemplar;

/// What a scraper is told that it gets.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes all families. `exemplar` knows those of a metric's buckets, by its name, its labels and the bucket's index.
pub(super) fn encode(
    families: &[MetricFamily],
    exemplar: impl Fn(&str, &[LabelPair], usize) -> Option<Exemplar>,
) -> String {
    let mut out = String::with_capacity(64 * 1024);
    for family in families {
        let name = family.name();
        let kind = family.get_field_type();
        // A counter's samples end in `_total`, its family does not.
        let (title, kind_name) = match kind {
            MetricType::COUNTER => (name.strip_suffix("_total").unwrap_or(name), "counter"),
            MetricType::GAUGE => (name, "gauge"),
            MetricType::HISTOGRAM => (name, "histogram"),
            MetricType::SUMMARY | MetricType::UNTYPED => (name, "unknown"),
        };
        line(&mut out, format_args!("# TYPE {title} {kind_name}"));
        line(&mut out, format_args!("# HELP {title} {}", Escaped(family.help())));
        for metric in family.get_metric() {
            match kind {
                MetricType::COUNTER => {
                    sample(&mut out, &format!("{title}_total"), metric, metric.get_counter().get_value());
                }
                MetricType::GAUGE => sample(&mut out, name, metric, metric.get_gauge().get_value()),
                MetricType::HISTOGRAM => histogram(&mut out, name, metric, &exemplar),
                // None of ours are.
                MetricType::SUMMARY | MetricType::UNTYPED => {}
            }
        }
    }
    out.push_str("# EOF\n");
    out
}

fn histogram(
    out: &mut String,
    name: &str,
    metric: &Metric,
    exemplar: &impl Fn(&str, &[LabelPair], usize) -> Option<Exemplar>,
) {
    let labels = metric.get_label();
    let histogram: &Histogram = metric.get_histogram();
    let edges = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let all = histogram.get_sample_count();
    let finite = edges.filter(|(edge, _)| edge.is_finite());
    for (index, (edge, count)) in finite.chain([(f64::INFINITY, all)]).enumerate() {
        let edge = Number(edge).to_string();
        let labelled = Labels { labels, edge: Some(&edge) };
        let seen = exemplar(name, labels, index);
        line(out, format_args!("{name}_bucket{labelled} {count}{}", Attached(seen)));
    }
    let labelled = Labels { labels, edge: None };
    line(out, format_args!("{name}_count{labelled} {all}"));
    line(out, format_args!("{name}_sum{labelled} {}", Number(histogram.get_sample_sum())));
}

fn sample(out: &mut String, name: &str, metric: &Metric, value: f64) {
    line(out, format_args!("{name}{} {}", Labels { labels: metric.get_label(), edge: None }, Number(value)));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a string takes every character");
}

/// Text within quotes or a help line.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => formatter.write_str("\\\\")?,
                '"' => formatter.write_str("\\\"")?,
                '\n' => formatter.write_str("\\n")?,
                other => formatter.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A set of labels, with a bucket's edge if it is one.
struct Labels<'a> {
    labels: &'a [LabelPair],
    edge: Option<&'a str>,
}

impl std::fmt::Display for Labels<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let edge = self.edge.map(|edge| ("le", edge));
        let pairs = self.labels.iter().map(|label| (label.name(), label.value())).chain(edge);
        let mut separator = '{';
        for (name, value) in pairs {
            write!(formatter, "{separator}{name}=\"{}\"", Escaped(value))?;
            separator = ',';
        }
        if separator == ',' { formatter.write_char('}') } else { Ok(()) }
    }
}

/// A number as everybody writes it: a whole one has `.0`, so that an edge reads the same in both formats' successors.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value == f64::INFINITY => formatter.write_str("+Inf"),
            value if value == f64::NEG_INFINITY => formatter.write_str("-Inf"),
            value if value.is_nan() => formatter.write_str("NaN"),
            value => write!(formatter, "{value:?}"),
        }
    }
}

/// An exemplar behind a sample.
struct Attached(Option<Exemplar>);

impl std::fmt::Display for Attached {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(Exemplar { trace, value, at_us }) = self.0 else { return Ok(()) };
        let (trace_id, span_id) = (trace.trace_id_hex(), trace.span_id_hex());
        let (seconds, microseconds) = (at_us / 1_000_000, at_us % 1_000_000);
        write!(
            formatter,
            " # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} {} {seconds}.{microseconds:06}",
            Number(value)
        )
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntGauge, Opts, Registry};

    use super::*;
    use crate::domain::TraceContext;

    #[test]
    fn the_format_is_that_of_the_specification() {
        let registry = Registry::new();
        let counter = IntCounter::new("sends_total", "Sends, \"all\" of\nthem.").unwrap();
        let labelled =
            IntGauge::with_opts(Opts::new("depth", "Depth.").const_label("name", "a\"b\\c")).unwrap();
        let options = HistogramOpts::new("wait_seconds", "Wait.").buckets(vec![0.25, 1.0]);
        let histogram = HistogramVec::new(options, &["stage"]).unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        registry.register(Box::new(labelled)).unwrap();
        registry.register(Box::new(histogram.clone())).unwrap();
        counter.inc_by(7);
        histogram.with_label_values(&["written"]).observe(0.5);
        let trace = TraceContext { trace_id: [0xab; 16], span_id: [1; 8] };
        let exemplar = Exemplar { trace, value: 0.5, at_us: 1_700_000_000_000_042 };
        let text = encode(&registry.gather(), |name, labels, bucket| {
            (name == "wait_seconds" && labels[0].value() == "written" && bucket == 1).then_some(exemplar)
        });
        let expected = concat!(
            "# TYPE depth gauge\n",
            "# HELP depth Depth.\n",
            "depth{name=\"a\\\"b\\\\c\"} 0.0\n",
            "# TYPE sends counter\n",
            "# HELP sends Sends, \\\"all\\\" of\\nthem.\n",
            "sends_total 7.0\n",
            "# TYPE wait_seconds histogram\n",
            "# HELP wait_seconds Wait.\n",
            "wait_seconds_bucket{stage=\"written\",le=\"0.25\"} 0\n",
            "wait_seconds_bucket{stage=\"written\",le=\"1.0\"} 1 # {trace_id=\"abababababababababababababababab\",",
            "span_id=\"0101010101010101\"} 0.5 1700000000.000042\n",
            "wait_seconds_bucket{stage=\"written\",le=\"+Inf\"} 1\n",
            "wait_seconds_count{stage=\"written\"} 1\n",
            "wait_seconds_sum{stage=\"written\"} 0.5\n",
            "# EOF\n",
        );
        assert_eq!(text, expected);
    }
}
