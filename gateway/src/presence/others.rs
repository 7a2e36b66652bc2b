//! What is known of the other nodes: that they live, and whom they have online.
//!
//! Users are 64-bit hashes of their names, the same on every node and in every build. A node counts the changes that it says;
//! whoever knows another count than it says has missed something, knows nothing of its users for certain, and asks for all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hashbrown::HashTable;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::message::NodeId;
use crate::delivery::Elsewhere;

/// A node that was silent for so long is gone: three heartbeats.
pub(super) const SILENCE: Duration = Duration::from_secs(3);

/// The least time between two questions for all users of a node.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Nodes that are kept in mind: more than a stream can serve.
pub(super) const MAX_NODES: usize = 1_024;

/// Users of all other nodes that are kept in mind, 9 to 20 bytes each; more are not, and count as offline.
const MAX_USERS: usize = 2 * 1024 * 1024;

/// The other nodes.
#[derive(Debug, Default)]
pub struct Others {
    nodes: Mutex<HashMap<NodeId, Known>>,
    /// Users of all of them; what the applying task looks at first.
    held: AtomicUsize,
}

/// What is known of one node.
#[derive(Debug)]
struct Known {
    heard_at: Instant,
    /// It takes clients of others.
    welcomes: bool,
    /// How many of its changes `users` has.
    version: Option<u64>,
    users: HashTable<u64>,
    /// Parts of all its users that have come so far.
    parts: Option<Parts>,
    asked_at: Option<Instant>,
}

#[derive(Debug)]
struct Parts {
    version: u64,
    next: u32,
    users: HashTable<u64>,
}

/// The hash of a user's name on every node.
pub(super) fn hash(user: &str) -> u64 {
    xxh3_64(user.as_bytes())
}

impl Others {
    /// Nodes that live.
    pub(super) fn alive(&self) -> Vec<NodeId> {
        self.lock().keys().copied().collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Users of theirs that are kept in mind.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// It said something; whether it is new. Of too many at once those that come later are not known.
    pub(super) fn heard(&self, from: NodeId, now: Instant) -> bool {
        let mut nodes = self.lock();
        let known = nodes.len();
        if known >= MAX_NODES && !nodes.contains_key(&from) {
            return false;
        }
        nodes.entry(from).or_insert_with(|| Known::new(now)).heard_at = now;
        nodes.len() > known
    }

    /// It said whether it takes clients of others.
    pub(super) fn welcomes(&self, from: NodeId, welcomes: bool) {
        if let Some(node) = self.lock().get_mut(&from) {
            node.welcomes = welcomes;
        }
    }

    /// Whether any of them takes clients of others.
    pub(super) fn any_welcomes(&self) -> bool {
        self.lock().values().any(|node| node.welcomes)
    }

    /// It has said so many changes; whether to ask for all its users.
    pub(super) fn has_said(&self, from: NodeId, version: u64, now: Instant) -> bool {
        let mut nodes = self.lock();
        let Some(node) = nodes.get_mut(&from) else { return false };
        let missed = node.version.is_none_or(|known| known < version);
        let ask = missed && node.asked_at.is_none_or(|asked_at| now >= asked_at + ASK_AGAIN);
        if ask {
            node.asked_at = Some(now);
        }
        ask
    }

    /// Takes a change, if none before it is missing.
    pub(super) fn change(&self, from: NodeId, version: u64, came: &[u64], went: &[u64]) {
        let mut nodes = self.lock();
        let mut room = MAX_USERS.saturating_sub(self.held());
        let Some(node) = nodes.get_mut(&from) else { return };
        if version.checked_sub(1).is_none_or(|before| node.version != Some(before)) {
            return;
        }
        node.version = Some(version);
        for user in went {
            if let Ok(entry) = node.users.find_entry(*user, |known| known == user) {
                entry.remove();
                room += 1;
            }
        }
        insert(&mut node.users, came, &mut room);
        // After a storm of connections it must not stay large for ever.
        if node.users.capacity() > 1_024 && node.users.len() * 4 < node.users.capacity() {
            node.users.shrink_to(node.users.len() * 2, |user| *user);
        }
        self.count_held(&nodes);
    }

    /// Takes a part of all its users; what was known of them is replaced once all parts have come.
    pub(super) fn take(&self, from: NodeId, version: u64, (part, parts): (u32, u32), users: &[u64]) {
        let mut nodes = self.lock();
        let others: usize =
            nodes.iter().filter(|(node, _)| **node != from).map(|(_, node)| node.users.len()).sum();
        let Some(node) = nodes.get_mut(&from) else { return };
        let mut gathered = match node.parts.take() {
            _ if part == 0 => Parts { version, next: 0, users: HashTable::new() },
            Some(gathered) if gathered.version == version && gathered.next == part => gathered,
            // One of them was lost: they will be asked for again.
            _ => return,
        };
        let mut room = MAX_USERS.saturating_sub(others + gathered.users.len());
        insert(&mut gathered.users, users, &mut room);
        gathered.next += 1;
        if gathered.next < parts {
            node.parts = Some(gathered);
            return;
        }
        (node.version, node.users) = (Some(version), gathered.users);
        self.count_held(&nodes);
    }

    /// It is gone; whether it was known.
    pub(super) fn remove(&self, node: NodeId) -> bool {
        let mut nodes = self.lock();
        let known = nodes.remove(&node).is_some();
        self.count_held(&nodes);
        known
    }

    /// Removes those who were silent for too long.
    pub(super) fn bury(&self, now: Instant) -> Vec<NodeId> {
        let mut nodes = self.lock();
        let silent = nodes.extract_if(|_, node| now >= node.heard_at + SILENCE);
        let silent = silent.map(|(node, _)| node).collect();
        self.count_held(&nodes);
        silent
    }

    fn count_held(&self, nodes: &HashMap<NodeId, Known>) {
        self.held.store(nodes.values().map(|node| node.users.len()).sum(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Known>> {
        self.nodes.lock().expect("no code panics while it holds the nodes")
    }
}

impl Elsewhere for Others {
    fn online(&self, users: &mut dyn Iterator<Item = &str>) -> u32 {
        let nodes = self.lock();
        let online = users.filter(|user| {
            let hash = hash(user);
            nodes.values().any(|node| node.users.find(hash, |known| *known == hash).is_some())
        });
        u32::try_from(online.count()).unwrap_or(u32::MAX)
    }

    fn users(&self) -> u32 {
        u32::try_from(self.held()).unwrap_or(u32::MAX)
    }
}

impl Known {
    fn new(now: Instant) -> Self {
        let users = HashTable::new();
        Self { heard_at: now, welcomes: false, version: None, users, parts: None, asked_at: None }
    }
}

/// Inserts as many as there is room for.
fn insert(users: &mut HashTable<u64>, new: &[u64], room: &mut usize) {
    for user in new {
        if *room > 0 && users.find(*user, |known| known == user).is_none() {
            users.insert_unique(*user, *user, |user| *user);
            *room -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
