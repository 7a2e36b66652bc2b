//! A log that lives as long as the process: for tests, benchmarks and whoever wants no disk.
//!
//! It keeps the whole contract, trimming included, and has a bound of its own: beyond it appends are refused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::{
    AppendError, BoxFuture, Claim, Durability, Log, LogEntry, LogState, MAX_ENTRY_BYTES, NewEntry, ReadError,
    Tail, TailError,
};
use crate::clock::Clock;
use crate::domain::Epoch;

/// The most entries a tail returns at once.
const TAIL_BATCH: usize = 1_024;

/// What an entry costs beside its payload, for the bound: its slot and its buffer's header.
const ENTRY_OVERHEAD_BYTES: u64 = 96;

/// Room beyond the bound that only housekeeping may use: a full log must still take the decision to give something up.
const HOUSEKEEPING_RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// Entries in memory, oldest first.
pub struct MemoryLog {
    shared: Arc<Shared>,
    clock: Clock,
    max_bytes: u64,
}

struct Shared {
    epoch: Epoch,
    entries: Mutex<Entries>,
    grown: Notify,
}

struct Entries {
    /// The number of `kept[0]`.
    first: u64,
    kept: VecDeque<LogEntry>,
    bytes: u64,
    /// The newest entry's timestamp: the next one's is not before it.
    timestamp_ms: u64,
}

struct MemoryTail {
    shared: Arc<Shared>,
    after: u64,
}

impl MemoryLog {
    /// An empty log that holds at most `max_bytes`.
    #[must_use]
    pub fn new(epoch: Epoch, clock: Clock, max_bytes: u64) -> Self {
        let entries = Entries { first: 1, kept: VecDeque::new(), bytes: 0, timestamp_ms: 0 };
        Self {
            shared: Arc::new(Shared { epoch, entries: Mutex::new(entries), grown: Notify::new() }),
            clock,
            max_bytes,
        }
    }

    fn append_now(&self, batch: Vec<NewEntry>) -> Vec<Result<u64, AppendError>> {
        let now_ms = self.clock.now_ms();
        let results = {
            let mut entries = self.shared.lock();
            entries.timestamp_ms = entries.timestamp_ms.max(now_ms);
            batch.into_iter().map(|entry| entries.push(entry, self.max_bytes)).collect()
        };
        self.shared.grown.notify_waiters();
        results
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("no code panics while it holds the log")
    }
}

impl Entries {
    fn push(&mut self, entry: NewEntry, max_bytes: u64) -> Result<u64, AppendError> {
        let NewEntry { payload, claim } = entry;
        if payload.len() > MAX_ENTRY_BYTES {
            return Err(AppendError::TooLarge(payload.len()));
        }
        let cost = payload.len() as u64 + ENTRY_OVERHEAD_BYTES;
        let reserve = if claim == Claim::Ordinary { 0 } else { HOUSEKEEPING_RESERVE_BYTES };
        if self.bytes + cost > max_bytes + reserve {
            return Err(AppendError::Full);
        }
        let number = self.head() + 1;
        self.bytes += cost;
        self.kept.push_back(LogEntry { number, timestamp_ms: self.timestamp_ms, payload });
        Ok(number)
    }

    fn head(&self) -> u64 {
        self.first + self.kept.len() as u64 - 1
    }

    fn get(&self, number: u64) -> Option<&LogEntry> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.kept.get(index)
    }

    /// What stands behind `after`; `None` when nothing does yet.
    fn behind(&self, after: u64) -> Result<Option<Vec<LogEntry>>, TailError> {
        if after + 1 < self.first {
            return Err(TailError::Trimmed { first: self.first });
        }
        let skip = usize::try_from(after + 1 - self.first).unwrap_or(usize::MAX);
        if skip >= self.kept.len() {
            return Ok(None);
        }
        Ok(Some(self.kept.range(skip..).take(TAIL_BATCH).cloned().collect()))
    }
}

impl Log for MemoryLog {
    fn append(&self, batch: Vec<NewEntry>) -> BoxFuture<'_, Vec<Result<u64, AppendError>>> {
        let results = self.append_now(batch);
        Box::pin(std::future::ready(results))
    }

    fn tail(&self, after: u64) -> Result<Box<dyn Tail>, TailError> {
        self.shared.lock().behind(after)?;
        Ok(Box::new(MemoryTail { shared: Arc::clone(&self.shared), after }))
    }

    fn read(&self, numbers: Vec<u64>) -> BoxFuture<'_, Result<Vec<Option<LogEntry>>, ReadError>> {
        let entries = self.shared.lock();
        let found = numbers.into_iter().map(|number| entries.get(number).cloned()).collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn state(&self) -> BoxFuture<'_, Result<LogState, ReadError>> {
        let entries = self.shared.lock();
        let state = LogState {
            epoch: self.shared.epoch,
            first: entries.first,
            head: entries.head(),
            bytes: entries.bytes,
            free_bytes: self.max_bytes.saturating_sub(entries.bytes),
            reserve_bytes: 0,
            short_of_room_until: (entries.bytes > self.max_bytes / 4 * 3)
                .then(|| entries.first + entries.kept.len() as u64 / 3),
        };
        Box::pin(std::future::ready(Ok(state)))
    }

    fn trim(&self, through: u64) -> BoxFuture<'_, ()> {
        let mut entries = self.shared.lock();
        while entries.first <= through
            && let Some(dropped) = entries.kept.pop_front()
        {
            entries.first += 1;
            entries.bytes -= dropped.payload.len() as u64 + ENTRY_OVERHEAD_BYTES;
        }
        if entries.kept.len() * 4 < entries.kept.capacity() {
            let room = entries.kept.len() * 2;
            entries.kept.shrink_to(room);
        }
        Box::pin(std::future::ready(()))
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }
}

impl Tail for MemoryTail {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<LogEntry>, TailError>> {
        Box::pin(async move {
            loop {
                // Registered before looking: an append in between is not missed.
                let grown = self.shared.grown.notified();
                if let Some(entries) = self.shared.lock().behind(self.after)? {
                    self.after = entries.last().map_or(self.after, |last| last.number);
                    return Ok(entries);
                }
                grown.await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::log::contract;

    fn new_log(clock: Clock) -> MemoryLog {
        MemoryLog::new(Epoch::from_bits(1), clock, 1 << 30)
    }

    contract::log_contract_tests!(new_log(Clock::system()));
    contract::log_clock_contract_tests!(new_log);

    #[tokio::test]
    async fn a_full_log_takes_housekeeping_only() {
        let log = MemoryLog::new(Epoch::from_bits(1), Clock::system(), 50_000);
        contract::a_full_log_takes_housekeeping_only(Arc::new(log)).await;
    }

    #[tokio::test]
    async fn beyond_its_bound_it_refuses_until_it_is_trimmed() {
        let log = MemoryLog::new(Epoch::from_bits(1), Clock::system(), 3 * (ENTRY_OVERHEAD_BYTES + 200));
        let entry = NewEntry::ordinary(Bytes::from(vec![b'x'; 200]));
        let results = log.append(vec![entry.clone(); 4]).await;
        assert_eq!(results, [Ok(1), Ok(2), Ok(3), Err(AppendError::Full)]);
        assert_eq!(log.state().await.unwrap().short_of_room_until, Some(2));
        log.trim(2).await;
        assert_eq!(log.state().await.unwrap().short_of_room_until, None);
        assert_eq!(
            log.append(vec![entry.clone(), entry.clone(), entry]).await,
            [Ok(4), Ok(5), Err(AppendError::Full)]
        );
        let decision = NewEntry::housekeeping(Bytes::from_static(b"give up"));
        assert_eq!(log.append(vec![decision]).await, [Ok(6)], "a decision always fits");
    }

    /// A log whose tail keeps only the newest when it is behind, as a bounded channel would.
    struct Lossy(MemoryLog);

    struct LossyTail(Box<dyn Tail>);

    impl Log for Lossy {
        fn append(&self, batch: Vec<NewEntry>) -> BoxFuture<'_, Vec<Result<u64, AppendError>>> {
            self.0.append(batch)
        }

        fn tail(&self, after: u64) -> Result<Box<dyn Tail>, TailError> {
            Ok(Box::new(LossyTail(self.0.tail(after)?)))
        }

        fn read(&self, numbers: Vec<u64>) -> BoxFuture<'_, Result<Vec<Option<LogEntry>>, ReadError>> {
            self.0.read(numbers)
        }

        fn state(&self) -> BoxFuture<'_, Result<LogState, ReadError>> {
            self.0.state()
        }

        fn trim(&self, through: u64) -> BoxFuture<'_, ()> {
            self.0.trim(through)
        }

        fn durability(&self) -> Durability {
            self.0.durability()
        }
    }

    impl Tail for LossyTail {
        fn next(&mut self) -> BoxFuture<'_, Result<Vec<LogEntry>, TailError>> {
            Box::pin(async {
                let mut entries = self.0.next().await?;
                entries.drain(..entries.len().saturating_sub(100));
                Ok(entries)
            })
        }
    }

    #[tokio::test]
    async fn the_suite_finds_a_tail_that_drops_when_it_is_slow() {
        let suite = contract::a_slow_tail_delays_nobody_and_misses_nothing(Arc::new(Lossy(new_log(
            Clock::manual(1_000_000).0,
        ))));
        let found = tokio::spawn(suite).await;
        assert!(found.is_err_and(|error| error.is_panic()), "it must not pass");
    }
}
