//! What is dropped of the stream, and what must not go with it: its epoch, and how far writers have come.

use std::sync::Arc;
use std::time::Duration;

use super::copy::{self, Judgement};
use super::shared::Shared;
use crate::clock::Clock;
use crate::log::{Log, ReadError};

/// They are said again once this part of the time is over after which the stream drops it: a quarter.
const PART: u32 = 4;

/// How often it is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// Drops everything up to `through` from the stream and from this node's copy, once it is said there what has to stay known.
/// Of nodes that do so at the same time one does.
///
/// What is over was decided from the copy: a stream that is another one by now is left alone.
pub(super) async fn trim(shared: &Shared, through: u64) -> Result<(), String> {
    let Shared { stream, connection, .. } = shared;
    // Before the stream is asked: the copy grows meanwhile.
    let reach = shared.copy.reach();
    let standing = stream.standing().await?;
    let judged = copy::judge(&shared.copy, reach, stream, standing).await;
    let judged = judged.map_err(|error| error.to_string())?;
    if !matches!(judged, Judgement::Same) {
        return Err(judged.why().to_owned());
    }
    let through = through.min(standing.head);
    shared.copied(through).await.map_err(|ReadError(why)| why)?;
    if let Some(told) = standing.told.filter(|told| told.number <= through) {
        stream.say_epoch(connection, Some(told), told.bits).await?;
    }
    let (mut checkpoint, last) = stream.last_checkpoint().await?;
    if checkpoint.through < through {
        let followed = copy::follow(&shared.copy, &mut checkpoint, through).await;
        followed.map_err(|error| error.to_string())?;
        is_still_the_same(shared)?;
        if !stream.say_checkpoint(connection, last, checkpoint.encode()).await? {
            return Ok(());
        }
    }
    is_still_the_same(shared)?;
    stream.purge_before(through + 1).await?;
    shared.copy.trim(through).await;
    Ok(())
}

fn is_still_the_same(shared: &Shared) -> Result<(), String> {
    if shared.changed.is_cancelled() { Err("the stream is not what it was".to_owned()) } else { Ok(()) }
}

/// Says the epoch and the last checkpoint again from time to time, until it is dropped: a stream that holds little is not trimmed
/// for long.
pub(super) async fn renew(shared: Arc<Shared>, max_age: Duration, clock: Clock) {
    let old = max_age / PART;
    let mut look = tokio::time::interval((old / PART).clamp(Duration::from_millis(100), LOOK_EVERY));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let old_ms = u64::try_from(old.as_millis()).unwrap_or(u64::MAX);
        let since_ms = clock.now_ms().saturating_sub(old_ms);
        if let Err(why) = shared.stream.renew(&shared.connection, since_ms).await {
            // It comes again, long before it is too late.
            tracing::debug!(why, "the epoch and the checkpoint were not looked at");
        }
    }
}
