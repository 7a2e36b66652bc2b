//! One shard: the users whose hash falls here, under one mutex.
//!
//! Everything below runs while the mutex is held, so nothing here waits, wakes or calls back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::forgotten::Forgotten;
use super::ledger::Ledger;
use super::mailbox::{Arrival, Bounds, Cursor, Effects, Floors, Item, Mailbox, PullLimits, Put, Readers};
use super::session::{SessionHandle, SessionId};
use super::watch::{UserChanges, Watch};
use super::{Attached, RegistryStats, StartAt, Totals, UserSummary};

/// The users of one shard.
#[derive(Default)]
pub(super) struct Shard {
    /// Boxed: a table is up to half empty, and a user is large.
    users: HashTable<Box<User>>,
    /// When mailboxes have something due, in seconds; an item whose time is not its mailbox's `timer_s` any more is stale.
    timers: BinaryHeap<Reverse<(u32, Arc<str>, u64)>>,
    forgotten: Forgotten,
    ledger: Ledger,
    high_watermark: u64,
    high_watermark_bytes: u64,
    online_users: u64,
    watch: Watch,
}

struct User {
    hash: u64,
    name: Arc<str>,
    mailbox: Mailbox,
    /// When its timer goes off, `u32::MAX` if none is set.
    timer_s: u32,
    sessions: SmallVec<[Arc<SessionHandle>; 1]>,
}

/// Stale timers tolerated for each live one before the heap is rebuilt.
const MAX_TIMERS_PER_USER: usize = 4;

impl User {
    fn new(hash: u64, name: Arc<str>, floors: Floors) -> Self {
        Self { hash, name, mailbox: Mailbox::new(floors), timer_s: u32::MAX, sessions: SmallVec::new() }
    }

    fn can_be_forgotten(&self) -> bool {
        self.sessions.is_empty() && self.mailbox.is_empty()
    }

    fn readers(&self) -> Readers {
        let slowest = self.sessions.iter().map(|session| session.read_up_to()).min();
        slowest.map_or(Readers::NONE, |slowest| Readers { slowest })
    }
}

impl Shard {
    pub(super) fn put(
        &mut self,
        (hash, name): (u64, &str),
        arrival: &Arrival,
        recipient: u32,
        bounds: &Bounds,
        effects: &mut Effects,
        woken: &mut Vec<Arc<SessionHandle>>,
    ) -> Put {
        let user = find_or_make(&mut self.users, &mut self.forgotten, hash, name, || name.into());
        let before = effects.finals.len();
        let put = user.mailbox.put(arrival, recipient, bounds, user.readers(), effects);
        self.ledger.arrived(put, &effects.finals[before..]);
        if put != Put::Rejected {
            woken.extend(user.sessions.iter().cloned());
        }
        if put != Put::Kept {
            if user.can_be_forgotten() {
                self.forget(hash, name);
            }
            return put;
        }
        self.high_watermark = self.high_watermark.max(u64::from(user.mailbox.pending()));
        self.high_watermark_bytes = self.high_watermark_bytes.max(user.mailbox.pending_bytes());
        if arrival.expires_at_s < user.timer_s {
            user.timer_s = arrival.expires_at_s;
            self.timers.push(Reverse((user.timer_s, Arc::clone(&user.name), hash)));
            if self.timers.len() > MAX_TIMERS_PER_USER * (self.users.len() + 16) {
                self.rebuild_timers();
            }
        }
        put
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

    pub(super) fn expire(&mut self, log_time_s: u32, effects: &mut Effects) {
        while let Some(Reverse((due_s, _, _))) = self.timers.peek()
            && *due_s <= log_time_s
        {
            let Some(Reverse((due_s, name, hash))) = self.timers.pop() else { break };
            if self.users.find(hash, |user| user.name == name).is_none_or(|user| user.timer_s != due_s) {
                continue;
            }
            self.change((hash, &name), effects, |mailbox, _, effects| mailbox.expire(log_time_s, effects));
            let Some(user) = self.users.find_mut(hash, |user| user.name == name) else { continue };
            user.timer_s = user.mailbox.next_due_s().unwrap_or(u32::MAX);
            if user.timer_s != u32::MAX {
                self.timers.push(Reverse((user.timer_s, name, hash)));
            }
        }
    }

    pub(super) fn next_due_s(&self) -> Option<u32> {
        self.timers.peek().map(|Reverse((due_s, _, _))| *due_s)
    }

    /// Changes a user's mailbox, if there is one. Its sessions hear of a new hole when they are woken the next time.
    pub(super) fn change(
        &mut self,
        (hash, name): (u64, &str),
        effects: &mut Effects,
        change: impl FnOnce(&mut Mailbox, Readers, &mut Effects),
    ) {
        let Some(user) = self.users.find_mut(hash, |user| &*user.name == name) else { return };
        let before = effects.finals.len();
        let readers = user.readers();
        change(&mut user.mailbox, readers, effects);
        self.ledger.became_final(&effects.finals[before..]);
        if user.can_be_forgotten() {
            self.forget(hash, name);
        }
    }

    pub(super) fn attach(
        &mut self,
        (hash, name): (u64, &Arc<str>),
        session: Arc<SessionHandle>,
        start: StartAt,
        applied: u64,
        max_sessions: usize,
    ) -> Attached {
        let user = find_or_make(&mut self.users, &mut self.forgotten, hash, name, || Arc::clone(name));
        let mut displaced = None;
        if user.sessions.len() >= max_sessions
            && let Some(index) =
                (0..user.sessions.len()).min_by_key(|index| user.sessions[*index].last_heard_ms())
        {
            displaced = Some(user.sessions.remove(index));
            self.online_users -= u64::from(user.sessions.is_empty());
        }
        let (cursor, head) = start_of(&user.mailbox, start, applied);
        session.has_read(cursor.number);
        if user.sessions.is_empty() {
            self.online_users += 1;
            self.watch.note(&user.name);
        }
        user.sessions.push(session);
        Attached { cursor, head, displaced }
    }

    /// Where a reader of a moment starts, and the head.
    pub(super) fn cursor(&self, (hash, name): (u64, &str), start: StartAt, applied: u64) -> (Cursor, u64) {
        match self.find(hash, name) {
            Some(user) => start_of(&user.mailbox, start, applied),
            None => start_of(&Mailbox::new(self.forgotten.floors(hash)), start, applied),
        }
    }

    pub(super) fn detach(&mut self, hash: u64, name: &str, session: SessionId) -> bool {
        let Some(user) = self.users.find_mut(hash, |user| &*user.name == name) else { return false };
        let Some(index) = user.sessions.iter().position(|known| known.id() == session) else { return false };
        user.sessions.swap_remove(index);
        if user.sessions.is_empty() {
            self.online_users -= 1;
            self.watch.note(&user.name);
        }
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
        match self.find(hash, name) {
            Some(user) => user.mailbox.pull(cursor, limits, items),
            // A reader of a moment may ask for a user who was forgotten.
            None => Mailbox::new(self.forgotten.floors(hash)).pull(cursor, limits, items),
        }
    }

    pub(super) fn give_up(&mut self, through: u64, effects: &mut Effects) {
        let concerned =
            self.users.iter().filter(|user| user.mailbox.oldest().is_some_and(|oldest| oldest <= through));
        let concerned: Vec<_> = concerned.map(|user| (user.hash, Arc::clone(&user.name))).collect();
        for (hash, name) in concerned {
            self.change((hash, &name), effects, |mailbox, _, effects| mailbox.give_up(through, effects));
        }
    }

    /// A part of the log is dropped; what was missing in it stays known.
    pub(super) fn raise_floors(&mut self, floors: &Floors) {
        self.forgotten.raise(floors);
        for user in &mut self.users {
            user.mailbox.raise_floors(floors);
        }
    }

    /// The last number that was lost to overflow, among those up to `through`.
    pub(super) fn loss_up_to(&self, through: u64) -> u64 {
        let losses = self.users.iter().map(|user| user.mailbox.loss_in_front());
        losses.max().unwrap_or(0).max(self.forgotten.loss()).min(through)
    }

    pub(super) fn summary(&self, hash: u64, name: &str, applied: u64) -> UserSummary {
        self.find(hash, name).map_or_else(UserSummary::default, |user| UserSummary {
            sessions: u32::try_from(user.sessions.len()).expect("bounded by the sessions a user may hold"),
            pending: user.mailbox.pending(),
            pending_bytes: user.mailbox.pending_bytes(),
            last: user.mailbox.last_arrival(),
            acked: start_of(&user.mailbox, StartAt::Acked, applied).0.number,
        })
    }

    pub(super) fn sessions_of(&self, hash: u64, name: &str) -> Vec<Arc<SessionHandle>> {
        self.find(hash, name).map_or_else(Vec::new, |user| user.sessions.to_vec())
    }

    pub(super) fn all_sessions(&self) -> Vec<Arc<SessionHandle>> {
        self.users.iter().flat_map(|user| user.sessions.iter().cloned()).collect()
    }

    pub(super) fn online_users(&self) -> u64 {
        self.online_users
    }

    /// The users with at least one session.
    pub(super) fn online_names(&self) -> impl Iterator<Item = Arc<str>> {
        self.users.iter().filter(|user| !user.sessions.is_empty()).map(|user| Arc::clone(&user.name))
    }

    /// Notes from now on who comes online and who goes.
    pub(super) fn watch(&mut self) {
        self.watch.begin();
    }

    /// Adds what was noted since the last call, each user as it is now.
    pub(super) fn take_changes(&mut self, hash: impl Fn(&str) -> u64, changes: &mut UserChanges) {
        let (users, lost) = self.watch.take();
        changes.lost |= lost;
        for name in users {
            let online = self.find(hash(&name), &name).is_some_and(|user| !user.sessions.is_empty());
            if online { changes.came.push(name) } else { changes.went.push(name) }
        }
    }

    pub(super) fn oldest_held(&self) -> Option<u64> {
        self.users.iter().filter_map(|user| user.mailbox.oldest()).min()
    }

    /// The users with something held, each with a description of it.
    pub(super) fn describe(&self) -> impl Iterator<Item = (Arc<str>, Vec<u8>)> {
        self.users.iter().filter(|user| !user.mailbox.is_empty()).map(|user| {
            let mut description = Vec::new();
            user.mailbox.describe(&mut description);
            (Arc::clone(&user.name), description)
        })
    }

    /// What waits for whom: user, number, and when it is due.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Arc<str>, u64, u32)> {
        self.users.iter().flat_map(|user| {
            user.mailbox.waiting().map(|(number, due_s)| (Arc::clone(&user.name), number, due_s))
        })
    }

    pub(super) fn totals(&self) -> Totals {
        Totals { known_users: self.users.len() as u64, online_users: self.online_users, ledger: self.ledger }
    }

    pub(super) fn take_stats(&mut self) -> RegistryStats {
        let mut stats = RegistryStats { totals: self.totals(), ..RegistryStats::default() };
        for user in &self.users {
            stats.sessions += user.sessions.len() as u64;
            stats.pending += user.mailbox.pending_by_walking();
            stats.pending_bytes += user.mailbox.pending_bytes();
            stats.high_watermark = stats.high_watermark.max(u64::from(user.mailbox.pending()));
            stats.high_watermark_bytes = stats.high_watermark_bytes.max(user.mailbox.pending_bytes());
        }
        stats.high_watermark = stats.high_watermark.max(std::mem::take(&mut self.high_watermark));
        let bytes = std::mem::take(&mut self.high_watermark_bytes);
        stats.high_watermark_bytes = stats.high_watermark_bytes.max(bytes);
        stats.imbalance = self.ledger.imbalance(stats.pending);
        stats
    }

    fn find(&self, hash: u64, name: &str) -> Option<&User> {
        self.users.find(hash, |user| &*user.name == name).map(|user| &**user)
    }

    /// Removes a user with no session and nothing held, remembering only how far its past may have reached.
    fn forget(&mut self, hash: u64, name: &str) {
        if let Ok(entry) = self.users.find_entry(hash, |user| &*user.name == name) {
            let (user, _) = entry.remove();
            self.forgotten.remember(hash, &user.mailbox.floors());
        }
        // After a storm of connections the table must not stay large for ever.
        if self.users.capacity() > 64 && self.users.len() * 4 < self.users.capacity() {
            self.users.shrink_to(self.users.len() * 2, |user| user.hash);
        }
    }

    fn rebuild_timers(&mut self) {
        let set = self.users.iter().filter(|user| user.timer_s != u32::MAX);
        self.timers = set.map(|user| Reverse((user.timer_s, Arc::clone(&user.name), user.hash))).collect();
    }
}

/// The user; one who is not known begins with what is remembered of forgotten ones.
fn find_or_make<'a>(
    users: &'a mut HashTable<Box<User>>,
    forgotten: &mut Forgotten,
    hash: u64,
    name: &str,
    own: impl FnOnce() -> Arc<str>,
) -> &'a mut User {
    match users.entry(hash, |user| &*user.name == name, |user| user.hash) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            entry.insert(Box::new(User::new(hash, own(), forgotten.take(hash)))).into_mut()
        }
    }
}

/// The cursor of a session that begins now, and the mailbox's head.
fn start_of(mailbox: &Mailbox, start: StartAt, applied: u64) -> (Cursor, u64) {
    let head = applied.max(mailbox.last());
    let at_head = || mailbox.cursor_after(head, head);
    let cursor = match start {
        StartAt::Start => mailbox.cursor_at_start(head).unwrap_or_else(at_head),
        StartAt::Acked => mailbox.cursor_at_acked(head).unwrap_or_else(at_head),
        StartAt::Now => at_head(),
        StartAt::After(number) => mailbox.cursor_after(number, head),
    };
    (cursor, head)
}
