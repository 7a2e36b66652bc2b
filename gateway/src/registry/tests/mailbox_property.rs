//! The real mailbox against the model, step by step, under random operations.
//!
//! The same property then meets mailboxes with a fault built in, one at a time: a property that does not find those would
//! prove nothing.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use super::model::{Client, Model, ModelCursor};
use crate::domain::{GapReason, Priority};
use crate::registry::mailbox::{Floors, Mailbox, Put};
use crate::registry::{Arrival, Bounds, Cursor, Item, OverflowPolicy, PullLimits};

const SESSIONS: usize = 5;
const MAX_OPERATIONS: usize = 600;

/// A mailbox under test; what it does not override is the real thing.
trait Subject {
    fn mailbox(&mut self) -> &mut Mailbox;

    fn put(&mut self, arrival: &Arrival, bounds: &Bounds) -> Put {
        self.mailbox().put(arrival, bounds)
    }

    fn expire(&mut self, log_time_ms: u64) -> u32 {
        self.mailbox().expire(log_time_ms)
    }

    fn pull(&mut self, cursor: &mut Cursor, limits: PullLimits) -> Vec<Item> {
        let mut items = Vec::new();
        Mailbox::pull(self.mailbox(), cursor, limits, &mut items);
        items
    }
}

impl Subject for Mailbox {
    fn mailbox(&mut self) -> &mut Mailbox {
        self
    }
}

#[derive(Debug, Clone)]
enum Operation {
    Push {
        step: u64,
        bytes: u32,
        ttl_ms: u64,
        priority: Priority,
    },
    Pull {
        session: usize,
        limits: PullLimits,
    },
    Expire {
        after_ms: u64,
    },
    /// A number of the log that is of no concern to this mailbox.
    Skip,
    JoinAfter {
        session: usize,
        permille_of_head: u64,
    },
    JoinAtStart {
        session: usize,
    },
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let priority = prop::sample::select(&Priority::ALL[..]);
    let limits = (1..8_usize, 1..200_u64).prop_map(|(frames, bytes)| PullLimits { frames, bytes });
    let operation = prop_oneof![
        14 => (1..=5_u64, 0..40_u32, prop_oneof![0..30_u64, 0..1_000_u64], priority)
            .prop_map(|(step, bytes, ttl_ms, priority)| Operation::Push { step, bytes, ttl_ms, priority }),
        4 => (0..SESSIONS, limits).prop_map(|(session, limits)| Operation::Pull { session, limits }),
        4 => (0..25_u64).prop_map(|after_ms| Operation::Expire { after_ms }),
        1 => Just(Operation::Skip),
        2 => (0..SESSIONS, 0..=1_000_u64)
            .prop_map(|(session, permille_of_head)| Operation::JoinAfter { session, permille_of_head }),
        1 => (0..SESSIONS).prop_map(|session| Operation::JoinAtStart { session }),
    ];
    vec(operation, 1..MAX_OPERATIONS)
}

#[derive(Debug)]
struct Scenario {
    floors: Floors,
    bounds: Bounds,
    operations: Vec<Operation>,
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    (floors(), bounds(), operations()).prop_map(|(floors, bounds, operations)| Scenario {
        floors,
        bounds,
        operations,
    })
}

/// Mostly a user of whom nothing was ever forgotten.
fn floors() -> impl Strategy<Value = Floors> {
    prop_oneof![
        3 => Just(Floors::default()),
        1 => (0..20_u64, 0..20_u64).prop_map(|(benign, loss)| Floors { benign, loss }),
    ]
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let policy = prop_oneof![4 => Just(OverflowPolicy::DropOldest), 1 => Just(OverflowPolicy::Reject)];
    (1..=40_u32, prop_oneof![20..400_u64, Just(1 << 20)], policy)
        .prop_map(|(max_count, max_bytes, policy)| Bounds { max_count, max_bytes, policy })
}

struct Session {
    cursor: Cursor,
    model: ModelCursor,
    client: Client,
}

/// Both mailboxes, the log's head and the log's time.
struct Comparison<S> {
    subject: S,
    model: Model,
    bounds: Bounds,
    head: u64,
    now_ms: u64,
    sessions: Vec<Session>,
}

/// Runs the operations on both and returns the model as it is in the end.
fn compare(mut subject: impl Subject, scenario: &Scenario) -> Result<Model, TestCaseError> {
    let Scenario { floors, bounds, operations } = scenario;
    *subject.mailbox() = Mailbox::new(*floors);
    let mut comparison = Comparison {
        subject,
        model: Model::new(*floors),
        bounds: *bounds,
        head: floors.benign.max(floors.loss),
        now_ms: 0,
        sessions: Vec::new(),
    };
    for _ in 0..SESSIONS {
        let session = comparison.join_after(0);
        comparison.sessions.push(session);
    }
    for operation in operations {
        comparison.step(operation)?;
        comparison.check_sums()?;
    }
    for session in 0..SESSIONS {
        comparison.pull(session, PullLimits { frames: usize::MAX, bytes: u64::MAX })?;
        let client = comparison.sessions[session].client;
        prop_assert!(client.position >= comparison.model.last(), "a full pull reaches the end");
    }
    Ok(comparison.model)
}

impl<S: Subject> Comparison<S> {
    fn step(&mut self, operation: &Operation) -> Result<(), TestCaseError> {
        match *operation {
            Operation::Push { step, bytes, ttl_ms, priority } => {
                self.head += step;
                let expires_at_ms = self.now_ms + ttl_ms;
                let arrival = Arrival { number: self.head, expires_at_ms, bytes, priority };
                let expected = self.model.put(&arrival, &self.bounds);
                prop_assert_eq!(self.subject.put(&arrival, &self.bounds), expected);
            }
            Operation::Pull { session, limits } => self.pull(session, limits)?,
            Operation::Expire { after_ms } => {
                self.now_ms += after_ms;
                prop_assert_eq!(self.subject.expire(self.now_ms), self.model.expire(self.now_ms));
            }
            Operation::Skip => self.head += 1,
            Operation::JoinAfter { session, permille_of_head } => {
                self.sessions[session] = self.join_after(self.head * permille_of_head / 1_000);
            }
            Operation::JoinAtStart { session } => self.join_at_start(session)?,
        }
        Ok(())
    }

    fn join_after(&mut self, number: u64) -> Session {
        let cursor = self.subject.mailbox().cursor_after(number);
        Session { cursor, model: self.model.cursor_after(number), client: Client { position: cursor.number } }
    }

    /// In front of the oldest means behind all that went before it: such a session starts without a gap.
    fn join_at_start(&mut self, session: usize) -> Result<(), TestCaseError> {
        let cursor = self.subject.mailbox().cursor_at_start();
        prop_assert_eq!(cursor.is_some(), self.model.oldest().is_some());
        if let (Some(cursor), Some(oldest)) = (cursor, self.model.oldest()) {
            prop_assert!(cursor.number < oldest);
            let model = self.model.cursor_after(cursor.number);
            self.sessions[session] = Session { cursor, model, client: Client { position: cursor.number } };
            let items = self.subject.pull(&mut cursor.clone(), PullLimits { frames: 1, bytes: 1 });
            let starts_right =
                matches!(items.first(), Some(Item::Notification { number, .. }) if *number == oldest);
            prop_assert!(starts_right, "from the start came {:?}", items);
        }
        Ok(())
    }

    fn pull(&mut self, session: usize, limits: PullLimits) -> Result<(), TestCaseError> {
        let Session { cursor, model, client } = &mut self.sessions[session];
        let items = self.subject.pull(cursor, limits);
        let expected = self.model.pull(model, limits);
        let same = items.len() == expected.len()
            && items.iter().zip(&expected).all(|(item, expected)| expected.allows(item));
        prop_assert!(same, "pulled {:?}\nexpected {:?}", items, expected);
        prop_assert_eq!(cursor.number, model.number);
        for item in &items {
            client.receive(item).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(client.position, cursor.number);
        Ok(())
    }

    fn check_sums(&mut self) -> Result<(), TestCaseError> {
        let (mailbox, model) = (self.subject.mailbox(), &self.model);
        prop_assert_eq!(mailbox.pending(), model.pending());
        prop_assert_eq!(mailbox.pending_bytes(), model.pending_bytes());
        prop_assert_eq!(mailbox.oldest(), model.oldest());
        prop_assert_eq!(mailbox.last(), model.last());
        prop_assert_eq!(mailbox.next_due_ms(), model.next_due_ms());
        if mailbox.pending() == 0 {
            let floors = mailbox.floors();
            prop_assert_eq!(floors.benign.max(floors.loss), model.last());
            prop_assert!(floors.loss >= model.last_loss(), "a loss would be announced as benign");
            prop_assert!(model.last_loss() > 0 || floors.loss == 0, "nothing was lost");
        }
        Ok(())
    }
}

fn an_empty_mailbox() -> Mailbox {
    Mailbox::new(Floors::default())
}

proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_mailbox_behaves_as_its_model(scenario in scenarios()) {
        compare(an_empty_mailbox(), &scenario)?;
    }
}

/// Always the same cases, so that a fault is found in each run or in none.
fn fixed_runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn the_random_operations_make_holes_large_enough_to_compact() {
    let large_holes = Cell::new(0);
    let outcome = fixed_runner(60).run(&scenarios(), |scenario| {
        let model = compare(an_empty_mailbox(), &scenario)?;
        large_holes.set(large_holes.get() + u32::from(model.largest_hole_behind_the_oldest() > 32));
        Ok(())
    });
    outcome.unwrap();
    assert!(large_holes.get() >= 5, "only {large_holes:?} of 60 cases");
}

/// What a faulty mailbox does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    UncountedEviction,
    LostNotification,
    LyingCount,
    MilderReason,
    DroppedNewest,
    LateExpiry,
}

struct Faulty {
    mailbox: Mailbox,
    fault: Fault,
}

impl Subject for Faulty {
    fn mailbox(&mut self) -> &mut Mailbox {
        &mut self.mailbox
    }

    fn put(&mut self, arrival: &Arrival, bounds: &Bounds) -> Put {
        let full = self.mailbox.pending() == bounds.max_count && bounds.policy == OverflowPolicy::DropOldest;
        if self.fault == Fault::DroppedNewest && full {
            // Too large to make room for, so it goes itself; the answer pretends otherwise.
            self.mailbox.put(&Arrival { bytes: u32::MAX, ..*arrival }, bounds);
            return Put::Kept { evicted: 1 };
        }
        match self.mailbox.put(arrival, bounds) {
            Put::Kept { evicted: evicted @ 1.. } if self.fault == Fault::UncountedEviction => {
                Put::Kept { evicted: evicted - 1 }
            }
            honest => honest,
        }
    }

    fn expire(&mut self, log_time_ms: u64) -> u32 {
        let late = u64::from(self.fault == Fault::LateExpiry);
        self.mailbox.expire(log_time_ms.saturating_sub(late))
    }

    fn pull(&mut self, cursor: &mut Cursor, limits: PullLimits) -> Vec<Item> {
        let mut items = Vec::new();
        self.mailbox.pull(cursor, limits, &mut items);
        if self.fault == Fault::LostNotification && items.len() > 2 {
            items.remove(1);
        }
        for item in &mut items {
            match item {
                Item::Gap { count: Some(count @ 2..), .. } if self.fault == Fault::LyingCount => *count -= 1,
                Item::Gap { reason, .. } if self.fault == Fault::MilderReason => *reason = GapReason::Expired,
                _ => {}
            }
        }
        items
    }
}

fn the_property_holds_with(fault: Fault) -> bool {
    let outcome = fixed_runner(60).run(&scenarios(), |scenario| {
        compare(Faulty { mailbox: an_empty_mailbox(), fault }, &scenario).map(drop)
    });
    outcome.is_ok()
}

#[test]
fn the_wrapper_alone_breaks_nothing() {
    assert!(the_property_holds_with(Fault::None));
}

#[test]
fn the_property_finds_an_eviction_that_nobody_counted() {
    assert!(!the_property_holds_with(Fault::UncountedEviction));
}

#[test]
fn the_property_finds_a_notification_that_a_pull_lost() {
    assert!(!the_property_holds_with(Fault::LostNotification));
}

#[test]
fn the_property_finds_a_gap_that_lies_about_its_count() {
    assert!(!the_property_holds_with(Fault::LyingCount));
}

#[test]
fn the_property_finds_a_loss_that_is_announced_as_benign() {
    assert!(!the_property_holds_with(Fault::MilderReason));
}

#[test]
fn the_property_finds_a_mailbox_that_drops_the_newest_instead() {
    assert!(!the_property_holds_with(Fault::DroppedNewest));
}

#[test]
fn the_property_finds_an_expiry_that_comes_too_late() {
    assert!(!the_property_holds_with(Fault::LateExpiry));
}
