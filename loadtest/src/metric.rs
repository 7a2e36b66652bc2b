//! Everything a gate can be about: the name, the unit, and what it means when a gate on it does not hold.

use crate::gate::Class;
use crate::report::number;
use crate::summary::SERIES;

/// What a value is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds.
    Duration,
    /// Bytes.
    Bytes,
    /// A part of a whole, 1.0 being all.
    Share,
    /// A plain number.
    Count,
}

/// A measured value by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    name: String,
    unit: Unit,
    class: Class,
}

/// What is measured of each distribution.
const STATISTICS: [&str; 6] = ["p50", "p90", "p99", "p999", "p9999", "max"];

/// Everything else that is measured: name, unit, class, explanation.
pub const METRICS: [(&str, Unit, Class, &str); 32] = [
    ("lost", Unit::Count, Class::Delivery, "accepted and not received, announced or not"),
    ("unannounced", Unit::Count, Class::Delivery, "accepted and not received, and no gap said so"),
    ("lost_by_healthy", Unit::Count, Class::Delivery, "slow: what sockets that read did not receive"),
    ("duplicates", Unit::Count, Class::Delivery, "received by a socket that had received it"),
    (
        "order_violations",
        Unit::Count,
        Class::Delivery,
        "received behind one that was sent later in the same stream",
    ),
    (
        "unexpected",
        Unit::Count,
        Class::Delivery,
        "received although refused, never sent, or meant for somebody else",
    ),
    ("ledger_imbalance", Unit::Count, Class::Delivery, "what the gateway's own books are out by, at the end"),
    (
        "slow_affected",
        Unit::Share,
        Class::Validity,
        "slow: the part of those that stopped reading that missed anything by it",
    ),
    ("offered", Unit::Count, Class::Validity, "notifications that were due"),
    ("samples", Unit::Count, Class::Validity, "push latencies that count"),
    ("generator_cpu", Unit::Share, Class::Validity, "share of the machine's cores this tool kept busy"),
    ("achieved", Unit::Share, Class::Latency, "accepted, of what was due"),
    ("refused", Unit::Count, Class::Latency, "sends that were refused for good"),
    ("unknown", Unit::Count, Class::Latency, "sends without an answer that tells"),
    ("failed_attempts", Unit::Count, Class::Latency, "POSTs that were not accepted, each repetition counted"),
    (
        "longest_outage",
        Unit::Duration,
        Class::Latency,
        "the longest time in which sends were under way and none was accepted",
    ),
    ("connects_failed", Unit::Count, Class::Latency, "sockets that could not be opened at the first attempt"),
    ("all_connected", Unit::Duration, Class::Latency, "first connect to last welcome"),
    (
        "all_back",
        Unit::Duration,
        Class::Latency,
        "all sockets cut, or the target told to stop, to the last one back",
    ),
    ("missing_sockets", Unit::Count, Class::Latency, "sockets that were not connected at the end"),
    ("unexpected_closes", Unit::Count, Class::Latency, "connections that ended and nobody here asked for it"),
    (
        "target_failures",
        Unit::Count,
        Class::Latency,
        "times the target did not stop, start or stay as it should",
    ),
    (
        "goodbyes_missed",
        Unit::Count,
        Class::Latency,
        "sockets that a stopping target did not tell when to come back",
    ),
    ("knee", Unit::Count, Class::Latency, "the highest rate, per second, at which the target kept up"),
    (
        "rss_per_socket",
        Unit::Bytes,
        Class::Latency,
        "what the target's resident memory grew by while sockets connected, for each",
    ),
    (
        "gateway_rss_growth",
        Unit::Bytes,
        Class::Latency,
        "the target's largest resident memory, less that before the first send",
    ),
    (
        "gateway_cpu_per_push",
        Unit::Duration,
        Class::Latency,
        "the target's processor time for each reception",
    ),
    (
        "log_append_p99",
        Unit::Duration,
        Class::Latency,
        "what 99 % of the gateway's appends to its log took at most",
    ),
    (
        "rss_slope",
        Unit::Bytes,
        Class::Latency,
        "what the target's resident memory grows by in an hour, by linear regression",
    ),
    (
        "p99_drift",
        Unit::Count,
        Class::Latency,
        "median of push p99 in the last third, as a multiple of that in the first third",
    ),
    (
        "generator_rss_per_socket",
        Unit::Bytes,
        Class::Validity,
        "what this tool's resident memory grew by for each socket",
    ),
    (
        "generator_cpu_per_push",
        Unit::Duration,
        Class::Validity,
        "this tool's processor time for each reception",
    ),
];

impl Metric {
    /// Finds a metric by its name.
    ///
    /// # Errors
    /// When there is none, with the names that begin alike.
    pub fn find(name: &str) -> Result<Self, String> {
        if let Some((_, unit, class, _)) = METRICS.into_iter().find(|(known, ..)| *known == name) {
            return Ok(Self { name: name.to_owned(), unit, class });
        }
        let (series, statistic) = name.rsplit_once('_').unwrap_or((name, ""));
        if SERIES.iter().any(|(known, _)| *known == series) && STATISTICS.contains(&statistic) {
            let own = matches!(series, "lateness" | "dispatch" | "wakeup");
            let class = if own { Class::Validity } else { Class::Latency };
            return Ok(Self { name: name.to_owned(), unit: Unit::Duration, class });
        }
        let begin: String = name.chars().take(3).collect();
        let alike: Vec<String> = Self::names().filter(|known| known.starts_with(&begin)).collect();
        let hint = if alike.is_empty() { "`loadtest list` names them".to_owned() } else { alike.join(", ") };
        Err(format!("nothing is measured under the name {name:?}: {hint}"))
    }

    /// The names of everything that is measured.
    pub fn names() -> impl Iterator<Item = String> {
        let of = |series: &str| STATISTICS.map(|statistic| format!("{series}_{statistic}"));
        let series = SERIES.iter().flat_map(move |(series, _)| of(series));
        METRICS.iter().map(|(name, ..)| (*name).to_owned()).chain(series)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is read from the target's process, which may be out of reach. Not so what a scenario is all about.
    #[must_use]
    pub fn needs_the_targets_numbers(&self) -> bool {
        matches!(
            &*self.name,
            "gateway_rss_growth" | "gateway_cpu_per_push" | "rss_per_socket" | "ledger_imbalance"
        )
    }

    /// What it is measured in.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// What a failed gate on it means.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }
}

impl Unit {
    /// How it may be written, with the factor to its own scale.
    #[must_use]
    pub fn names(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Duration => &[("us", 1.0), ("ms", 1e3), ("s", 1e6)],
            Self::Bytes => &[("B", 1.0), ("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0)],
            Self::Share => &[("", 1.0), ("%", 0.01)],
            Self::Count => &[("", 1.0)],
        }
    }

    /// A value in words.
    #[must_use]
    pub fn write(self, value: f64) -> String {
        match self {
            Self::Duration => number::fractional_micros(value),
            Self::Bytes => number::bytes(value),
            Self::Share => format!("{} %", number::decimal(value * 100.0, 2)),
            Self::Count => number::plain(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_again() {
        let names: Vec<String> = Metric::names().collect();
        assert_eq!(names.len(), METRICS.len() + SERIES.len() * STATISTICS.len());
        for name in names {
            assert_eq!(Metric::find(&name).unwrap().name(), name);
        }
    }

    #[test]
    fn what_this_tool_is_late_says_nothing_of_the_target() {
        assert_eq!(Metric::find("lateness_p99").unwrap().class(), Class::Validity);
        assert_eq!(Metric::find("push_p99").unwrap().class(), Class::Latency);
        assert_eq!(Metric::find("lost").unwrap().class(), Class::Delivery);
    }
}
