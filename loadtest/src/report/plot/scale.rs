//! Where a value lies on an axis, and which values an axis names.

use crate::report::number;

/// Microseconds below which a logarithmic axis does not tell values apart.
const LOG_FLOOR: f64 = 1.0;

/// What an axis counts; decides its ticks and how its values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Microseconds, logarithmic.
    Latency,
    /// Things.
    Count,
    /// Things a second.
    Rate,
    /// Bytes.
    Bytes,
    /// Cores.
    Cores,
}

impl Unit {
    /// A value as the tables write it.
    pub(crate) fn write(self, value: f64) -> String {
        match self {
            Self::Latency => number::fractional_micros(value),
            Self::Count => number::count(value.max(0.0).round() as u64),
            Self::Rate => number::rate(value),
            Self::Bytes => number::bytes(value),
            Self::Cores => number::decimal(value, 2),
        }
    }

    /// The scale that holds these values.
    pub(crate) fn scale(self, values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        match self {
            Self::Latency => Scale::logarithmic(low, high),
            _ => Scale::linear(self, high),
        }
    }
}

/// A named place on an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    /// Where.
    pub(crate) value: f64,
    /// Its name; empty for a line without one.
    pub(crate) label: String,
}

/// An axis: from which value to which, and its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    /// In ascending order.
    pub(crate) ticks: Vec<Tick>,
}

impl Scale {
    /// From the nearest round number below to the nearest above: 1, 2 or 5 times a power of ten.
    fn logarithmic(low: f64, high: f64) -> Self {
        let low = low.clamp(LOG_FLOOR, 1e12);
        let high = high.clamp(low, 1e12);
        let mut bounds: Vec<f64> =
            (0..=13).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power))).collect();
        let first = bounds.iter().rposition(|bound| *bound <= low).unwrap_or(0);
        // A flat line lies between two ticks and not on the frame.
        let last = bounds.iter().position(|bound| *bound >= high).unwrap_or(bounds.len() - 1).max(first + 1);
        bounds.truncate(last + 1);
        bounds.drain(..first);
        let few = bounds.len() <= 8;
        let (low, high) = (bounds[0], bounds[bounds.len() - 1]);
        let name = |value: f64| {
            let digit = (value / 10_f64.powf(value.log10().floor())).round();
            // The ends are named too, unless a power of ten is so near that both names would meet.
            let end = value == low && digit == 2.0 || value == high && digit == 5.0;
            if few || end || (digit - 1.0).abs() < 0.5 {
                number::fractional_micros(value)
            } else {
                String::new()
            }
        };
        let ticks: Vec<Tick> = bounds.iter().map(|&value| Tick { value, label: name(value) }).collect();
        Self { low, high, logarithmic: true, ticks }
    }

    /// From zero to a round number above.
    fn linear(unit: Unit, high: f64) -> Self {
        let high = if high.is_finite() && high > 0.0 { high } else { 1.0 };
        // Bytes are round in their own unit: 64 MiB, not 67,108,864.
        let (name, divisor) = if unit == Unit::Bytes { number::byte_unit(high) } else { ("", 1.0) };
        let mut step = round_step(high / divisor / 4.0);
        if unit == Unit::Count {
            step = step.max(1.0);
        }
        let steps = (high * 1.02 / divisor / step).ceil().max(1.0);
        let decimals = if step < 0.1 { 2 } else { usize::from(step.fract() > 1e-9) };
        let ticks = (0..=steps as u32).map(|at| {
            let value = f64::from(at) * step;
            let text = number::decimal(value, decimals);
            let label = match unit {
                Unit::Rate => format!("{text}/s"),
                Unit::Bytes => format!("{text} {name}"),
                _ => text,
            };
            Tick { value: value * divisor, label }
        });
        Self { low: 0.0, high: steps * step * divisor, logarithmic: false, ticks: ticks.collect() }
    }

    /// Any linear scale with the ticks that somebody else chose.
    pub(crate) fn with_ticks(low: f64, high: f64, ticks: Vec<Tick>) -> Self {
        Self { low, high: if high > low { high } else { low + 1.0 }, logarithmic: false, ticks }
    }

    /// How far along the axis a value lies, 0 to 1; values outside lie on its ends.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let (low, high, value) = if self.logarithmic {
            (self.low.ln(), self.high.ln(), value.max(LOG_FLOOR).ln())
        } else {
            (self.low, self.high, value)
        };
        ((value - low) / (high - low)).clamp(0.0, 1.0)
    }
}

/// Seconds since the start, in the unit that keeps the ticks short: the scale and what its numbers are.
pub(crate) fn time(from: f64, to: f64) -> (Scale, &'static str) {
    let span = (to - from).max(1e-3);
    let (divisor, name) = match span {
        short if short <= 240.0 => (1.0, "seconds since the start"),
        middle if middle <= 4.0 * 3600.0 => (60.0, "minutes since the start"),
        _ => (3600.0, "hours since the start"),
    };
    let step = if divisor > 1.0 { clock_step(span / divisor / 8.0) } else { round_step(span / 8.0) };
    let decimals = decimals_of(step);
    let first = (from / divisor / step - 1e-9).ceil() as i64;
    let last = (to / divisor / step + 1e-9).floor() as i64;
    let ticks = (first..=last).map(|at| {
        let value = at as f64 * step;
        Tick { value: value * divisor, label: number::decimal(value, decimals) }
    });
    (Scale::with_ticks(from, from + span, ticks.collect()), name)
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least so much.
fn round_step(wanted: f64) -> f64 {
    let power = 10_f64.powf(wanted.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= wanted)
        .unwrap_or(10.0 * power)
}

/// As [`round_step`], for minutes and hours.
fn clock_step(wanted: f64) -> f64 {
    let steps = [0.5, 1.0, 2.0, 3.0, 5.0, 6.0, 10.0, 12.0, 15.0, 24.0, 30.0];
    steps.into_iter().find(|step| *step >= wanted).unwrap_or_else(|| round_step(wanted))
}

fn decimals_of(step: f64) -> usize {
    match step {
        fine if fine < 0.0999 => 2,
        tenths if tenths.fract() > 1e-9 => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.ticks.iter().map(|tick| tick.label.as_str()).filter(|label| !label.is_empty()).collect()
    }

    #[test]
    fn a_wide_latency_axis_names_powers_of_ten_and_its_ends() {
        let scale = Unit::Latency.scale([113.0, 2_000_000.0].into_iter());
        assert_eq!(labels(&scale), ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        let scale_to_the_middle = Unit::Latency.scale([230.0, 3_000_000.0].into_iter());
        assert_eq!(labels(&scale_to_the_middle), ["200 µs", "1 ms", "10 ms", "100 ms", "1 s", "5 s"]);
        assert_eq!((scale.share(100.0), scale.share(2_000_000.0)), (0.0, 1.0));
    }

    #[test]
    fn a_narrow_latency_axis_names_every_tick_and_has_two_at_least() {
        assert_eq!(labels(&Unit::Latency.scale([230.0, 810.0].into_iter())), ["200 µs", "500 µs", "1 ms"]);
        assert_eq!(labels(&Unit::Latency.scale([200.0].into_iter())), ["200 µs", "500 µs"]);
        assert_eq!(labels(&Unit::Latency.scale([0.0].into_iter())), ["1 µs", "2 µs"]);
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_ends_above_the_largest() {
        assert_eq!(
            labels(&Unit::Rate.scale([1_990.0].into_iter())),
            ["0/s", "500/s", "1,000/s", "1,500/s", "2,000/s", "2,500/s"]
        );
        assert_eq!(labels(&Unit::Count.scale([2.0].into_iter())), ["0", "1", "2", "3"]);
        assert_eq!(labels(&Unit::Cores.scale([0.31].into_iter())), ["0.0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(
            labels(&Unit::Bytes.scale([150e6].into_iter())),
            ["0 MiB", "50 MiB", "100 MiB", "150 MiB"]
        );
        assert_eq!(labels(&Unit::Count.scale([].into_iter())), ["0", "1", "2"]);
    }

    #[test]
    fn time_is_counted_in_what_keeps_the_ticks_short() {
        let (scale, name) = time(0.0, 30.0);
        assert_eq!((labels(&scale).len(), name), (7, "seconds since the start"));
        let (scale, name) = time(0.0, 300.0);
        assert_eq!((labels(&scale), name), (vec!["0", "1", "2", "3", "4", "5"], "minutes since the start"));
        let (scale, name) = time(0.0, 86_400.0);
        assert_eq!(
            (labels(&scale), name),
            (vec!["0", "3", "6", "9", "12", "15", "18", "21", "24"], "hours since the start")
        );
        let (scale, _) = time(0.0, 0.0);
        assert!(!scale.ticks.is_empty());
    }

    #[test]
    fn a_value_outside_lies_on_the_frame() {
        let scale = Scale::with_ticks(0.0, 10.0, Vec::new());
        assert_eq!((scale.share(-1.0), scale.share(5.0), scale.share(11.0)), (0.0, 0.5, 1.0));
    }
}
