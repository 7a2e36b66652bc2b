//! The real mailbox against the model, step by step, under random operations.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::client::Client;
use super::model::{Entry, Model, ModelCursor};
use super::property::{fixed_runner, holds};
use crate::domain::{Priority, RemovalReason};
use crate::registry::mailbox::{Floors, Mailbox, Put, Readers};
use crate::registry::{Arrival, Bounds, Cursor, Effects, Final, Item, OverflowPolicy, PullLimits, StartAt};

const SESSIONS: usize = 5;
const MAX_OPERATIONS: usize = 600;
const UNLIMITED: PullLimits = PullLimits { frames: usize::MAX, bytes: u64::MAX };

/// A mailbox under test; what it does not override is the real thing.
pub(super) trait Subject {
    fn mailbox(&mut self) -> &mut Mailbox;

    fn put(&mut self, arrival: &Arrival, bounds: &Bounds, readers: Readers, effects: &mut Effects) -> Put {
        self.mailbox().put(arrival, recipient_of(arrival), bounds, readers, effects)
    }

    fn ack(&mut self, (after, until): (u64, u64), bounds: &Bounds, readers: Readers, effects: &mut Effects) {
        self.mailbox().ack(after, until, bounds, readers, effects);
    }

    fn expire(&mut self, log_time_s: u32, effects: &mut Effects) {
        self.mailbox().expire(log_time_s, effects);
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

/// Any index will do, as long as it comes back.
pub(super) fn recipient_of(arrival: &Arrival) -> u32 {
    arrival.bytes + 7
}

#[derive(Debug, Clone)]
enum Operation {
    Push {
        step: u64,
        bytes: u32,
        /// 0: volatile.
        ttl_s: u32,
        priority: Priority,
        collapse_key: u64,
    },
    Pull {
        session: usize,
        limits: PullLimits,
    },
    /// The connection breaks after some of what was pulled, and comes back behind that.
    Resume {
        session: usize,
        limits: PullLimits,
        received: usize,
    },
    Expire {
        after_s: u32,
    },
    Ack {
        after_permille: u64,
        until_permille: u64,
    },
    Withdraw {
        permille: u64,
    },
    GiveUp {
        permille: u64,
    },
    Forget,
    /// A number of the log that is of no concern to this mailbox.
    Skip,
    Join {
        session: usize,
        start: StartAt,
    },
    Leave {
        session: usize,
    },
    /// Other bounds come into force.
    OtherBounds,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let priority = prop::sample::select(&Priority::ALL[..]);
    let ttl_s = prop_oneof![1 => Just(0_u32), 6 => 1..30_u32, 6 => 1..1_000_u32];
    let collapse_key = prop_oneof![4 => Just(0_u64), 1 => 1..5_u64];
    let push = (1..=5_u64, 0..40_u32, ttl_s, priority, collapse_key).prop_map(
        |(step, bytes, ttl_s, priority, collapse_key)| Operation::Push {
            step,
            bytes,
            ttl_s,
            priority,
            collapse_key,
        },
    );
    let limits = || (1..8_usize, 1..200_u64).prop_map(|(frames, bytes)| PullLimits { frames, bytes });
    let permille = || prop_oneof![2 => 0..=1_000_u64, 1 => 900..=1_000_u64];
    let start = prop_oneof![
        2 => (0..=1_000_u64).prop_map(StartAt::After),
        1 => Just(StartAt::Start),
        1 => Just(StartAt::Acked),
        1 => Just(StartAt::Now),
    ];
    // Nobody acks and nothing is cleared: holes grow large.
    let quiet = prop_oneof![
        14 => push.clone(),
        4 => (0..SESSIONS, limits()).prop_map(|(session, limits)| Operation::Pull { session, limits }),
        4 => (0..25_u32).prop_map(|after_s| Operation::Expire { after_s }),
        1 => permille().prop_map(|permille| Operation::Withdraw { permille }),
        3 => (0..SESSIONS, start.clone()).prop_map(|(session, start)| Operation::Join { session, start }),
    ];
    let operation = prop_oneof![
        140 => push,
        40 => (0..SESSIONS, limits()).prop_map(|(session, limits)| Operation::Pull { session, limits }),
        10 => (0..SESSIONS, limits(), 0..4_usize)
            .prop_map(|(session, limits, received)| Operation::Resume { session, limits, received }),
        30 => (0..25_u32).prop_map(|after_s| Operation::Expire { after_s }),
        20 => (permille(), permille())
            .prop_map(|(after_permille, until_permille)| Operation::Ack { after_permille, until_permille }),
        15 => permille().prop_map(|permille| Operation::Withdraw { permille }),
        1 => (0..1_000_u64).prop_map(|permille| Operation::GiveUp { permille }),
        1 => Just(Operation::Forget),
        10 => Just(Operation::Skip),
        30 => (0..SESSIONS, start).prop_map(|(session, start)| Operation::Join { session, start }),
        5 => (0..SESSIONS).prop_map(|session| Operation::Leave { session }),
        2 => Just(Operation::OtherBounds),
    ];
    prop_oneof![3 => vec(operation, 1..MAX_OPERATIONS), 4 => vec(quiet, MAX_OPERATIONS / 2..MAX_OPERATIONS)]
}

#[derive(Debug)]
pub(super) struct Scenario {
    floors: Floors,
    bounds: [Bounds; 2],
    operations: Vec<Operation>,
}

pub(super) fn scenarios() -> impl Strategy<Value = Scenario> {
    (floors(), bounds(), bounds(), operations()).prop_map(|(floors, first, second, operations)| Scenario {
        floors,
        bounds: [first, second],
        operations,
    })
}

/// Mostly a user of whom nothing was ever forgotten.
fn floors() -> impl Strategy<Value = Floors> {
    let missing = vec((prop::sample::select(&RemovalReason::ALL[..]), 1..20_u64), 1..4);
    let raised = missing.prop_map(|missing| {
        let mut floors = Floors::default();
        for (reason, number) in missing {
            floors.raise(reason, number);
        }
        floors
    });
    prop_oneof![3 => Just(Floors::default()), 1 => raised]
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let policy = prop_oneof![4 => Just(OverflowPolicy::DropOldest), 1 => Just(OverflowPolicy::Reject)];
    (1..=40_u32, prop_oneof![20..400_u64, Just(1 << 20)], policy, 0..8_u32)
        .prop_map(|(max_count, max_bytes, policy, history)| Bounds { max_count, max_bytes, policy, history })
}

struct Session {
    cursor: Cursor,
    model: ModelCursor,
    client: Client,
}

/// Both mailboxes, the log's head and the log's time.
struct Comparison<S> {
    subject: S,
    /// The same mailbox on a node where nobody is connected.
    elsewhere: Mailbox,
    model: Model,
    bounds: [Bounds; 2],
    head: u64,
    now_s: u32,
    sessions: [Option<Session>; SESSIONS],
}

/// Runs the operations on both and returns the model as it is in the end.
pub(super) fn compare(mut subject: impl Subject, scenario: &Scenario) -> Result<Model, TestCaseError> {
    let Scenario { floors, bounds, operations } = scenario;
    *subject.mailbox() = Mailbox::new(*floors);
    let mut comparison = Comparison {
        subject,
        elsewhere: Mailbox::new(*floors),
        model: Model::new(*floors),
        bounds: *bounds,
        head: floors.until(),
        now_s: 0,
        sessions: [const { None }; SESSIONS],
    };
    for session in 0..SESSIONS {
        comparison.join(session, StartAt::After(0))?;
    }
    for operation in operations {
        comparison.step(operation)?;
        comparison.check_sums()?;
    }
    for session in 0..SESSIONS {
        comparison.pull(session, UNLIMITED, usize::MAX)?;
        let Some(Session { client, .. }) = &comparison.sessions[session] else { continue };
        prop_assert!(client.position >= comparison.model.last(), "a full pull reaches the end");
        let came = comparison.model.came().iter().map(Entry::number);
        client.accounts_for(came).map_err(TestCaseError::fail)?;
    }
    Ok(comparison.model)
}

impl<S: Subject> Comparison<S> {
    fn step(&mut self, operation: &Operation) -> Result<(), TestCaseError> {
        let (bounds, readers) = (self.bounds[0], self.readers());
        let (mut effects, mut elsewhere, mut expected) = (Effects::default(), Effects::default(), Vec::new());
        match *operation {
            Operation::Push { step, bytes, ttl_s, priority, collapse_key } => {
                self.head += step;
                let volatile = ttl_s == 0;
                let expires_at_s = self.now_s + if volatile { 5 } else { ttl_s };
                let arrival =
                    Arrival { number: self.head, expires_at_s, bytes, priority, collapse_key, volatile };
                let recipient = recipient_of(&arrival);
                let put = self.model.put(&arrival, recipient, &bounds, readers, &mut expected);
                self.elsewhere.put(&arrival, recipient, &bounds, Readers::NONE, &mut elsewhere);
                prop_assert_eq!(self.subject.put(&arrival, &bounds, readers, &mut effects), put);
            }
            Operation::Pull { session, limits } => self.pull(session, limits, usize::MAX)?,
            Operation::Resume { session, limits, received } => {
                self.pull(session, limits, received)?;
                if let Some(Session { client, .. }) = &self.sessions[session] {
                    let client = client.clone();
                    self.join(session, StartAt::After(client.position))?;
                    self.sessions[session] =
                        self.sessions[session].take().map(|session| Session { client, ..session });
                }
            }
            Operation::Expire { after_s } => {
                self.now_s += after_s;
                self.model.expire(self.now_s, &mut expected);
                self.elsewhere.expire(self.now_s, &mut elsewhere);
                self.subject.expire(self.now_s, &mut effects);
            }
            Operation::Ack { after_permille, until_permille } => {
                let (after, until) = (self.number_at(after_permille), self.number_at(until_permille));
                self.model.ack(after, until, &bounds, readers, &mut expected);
                self.elsewhere.ack(after, until, &bounds, Readers::NONE, &mut elsewhere);
                self.subject.ack((after, until), &bounds, readers, &mut effects);
            }
            Operation::Withdraw { permille } => {
                let number = self.number_at(permille);
                self.model.withdraw(number, &mut expected);
                self.elsewhere.withdraw(number, &mut elsewhere);
                self.subject.mailbox().withdraw(number, &mut effects);
            }
            Operation::GiveUp { permille } => {
                let through = self.number_at(permille);
                self.model.give_up(through, &mut expected);
                self.elsewhere.give_up(through, &mut elsewhere);
                self.subject.mailbox().give_up(through, &mut effects);
            }
            Operation::Forget => {
                self.model.forget(&mut expected);
                self.elsewhere.forget(&mut elsewhere);
                self.subject.mailbox().forget(&mut effects);
            }
            Operation::Skip => self.head += 1,
            Operation::Join { session, start } => {
                let start = match start {
                    StartAt::After(permille) => StartAt::After(self.number_at(permille)),
                    start => start,
                };
                self.join(session, start)?;
            }
            Operation::Leave { session } => self.sessions[session] = None,
            Operation::OtherBounds => self.bounds.swap(0, 1),
        }
        let by_number = |mut finals: Vec<Final>| {
            finals.sort_unstable_by_key(|one| one.number);
            finals
        };
        let expected = by_number(expected);
        prop_assert_eq!(&by_number(effects.finals), &expected);
        prop_assert_eq!(&by_number(elsewhere.finals), &expected, "sessions decide nothing");
        Ok(())
    }

    /// A number of the log: this share of what there is.
    fn number_at(&self, permille: u64) -> u64 {
        self.head * permille / 1_000
    }

    fn readers(&self) -> Readers {
        let slowest = self.sessions.iter().flatten().map(|session| session.cursor.number).min();
        slowest.map_or(Readers::NONE, |slowest| Readers { slowest })
    }

    /// In front of something means behind all that went before it: whoever joins at the start is told of no gap.
    fn join(&mut self, session: usize, start: StartAt) -> Result<(), TestCaseError> {
        let (head, mailbox) = (self.head, self.subject.mailbox());
        let (found, expected) = match start {
            StartAt::Start => (mailbox.cursor_at_start(head), self.model.start()),
            StartAt::Acked => (mailbox.cursor_at_acked(head), self.model.acked_position()),
            StartAt::Now => (None, None),
            StartAt::After(number) => (Some(mailbox.cursor_after(number, head)), Some(number)),
        };
        let cursor = found.unwrap_or_else(|| mailbox.cursor_after(head, head));
        prop_assert_eq!(cursor.number, expected.unwrap_or(head), "joined at {:?}", start);
        let mut model = self.model.cursor_after(cursor.number, head);
        if start == StartAt::Start {
            let items = self.subject.pull(&mut cursor.clone(), UNLIMITED);
            let gap_in_front = self.model.pull(&mut model.clone(), UNLIMITED);
            let same = items.iter().zip(&gap_in_front).all(|(item, expected)| expected.allows(item));
            prop_assert!(same, "from the start came {:?}, expected {:?}", items, gap_in_front);
        }
        model.number = cursor.number;
        self.sessions[session] = Some(Session { cursor, model, client: Client::at(cursor.number) });
        Ok(())
    }

    /// A session reads, and its client gets the first of it.
    fn pull(&mut self, session: usize, limits: PullLimits, received: usize) -> Result<(), TestCaseError> {
        let Some(Session { cursor, model, client }) = &mut self.sessions[session] else { return Ok(()) };
        let items = self.subject.pull(cursor, limits);
        let expected = self.model.pull(model, limits);
        let same = items.len() == expected.len()
            && items.iter().zip(&expected).all(|(item, expected)| expected.allows(item));
        prop_assert!(same, "pulled {:?}\nexpected {:?}", items, expected);
        prop_assert_eq!(cursor.number, model.number);
        for item in items.iter().take(received) {
            client.receive(item).map_err(TestCaseError::fail)?;
        }
        prop_assert!(items.len() > received || client.position == cursor.number);
        Ok(())
    }

    fn check_sums(&mut self) -> Result<(), TestCaseError> {
        let (mailbox, model) = (self.subject.mailbox(), &self.model);
        prop_assert_eq!(mailbox.pending(), model.pending());
        prop_assert_eq!(mailbox.pending_by_walking(), u64::from(model.pending()));
        prop_assert_eq!(mailbox.pending_bytes(), model.pending_bytes());
        prop_assert_eq!(mailbox.is_empty(), model.describe().is_empty());
        prop_assert_eq!(mailbox.oldest(), model.oldest());
        prop_assert_eq!(mailbox.last(), model.last());
        prop_assert_eq!(mailbox.next_due_s(), model.next_due_s());
        let (mut described, mut elsewhere) = (Vec::new(), Vec::new());
        mailbox.describe(&mut described);
        self.elsewhere.describe(&mut elsewhere);
        prop_assert_eq!(&described, &model.describe(), "what is pending, and the history");
        prop_assert_eq!(described, elsewhere, "sessions decide nothing");
        if mailbox.is_empty() {
            let floors = mailbox.floors();
            prop_assert_eq!(floors.until(), model.last(), "what is left to say covers all that came");
            for reason in RemovalReason::ALL {
                let known = RemovalReason::ALL.into_iter().filter(|graver| *graver >= reason);
                let known = known.map(|graver| floors.of(graver)).max();
                prop_assert!(known >= Some(model.last_missing(reason)), "{:?} would sound milder", reason);
            }
            let loss = floors.of(RemovalReason::Overflow);
            prop_assert!(model.last_missing(RemovalReason::Overflow) > 0 || loss == 0, "nothing was lost");
        }
        Ok(())
    }
}

pub(super) fn an_empty_mailbox() -> Mailbox {
    Mailbox::new(Floors::default())
}

#[test]
fn a_mailbox_behaves_as_its_model() {
    holds(&scenarios(), |scenario| compare(an_empty_mailbox(), &scenario).map(drop));
}

#[test]
fn the_random_operations_reach_what_is_rare() {
    let (large_holes, histories, ends) = (Cell::new(0), Cell::new(0), Cell::new([0_u32; 5]));
    let outcome = fixed_runner(60).run(&scenarios(), |scenario| {
        let model = compare(an_empty_mailbox(), &scenario)?;
        large_holes.set(large_holes.get() + u32::from(model.largest_hole_behind_the_oldest() > 32));
        histories.set(histories.get() + u32::from(model.history() > 0));
        let mut counts = ends.get();
        for entry in model.came() {
            counts[entry.reason_to_miss() as usize - 1] += u32::from(!entry.is_pending());
        }
        ends.set(counts);
        Ok(())
    });
    outcome.unwrap();
    assert!(large_holes.get() >= 5, "only {large_holes:?} of 60 cases compact");
    assert!(histories.get() >= 3, "only {histories:?} of 60 cases have a history");
    assert!(ends.get().iter().all(|count| *count > 50), "{ends:?}");
}
