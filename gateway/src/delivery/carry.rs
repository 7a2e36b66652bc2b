//! Carries what holds and what waits from one log into another, which is empty: settings, memberships, and every notification
//! that is still pending for somebody.
//!
//! What was acked, expired or withdrawn stays behind, and with it outcomes that are final and idempotency keys of what is not
//! pending any more. Positions of the old log mean nothing in the new one, whose epoch is another: clients are told so by a
//! gap, and get what is pending.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::apply::StateMachine;
use super::retention::renewals_as_of;
use super::state::{State, seconds};
use crate::clock::Clock;
use crate::domain::{Notification, Target, UserId};
use crate::log::entry::{self, AsOf, DecodeError, Entry, EntryTooLarge, Publish};
use crate::log::{AppendError, Log, LogEntry, NewEntry, ReadError, Tail, TailError};

/// Entries that are appended at once, and their bytes, one entry more or less.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What was carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Notifications that are pending for somebody.
    pub notifications: u64,
    /// For how many, summed up.
    pub recipients: u64,
    /// Subscriptions of users to topics.
    pub memberships: u64,
}

/// Why it was not, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// One of the logs cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The old log cannot be followed.
    #[error(transparent)]
    Follow(#[from] TailError),
    /// The old log has what this build does not understand.
    #[error("entry {number} cannot be applied: {error}")]
    Entry {
        /// Its place.
        number: u64,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// Somebody has written into the new log.
    #[error("the log to copy into is not empty: it has {0} entries")]
    NotEmpty(u64),
    /// The new log did not take everything.
    #[error("the copy is not whole, remove it and begin anew: {0}")]
    Append(#[from] AppendError),
    /// An entry became too large, which one that fitted before does not.
    #[error(transparent)]
    TooLarge(#[from] EntryTooLarge),
}

/// For whom a notification is pending, and until when, in seconds of log time.
type Pending = (u32, Vec<Arc<str>>);

/// Copies what matters of `from` into `to`.
///
/// # Errors
/// [`CarryError`]; nothing is ever written to `from`.
pub async fn carry(from: &dyn Log, to: &dyn Log, clock: &Clock) -> Result<Carried, CarryError> {
    let already = to.state().await?.head;
    if already > 0 {
        return Err(CarryError::NotEmpty(already));
    }
    let state = State::new();
    let mut machine = StateMachine::new();
    let mut reading = Reading::open(from).await?;
    while let Some(part) = reading.next().await? {
        for (entry, decoded) in part {
            machine.apply(&state, entry.number, entry.timestamp_ms, &decoded);
        }
    }
    let mut pending: BTreeMap<u64, Pending> = BTreeMap::new();
    for (user, number, expires_at_s) in state.registry.pending() {
        pending.entry(number).or_insert_with(|| (expires_at_s, Vec::new())).1.push(user);
    }
    let now_s = seconds(clock.now_ms());
    let mut carried = Carried { memberships: state.topics().counts().1, ..Carried::default() };
    append(to, renewals_as_of(&state, AsOf { number: 0, log_time_s: u32::MAX })).await?;
    let mut reading = Reading::open(from).await?;
    while let Some(part) = reading.next().await? {
        let (mut payloads, mut bytes) = (Vec::new(), 0);
        for (entry, decoded) in part {
            let Entry::Publish(publish) = decoded else { continue };
            let Some((expires_at_s, users)) = pending.remove(&entry.number) else { continue };
            if expires_at_s <= now_s {
                continue;
            }
            carried.notifications += 1;
            carried.recipients += users.len() as u64;
            for payload in again(&publish, &users, expires_at_s - now_s)? {
                bytes += payload.len();
                payloads.push(payload);
            }
            // Subscribers of a topic are named: little may become much.
            if bytes >= BATCH_BYTES || payloads.len() >= BATCH {
                append(to, std::mem::take(&mut payloads)).await?;
                bytes = 0;
            }
        }
        append(to, payloads).await?;
    }
    Ok(carried)
}

/// What a log held when it was opened, part by part.
struct Reading {
    tail: Box<dyn Tail>,
    next: u64,
    head: u64,
}

impl Reading {
    async fn open(log: &dyn Log) -> Result<Self, CarryError> {
        let held = log.state().await?;
        Ok(Self { tail: log.tail(held.first - 1)?, next: held.first, head: held.head })
    }

    /// Its next entries, `None` behind the last one.
    async fn next(&mut self) -> Result<Option<Vec<(LogEntry, Entry)>>, CarryError> {
        if self.next > self.head {
            return Ok(None);
        }
        let entries = self.tail.next().await?;
        let held = entries.into_iter().take_while(|entry| entry.number <= self.head);
        let decode = |entry: LogEntry| match entry::decode(&entry.payload) {
            Ok(decoded) => Ok((entry, decoded)),
            Err(error) => Err(CarryError::Entry { number: entry.number, error }),
        };
        let part = held.map(decode).collect::<Result<Vec<_>, _>>()?;
        self.next = part.last().map_or(self.head, |(entry, _)| entry.number) + 1;
        Ok(Some(part))
    }
}

/// The notification for those whom it still waits for. A topic's subscribers are named, which may take several entries.
fn again(publish: &Publish, users: &[Arc<str>], ttl_seconds: u32) -> Result<Vec<Bytes>, EntryTooLarge> {
    let target = users.iter().filter_map(|user| UserId::parse(user).ok()).collect();
    let notification = Notification {
        id: publish.id,
        accepted_at_us: publish.accepted_at_us,
        target: Target::Users(target),
        // What receivers see of it stands in the body.
        from: None,
        title: None,
        body: None,
        data: None,
        ttl_seconds,
        collapse_key: publish.collapse_key,
        priority: publish.priority,
        idempotency: publish.idempotency,
    };
    match entry::encode_publish(&notification, None, &publish.body) {
        Ok(payload) => Ok(vec![payload]),
        Err(_) if users.len() > 1 => {
            let (left, right) = users.split_at(users.len() / 2);
            let first = again(publish, left, ttl_seconds)?;
            // A key counts once: the second part would be taken for a repetition.
            let rest = Publish { idempotency: None, ..publish.clone() };
            Ok([first, again(&rest, right, ttl_seconds)?].concat())
        }
        Err(error) => Err(error),
    }
}

async fn append(to: &dyn Log, payloads: Vec<Bytes>) -> Result<(), CarryError> {
    for result in to.append(payloads.into_iter().map(NewEntry::housekeeping).collect()).await {
        result?;
    }
    Ok(())
}
