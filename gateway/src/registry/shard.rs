//! One shard: the users whose hash falls here, under one mutex.
//!
//! Everything below runs while the mutex is held, so nothing here waits, wakes or calls back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::mailbox::{Arrival, Bounds, Cursor, Floors, Item, Mailbox, PullLimits, Put};
use super::session::{SessionHandle, SessionId};
use super::{Attached, RegistryStats, StartAt, UserSummary};

/// The users of one shard.
#[derive(Default)]
pub(super) struct Shard {
    users: HashTable<User>,
    /// When mailboxes have something due; an item whose time is not its mailbox's `timer_ms` any more is stale.
    timers: BinaryHeap<Reverse<(u64, Arc<str>, u64)>>,
    /// One answer for all users that were forgotten.
    floors: Floors,
    online_users: u64,
    sessions: u64,
    pending: u64,
    pending_bytes: u64,
    high_watermark: u64,
}

/// What a shard did with an arrival.
pub(super) enum Stored {
    /// The mailbox took it in; so many notifications overflowed, the newcomer included.
    Accepted { overflowed: u32 },
    /// The full mailbox refused it.
    Rejected,
}

struct User {
    hash: u64,
    name: Arc<str>,
    mailbox: Mailbox,
    /// When its timer goes off, `u64::MAX` if none is set.
    timer_ms: u64,
    sessions: SmallVec<[Arc<SessionHandle>; 1]>,
}

/// Stale timers tolerated for each live one before the heap is rebuilt.
const MAX_TIMERS_PER_USER: usize = 4;

impl User {
    fn new(hash: u64, name: Arc<str>, floors: Floors) -> Self {
        Self { hash, name, mailbox: Mailbox::new(floors), timer_ms: u64::MAX, sessions: SmallVec::new() }
    }

    fn can_be_forgotten(&self) -> bool {
        self.sessions.is_empty() && self.mailbox.pending() == 0
    }
}

impl Shard {
    pub(super) fn put(
        &mut self,
        hash: u64,
        name: &str,
        arrival: &Arrival,
        bounds: &Bounds,
        woken: &mut Vec<Arc<SessionHandle>>,
    ) -> Stored {
        let floors = self.floors;
        let user = match self.users.entry(hash, |user| &*user.name == name, |user| user.hash) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(User::new(hash, name.into(), floors)).into_mut(),
        };
        let (pending, bytes) = (u64::from(user.mailbox.pending()), user.mailbox.pending_bytes());
        let overflowed = match user.mailbox.put(arrival, bounds) {
            Put::Kept { evicted } => evicted,
            Put::Dropped => 1,
            Put::Rejected => {
                if user.can_be_forgotten() {
                    self.forget(hash, name);
                }
                return Stored::Rejected;
            }
        };
        woken.extend(user.sessions.iter().cloned());
        let now_pending = u64::from(user.mailbox.pending());
        self.pending = self.pending - pending + now_pending;
        self.pending_bytes = self.pending_bytes - bytes + user.mailbox.pending_bytes();
        self.high_watermark = self.high_watermark.max(now_pending);
        if arrival.expires_at_ms < user.timer_ms {
            user.timer_ms = arrival.expires_at_ms;
            self.timers.push(Reverse((user.timer_ms, Arc::clone(&user.name), hash)));
            if self.timers.len() > MAX_TIMERS_PER_USER * (self.users.len() + 16) {
                self.rebuild_timers();
            }
        }
        Stored::Accepted { overflowed }
    }

    /// Looks at what [`Shard::put`] will change for each of these users.
    ///
    /// A put is a chain of cache misses, one behind the other. Looking first, at all of them, lets the processor wait for
    /// many at the same time.
    pub(super) fn warm(&self, hashes: impl Iterator<Item = u64>) {
        let seen = hashes.fold(0, |seen, hash| {
            let user = self.users.find(hash, |user| user.hash == hash);
            seen ^ user.map_or(0, |user| u64::from(user.name.as_bytes()[0]) ^ user.mailbox.glance())
        });
        std::hint::black_box(seen);
    }

    pub(super) fn expire(&mut self, log_time_ms: u64) -> u64 {
        let mut expired = 0;
        while let Some(Reverse((due_ms, _, _))) = self.timers.peek()
            && *due_ms <= log_time_ms
        {
            let Some(Reverse((due_ms, name, hash))) = self.timers.pop() else { break };
            let Some(user) = self.users.find_mut(hash, |user| user.name == name) else { continue };
            if user.timer_ms != due_ms {
                continue;
            }
            let bytes = user.mailbox.pending_bytes();
            let gone = user.mailbox.expire(log_time_ms);
            self.pending -= u64::from(gone);
            self.pending_bytes = self.pending_bytes - bytes + user.mailbox.pending_bytes();
            expired += u64::from(gone);
            user.timer_ms = user.mailbox.next_due_ms().unwrap_or(u64::MAX);
            if user.timer_ms != u64::MAX {
                self.timers.push(Reverse((user.timer_ms, name, hash)));
            } else if user.can_be_forgotten() {
                self.forget(hash, &name);
            }
        }
        expired
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((due_ms, _, _))| *due_ms)
    }

    pub(super) fn attach(
        &mut self,
        hash: u64,
        name: &Arc<str>,
        session: Arc<SessionHandle>,
        start: StartAt,
        applied: u64,
        max_sessions: usize,
    ) -> Attached {
        let floors = self.floors;
        let user = match self.users.entry(hash, |user| user.name == *name, |user| user.hash) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(User::new(hash, Arc::clone(name), floors)).into_mut(),
        };
        let mut displaced = None;
        if user.sessions.len() >= max_sessions
            && let Some(index) =
                (0..user.sessions.len()).min_by_key(|index| user.sessions[*index].last_heard_ms())
        {
            displaced = Some(user.sessions.remove(index));
            self.sessions -= 1;
        }
        self.online_users += u64::from(user.sessions.is_empty() && displaced.is_none());
        user.sessions.push(session);
        self.sessions += 1;
        let head = applied.max(user.mailbox.last());
        let cursor = match start {
            StartAt::Start => user.mailbox.cursor_at_start().unwrap_or(user.mailbox.cursor_after(head)),
            StartAt::Now => user.mailbox.cursor_after(head),
            StartAt::After(number) => user.mailbox.cursor_after(number),
        };
        Attached { cursor, head, displaced }
    }

    pub(super) fn detach(&mut self, hash: u64, name: &str, session: SessionId) -> bool {
        let Some(user) = self.users.find_mut(hash, |user| &*user.name == name) else { return false };
        let Some(index) = user.sessions.iter().position(|known| known.id() == session) else { return false };
        user.sessions.swap_remove(index);
        self.sessions -= 1;
        self.online_users -= u64::from(user.sessions.is_empty());
        if user.can_be_forgotten() {
            self.forget(hash, name);
        }
        true
    }

    pub(super) fn pull(
        &self,
        hash: u64,
        name: &str,
        cursor: &mut Cursor,
        limits: PullLimits,
        items: &mut impl Extend<Item>,
    ) -> bool {
        self.find(hash, name).is_some_and(|user| user.mailbox.pull(cursor, limits, items))
    }

    pub(super) fn give_up(&mut self, through: u64) -> u64 {
        let mut given_up = 0;
        let mut emptied = Vec::new();
        for user in
            self.users.iter_mut().filter(|user| user.mailbox.oldest().is_some_and(|oldest| oldest <= through))
        {
            let bytes = user.mailbox.pending_bytes();
            let gone = u64::from(user.mailbox.give_up(through));
            given_up += gone;
            self.pending -= gone;
            self.pending_bytes = self.pending_bytes - bytes + user.mailbox.pending_bytes();
            if user.can_be_forgotten() {
                emptied.push((user.hash, Arc::clone(&user.name)));
            }
        }
        for (hash, name) in emptied {
            self.forget(hash, &name);
        }
        given_up
    }

    pub(super) fn summary(&self, hash: u64, name: &str) -> UserSummary {
        self.find(hash, name).map_or_else(UserSummary::default, |user| UserSummary {
            sessions: u32::try_from(user.sessions.len()).expect("bounded by the sessions a user may hold"),
            pending: user.mailbox.pending(),
            pending_bytes: user.mailbox.pending_bytes(),
            last: user.mailbox.last_arrival(),
        })
    }

    pub(super) fn sessions_of(&self, hash: u64, name: &str) -> Vec<Arc<SessionHandle>> {
        self.find(hash, name).map_or_else(Vec::new, |user| user.sessions.to_vec())
    }

    pub(super) fn all_sessions(&self) -> Vec<Arc<SessionHandle>> {
        self.users.iter().flat_map(|user| user.sessions.iter().cloned()).collect()
    }

    pub(super) fn oldest_pending(&self) -> Option<u64> {
        self.users.iter().filter_map(|user| user.mailbox.oldest()).min()
    }

    pub(super) fn take_stats(&mut self) -> RegistryStats {
        let fullest_now = self.users.iter().map(|user| u64::from(user.mailbox.pending())).max().unwrap_or(0);
        RegistryStats {
            known_users: self.users.len() as u64,
            online_users: self.online_users,
            sessions: self.sessions,
            pending: self.pending,
            pending_bytes: self.pending_bytes,
            high_watermark: std::mem::take(&mut self.high_watermark).max(fullest_now),
        }
    }

    fn find(&self, hash: u64, name: &str) -> Option<&User> {
        self.users.find(hash, |user| &*user.name == name)
    }

    /// Removes a user with no session and nothing waiting, remembering only how far its past may have reached.
    fn forget(&mut self, hash: u64, name: &str) {
        if let Ok(entry) = self.users.find_entry(hash, |user| &*user.name == name) {
            let (user, _) = entry.remove();
            let floors = user.mailbox.floors();
            self.floors.benign = self.floors.benign.max(floors.benign);
            self.floors.loss = self.floors.loss.max(floors.loss);
        }
        // After a storm of connections the table must not stay large for ever.
        if self.users.capacity() > 64 && self.users.len() * 4 < self.users.capacity() {
            self.users.shrink_to(self.users.len() * 2, |user| user.hash);
        }
    }

    fn rebuild_timers(&mut self) {
        let set = self.users.iter().filter(|user| user.timer_ms != u64::MAX);
        self.timers = set.map(|user| Reverse((user.timer_ms, Arc::clone(&user.name), user.hash))).collect();
    }
}
