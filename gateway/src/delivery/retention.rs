//! What moves log time on when nothing is sent, and what gives the log's space back.
//!
//! The log drops only a whole prefix to which no mailbox refers any more. A log that runs short of room asks for more; then
//! a *give-up* entry tells apply to drop what still waits in the oldest part, counted and announced as overflow.

use std::sync::Arc;
use std::time::Duration;

use super::{Committer, Shared};
use crate::log::AppendError;
use crate::log::entry;

/// The log is trimmed by at least so many entries at once, unless it is short of room: each trim may have to append the
/// settings again.
const MIN_TRIMMED_ENTRIES: u64 = 1_024;

/// Looks after the log once a period until it is dropped.
pub(super) async fn run(shared: Arc<Shared>, committer: Committer, period: Duration) {
    let mut period = tokio::time::interval(period);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        if let Err(error) = look_after(&shared, &committer).await {
            tracing::warn!(%error, "the log could not be tidied; trying again");
        }
    }
}

async fn look_after(shared: &Shared, committer: &Committer) -> Result<(), AppendError> {
    if shared.registry.next_due_ms().is_some_and(|due_ms| due_ms <= shared.clock.now_ms()) {
        committer.append(entry::encode_tick()).await?;
    }
    let state = shared.log.state().await.map_err(|error| AppendError::Unavailable(error.to_string()))?;
    shared.metrics.log_entries.set(i64::try_from(state.head + 1 - state.first).unwrap_or(i64::MAX));
    if let Some(through) = state.short_of_room_until {
        let number = committer.append(entry::encode_give_up(through)).await?;
        shared.applied.reached(number).await;
    }
    // Read before the walk: a notification applied later has a greater number.
    let applied = shared.applied.get();
    let unreferenced = shared.registry.oldest_pending().map_or(applied, |oldest| applied.min(oldest - 1));
    let worth_it = unreferenced >= state.first + MIN_TRIMMED_ENTRIES;
    let needed = state.short_of_room_until.is_some() && unreferenced >= state.first;
    if !worth_it && !needed {
        return Ok(());
    }
    if let Some((number, settings)) = shared.settings()
        && number <= unreferenced
    {
        // What still holds must not go with the part of the log that holds it.
        committer.append(entry::encode_settings(&settings)).await?;
    }
    shared.log.trim(unreferenced).await;
    Ok(())
}
