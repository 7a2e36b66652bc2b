//! What a scenario does to the target and to the sockets while notifications are offered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Kind;
use crate::collector::seconds;
use crate::context::{Context, Cut};
use crate::plan::Plan;
use crate::restart::Restarter;
use crate::summary::{IntervalLatency, Stage};

/// How often a count without an event of its own is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How much of a step's end is left for what is still on its way, before the step is judged.
const GRACE: Duration = Duration::from_millis(500);

/// So many steps in turn have to be too much.
const STEPS_TO_FAIL: u32 = 2;

/// This late at the 99th percentile, microseconds, the schedule was not the one that was planned.
const LATE: u64 = 10_000;

/// A step is kept up with when this part of it was accepted in time.
const KEPT_UP_SHARE: f64 = 0.99;

/// What a script needs.
#[derive(Debug)]
pub struct Stagehand<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// The run.
    pub context: Arc<Context>,
    /// When the first notification is due, microseconds.
    pub begin: u64,
    /// Cancel to end the offering early.
    pub stop: CancellationToken,
    /// Cancelled when somebody wants the run to end.
    pub interrupted: CancellationToken,
    /// Restarts the target.
    pub restarter: &'a mut Restarter,
}

/// What a script found out.
#[derive(Debug, Default)]
pub struct Findings {
    /// The steps of a growing rate.
    pub stages: Vec<Stage>,
    /// How long it took until all sockets were back, microseconds.
    pub all_back: Option<u64>,
    /// Sockets that should have been told when to come back.
    pub goodbyes_owed: u64,
    /// Whether the step that was too much was too much for this tool's schedule, too.
    pub tool_was_late: bool,
    /// What the target did not do as it should, in words.
    pub failures: Vec<String>,
}

/// Plays the script of the plan's scenario.
pub async fn play(stagehand: Stagehand<'_>) -> Findings {
    match stagehand.plan.scenario.kind {
        Kind::Steady | Kind::Fanout | Kind::Soak => Findings::default(),
        Kind::Ramp => stagehand.ramp().await,
        Kind::Storm => stagehand.storm().await,
        Kind::Slow => stagehand.slow().await,
        Kind::Resume => stagehand.resume().await,
        Kind::Drain => stagehand.drain().await,
        Kind::Failover => stagehand.failover().await,
    }
}

impl Stagehand<'_> {
    fn counter(&self, pick: impl Fn(&crate::collector::Counters) -> &AtomicU64) -> u64 {
        pick(&self.context.collector.counters).load(Ordering::Relaxed)
    }

    /// Waits until a part of the offering is over.
    async fn wait_for_part(&self, part: f64) {
        let after = self.plan.duration.mul_f64(part);
        self.wait_for(after).await;
    }

    async fn wait_for(&self, after: Duration) {
        let at = self.begin + u64::try_from(after.as_micros()).expect("a run's length");
        let clock = self.context.collector.clock();
        tokio::select! {
            () = clock.wait_until(at) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn cut(&self, every: usize, first: usize, away: Duration) {
        let away_ms = u64::try_from(away.as_millis()).expect("seconds");
        self.context.orders.send_modify(|orders| {
            orders.cut = Cut { number: orders.cut.number + 1, every, first, away_ms };
        });
    }

    /// Waits until so many sockets more have come back and all are there; gives the time since `since`. `None`: the run is to
    /// end before.
    async fn until_back(&self, since: u64, before: u64, sockets: u64) -> Option<u64> {
        let clock = self.context.collector.clock();
        let patience = u64::try_from(self.plan.drain_timeout.as_micros()).expect("seconds");
        let deadline =
            self.begin + u64::try_from(self.plan.duration.as_micros()).expect("a run's length") + patience;
        while self.counter(|counters| &counters.reconnected) < before + sockets
            || self.context.missing_sockets() > 0
        {
            if clock.now() > deadline || self.interrupted.is_cancelled() {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.context.collector.mark("all back");
        Some(clock.now() - since)
    }

    /// Judges one step after the other and ends the offering when the target does not keep up.
    async fn ramp(self) -> Findings {
        let mut findings = Findings::default();
        let step_length = self.plan.step;
        let mut accepted = 0;
        let mut judged_until = self.begin;
        let mut failed_in_turn = 0;
        for (number, step) in (0_u32..).zip(self.plan.ramp()) {
            self.wait_for(step_length * (number + 1)).await;
            let so_far = self.counter(|counters| &counters.accepted);
            let lasted = seconds(self.context.collector.clock().now() - judged_until);
            judged_until = self.context.collector.clock().now();
            tokio::time::sleep(GRACE).await;
            if self.stop.is_cancelled() {
                break;
            }
            let length = u64::try_from(step_length.as_micros()).expect("seconds");
            let from = self.begin + length * u64::from(number);
            let push = self.context.collector.push_between(from, from + length);
            let lateness = self.context.collector.lateness_between(from, from + length);
            let achieved = float(so_far - accepted) / lasted;
            let due = step.rate * step.seconds;
            // What has not arrived would be the slowest: without it a percentile says nothing.
            let arrived = float(push.count()) >= due * KEPT_UP_SHARE;
            let fast = !push.is_empty() && float(push.at(0.99)) < self.plan.knee_p99;
            let kept_up = fast && arrived && achieved >= step.rate * KEPT_UP_SHARE;
            if !kept_up && lateness.at(0.99) > LATE {
                findings.tool_was_late = true;
            }
            let push = IntervalLatency::of(&push).unwrap_or_default();
            findings.stages.push(Stage { rate: step.rate, achieved, push, kept_up });
            let word = if kept_up { "kept up" } else { "too much" };
            self.context.collector.mark(format!("{:.0}/s {word}", step.rate));
            accepted = so_far;
            // One hiccup of the machine is no knee: the next step, which asks for more, has to fail as well.
            failed_in_turn = if kept_up { 0 } else { failed_in_turn + 1 };
            if failed_in_turn == STEPS_TO_FAIL {
                break;
            }
        }
        self.stop.cancel();
        findings
    }

    /// Cuts everybody at once, in the middle.
    async fn storm(self) -> Findings {
        self.wait_for_part(0.4).await;
        let before = self.counter(|counters| &counters.reconnected);
        let sockets =
            u64::try_from(self.context.collector.counters.sockets.load(Ordering::Relaxed)).unwrap_or(0);
        let since = self.context.collector.clock().now();
        self.context.collector.mark("all cut");
        self.cut(1, 0, Duration::ZERO);
        Findings { all_back: self.until_back(since, before, sockets).await, ..Findings::default() }
    }

    /// Lets the slow ones rest from the beginning to the end.
    async fn slow(self) -> Findings {
        self.context.collector.mark(format!("{} sockets stop reading", self.plan.slow_sockets()));
        self.context.orders.send_modify(|orders| orders.slow_ones_rest = true);
        self.wait_for_part(1.0).await;
        self.context.collector.mark("they read again");
        self.context.orders.send_modify(|orders| orders.slow_ones_rest = false);
        Findings::default()
    }

    /// Cuts a part of the sockets again and again, each time others.
    async fn resume(self) -> Findings {
        let every = (1.0 / self.plan.cut_share).round().max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
        let every = every as usize;
        let mut turn = 0;
        loop {
            let at = self.plan.cut_every * (u32::try_from(turn).expect("few") + 1);
            // The last ones come back while still something is sent.
            if at + Duration::from_secs(1) >= self.plan.duration || self.stop.is_cancelled() {
                return Findings::default();
            }
            self.wait_for(at).await;
            self.context.collector.mark("cut");
            self.cut(every, turn, Duration::from_secs(1));
            turn += 1;
        }
    }

    /// Restarts the target after a third.
    async fn drain(self) -> Findings {
        self.wait_for_part(1.0 / 3.0).await;
        let before = self.counter(|counters| &counters.reconnected);
        let sockets =
            u64::try_from(self.context.collector.counters.sockets.load(Ordering::Relaxed)).unwrap_or(0);
        let goodbyes_owed = if self.context.adapter.abilities().drain { sockets } else { 0 };
        let mut findings = Findings { goodbyes_owed, ..Findings::default() };
        let since = self.context.collector.clock().now();
        self.context.collector.mark("told to stop");
        match self.restarter.restart().await {
            Ok(Some(restart)) => {
                self.context.collector.mark(format!("there again after {:.1} s", restart.down.as_secs_f64()));
                if restart.exit_code != Some(0) {
                    let how =
                        restart.exit_code.map_or("by a signal".to_owned(), |code| format!("with {code}"));
                    findings.failures.push(format!("the target was told to stop and ended {how}"));
                }
            }
            Ok(None) => self.context.collector.mark("the restart command has ended"),
            Err(error) => {
                findings.failures.push(error.0);
                return findings;
            }
        }
        findings.all_back = self.until_back(since, before, sockets).await;
        findings
    }

    /// Does harm after a third, if it knows how to.
    async fn failover(self) -> Findings {
        let mut findings = Findings::default();
        if matches!(self.restarter, Restarter::Nobody) {
            return findings;
        }
        self.wait_for_part(1.0 / 3.0).await;
        self.context.collector.mark("harm is done");
        match self.restarter.restart().await {
            Ok(_) => self.context.collector.mark("the harm is over"),
            Err(error) => findings.failures.push(error.0),
        }
        findings
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a run are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}
