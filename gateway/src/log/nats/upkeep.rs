//! What is dropped of the stream, and what must not go with it: its epoch, and how far writers have come.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, copy};
use crate::clock::Clock;
use crate::log::{Log, ReadError};

/// The epoch is said again once this part of the time is over after which the stream drops it: a quarter.
const PART: u32 = 4;

/// How often it is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// Drops everything up to `through` from the stream and from this node's copy, once it is said there what has to stay known.
/// Of nodes that do so at the same time one does.
pub(super) async fn trim(shared: &Shared, through: u64) -> Result<(), String> {
    let Shared { stream, connection, .. } = shared;
    let through = through.min(stream.reach().await?.head);
    shared.copied(through).await.map_err(|ReadError(why)| why)?;
    stream.keep_epoch(connection, through).await?;
    let (mut checkpoint, last) = stream.last_checkpoint().await?;
    if checkpoint.through < through {
        let followed = copy::follow(&shared.copy, &mut checkpoint, through).await;
        let newest_ms = followed.map_err(|error| error.to_string())?;
        if !stream.say_checkpoint(connection, last, checkpoint.encode(newest_ms)).await? {
            return Ok(());
        }
    }
    stream.purge_before(through + 1).await?;
    shared.copy.trim(through).await;
    Ok(())
}

/// Says the epoch again from time to time, until it is dropped: a stream that holds little is not trimmed for long.
pub(super) async fn renew(shared: Arc<Shared>, max_age: Duration, clock: Clock) {
    let old = max_age / PART;
    let mut look = tokio::time::interval((old / PART).clamp(Duration::from_millis(100), LOOK_EVERY));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let old_ms = u64::try_from(old.as_millis()).unwrap_or(u64::MAX);
        let since_ms = clock.now_ms().saturating_sub(old_ms);
        if let Err(why) = shared.stream.renew_epoch(&shared.connection, since_ms).await {
            // It comes again, long before it is too late.
            tracing::debug!(why, "the epoch was not looked at");
        }
    }
}
