//! Which requests were made before: idempotency keys, decided by apply, so that they hold across restarts and nodes.
//!
//! The first entry with a key counts; a later one within the window changes nothing and is answered as the first was.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use crate::domain::{Fingerprint, IdempotencyKey, NotificationId};
use crate::log::entry::Settings;

/// Places for keys that are kept although nobody needs them.
const SPARE_PLACES: usize = 1_024;

/// The keys that are remembered.
#[derive(Default)]
pub struct Idempotency {
    known: HashMap<Fingerprint, (First, u32)>,
    /// In the order of the log: the key, and the number of the request that was the first with it then.
    order: VecDeque<(Fingerprint, u64)>,
}

/// The first request with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First {
    /// What it said.
    pub body: Fingerprint,
    /// The name it was given.
    pub id: NotificationId,
    /// Its place in the log.
    pub number: u64,
    /// Mailboxes that took it.
    pub recipients: u32,
    /// Recipients that held a session when it came, as far as this node had heard.
    pub online: u32,
}

impl Idempotency {
    /// The first request with this key whose window has not passed.
    #[must_use]
    pub fn first(&self, key: &Fingerprint, log_time_s: u32) -> Option<&First> {
        self.known.get(key).filter(|(_, until_s)| log_time_s < *until_s).map(|(first, _)| first)
    }

    /// Keys that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// When [`Idempotency::tidy`] has something to forget, in seconds of log time.
    pub(super) fn next_due_s(&self) -> Option<u32> {
        let (key, number) = self.order.front()?;
        Some(self.since(key, *number).map_or(0, |(_, until_s)| *until_s))
    }

    pub(super) fn remember(&mut self, key: Fingerprint, first: First, settings: &Settings, log_time_s: u32) {
        let until_s = log_time_s.saturating_add(settings.idempotency_window_seconds);
        self.order.push_back((key, first.number));
        self.known.insert(key, (first, until_s));
        while self.order.len() > settings.idempotency_max_keys as usize {
            self.forget_oldest();
        }
    }

    /// Forgets keys whose window has passed, as far as none in front of them has a longer one.
    pub(super) fn tidy(&mut self, log_time_s: u32) {
        while let Some((key, number)) = self.order.front()
            && self.since(key, *number).is_none_or(|(_, until_s)| *until_s <= log_time_s)
        {
            self.forget_oldest();
        }
        // A crowd leaves no empty places behind.
        let len = self.known.len();
        if self.known.capacity() > SPARE_PLACES.max(8 * len) {
            self.known.shrink_to(2 * len);
            self.order.shrink_to(2 * len);
        }
    }

    /// What two nodes share that applied the same log.
    pub(super) fn describe(&self, out: &mut Vec<u8>, log_time_s: u32) {
        for (key, number) in &self.order {
            let Some((first, until_s)) =
                self.since(key, *number).filter(|(_, until_s)| *until_s > log_time_s)
            else {
                continue;
            };
            out.extend(key.0);
            out.extend(until_s.to_le_bytes());
            out.extend(first.body.0);
            out.extend(first.id.as_bytes());
            out.extend(first.number.to_le_bytes());
            out.extend(first.recipients.to_le_bytes());
        }
    }

    /// What is known of a key, unless another request with it came since this one.
    fn since(&self, key: &Fingerprint, number: u64) -> Option<&(First, u32)> {
        self.known.get(key).filter(|(first, _)| first.number == number)
    }

    fn forget_oldest(&mut self) {
        if let Some((key, number)) = self.order.pop_front()
            && self.since(&key, number).is_some()
        {
            self.known.remove(&key);
        }
    }
}

/// Keys of requests that this node is working on: a second one must not overtake the first.
#[derive(Default)]
pub(crate) struct InFlight(Mutex<HashSet<Fingerprint>>);

/// A request's hold on its keys; lets go when dropped.
pub(crate) struct Hold<'a> {
    in_flight: &'a InFlight,
    keys: Vec<Fingerprint>,
}

impl InFlight {
    /// Takes hold of nothing yet.
    pub(crate) fn hold(&self) -> Hold<'_> {
        Hold { in_flight: self, keys: Vec::new() }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Fingerprint>> {
        self.0.lock().expect("no code panics while it holds the keys")
    }
}

impl Hold<'_> {
    /// Takes hold of one key more; `false` if another request holds it.
    #[must_use]
    pub(crate) fn take(&mut self, key: &IdempotencyKey) -> bool {
        let free = self.in_flight.lock().insert(key.key);
        if free {
            self.keys.push(key.key);
        }
        free
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            let mut in_flight = self.in_flight.lock();
            for key in &self.keys {
                in_flight.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_crowd_of_keys_leaves_no_empty_places_behind() {
        let settings = crate::log::entry::Settings {
            idempotency_window_seconds: 10,
            idempotency_max_keys: 1_000_000,
            ..super::super::tests::options().settings
        };
        let id = NotificationId::from_uuid(Uuid::from_u128(1));
        let mut idempotency = Idempotency::default();
        for number in 0..50_000_u64 {
            let mut key = [0; Fingerprint::BYTES];
            key[..8].copy_from_slice(&number.to_le_bytes());
            let first = First { body: Fingerprint(key), id, number, recipients: 1, online: 0 };
            idempotency.remember(Fingerprint(key), first, &settings, 0);
        }
        assert_eq!(idempotency.next_due_s(), Some(10));
        idempotency.tidy(9);
        assert_eq!(idempotency.len(), 50_000);
        idempotency.tidy(10);
        assert!(idempotency.is_empty() && idempotency.next_due_s().is_none());
        assert!(idempotency.known.capacity() <= SPARE_PLACES, "{}", idempotency.known.capacity());
        assert!(idempotency.order.capacity() <= SPARE_PLACES, "{}", idempotency.order.capacity());
    }
}
