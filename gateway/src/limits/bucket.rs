//! Token buckets: `governor` counts, this decides how many buckets there may be.

use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use crate::config::Rate;

/// Buckets that are kept for keys of one kind. While there are so many, everybody shares [`SHARED_BUCKETS`] with others.
const MAX_BUCKETS: usize = 100_000;

/// How many buckets there are for all of them then: who empties one takes it from a thousandth of the others.
const SHARED_BUCKETS: usize = 1_024;

/// How many questions are answered between two looks for buckets that are full again.
const SWEEP_EVERY: u64 = 4_096;

/// One bucket.
#[derive(Debug)]
pub struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, DefaultClock, NoOpMiddleware>,
    burst: NonZeroU32,
}

/// A bucket for each key. A key costs nothing while its bucket is full, apart from the time until somebody looks.
#[derive(Debug)]
pub struct Buckets<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, HashMapStateStore<K>, DefaultClock, NoOpMiddleware>,
    shared: Box<[Bucket]>,
    hasher: RandomState,
    asked: AtomicU64,
    burst: NonZeroU32,
}

/// Why nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The bucket holds too few now, and enough after this time.
    Wait(Duration),
    /// More than fit into a full bucket, which holds so many.
    Never(u32),
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { limiter: RateLimiter::direct(quota(rate)), burst: rate.burst }
    }

    /// Takes `count` tokens, or none of them.
    ///
    /// # Errors
    /// When it holds fewer, or never holds so many.
    pub fn take(&self, count: u32) -> Result<(), Denied> {
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        match self.limiter.check_n(count) {
            Ok(taken) => taken.map_err(|not_until| Denied::Wait(wait(&not_until))),
            Err(_) => Err(Denied::Never(self.burst.get())),
        }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// When it holds none: how long it takes until it does.
    pub fn take_one(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|not_until| wait(&not_until))
    }
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Full ones.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            limiter: RateLimiter::hashmap(quota(rate)),
            shared: (0..SHARED_BUCKETS).map(|_| Bucket::new(rate)).collect(),
            hasher: RandomState::new(),
            asked: AtomicU64::new(0),
            burst: rate.burst,
        }
    }

    /// Takes `count` tokens from the bucket of `key`, or none of them.
    ///
    /// # Errors
    /// When it holds fewer, or never holds so many.
    pub fn take(&self, key: &K, count: u32) -> Result<(), Denied> {
        if let Some(shared) = self.shared_by(key) {
            return shared.take(count);
        }
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        match self.limiter.check_key_n(key, count) {
            Ok(taken) => taken.map_err(|not_until| Denied::Wait(wait(&not_until))),
            Err(_) => Err(Denied::Never(self.burst.get())),
        }
    }

    /// Takes one token from the bucket of `key`.
    ///
    /// # Errors
    /// When it holds none: how long it takes until it does.
    pub fn take_one(&self, key: &K) -> Result<(), Duration> {
        if let Some(shared) = self.shared_by(key) {
            return shared.take_one();
        }
        self.limiter.check_key(key).map_err(|not_until| wait(&not_until))
    }

    /// The bucket that `key` has to share because there are too many keys.
    fn shared_by(&self, key: &K) -> Option<&Bucket> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if asked % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.sweep();
        }
        let place =
            usize::try_from(self.hasher.hash_one(key) % SHARED_BUCKETS as u64).expect("below their number");
        (self.limiter.len() >= MAX_BUCKETS).then(|| &self.shared[place])
    }

    /// Forgets the keys whose bucket is full again.
    pub fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    /// Keys that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.limiter.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn quota(rate: Rate) -> Quota {
    let each = (rate.period / rate.tokens.get()).max(Duration::from_nanos(1));
    Quota::with_period(each).expect("longer than nothing").allow_burst(rate.burst)
}

fn wait<P: Reference>(not_until: &NotUntil<P>) -> Duration
where
    DefaultClock: Clock<Instant = P>,
{
    not_until.wait_time_from(DefaultClock::default().now())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Practically never gets a token back.
    fn slow(burst: u32) -> Rate {
        Rate { period: Duration::from_secs(3_600), ..Rate::per_second(1, burst) }
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_says_how_long_to_wait() {
        let bucket = Bucket::new(slow(3));
        assert_eq!(bucket.take(2), Ok(()));
        let Err(Denied::Wait(wait)) = bucket.take(2) else { panic!("one is left") };
        assert!(wait > Duration::from_secs(3_000), "{wait:?}");
        assert_eq!(bucket.take(1), Ok(()), "a refusal took nothing");
        assert_eq!(bucket.take(0), Ok(()));
    }

    #[test]
    fn what_does_not_fit_into_a_bucket_never_will() {
        let (bucket, buckets) = (Bucket::new(slow(3)), Buckets::new(slow(3)));
        assert_eq!((bucket.take(4), buckets.take(&"a", 4)), (Err(Denied::Never(3)), Err(Denied::Never(3))));
        assert_eq!((bucket.take(3), buckets.take(&"a", 3)), (Ok(()), Ok(())));
        assert!(bucket.take_one().is_err() && buckets.take_one(&"a").is_err());
    }

    #[test]
    fn one_key_is_not_another_and_full_buckets_are_forgotten() {
        let buckets = Buckets::new(slow(1));
        assert_eq!((buckets.take(&"a", 1), buckets.take(&"b", 1)), (Ok(()), Ok(())));
        assert!(buckets.take(&"a", 1).is_err());
        buckets.sweep();
        assert_eq!(buckets.len(), 2, "they are not full");
        let quick = Buckets::new(Rate::per_second(1_000_000_000, 1));
        (0..10_000).for_each(|key| quick.take(&key, 1).unwrap());
        quick.sweep();
        assert!(quick.is_empty());
    }

    #[test]
    fn strangers_beyond_the_places_share_buckets_and_few_of_them() {
        let buckets = Buckets::new(slow(1));
        (0..MAX_BUCKETS).for_each(|key| assert_eq!(buckets.take(&key, 1), Ok(())));
        let beyond = (MAX_BUCKETS..2 * MAX_BUCKETS).filter(|key| buckets.take_one(key).is_ok()).count();
        assert!((SHARED_BUCKETS / 2..=SHARED_BUCKETS).contains(&beyond), "{beyond}");
        assert_eq!(buckets.len(), MAX_BUCKETS);
    }
}
