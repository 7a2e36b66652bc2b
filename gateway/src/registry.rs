//! The sharded map user → mailbox and live sessions of this node.
//!
//! One mutex a shard, never held over an await; nothing is called under it but the mailbox itself, sessions are woken after
//! it is released. The registry knows neither the log nor sockets: what arrives is a number and a size, what a session gets
//! is a list of numbers.

mod forgotten;
mod ledger;
pub mod mailbox;
pub mod session;
mod shard;
mod totals;
mod watch;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use smallvec::SmallVec;

pub use crate::domain::OverflowPolicy;
pub use ledger::Ledger;
pub use mailbox::{Arrival, Bounds, Cursor, Effects, Final, Floors, Item, Mailbox, PullLimits, Put, Readers};
pub use session::{SessionHandle, SessionId};
use shard::Shard;
pub use totals::Totals;
pub use watch::UserChanges;

/// How many shards the registry has. A power of two: some bits of a user's hash pick one.
pub const SHARDS: usize = 64;

/// Users, their mailboxes and their sessions on this node.
pub struct Registry {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// No notification is due before, in seconds; `u32::MAX` if none waits. Written by the applying thread only.
    next_due_s: AtomicU32,
}

/// Names a user's place, so that a session hashes the name once and not at every pull.
#[derive(Debug, Clone)]
pub struct UserKey {
    hash: u64,
    user: Arc<str>,
}

impl UserKey {
    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &Arc<str> {
        &self.user
    }
}

/// What one notification did to the mailboxes of its recipients.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Mailboxes that hold it now, or held it and lost it at once to the bound.
    pub accepted: u32,
    /// Recipients with a session on this node.
    pub online: u32,
    /// Recipients whose full mailbox refused it, by their index.
    pub rejected: Vec<u32>,
}

/// Scratch space that the applying thread keeps between entries, and what the last one did.
#[derive(Default)]
pub struct Scratch {
    /// What became final.
    pub effects: Effects,
    /// Whether [`Scratch::away`] is wanted.
    pub notes_away: bool,
    /// Recipients of the last notification whose mailbox took it and who hold no session here, by their index.
    pub away: Vec<u32>,
    by_shard: Vec<(u64, u32)>,
    woken: Vec<Arc<SessionHandle>>,
}

/// Where a session wants to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// In front of everything that is held, acked or not.
    Start,
    /// Behind the last number below which everything is final.
    Acked,
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
    /// Notifications that wait for their ack.
    pub pending: u32,
    /// Their frames' size in bytes.
    pub pending_bytes: u64,
    /// The number of the last notification that came to the mailbox, 0 if none is remembered.
    pub last: u64,
    /// The last number below which everything is final.
    pub acked: u64,
}

/// Sums over all shards, taken when metrics are scraped by walking every mailbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RegistryStats {
    /// What is kept anyway.
    pub totals: Totals,
    /// Open sessions.
    pub sessions: u64,
    /// Notifications that wait for their ack.
    pub pending: u64,
    /// Bytes of their frames.
    pub pending_bytes: u64,
    /// The most notifications any one mailbox held pending since the last call.
    pub high_watermark: u64,
    /// The most bytes any one mailbox held pending since the last call.
    pub high_watermark_bytes: u64,
    /// By how much books and mailboxes differ, summed over the shards without signs; must be 0.
    pub imbalance: u64,
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
        Self { shards, hasher: RandomState::new(), next_due_s: AtomicU32::new(u32::MAX) }
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
        scratch: &mut Scratch,
    ) -> Delivered {
        let mut delivered = Delivered::default();
        scratch.away.clear();
        let names: SmallVec<[&str; 4]> = recipients.collect();
        match names.as_slice() {
            // The usual case needs no sorting.
            [user] => {
                let hash = self.hash(user);
                let mut shard = self.lock_shard(hash);
                put(&mut shard, (hash, user), arrival, 0, bounds, &mut delivered, scratch);
            }
            names => {
                let mut by_shard = std::mem::take(&mut scratch.by_shard);
                by_shard.clear();
                by_shard.extend(names.iter().zip(0..).map(|(user, index)| (self.hash(user), index)));
                by_shard.sort_unstable_by_key(|(hash, _)| shard_index(*hash));
                for group in by_shard.chunk_by(|left, right| shard_index(left.0) == shard_index(right.0)) {
                    let mut shard = self.lock_shard(group[0].0);
                    shard.warm(group.iter().map(|(hash, _)| *hash));
                    for (hash, index) in group {
                        let user = names[*index as usize];
                        put(&mut shard, (*hash, user), arrival, *index, bounds, &mut delivered, scratch);
                    }
                }
                scratch.by_shard = by_shard;
                delivered.rejected.sort_unstable();
                scratch.away.sort_unstable();
            }
        }
        if delivered.accepted > 0 && arrival.expires_at_s < self.next_due_s.load(Ordering::Relaxed) {
            self.next_due_s.store(arrival.expires_at_s, Ordering::Relaxed);
        }
        wake(&mut scratch.woken);
        delivered
    }

    /// Removes what is due at this log time.
    pub fn expire(&self, log_time_s: u32, scratch: &mut Scratch) {
        let mut next_due_s = u32::MAX;
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.expire(log_time_s, &mut scratch.effects);
            next_due_s = next_due_s.min(shard.next_due_s().unwrap_or(u32::MAX));
        }
        self.next_due_s.store(next_due_s, Ordering::Relaxed);
    }

    /// Acks what the user has pending in `(after, until]`.
    pub fn ack(&self, user: &str, after: u64, until: u64, bounds: &Bounds, scratch: &mut Scratch) {
        self.change(user, scratch, |mailbox, readers, effects| {
            mailbox.ack(after, until, bounds, readers, effects);
        });
    }

    /// Withdraws one notification from the user, if it is still pending.
    pub fn withdraw(&self, user: &str, number: u64, scratch: &mut Scratch) {
        self.change(user, scratch, |mailbox, _, effects| mailbox.withdraw(number, effects));
    }

    /// Withdraws everything from the user.
    pub fn forget(&self, user: &str, scratch: &mut Scratch) {
        self.change(user, scratch, |mailbox, _, effects| mailbox.forget(effects));
    }

    /// Drops everything up to `through` from every mailbox; what was pending counts as overflow.
    pub fn give_up(&self, through: u64, scratch: &mut Scratch) {
        for shard in &self.shards {
            lock(shard).give_up(through, &mut scratch.effects);
        }
    }

    /// What was missing in a part of the log that this node never saw.
    pub fn raise_floors(&self, floors: &Floors) {
        for shard in &self.shards {
            lock(shard).raise_floors(floors);
        }
    }

    /// A bound on the last number up to `through` that any mailbox lost to overflow.
    #[must_use]
    pub fn loss_up_to(&self, through: u64) -> u64 {
        self.shards.iter().map(|shard| lock(shard).loss_up_to(through)).max().unwrap_or(0)
    }

    /// Before this log time, in seconds, nothing is due; may be earlier than what is due first. `None` if nothing can be.
    #[must_use]
    pub fn next_due_s(&self) -> Option<u32> {
        Some(self.next_due_s.load(Ordering::Relaxed)).filter(|due_s| *due_s != u32::MAX)
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
        let user = (key.hash, &key.user);
        self.lock_shard(key.hash).attach(user, session, start, applied, max_sessions_per_user)
    }

    /// Where a reader starts that reads once and registers nothing, and the mailbox's head.
    #[must_use]
    pub fn cursor(&self, key: &UserKey, start: StartAt, applied: u64) -> (Cursor, u64) {
        self.lock_shard(key.hash).cursor((key.hash, &key.user), start, applied)
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

    /// What is known of a user; `applied` is the node's fully applied number.
    #[must_use]
    pub fn summary(&self, user: &str, applied: u64) -> UserSummary {
        let hash = self.hash(user);
        self.lock_shard(hash).summary(hash, user, applied)
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

    /// Users with at least one session.
    #[must_use]
    pub fn online_users(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).online_users()).sum()
    }

    /// Sums for the metrics; resets the high-water mark. Each shard is looked at in one moment, all of them are not.
    #[must_use]
    pub fn stats(&self) -> RegistryStats {
        self.shards.iter().fold(RegistryStats::default(), |sum, shard| {
            let part = lock(shard).take_stats();
            RegistryStats {
                totals: sum.totals.merged(part.totals),
                sessions: sum.sessions + part.sessions,
                pending: sum.pending + part.pending,
                pending_bytes: sum.pending_bytes + part.pending_bytes,
                high_watermark: sum.high_watermark.max(part.high_watermark),
                high_watermark_bytes: sum.high_watermark_bytes.max(part.high_watermark_bytes),
                imbalance: sum.imbalance + part.imbalance,
            }
        })
    }

    /// The lowest number any mailbox still refers to; `None` if nothing is held. Walks every mailbox's first slot.
    #[must_use]
    pub fn oldest_held(&self) -> Option<u64> {
        self.shards.iter().filter_map(|shard| lock(shard).oldest_held()).min()
    }

    /// Every user with something held, by name, each with a description of it: equal for equal states.
    #[must_use]
    pub fn describe(&self) -> Vec<(Arc<str>, Vec<u8>)> {
        let mut users: Vec<_> =
            self.shards.iter().flat_map(|shard| lock(shard).describe().collect::<Vec<_>>()).collect();
        users.sort_unstable();
        users
    }

    /// Everything that waits for somebody: user, number, and when it is due, in seconds of log time.
    #[must_use]
    pub fn pending(&self) -> Vec<(Arc<str>, u64, u32)> {
        self.shards.iter().flat_map(|shard| lock(shard).waiting().collect::<Vec<_>>()).collect()
    }

    fn change(
        &self,
        user: &str,
        scratch: &mut Scratch,
        change: impl FnOnce(&mut Mailbox, Readers, &mut Effects),
    ) {
        let hash = self.hash(user);
        self.lock_shard(hash).change((hash, user), &mut scratch.effects, change);
    }

    fn hash(&self, user: &str) -> u64 {
        self.hasher.hash_one(user)
    }

    fn lock_shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[shard_index(hash)])
    }
}

/// Bits from the middle: the hash table inside the shard finds a place by the lowest ones and tells neighbours apart by the
/// highest seven.
fn shard_index(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().expect("no code panics while it holds a shard")
}

fn wake(woken: &mut Vec<Arc<SessionHandle>>) {
    for session in woken.drain(..) {
        session.wake();
    }
}

fn put(
    shard: &mut Shard,
    user: (u64, &str),
    arrival: &Arrival,
    recipient: u32,
    bounds: &Bounds,
    delivered: &mut Delivered,
    scratch: &mut Scratch,
) {
    let before = scratch.woken.len();
    match shard.put(user, arrival, recipient, bounds, &mut scratch.effects, &mut scratch.woken) {
        Put::Kept | Put::Dropped => {
            delivered.accepted += 1;
            let online = scratch.woken.len() > before;
            delivered.online += u32::from(online);
            if scratch.notes_away && !online {
                scratch.away.push(recipient);
            }
        }
        Put::Rejected => delivered.rejected.push(recipient),
    }
}

#[cfg(test)]
pub(crate) mod tests;
