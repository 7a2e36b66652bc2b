//! What moves log time on when nothing is sent, and what gives the log's space back.
//!
//! A log that the state is rebuilt from drops only a prefix that a restart can do without (see [`super::horizon`]); what
//! still holds, settings and memberships, is appended again in time. A log that dies with the process drops whatever nothing
//! refers to any more, and one that runs short of room gives up its oldest part: what still waits there overflows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::state::{State, seconds};
use super::{Committer, Shared};
use crate::log::entry::{self, AsOf, Floor};
use crate::log::{AppendError, Durability, LogState, NewEntry, ReadError};
use crate::telemetry::Throttle;

/// The log is trimmed by at least so many entries at once, unless it is short of room.
const MIN_TRIMMED_ENTRIES: u64 = 1_024;

/// The least time between two lines about the same.
const WARN_EVERY_MS: u64 = 10_000;

/// How long nothing is trimmed after an attempt in vain.
const TRIM_AGAIN: Duration = Duration::from_secs(10);

/// How long what was appended may take to be applied here.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What still holds is appended again so often, in seconds of log time: the log keeps at most so much more than it needs.
pub(super) const REFRESH_SECONDS: u32 = 3_600;

/// Looks after the log once a period until it is dropped.
pub(super) async fn run(shared: Arc<Shared>, committer: Committer, period: Duration) -> Infallible {
    let mut keeper = Keeper { shared, committer, trim_not_before: Instant::now() };
    let throttle = Throttle::every(WARN_EVERY_MS);
    let mut period = tokio::time::interval(period);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        if keeper.shared.applied.is_halted() {
            // What stands in the log now is more than this node knows of.
            std::future::pending::<Infallible>().await;
        }
        if let Err(error) = keeper.look_after().await
            && let Some(held_back) = throttle.pass(keeper.shared.clock.now_ms())
        {
            tracing::warn!(%error, held_back, "the log could not be tidied; trying again");
        }
    }
}

struct Keeper {
    shared: Arc<Shared>,
    committer: Committer,
    trim_not_before: Instant,
}

impl Keeper {
    async fn look_after(&mut self) -> Result<(), AppendError> {
        let now_s = seconds(self.shared.clock.now_ms());
        let log = self.shared.log.state().await.map_err(|ReadError(why)| AppendError::Unavailable(why))?;
        if self.is_something_due(now_s) || self.time_would_make_room(log, now_s) {
            self.append_and_apply(entry::encode_tick()).await?;
        }
        if log.first > 1 {
            // Perhaps another node trimmed it.
            self.shared.state.horizon().dropped(log.first - 1);
        }
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let metrics = &self.shared.metrics;
        metrics.log_entries.set(gauge(log.head + 1 - log.first));
        metrics.log_bytes.set(gauge(log.bytes));
        metrics.log_free_bytes.set(gauge(log.free_bytes));
        metrics.log_reserve_bytes.set(gauge(log.reserve_bytes));
        match self.shared.log.durability() {
            Durability::Process => self.trim_what_nothing_refers_to(log).await,
            Durability::Disk | Durability::Replicated { .. } => {
                self.trim_what_a_restart_can_do_without(log).await
            }
        }
    }

    /// Whether something expires or may be forgotten if only the log's time were `now_s`. What strangers made the gateway
    /// remember must not stay until somebody else sends something.
    fn is_something_due(&self, now_s: u32) -> bool {
        let state = &self.shared.state;
        let is_due = |due_s: Option<u32>| due_s.is_some_and(|due_s| due_s <= now_s);
        let is_behind = seconds(state.log_time_ms()) < now_s;
        is_due(state.registry.next_due_s())
            || (is_behind
                && (is_due(state.outcomes().next_due_s()) || is_due(state.idempotency().next_due_s())))
    }

    async fn trim_what_nothing_refers_to(&self, log: LogState) -> Result<(), AppendError> {
        if let Some(through) = log.short_of_room_until {
            self.append_and_apply(entry::encode_give_up(through)).await?;
        }
        let state = &self.shared.state;
        // Read before the walk: a notification applied later has a greater number.
        let mut through = self.shared.applied.get();
        if let Some(oldest) = state.registry.oldest_held() {
            through = through.min(oldest - 1);
        }
        // The names behind an outcome stand in its entry; when room is short they have to go.
        if log.short_of_room_until.is_none()
            && let Some(oldest) = state.outcomes().oldest()
        {
            through = through.min(oldest.saturating_sub(1));
        }
        let worth_it = through >= log.first + MIN_TRIMMED_ENTRIES;
        let needed = log.short_of_room_until.is_some() && through >= log.first;
        if worth_it || needed {
            self.shared.log.trim(through).await;
            self.shared.state.horizon().dropped(through);
        }
        Ok(())
    }

    async fn trim_what_a_restart_can_do_without(&mut self, log: LogState) -> Result<(), AppendError> {
        self.refresh(log.head).await?;
        let state = &self.shared.state;
        let gone = log.first - 1;
        if gone > state.floor_through() {
            // A stream drops what is too old by itself. Whoever starts from the rest has to know.
            self.append(entry::encode_floor(Floor { through: gone, loss: state.registry.loss_up_to(gone) }))
                .await?;
        }
        let through = droppable(state);
        if through >= log.first + MIN_TRIMMED_ENTRIES && Instant::now() >= self.trim_not_before {
            let floor = Floor { through, loss: state.registry.loss_up_to(through) };
            self.append(entry::encode_floor(floor)).await?;
            self.shared.log.trim(through).await;
            let trimmed = self.shared.log.state().await.is_ok_and(|log| log.first > through);
            if !trimmed {
                // Another node may be about to, or the servers do not allow it: each attempt costs an entry.
                self.trim_not_before = Instant::now() + TRIM_AGAIN;
            }
        }
        Ok(())
    }

    /// Whether the log could be trimmed if only its time were `now_s`: when nothing is sent, nothing else moves it.
    fn time_would_make_room(&self, log: LogState, now_s: u32) -> bool {
        let state = &self.shared.state;
        if self.shared.log.durability() == Durability::Process || seconds(state.log_time_ms()) >= now_s {
            return false;
        }
        let limit = if self.is_refresh_due(now_s, log.head) { u64::MAX } else { limit_of(state) };
        droppable_within(state, now_s, limit) >= log.first + MIN_TRIMMED_ENTRIES
    }

    /// Whether what holds was said long ago, and not as the last thing.
    fn is_refresh_due(&self, log_time_s: u32, head: u64) -> bool {
        let state = &self.shared.state;
        let said_last = state.settings().is_none_or(|(number, _)| number >= head);
        !said_last && log_time_s >= state.held_since_s().saturating_add(REFRESH_SECONDS)
    }

    /// Appends again what still holds, if that is long ago and the log has grown since.
    async fn refresh(&self, head: u64) -> Result<(), AppendError> {
        let state = &self.shared.state;
        if !self.is_refresh_due(seconds(state.log_time_ms()), head) {
            return Ok(());
        }
        self.append_and_apply(entry::encode_tick()).await?;
        // Read before it is gathered: what ends later is left out when it is applied.
        for payload in renewals(state, self.shared.applied.get()) {
            self.append_and_apply(payload).await?;
        }
        Ok(())
    }

    async fn append(&self, payload: Bytes) -> Result<u64, AppendError> {
        self.committer.append(NewEntry::housekeeping(payload)).await
    }

    /// Does not wait for ever: where an entry cannot be applied, nothing behind it is, and whoever joins a topic must not
    /// hang on this.
    async fn append_and_apply(&self, payload: Bytes) -> Result<(), AppendError> {
        let number = self.append(payload).await?;
        if self.shared.applied.reached_within(number, APPLY_TIMEOUT).await {
            Ok(())
        } else {
            Err(AppendError::Ambiguous("it is not applied".to_owned()))
        }
    }
}

/// The last number that a restart can do without.
pub(super) fn droppable(state: &State) -> u64 {
    droppable_within(state, seconds(state.log_time_ms()), limit_of(state))
}

fn droppable_within(state: &State, log_time_s: u32, limit: u64) -> u64 {
    // Whoever was refused must stay so: a restart that decides anew could let somebody in.
    let may_yield = state.settings().is_none_or(|(_, settings)| !settings.reject_on_overflow);
    state.horizon().droppable(log_time_s, limit, may_yield)
}

/// What holds must not go with the part of the log that says so.
fn limit_of(state: &State) -> u64 {
    let holding = [state.settings().map(|(number, _)| number), state.topics().oldest()];
    holding.into_iter().flatten().min().map_or(u64::MAX, |number| number - 1)
}

/// What to append so that what still holds rests on nothing before it.
pub(super) fn renewals(state: &State, applied: u64) -> Vec<Bytes> {
    renewals_as_of(state, AsOf { number: applied, log_time_s: seconds(state.log_time_ms()) })
}

/// The same for a log whose numbers and times are others.
pub(super) fn renewals_as_of(state: &State, as_of: AsOf) -> Vec<Bytes> {
    let Some((_, settings)) = state.settings() else { return Vec::new() };
    let topics = state.topics().all();
    let memberships =
        topics.iter().flat_map(|(topic, members)| members.iter().map(|user| (&**topic, &**user)));
    entry::encode_holding(as_of, &settings, memberships)
}
