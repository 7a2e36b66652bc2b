//! The suite that every log must pass; it tests the sentences of [`super::Log`]'s contract.

use std::time::Duration;

use bytes::Bytes;

use super::{
    AppendError, BoxFuture, Durability, Log, LogEntry, LogState, MAX_ENTRY_BYTES, NewEntry, ReadError, Tail,
    TailError,
};
use crate::clock::ClockHand;

/// Declares one test a sentence for the log that the expression makes.
macro_rules! log_contract_tests {
    ($new_log:expr) => {
        $crate::log::contract::log_contract_tests!(@each $new_log;
            numbers_are_dense_and_survive_trimming,
            a_batch_keeps_its_order_among_concurrent_callers,
            the_tail_shows_old_and_new_entries_without_a_seam,
            a_slow_tail_delays_nobody_and_misses_nothing,
            a_tail_that_was_trimmed_away_says_so,
            reads_return_what_the_tail_shows,
            an_entry_too_large_is_refused_alone,
            a_dropped_tail_future_loses_nothing,
            an_empty_log_has_no_first_entry_yet,
            a_dropped_append_future_loses_only_the_answer,
            a_tail_far_behind_catches_up_while_more_comes,
            trimming_keeps_numbers_and_bytes_of_what_stays,
            what_was_acknowledged_is_there_for_whoever_looks_next,
        );
    };
    (@each $new_log:expr; $($name:ident,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::log::contract::$name(std::sync::Arc::new($new_log)).await;
            }
        )*
    };
}
pub(crate) use log_contract_tests;

/// Declares the tests of a log that takes its time from a clock; the expression is a function from a clock to a log.
macro_rules! log_clock_contract_tests {
    ($new_log:expr) => {
        #[tokio::test]
        async fn timestamps_never_step_back_whatever_the_clock_does() {
            let (clock, hand) = $crate::clock::Clock::manual(5_000_000);
            let log = std::sync::Arc::new($new_log(clock));
            $crate::log::contract::timestamps_never_step_back_whatever_the_clock_does(log, hand).await;
        }
    };
}
pub(crate) use log_clock_contract_tests;

type AnyLog = std::sync::Arc<dyn Log>;

/// A log and what has to live as long as it: its directory, its server.
pub(crate) struct With<L, G> {
    pub(crate) log: L,
    pub(crate) guard: G,
}

impl<L: Log, G: Send + Sync + 'static> Log for With<L, G> {
    fn append(&self, batch: Vec<NewEntry>) -> BoxFuture<'_, Vec<Result<u64, AppendError>>> {
        self.log.append(batch)
    }

    fn tail(&self, after: u64) -> Result<Box<dyn Tail>, TailError> {
        self.log.tail(after)
    }

    fn read(&self, numbers: Vec<u64>) -> BoxFuture<'_, Result<Vec<Option<LogEntry>>, ReadError>> {
        self.log.read(numbers)
    }

    fn state(&self) -> BoxFuture<'_, Result<LogState, ReadError>> {
        self.log.state()
    }

    fn trim(&self, through: u64) -> BoxFuture<'_, ()> {
        self.log.trim(through)
    }

    fn durability(&self) -> Durability {
        self.log.durability()
    }
}

fn payload(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn payloads(prefix: &str, count: usize) -> Vec<Bytes> {
    (0..count).map(|index| payload(&format!("{prefix}{index}"))).collect()
}

fn entries(payloads: Vec<Bytes>) -> Vec<NewEntry> {
    payloads.into_iter().map(NewEntry::ordinary).collect()
}

async fn append(log: &AnyLog, batch: Vec<Bytes>) -> Vec<u64> {
    log.append(entries(batch)).await.into_iter().map(|result| result.expect("the log takes it")).collect()
}

async fn take(tail: &mut Box<dyn Tail>, count: usize) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    while entries.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(10), tail.next()).await;
        entries.extend(next.expect("the tail delivers").expect("the tail is whole"));
    }
    entries
}

pub(crate) async fn numbers_are_dense_and_survive_trimming(log: AnyLog) {
    assert_eq!(append(&log, payloads("a", 3)).await, [1, 2, 3]);
    assert_eq!(append(&log, payloads("b", 2)).await, [4, 5]);
    let before = log.state().await.unwrap();
    assert_eq!((before.first, before.head), (1, 5));
    log.trim(5).await;
    // A log may have said something itself.
    let head = log.state().await.unwrap().head;
    assert!((5..=6).contains(&head));
    assert_eq!(append(&log, payloads("c", 1)).await, [head + 1]);
    let after = log.state().await.unwrap();
    assert_eq!(after.head, head + 1);
    assert_eq!(after.epoch, before.epoch);
}

pub(crate) async fn a_batch_keeps_its_order_among_concurrent_callers(log: AnyLog) {
    const CALLERS: usize = 16;
    const BATCHES: usize = 8;
    let callers = (0..CALLERS).map(|caller| {
        let log = log.clone();
        tokio::spawn(async move {
            for batch in 0..BATCHES {
                let numbers = append(&log, payloads(&format!("{caller}:{batch}:"), 5)).await;
                assert!(numbers.is_sorted());
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let entries = take(&mut log.tail(0).unwrap(), CALLERS * BATCHES * 5).await;
    for caller in 0..CALLERS {
        let prefix = format!("{caller}:");
        let own = entries.iter().filter(|entry| entry.payload.starts_with(prefix.as_bytes()));
        let expected = (0..BATCHES).flat_map(|batch| payloads(&format!("{caller}:{batch}:"), 5));
        assert!(own.map(|entry| entry.payload.clone()).eq(expected));
    }
}

pub(crate) async fn the_tail_shows_old_and_new_entries_without_a_seam(log: AnyLog) {
    append(&log, payloads("old", 3)).await;
    let mut tail = log.tail(1).unwrap();
    let appending = tokio::spawn({
        let log = log.clone();
        async move {
            for _ in 0..500 {
                append(&log, payloads("new", 3)).await;
                tokio::task::yield_now().await;
            }
        }
    });
    let entries = take(&mut tail, 1_502).await;
    appending.await.unwrap();
    assert!(entries.iter().map(|entry| entry.number).eq(2..=1_503));
    assert_eq!(entries[1].payload, payload("old2"));
    assert_eq!(entries[2].payload, payload("new0"));
}

pub(crate) async fn a_slow_tail_delays_nobody_and_misses_nothing(log: AnyLog) {
    let mut slow = log.tail(0).unwrap();
    let mut quick = log.tail(0).unwrap();
    append(&log, payloads("first", 1)).await;
    assert_eq!(take(&mut slow, 1).await[0].number, 1);
    append(&log, payloads("x", 5_000)).await;
    assert_eq!(take(&mut quick, 5_001).await.len(), 5_001);
    let late = take(&mut slow, 5_000).await;
    assert!(late.iter().map(|entry| entry.number).eq(2..=5_001));
}

pub(crate) async fn a_tail_that_was_trimmed_away_says_so(log: AnyLog) {
    append(&log, payloads("x", 10)).await;
    let mut behind = log.tail(2).unwrap();
    log.trim(6).await;
    let first = log.state().await.unwrap().first;
    assert!(first <= 7);
    if first > 3 {
        assert_eq!(behind.next().await, Err(TailError::Trimmed { first }));
        assert!(matches!(log.tail(2), Err(TailError::Trimmed { .. })));
        assert_eq!(log.read(vec![2]).await.unwrap(), [None]);
    }
    let mut ahead = log.tail(6).unwrap();
    assert!(take(&mut ahead, 4).await.iter().take(4).map(|entry| entry.number).eq(7..=10));
}

pub(crate) async fn reads_return_what_the_tail_shows(log: AnyLog) {
    append(&log, payloads("x", 4)).await;
    let shown = take(&mut log.tail(0).unwrap(), 4).await;
    let read = log.read(vec![3, 1, 5, 0]).await.unwrap();
    assert_eq!(read, [Some(shown[2].clone()), Some(shown[0].clone()), None, None]);
}

pub(crate) async fn what_was_acknowledged_is_there_for_whoever_looks_next(log: AnyLog) {
    let mut open = log.tail(0).unwrap();
    for round in 1..=50_u64 {
        let sent = payload(&format!("round {round}"));
        assert_eq!(append(&log, vec![sent.clone()]).await, [round]);
        let state = log.state().await.unwrap();
        assert_eq!(state.head, round);
        let read = log.read(vec![round]).await.unwrap().remove(0).expect("it was acknowledged");
        assert_eq!((read.number, &read.payload), (round, &sent));
        assert_eq!(
            take(&mut log.tail(round - 1).unwrap(), 1).await,
            std::slice::from_ref(&read),
            "a new tail shows it"
        );
        assert_eq!(take(&mut open, 1).await, [read], "and so does an open one");
        assert_eq!(log.state().await.unwrap().epoch, state.epoch);
    }
}

pub(crate) async fn an_entry_too_large_is_refused_alone(log: AnyLog) {
    let largest = Bytes::from(vec![b'x'; MAX_ENTRY_BYTES]);
    let too_large = Bytes::from(vec![b'x'; MAX_ENTRY_BYTES + 1]);
    let results = log.append(entries(vec![payload("a"), too_large, largest.clone()])).await;
    assert_eq!(results, [Ok(1), Err(AppendError::TooLarge(MAX_ENTRY_BYTES + 1)), Ok(2)]);
    assert_eq!(take(&mut log.tail(0).unwrap(), 2).await[1].payload, largest);
}

pub(crate) async fn a_dropped_tail_future_loses_nothing(log: AnyLog) {
    let mut tail = log.tail(0).unwrap();
    {
        let mut waiting = std::pin::pin!(tail.next());
        let pending =
            std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context))).await;
        assert!(pending.is_pending());
        append(&log, payloads("x", 1)).await;
    }
    assert_eq!(take(&mut tail, 1).await[0].number, 1);
}

pub(crate) async fn a_dropped_append_future_loses_only_the_answer(log: AnyLog) {
    drop(log.append(entries(payloads("dropped", 2))));
    append(&log, payloads("kept", 1)).await;
    let head = log.state().await.unwrap().head;
    let shown = take(&mut log.tail(0).unwrap(), usize::try_from(head).unwrap()).await;
    let shown: Vec<Bytes> = shown.into_iter().map(|entry| entry.payload).collect();
    let whole = [payloads("dropped", 2), payloads("kept", 1)].concat();
    assert!(shown == whole || shown == payloads("kept", 1), "a batch was torn apart: {shown:?}");
}

pub(crate) async fn an_empty_log_has_no_first_entry_yet(log: AnyLog) {
    let state = log.state().await.unwrap();
    assert_eq!((state.first, state.head), (1, 0));
    log.trim(100).await;
    assert_eq!(append(&log, payloads("x", 1)).await, [1]);
}

/// More than any log keeps at hand in memory: the tail must find the seam between there and wherever the rest is.
pub(crate) async fn a_tail_far_behind_catches_up_while_more_comes(log: AnyLog) {
    const BATCHES: u64 = 150;
    const BATCH: u64 = 200;
    let filling = "x".repeat(400);
    let batch = |index: u64| (0..BATCH).map(|place| payload(&format!("{index}:{place}:{filling}"))).collect();
    for index in 0..BATCHES {
        append(&log, batch(index)).await;
    }
    let mut tail = log.tail(0).unwrap();
    let mut shown = take(&mut tail, 1).await;
    for index in BATCHES..BATCHES + 20 {
        append(&log, batch(index)).await;
    }
    let all = (BATCHES + 20) * BATCH;
    shown.extend(take(&mut tail, usize::try_from(all).unwrap() - shown.len()).await);
    assert!(shown.iter().map(|entry| entry.number).eq(1..=all));
    for (index, entry) in (0..).zip(&shown) {
        assert!(entry.payload.starts_with(format!("{}:{}:", index / BATCH, index % BATCH).as_bytes()));
    }
}

pub(crate) async fn trimming_keeps_numbers_and_bytes_of_what_stays(log: AnyLog) {
    append(&log, payloads("x", 300)).await;
    let whole = take(&mut log.tail(0).unwrap(), 300).await;
    let mut allowed = 0;
    let mut head = 300;
    for through in [0, 100, 50, 299, 1_000] {
        log.trim(through).await;
        allowed = through.min(head).max(allowed);
        let state = log.state().await.unwrap();
        assert!((head..=head + 1).contains(&state.head), "{} after {head}", state.head);
        head = state.head;
        assert!(state.first <= allowed + 1, "{} after trimming through {through}", state.first);
        if state.first <= 300 {
            let mut tail = log.tail(state.first - 1).unwrap();
            let left = usize::try_from(301 - state.first).unwrap();
            assert_eq!(take(&mut tail, left).await[..left], whole[whole.len() - left..]);
        }
        assert_eq!(log.read(vec![state.first - 1]).await.unwrap(), [None]);
    }
}

pub(crate) async fn timestamps_never_step_back_whatever_the_clock_does(log: AnyLog, hand: ClockHand) {
    let mut now_ms = 5_000;
    for (index, ms) in [5_000, 6_000, 4_000, 1_000, 6_500].into_iter().enumerate() {
        hand.set(ms * 1_000);
        append(&log, payloads("x", 3)).await;
        now_ms = ms.max(now_ms);
        let last = log.read(vec![3 * (index as u64 + 1)]).await.unwrap();
        assert_eq!(last[0].as_ref().unwrap().timestamp_ms, now_ms);
    }
    let shown = take(&mut log.tail(0).unwrap(), 15).await;
    assert!(shown.is_sorted_by_key(|entry| entry.timestamp_ms));
}

/// For a log that has little room left: it is filled, and then takes what keeps the gateway going, and nothing else.
pub(crate) async fn a_full_log_takes_housekeeping_only(log: AnyLog) {
    let ordinary = || vec![NewEntry::ordinary(Bytes::from(vec![b'x'; 1_000])); 10];
    for _ in 0..10_000 {
        if log.append(ordinary()).await.contains(&Err(AppendError::Full)) {
            break;
        }
    }
    let head = log.state().await.unwrap().head;
    let mixed = [ordinary(), vec![NewEntry::housekeeping(payload("decision"))]].concat();
    let results = log.append(mixed).await;
    assert!(results[..10].iter().all(|result| *result == Err(AppendError::Full)), "{results:?}");
    assert_eq!(results[10], Ok(head + 1));
    let shown = take(&mut log.tail(head).unwrap(), 1).await;
    assert_eq!(shown[0].payload, payload("decision"));
}
