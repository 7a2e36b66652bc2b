//! Criteria: what is measured, how it must compare, and which kind of failure it is if it does not.
//!
//! A gate is written `metric<value`, with a unit where the metric has one: `push_p99<50ms`, `lost=0`, `achieved>=99%`,
//! `rss_per_socket<8KiB`; or as a multiple of an earlier run's: `push_p99<=1.5x`. Every scenario has gates of its own; one given by flag takes the place of those on the same metric.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::metric::{Metric, Unit};

/// What it means when a criterion does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The target is too slow or too dear.
    Latency,
    /// The run says nothing about the target.
    Validity,
    /// The target lost, doubled, swapped or misdirected something.
    Delivery,
}

/// A criterion and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// The criterion as it is written: `push_p99<50ms`.
    pub text: String,
    /// What was measured, with its unit; `not measured` when it was not.
    pub measured: String,
    /// Whether it holds.
    pub passed: bool,
    /// What it means when it does not hold.
    pub class: Class,
    /// Whether it comes from the scenario and not from a flag.
    pub default: bool,
}

/// What was measured, by the metric's name.
pub type Values = BTreeMap<String, f64>;

/// A criterion.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    metric: Metric,
    comparison: Comparison,
    bound: Bound,
    text: String,
}

/// What a measured value is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    /// A value in the metric's own unit: microseconds, bytes, a share, a plain number.
    Value(f64),
    /// So many times what the baseline measured.
    TimesBaseline(f64),
}

/// How a measured value must stand to the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

impl Gate {
    /// Judges by the values that a run measured, and by those of the baseline if there is one. What was not measured does not hold, unless it is the scenario's own gate
    /// and only the target could tell.
    #[must_use]
    pub fn judge(&self, values: &Values, baseline: Option<&Values>, default: bool) -> GateResult {
        let value = values.get(self.metric.name()).copied();
        let bound = match self.bound {
            Bound::Value(bound) => bound,
            // Nothing compares with what is not a number: then the gate does not hold.
            Bound::TimesBaseline(factor) => baseline
                .and_then(|values| values.get(self.metric.name()))
                .map_or(f64::NAN, |then| then * factor),
        };
        let measured =
            value.map_or_else(|| "not measured".to_owned(), |value| self.metric.unit().write(value));
        let passed =
            value.map_or(default && self.metric.needs_the_targets_numbers(), |value| match self.comparison {
                Comparison::Less => value < bound,
                Comparison::AtMost => value <= bound,
                // Counts are whole numbers far below 2^52.
                Comparison::Equal => (value - bound).abs() < f64::EPSILON,
                Comparison::AtLeast => value >= bound,
                Comparison::More => value > bound,
            });
        GateResult { text: self.text.clone(), measured, passed, class: self.metric.class(), default }
    }

    /// The metric it is about.
    #[must_use]
    pub fn metric(&self) -> &Metric {
        &self.metric
    }

    /// Whether it compares with a baseline.
    #[must_use]
    pub fn needs_a_baseline(&self) -> bool {
        matches!(self.bound, Bound::TimesBaseline(_))
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SIGNS: [(&str, Comparison); 6] = [
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("==", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::More),
            ("=", Comparison::Equal),
        ];
        let compact: String = text.chars().filter(|character| !character.is_whitespace()).collect();
        let at = compact
            .find(['<', '>', '='])
            .ok_or_else(|| format!("{text:?} compares nothing: metric<value"))?;
        let (name, rest) = compact.split_at(at);
        let (sign, comparison) = SIGNS
            .into_iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .expect("it begins with one of the three");
        let metric = Metric::find(name)?;
        let value = &rest[sign.len()..];
        let bound = match value.strip_suffix('x').map(str::parse) {
            Some(Ok(factor)) => Bound::TimesBaseline(factor),
            Some(Err(_)) => return Err(format!("{text:?}: {value:?} is no multiple of the baseline")),
            None => Bound::Value(metric.unit().read(value).map_err(|why| format!("{text:?}: {why}"))?),
        };
        Ok(Self { metric, comparison, bound, text: compact })
    }
}

/// The gates that hold for a run: the scenario's, less those whose metric a flag names, and those given by flag.
#[must_use]
pub fn effective(scenario: &[Gate], flags: &[Gate]) -> Vec<(Gate, bool)> {
    let named = |gate: &Gate| flags.iter().any(|flag| flag.metric == gate.metric);
    let defaults = scenario.iter().filter(|gate| !named(gate)).map(|gate| (gate.clone(), true));
    defaults.chain(flags.iter().map(|gate| (gate.clone(), false))).collect()
}

impl Unit {
    /// Reads a number with this unit.
    fn read(self, text: &str) -> Result<f64, String> {
        let digits = text
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().map_err(|_| format!("{text:?} is no number"))?;
        let known = self.names();
        match known.iter().find(|(name, _)| *name == unit) {
            Some((_, factor)) => Ok(number * factor),
            None => {
                let names: Vec<&str> =
                    known.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
                let names = if names.is_empty() { "no unit".to_owned() } else { names.join(", ") };
                Err(format!("{unit:?} is no unit here: {names}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(gate: &str, value: f64) -> GateResult {
        let gate: Gate = gate.parse().unwrap();
        let values = BTreeMap::from([(gate.metric().name().to_owned(), value)]);
        gate.judge(&values, None, true)
    }

    #[test]
    fn a_gate_compares_in_its_unit() {
        for (gate, value, passed) in [
            ("push_p99<50ms", 49_999.0, true),
            ("push_p99<50ms", 50_000.0, false),
            ("push_max <= 2s", 2_000_000.0, true),
            ("push_p50<=250us", 251.0, false),
            ("lost=0", 0.0, true),
            ("lost==0", 1.0, false),
            ("achieved>=99%", 0.99, true),
            ("achieved>=0.99", 0.98, false),
            ("rss_per_socket<8KiB", 8_191.0, true),
            ("knee>500", 500.0, false),
        ] {
            assert_eq!(judged(gate, value).passed, passed, "{gate} with {value}");
        }
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let gate: Gate = "rss_per_socket<1GiB".parse().unwrap();
        let result = gate.judge(&Values::new(), None, false);
        assert!(!result.passed);
        assert_eq!(result.measured, "not measured");
        let gate: Gate = "push_p99<1s".parse().unwrap();
        assert!(!gate.judge(&Values::new(), None, true).passed);
    }

    #[test]
    fn what_only_the_target_could_tell_is_not_held_against_it_unless_asked_for() {
        let gate: Gate = "gateway_rss_growth<1GiB".parse().unwrap();
        assert!(gate.judge(&Values::new(), None, true).passed);
        assert!(!gate.judge(&Values::new(), None, false).passed);
    }

    #[test]
    fn a_multiple_is_of_what_the_baseline_measured() {
        let gate: Gate = "push_p99<=1.5x".parse().unwrap();
        assert!(gate.needs_a_baseline());
        let values = |value: f64| Values::from([("push_p99".to_owned(), value)]);
        assert!(gate.judge(&values(1_500.0), Some(&values(1_000.0)), false).passed);
        assert!(!gate.judge(&values(1_501.0), Some(&values(1_000.0)), false).passed);
        assert!(!gate.judge(&values(1.0), Some(&Values::new()), false).passed);
        assert!(!gate.judge(&values(1.0), None, false).passed);
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (text, word) in [
            ("push_p99", "compares nothing"),
            ("push_p98<5ms", "push_p99"),
            ("push_p99<5", "us, ms, s"),
            ("lost<5ms", "no unit"),
            ("lost<", "no number"),
            ("lost<y", "no number"),
            ("lost<x", "no multiple"),
        ] {
            let why = text.parse::<Gate>().unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    #[test]
    fn a_flag_takes_the_place_of_the_scenarios_gate() {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Gate>>();
        let gates = effective(&parse(&["push_p99<50ms", "lost=0"]), &parse(&["push_p99<60s"]));
        let texts: Vec<(String, bool)> =
            gates.iter().map(|(gate, default)| (gate.to_string(), *default)).collect();
        assert_eq!(texts, [("lost=0".to_owned(), true), ("push_p99<60s".to_owned(), false)]);
    }
}
