//! Acks on their way into the log: gathered for all users of this node, so that thousands make one entry.
//!
//! Nobody waits for them. A crash may lose what was gathered and not appended yet; then the notifications are pending still
//! and come again. An ack is never invented.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Committer, Delivery, Shared, SubscribeError};
use crate::domain::{Position, UserId};
use crate::log::entry::{ENTRY_HEADER_BYTES, ack_bytes, encode_acks};
use crate::log::{MAX_ENTRY_BYTES, NewEntry};
use crate::metrics::AckSource;
use crate::telemetry::Throttle;

/// The least time between two `acks` entries of this node.
const PERIOD: Duration = Duration::from_millis(250);

/// Users whose acks are gathered at most; more than a node has while the log takes them.
const MAX_USERS: usize = 1_000_000;

/// What has been acked and is not in the log yet.
#[derive(Default)]
pub(crate) struct Acks {
    gathered: Mutex<HashMap<Arc<str>, Vec<Range>>>,
    more: Notify,
    /// Held while acks are on their way: whoever flushes before a stop has to wait for those, too.
    appending: tokio::sync::Mutex<()>,
    throttle: Throttle,
}

/// What one ack covers: `(after, until]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    after: u64,
    until: u64,
}

/// Why an ack over HTTP is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// The position is of another epoch, or beyond everything that was ever accepted.
    #[error("the position is none of this log: take one from a frame or a page")]
    Foreign,
    /// Where the reading began is of another epoch.
    #[error("the reading did not begin in this log: take a position from a frame or a page")]
    ForeignBeginning,
    /// The position cannot be judged yet.
    #[error(transparent)]
    NotYet(#[from] SubscribeError),
}

impl Delivery {
    /// Acks for the user everything up to `position`, or only what of it lies behind `after`.
    ///
    /// # Errors
    /// [`AckError`] when one of them means nothing here.
    pub async fn ack(
        &self,
        user: &UserId,
        after: Option<Position>,
        position: Position,
    ) -> Result<(), AckError> {
        if !self.is_known(position).await? {
            return Err(AckError::Foreign);
        }
        let after = match after {
            None => 0,
            Some(after) if after.epoch == position.epoch => after.number,
            Some(_) => return Err(AckError::ForeignBeginning),
        };
        self.shared.metrics.acks.of(AckSource::Http).inc();
        self.shared.acks.gather(&user.shared(), after, position.number);
        Ok(())
    }
}

impl Acks {
    /// Takes an ack of `(after, until]` on its way.
    pub(super) fn gather(&self, user: &Arc<str>, after: u64, until: u64) {
        if after >= until {
            return;
        }
        let mut gathered = self.lock();
        let first = gathered.is_empty();
        if gathered.len() >= MAX_USERS && !gathered.contains_key(user) {
            // The log does not take acks: what is not acked comes again.
            return;
        }
        let ranges = match gathered.get_mut(user) {
            Some(ranges) => ranges,
            None => gathered.entry(Arc::clone(user)).or_default(),
        };
        join(ranges, Range { after, until });
        drop(gathered);
        if first {
            self.more.notify_one();
        }
    }

    /// Whether nothing waits to be appended.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Range>>> {
        self.gathered.lock().expect("no code panics while it holds the acks")
    }
}

/// Adds a range; ranges that touch become one.
fn join(ranges: &mut Vec<Range>, mut range: Range) {
    ranges.retain(|known| {
        let apart = known.until < range.after || range.until < known.after;
        if !apart {
            range = Range { after: known.after.min(range.after), until: known.until.max(range.until) };
        }
        apart
    });
    ranges.push(range);
}

/// Appends what was gathered, at most once a period, until it is dropped. Input: [`Acks::gather`], fed by sessions and the API.
pub(super) async fn run(shared: Arc<Shared>, committer: Committer) -> Infallible {
    loop {
        shared.acks.more.notified().await;
        flush(&shared, &committer).await;
        tokio::time::sleep(PERIOD).await;
    }
}

/// Appends everything gathered so far; once it returns, that is in the log, or gathered still.
pub(super) async fn flush(shared: &Shared, committer: &Committer) {
    let _alone = shared.acks.appending.lock().await;
    let gathered = std::mem::take(&mut *shared.acks.lock());
    let mut rest: Vec<(Arc<str>, Range)> = gathered
        .into_iter()
        .flat_map(|(user, ranges)| ranges.into_iter().map(move |range| (Arc::clone(&user), range)))
        .collect();
    while !rest.is_empty() {
        let mut bytes = ENTRY_HEADER_BYTES;
        let fitting = rest.iter().take_while(|(user, _)| {
            bytes += ack_bytes(user);
            bytes <= MAX_ENTRY_BYTES
        });
        let behind = rest.split_off(fitting.count());
        let part = std::mem::replace(&mut rest, behind);
        let acks = part.iter().map(|(user, range)| (&**user, range.after, range.until));
        // Acks make room: they may use what the log keeps in reserve.
        if let Err(error) = committer.append(NewEntry::acks(encode_acks(acks))).await {
            if let Some(held_back) = shared.acks.throttle.pass(shared.clock.now_ms()) {
                tracing::warn!(%error, held_back, "acks could not be appended; trying again");
            }
            for (user, range) in part.iter().chain(&rest) {
                shared.acks.gather(user, range.after, range.until);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(after: u64, until: u64) -> Range {
        Range { after, until }
    }

    #[test]
    fn ranges_that_touch_become_one_and_others_stay_apart() {
        let mut ranges = Vec::new();
        join(&mut ranges, range(10, 20));
        join(&mut ranges, range(30, 40));
        assert_eq!(ranges, [range(10, 20), range(30, 40)]);
        join(&mut ranges, range(20, 25));
        assert_eq!(ranges, [range(30, 40), range(10, 25)]);
        join(&mut ranges, range(5, 35));
        assert_eq!(ranges, [range(5, 40)]);
    }

    #[test]
    fn an_ack_of_nothing_is_not_gathered() {
        let acks = Acks::default();
        acks.gather(&"bob".into(), 7, 7);
        assert!(acks.is_empty());
    }
}
