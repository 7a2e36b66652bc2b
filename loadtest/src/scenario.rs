//! The scenarios: the question each answers, what it does if nothing else is asked for, and what has to hold.
//!
//! What a scenario does to the target and the sockets while notifications are offered is its script, in [`script`].

pub mod script;

use std::time::Duration;

use crate::gate::Gate;
use crate::target::Abilities;

/// What has to hold in every scenario: nothing lost, doubled, swapped or misdirected, and a run that can be believed.
const ALWAYS: [&str; 13] = [
    "lost=0",
    "duplicates=0",
    "order_violations=0",
    "unexpected=0",
    "refused=0",
    "unknown=0",
    "connects_failed=0",
    "missing_sockets=0",
    "target_failures=0",
    "samples>=100",
    "lateness_p99<10ms",
    "dispatch_p99<50ms",
    "wakeup_p99<50ms",
];

/// The names of the scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A constant rate.
    Steady,
    /// A growing rate.
    Ramp,
    /// One send, many receivers.
    Fanout,
    /// Everybody connects at once, twice.
    Storm,
    /// Some stop reading.
    Slow,
    /// Connections are cut.
    Resume,
    /// The target is restarted.
    Drain,
    /// Parts of a cluster die.
    Failover,
    /// A constant rate for hours.
    Soak,
}

/// A scenario.
#[derive(Debug, PartialEq)]
pub struct Scenario {
    /// Which one.
    pub kind: Kind,
    /// Its name on the command line.
    pub name: &'static str,
    /// The question it answers.
    pub question: &'static str,
    /// What it does.
    pub does: &'static str,
    /// How to read its result.
    pub read: &'static str,
    /// Sockets, if not asked otherwise.
    pub sockets: usize,
    /// Notifications a second.
    pub rate: f64,
    /// Seconds of offering.
    pub seconds: u64,
    /// Seconds of that which do not count for a latency.
    pub warm_up_seconds: u64,
    /// Its own criteria, beside those that always hold.
    gates: &'static [&'static str],
    /// What of those that always hold it does not ask for, by metric.
    without: &'static [&'static str],
}

/// All of them, in the order in which one would run them.
pub const SCENARIOS: [Scenario; 9] = [
    Scenario {
        kind: Kind::Steady,
        name: "steady",
        question: "Does a notification arrive at once under the load of an ordinary day?",
        does: "opens the sockets and sends to each of them in turn at a constant rate",
        read: "push p99 is what the unluckiest of a hundred receivers feels; it counts from the time a send was due",
        sockets: 1_000,
        rate: 1_000.0,
        seconds: 30,
        warm_up_seconds: 3,
        gates: &["achieved>=99.9%", "unexpected_closes=0", "push_p99<50ms"],
        without: &[],
    },
    Scenario {
        kind: Kind::Ramp,
        name: "ramp",
        question: "How many notifications a second are too many?",
        does: "raises the rate by 1.4 every few seconds until the target has not kept up twice in turn",
        read: "the knee is the last rate of which 99 % were accepted in time with push p99 below --knee-p99; run at half of it",
        sockets: 1_000,
        rate: 500.0,
        seconds: 0,
        warm_up_seconds: 0,
        gates: &[
            "knee>=500",
            "unexpected_closes=0",
            "dispatch_p99<10s",
            "lateness_p99<10s",
            "wakeup_p99<10s",
        ],
        without: &["refused", "unknown"],
    },
    Scenario {
        kind: Kind::Fanout,
        name: "fanout",
        question: "How long does one notification take to reach everybody?",
        does: "subscribes all sockets' users to one topic and sends to it (--by-list: names all of them in each send)",
        read: "spread is the time between the first and the last receiver of the same notification",
        sockets: 2_000,
        rate: 10.0,
        seconds: 20,
        warm_up_seconds: 2,
        gates: &["achieved>=99%", "unexpected_closes=0", "push_p99<500ms", "spread_p99<500ms"],
        without: &[],
    },
    Scenario {
        kind: Kind::Storm,
        name: "storm",
        question: "What if everybody connects in the same second, and again after a network break?",
        does: "opens all sockets as fast as it can, sends at a modest rate, then cuts every socket at once: all come back with their position",
        read: "all_connected and all_back are the two storms; resume is how long one client waits until it has what it missed",
        sockets: 10_000,
        rate: 500.0,
        seconds: 20,
        warm_up_seconds: 0,
        gates: &[
            "achieved>=99%",
            "all_connected<15s",
            "all_back<30s",
            "resume_p99<15s",
            "unexpected_closes=0",
            "dispatch_p99<10s",
            "lateness_p99<1s",
            "wakeup_p99<1s",
        ],
        without: &[],
    },
    Scenario {
        kind: Kind::Slow,
        name: "slow",
        question: "Does a client that stops reading harm anybody but itself?",
        does: "lets a part of the sockets stop reading while each of them is sent 6 notifications of 16 KiB a second, beside the rate for the others; at the end they read on or come back",
        read: "latencies are those of the healthy sockets; lost is what the slow ones missed, and every one of it has to be announced by a gap",
        sockets: 1_000,
        rate: 500.0,
        seconds: 30,
        warm_up_seconds: 3,
        gates: &[
            "unannounced=0",
            "lost_by_healthy=0",
            "slow_affected>0",
            "push_p99<100ms",
            "achieved>=99%",
            "unexpected_closes=0",
            "gateway_rss_growth<512MiB",
        ],
        without: &["lost"],
    },
    Scenario {
        kind: Kind::Resume,
        name: "resume",
        question: "Does a client whose connection breaks miss or see twice anything?",
        does: "cuts a part of the connections every second without a goodbye; each comes back within a second, behind its position",
        read: "lost and duplicates say it; resume is how long a client waits after a break until it has what it missed",
        sockets: 1_000,
        rate: 1_000.0,
        seconds: 30,
        warm_up_seconds: 0,
        gates: &["achieved>=99.9%", "unexpected_closes=0", "resume_p99<1s"],
        without: &[],
    },
    Scenario {
        kind: Kind::Drain,
        name: "drain",
        question: "Is anything lost when the gateway is restarted under load?",
        does: "stops the target and starts it again (--spawn: by itself, else by --restart-command); sends that fail meanwhile are repeated with the same Idempotency-Key",
        read: "lost and duplicates say it; all_back is how long until the last client was there again; push p99 contains the time nobody was",
        sockets: 1_000,
        rate: 200.0,
        seconds: 30,
        warm_up_seconds: 0,
        gates: &["achieved>=99.9%", "goodbyes_missed=0", "all_back<45s", "dispatch_p99<1s"],
        without: &[],
    },
    Scenario {
        kind: Kind::Failover,
        name: "failover",
        question: "Is anything lost when parts of a cluster die?",
        does: "spreads sockets and senders over the nodes (--url A,B,C) while somebody does them harm (--fault-command, or you): whoever is turned away goes to the next node, with its position or with the same Idempotency-Key",
        read: "lost, duplicates and order_violations say it; longest_outage is how long no send was accepted; push p99 contains that time",
        sockets: 2_000,
        rate: 200.0,
        seconds: 60,
        warm_up_seconds: 0,
        gates: &["achieved>=99.9%", "longest_outage<30s", "dispatch_p99<1s"],
        without: &[],
    },
    Scenario {
        kind: Kind::Soak,
        name: "soak",
        question: "Does anything grow or slow down over hours?",
        does: "what steady does, for hours",
        read: "rss_slope is what the target's memory grows by in an hour, over the second half: caches fill in the first hour; p99_drift compares the last third with the first",
        sockets: 1_000,
        rate: 200.0,
        seconds: 7_200,
        warm_up_seconds: 60,
        gates: &["achieved>=99.9%", "unexpected_closes=0", "push_p99<50ms", "rss_slope<64MiB", "p99_drift<2"],
        without: &[],
    },
];

impl Scenario {
    /// The scenario of a kind.
    #[must_use]
    pub fn of(kind: Kind) -> &'static Self {
        SCENARIOS.iter().find(|scenario| scenario.kind == kind).expect("every kind has its scenario")
    }

    /// How long it offers.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// What of that does not count for a latency.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        Duration::from_secs(self.warm_up_seconds)
    }

    /// Its criteria. One of its own takes the place of one that always holds.
    #[must_use]
    pub fn gates(&self) -> Vec<Gate> {
        let parse = |text: &&str| text.parse::<Gate>().expect("the scenarios' own gates parse");
        let own: Vec<Gate> = self.gates.iter().map(parse).collect();
        let mut always: Vec<Gate> = ALWAYS.iter().map(parse).collect();
        always.retain(|gate| !self.without.contains(&gate.metric().name()));
        crate::gate::effective(&always, &own).into_iter().map(|(gate, _)| gate).collect()
    }

    /// Whether sends are repeated until somebody can say what became of them.
    #[must_use]
    pub fn retries(&self) -> bool {
        matches!(self.kind, Kind::Drain | Kind::Failover)
    }

    /// Why a target with these abilities cannot be asked this; `None`: it can.
    #[must_use]
    pub fn missing(&self, abilities: &Abilities, by_list: bool, can_restart: bool) -> Option<&'static str> {
        match self.kind {
            Kind::Fanout if by_list && !abilities.several_recipients => {
                Some("it cannot send to several users at once")
            }
            Kind::Fanout if !by_list && !abilities.topics => Some("it has no topics"),
            Kind::Storm | Kind::Resume | Kind::Drain | Kind::Failover if !abilities.resume => {
                Some("its sockets cannot be resumed")
            }
            Kind::Slow if !abilities.gaps => Some("it does not announce what a slow reader misses"),
            Kind::Drain | Kind::Failover if !abilities.idempotency => {
                Some("a send that failed cannot be repeated without harm")
            }
            Kind::Drain if !can_restart => {
                Some("nobody said how to restart it: --spawn or --restart-command")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Adapter, FastApi};

    #[test]
    fn every_scenario_judges_delivery_and_itself() {
        for scenario in &SCENARIOS {
            let gates = scenario.gates();
            for metric in ["duplicates", "order_violations", "unexpected", "samples", "wakeup_p99"] {
                let found = gates.iter().filter(|gate| gate.metric().name() == metric).count();
                assert_eq!(found, 1, "{} on {metric}", scenario.name);
            }
            let loses = gates.iter().all(|gate| gate.metric().name() != "lost");
            assert_eq!(loses, scenario.kind == Kind::Slow, "{}", scenario.name);
        }
    }

    #[test]
    fn a_target_that_can_do_nothing_is_asked_only_what_it_can() {
        let nothing = FastApi.abilities();
        let asked: Vec<&str> = SCENARIOS
            .iter()
            .filter(|scenario| scenario.missing(&nothing, false, true).is_none())
            .map(|scenario| scenario.name)
            .collect();
        assert_eq!(asked, ["steady", "ramp", "soak"]);
    }
}
