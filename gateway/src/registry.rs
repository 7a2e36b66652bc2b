//! The sharded map user → mailbox and live sessions of this node.
//!
//! One mutex a shard, never held over an await; nothing is called under it but the mailbox itself, sessions are woken after
//! it is released. The registry knows neither the log nor sockets: what arrives is a number and a size, what a session gets
//! is a list of numbers.

pub mod mailbox;
pub mod session;
mod shard;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use smallvec::SmallVec;

pub use crate::domain::OverflowPolicy;
pub use mailbox::{Arrival, Bounds, Cursor, Item, PullLimits};
pub use session::{SessionHandle, SessionId};
use shard::{Shard, Stored};

/// How many shards the registry has. A power of two: the top bits of a user's hash pick one.
pub const SHARDS: usize = 64;

/// Users, their mailboxes and their sessions on this node.
pub struct Registry {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// No notification is due before; `u64::MAX` if none waits. Written by the applying thread only.
    next_due_ms: AtomicU64,
}

/// Names a user's place, so that a session hashes the name once and not at every pull.
#[derive(Debug, Clone)]
pub struct UserKey {
    hash: u64,
    user: Arc<str>,
}

/// What one notification did to the mailboxes of its recipients.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Mailboxes that hold it now, or held it and lost it at once to the bound.
    pub accepted: u32,
    /// Recipients with a session on this node.
    pub online: u32,
    /// Notifications that overflow pushed out to make room, the newcomer included.
    pub overflowed: u32,
    /// Recipients whose full mailbox refused it.
    pub rejected: Vec<Box<str>>,
}

/// Scratch space that the applying thread keeps between notifications.
#[derive(Default)]
pub struct DeliverScratch {
    by_shard: Vec<(u64, u32)>,
    woken: Vec<Arc<SessionHandle>>,
}

/// Where a session wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// In front of everything that is retained.
    Start,
    /// With the next notification.
    Now,
    /// Behind this number.
    After(u64),
}

/// A session's place after it was registered.
#[derive(Debug)]
pub struct Attached {
    /// Where it starts.
    pub cursor: Cursor,
    /// The mailbox's last number, or the applied number if that is later.
    pub head: u64,
    /// The session that had to go because the user holds too many; already removed from the registry.
    pub displaced: Option<Arc<SessionHandle>>,
}

/// What is known of one user on this node; all zeros for a user never seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserSummary {
    /// Open sessions.
    pub sessions: u32,
    /// Notifications waiting in the mailbox.
    pub pending: u32,
    /// Their frames' size in bytes.
    pub pending_bytes: u64,
    /// The number of the last notification that came to the mailbox, 0 if none is remembered.
    pub last: u64,
}

/// Sums over all shards, taken when metrics are scraped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RegistryStats {
    /// Users the registry knows: those with something retained or a session.
    pub known_users: u64,
    /// Users with at least one session.
    pub online_users: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Notifications waiting, counted by walking nothing: each shard keeps its own sum.
    pub pending: u64,
    /// Bytes of their frames.
    pub pending_bytes: u64,
    /// The most notifications any one mailbox held since the last call.
    pub high_watermark: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// An empty registry with a random hash seed, so that no sender can choose names that share a shard.
    #[must_use]
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect();
        Self { shards, hasher: RandomState::new(), next_due_ms: AtomicU64::new(u64::MAX) }
    }

    /// The user's place.
    #[must_use]
    pub fn key(&self, user: &str) -> UserKey {
        UserKey { hash: self.hash(user), user: user.into() }
    }

    /// Puts a notification into the mailbox of every recipient, each shard locked once, then wakes their sessions.
    ///
    /// `recipients` holds no user twice. Called by the one applying thread, in log order.
    pub fn deliver<'a>(
        &self,
        recipients: impl Iterator<Item = &'a str>,
        arrival: &Arrival,
        bounds: &Bounds,
        scratch: &mut DeliverScratch,
    ) -> Delivered {
        let mut delivered = Delivered::default();
        let names: SmallVec<[&str; 4]> = recipients.collect();
        match names.as_slice() {
            // The usual case needs no sorting.
            [user] => {
                let hash = self.hash(user);
                let mut shard = self.lock_shard(hash);
                put(&mut shard, hash, user, arrival, bounds, &mut delivered, &mut scratch.woken);
            }
            names => {
                scratch.by_shard.clear();
                let hashed = names.iter().zip(0..).map(|(user, index)| (self.hash(user), index));
                scratch.by_shard.extend(hashed);
                scratch.by_shard.sort_unstable_by_key(|(hash, _)| shard_index(*hash));
                for group in
                    scratch.by_shard.chunk_by(|left, right| shard_index(left.0) == shard_index(right.0))
                {
                    let mut shard = self.lock_shard(group[0].0);
                    shard.warm(group.iter().map(|(hash, _)| *hash));
                    for (hash, index) in group {
                        let user = names[*index as usize];
                        put(&mut shard, *hash, user, arrival, bounds, &mut delivered, &mut scratch.woken);
                    }
                }
            }
        }
        if delivered.accepted > 0 && arrival.expires_at_ms < self.next_due_ms.load(Ordering::Relaxed) {
            self.next_due_ms.store(arrival.expires_at_ms, Ordering::Relaxed);
        }
        for session in scratch.woken.drain(..) {
            session.wake();
        }
        delivered
    }

    /// Removes what is due at `log_time_ms` and returns how many notifications expired.
    pub fn expire(&self, log_time_ms: u64) -> u64 {
        let mut expired = 0;
        let mut next_due_ms = u64::MAX;
        for shard in &self.shards {
            let mut shard = lock(shard);
            expired += shard.expire(log_time_ms);
            next_due_ms = next_due_ms.min(shard.next_due_ms().unwrap_or(u64::MAX));
        }
        self.next_due_ms.store(next_due_ms, Ordering::Relaxed);
        expired
    }

    /// Drops everything up to `through` from every mailbox as overflow and returns how many notifications that were.
    pub fn give_up(&self, through: u64) -> u64 {
        self.shards.iter().map(|shard| lock(shard).give_up(through)).sum()
    }

    /// Before this log time nothing is due; may be earlier than what is due first. `None` if nothing can be due.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        Some(self.next_due_ms.load(Ordering::Relaxed)).filter(|due_ms| *due_ms != u64::MAX)
    }

    /// Registers a session and fixes where it starts: no notification falls between this call and its first pull.
    ///
    /// `applied` is the node's fully applied number, read *before* the call. If the user already holds
    /// `max_sessions_per_user`, the session that was silent the longest is removed and returned.
    pub fn attach(
        &self,
        key: &UserKey,
        session: Arc<SessionHandle>,
        start: StartAt,
        applied: u64,
        max_sessions_per_user: usize,
    ) -> Attached {
        self.lock_shard(key.hash).attach(key.hash, &key.user, session, start, applied, max_sessions_per_user)
    }

    /// Removes exactly this session: one that is no longer registered, and its successor, stay untouched.
    ///
    /// Returns whether it was still registered.
    pub fn detach(&self, key: &UserKey, session: SessionId) -> bool {
        self.lock_shard(key.hash).detach(key.hash, &key.user, session)
    }

    /// Appends to `items` what the session gets next and moves its cursor behind it.
    ///
    /// Returns whether the limits left something behind.
    pub fn pull(
        &self,
        key: &UserKey,
        cursor: &mut Cursor,
        limits: PullLimits,
        items: &mut impl Extend<Item>,
    ) -> bool {
        self.lock_shard(key.hash).pull(key.hash, &key.user, cursor, limits, items)
    }

    /// What is known of a user.
    #[must_use]
    pub fn summary(&self, user: &str) -> UserSummary {
        let hash = self.hash(user);
        self.lock_shard(hash).summary(hash, user)
    }

    /// The user's sessions.
    #[must_use]
    pub fn sessions_of(&self, user: &str) -> Vec<Arc<SessionHandle>> {
        let hash = self.hash(user);
        self.lock_shard(hash).sessions_of(hash, user)
    }

    /// Every session of this node.
    #[must_use]
    pub fn all_sessions(&self) -> Vec<Arc<SessionHandle>> {
        self.shards.iter().flat_map(|shard| lock(shard).all_sessions()).collect()
    }

    /// Sums for the metrics; resets the high-water mark.
    #[must_use]
    pub fn stats(&self) -> RegistryStats {
        self.shards.iter().fold(RegistryStats::default(), |sum, shard| {
            let part = lock(shard).take_stats();
            RegistryStats {
                known_users: sum.known_users + part.known_users,
                online_users: sum.online_users + part.online_users,
                sessions: sum.sessions + part.sessions,
                pending: sum.pending + part.pending,
                pending_bytes: sum.pending_bytes + part.pending_bytes,
                high_watermark: sum.high_watermark.max(part.high_watermark),
            }
        })
    }

    /// The lowest number any mailbox still refers to; `None` if nothing waits. Walks every mailbox's first slot.
    #[must_use]
    pub fn oldest_pending(&self) -> Option<u64> {
        self.shards.iter().filter_map(|shard| lock(shard).oldest_pending()).min()
    }

    fn hash(&self, user: &str) -> u64 {
        self.hasher.hash_one(user)
    }

    fn lock_shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[shard_index(hash)])
    }
}

/// The top bits: the hash table inside the shard uses the others.
fn shard_index(hash: u64) -> usize {
    (hash >> (u64::BITS - SHARDS.trailing_zeros())) as usize
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().expect("no code panics while it holds a shard")
}

fn put(
    shard: &mut Shard,
    hash: u64,
    user: &str,
    arrival: &Arrival,
    bounds: &Bounds,
    delivered: &mut Delivered,
    woken: &mut Vec<Arc<SessionHandle>>,
) {
    let before = woken.len();
    match shard.put(hash, user, arrival, bounds, woken) {
        Stored::Accepted { overflowed } => {
            delivered.accepted += 1;
            delivered.overflowed += overflowed;
            delivered.online += u32::from(woken.len() > before);
        }
        Stored::Rejected => delivered.rejected.push(user.into()),
    }
}

#[cfg(test)]
mod tests;
