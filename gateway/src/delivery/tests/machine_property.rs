//! The state machine against its model, entry by entry, under random logs and with sessions that come and go.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::machine_model::{MachineModel, Outcome, Told};
use super::script::{
    KEYS, Operation, Pace, TOPICS, USERS, Writer, decode, key_of, settings, timed_operation,
};
use crate::delivery::{Effect, NoReport, State, StateMachine};
use crate::log::LogEntry;
use crate::log::entry::{Entry, Settings};
use crate::registry::tests::client::Client;
use crate::registry::tests::model::{Entry as Came, Fate};
use crate::registry::tests::property::{fixed_runner, holds};
use crate::registry::{Cursor, PullLimits, SessionHandle, SessionId, StartAt, UserKey};

const SESSIONS: usize = 6;
pub(super) const PACE: Pace = Pace { lasting_s: 90, step_ms: 2_000, leap_ms: 60_000, back_ms: 5_000 };
const UNLIMITED: PullLimits = PullLimits { frames: usize::MAX, bytes: u64::MAX };
/// When the first entry is stamped.
const BEGIN_MS: u64 = 1_000_000;

/// A state machine under test; what it does not override is the real thing.
pub(super) trait Subject {
    fn apply(&mut self, state: &State, number: u64, timestamp_ms: u64, entry: &Entry) -> Effect;
}

impl Subject for StateMachine {
    fn apply(&mut self, state: &State, number: u64, timestamp_ms: u64, entry: &Entry) -> Effect {
        Self::apply(self, state, number, timestamp_ms, entry)
    }
}

#[derive(Debug, Clone)]
enum Action {
    /// An entry comes, so many milliseconds after the one before.
    Entry(i64, Operation),
    /// `After` holds the share of the log behind which the session starts.
    Attach {
        session: usize,
        user: usize,
        start: StartAt,
    },
    /// The client gets only the first of what was pulled; if that is not all, it comes back behind it.
    Pull {
        session: usize,
        limits: PullLimits,
        received: usize,
    },
    Detach {
        session: usize,
    },
}

#[derive(Debug)]
pub(super) struct Scenario {
    settings: Settings,
    actions: Vec<Action>,
}

pub(super) fn scenarios() -> impl Strategy<Value = Scenario> {
    let start = prop_oneof![
        3 => (0..=1_000_u64).prop_map(StartAt::After),
        1 => Just(StartAt::Start),
        1 => Just(StartAt::Acked),
        1 => Just(StartAt::Now),
    ];
    let limits = (1..6_usize, 1..200_u64).prop_map(|(frames, bytes)| PullLimits { frames, bytes });
    let received = prop_oneof![2 => Just(usize::MAX), 1 => 0..3_usize];
    let of_a_session = prop_oneof![
        2 => (0..SESSIONS, 0..USERS.len(), start)
            .prop_map(|(session, user, start)| Action::Attach { session, user, start }),
        6 => (0..SESSIONS, limits, received)
            .prop_map(|(session, limits, received)| Action::Pull { session, limits, received }),
        1 => (0..SESSIONS).prop_map(|session| Action::Detach { session }),
    ];
    let entry = timed_operation(PACE).prop_map(|(later_ms, operation)| Action::Entry(later_ms, operation));
    let actions = proptest::collection::vec(prop_oneof![2 => entry, 1 => of_a_session], 1..240);
    (settings(PACE.lasting_s), actions).prop_map(|(settings, actions)| Scenario { settings, actions })
}

struct Session {
    user: &'static str,
    key: UserKey,
    handle: Arc<SessionHandle>,
    cursor: Cursor,
    attached_at: u64,
    client: Client,
}

struct Comparison<S> {
    state: State,
    subject: S,
    model: MachineModel,
    writer: Writer,
    head: u64,
    clock_ms: u64,
    sessions: [Option<Session>; SESSIONS],
    next_session: u64,
}

/// Runs the scenario on both and returns the model as it is in the end.
pub(super) fn compare(subject: impl Subject, scenario: &Scenario) -> Result<MachineModel, TestCaseError> {
    let mut comparison = Comparison::new(subject);
    comparison.entry(0, &Operation::Settings(scenario.settings.clone()))?;
    for action in &scenario.actions {
        match action {
            Action::Entry(later_ms, operation) => comparison.entry(*later_ms, operation)?,
            Action::Attach { session, user, start } => {
                let start = match *start {
                    StartAt::After(permille) => StartAt::After(comparison.head * permille / 1_000),
                    start => start,
                };
                comparison.attach(*session, USERS[*user], start)?;
            }
            Action::Pull { session, limits, received } => comparison.pull(*session, *limits, *received)?,
            Action::Detach { session } => comparison.detach(*session)?,
        }
    }
    for session in 0..SESSIONS {
        comparison.pull(session, UNLIMITED, usize::MAX)?;
        let Some(Session { user, client, .. }) = &comparison.sessions[session] else { continue };
        let Some(user) = comparison.model.users.get(*user) else { continue };
        prop_assert!(client.position >= user.mailbox.last(), "a full pull reaches the end");
        let came = user.mailbox.came().iter().map(Came::number);
        client.accounts_for(came).map_err(TestCaseError::fail)?;
    }
    Ok(comparison.model)
}

/// Applies a log as it is shown, from its first entry on, to both.
pub(super) fn compare_shown(entries: &[LogEntry]) -> Result<(), TestCaseError> {
    let mut comparison = Comparison::new(StateMachine::new());
    for entry in entries {
        prop_assert_eq!(entry.number, comparison.head + 1);
        (comparison.head, comparison.clock_ms) = (entry.number, entry.timestamp_ms);
        comparison.apply(&decode(&entry.payload))?;
    }
    Ok(())
}

impl<S: Subject> Comparison<S> {
    fn new(subject: S) -> Self {
        Self {
            state: State::new(),
            subject,
            model: MachineModel::default(),
            writer: Writer::default(),
            head: 0,
            clock_ms: BEGIN_MS,
            sessions: [const { None }; SESSIONS],
            next_session: 0,
        }
    }

    fn entry(&mut self, later_ms: i64, operation: &Operation) -> Result<(), TestCaseError> {
        self.head += 1;
        self.clock_ms = self.clock_ms.saturating_add_signed(later_ms);
        let entry = decode(&self.writer.write(operation, self.head, self.clock_ms));
        self.apply(&entry)
    }

    /// Applies the entry at the head.
    fn apply(&mut self, entry: &Entry) -> Result<(), TestCaseError> {
        let online: BTreeSet<String> =
            self.sessions.iter().flatten().map(|session| session.user.to_owned()).collect();
        let expected = self.model.apply(self.head, self.clock_ms, entry, &online);
        let effect = self.subject.apply(&self.state, self.head, self.clock_ms, entry);
        prop_assert_eq!(told(&effect), expected);
        self.check()
    }

    fn attach(&mut self, session: usize, user: &'static str, start: StartAt) -> Result<(), TestCaseError> {
        self.detach(session)?;
        let registry = &self.state.registry;
        self.next_session += 1;
        let handle = Arc::new(SessionHandle::new(SessionId(self.next_session), 0));
        let key = registry.key(user);
        let attached = registry.attach(&key, Arc::clone(&handle), start, self.head, SESSIONS);
        prop_assert_eq!(attached.head, self.head);
        let mailbox = self.model.users.get(user).map(|user| &user.mailbox);
        let number = attached.cursor.number;
        match start {
            StartAt::After(after) => prop_assert_eq!(number, after),
            StartAt::Now => prop_assert_eq!(number, self.head),
            StartAt::Acked => {
                let first = mailbox.and_then(|mailbox| mailbox.came().iter().find(|one| one.is_pending()));
                let last_final = mailbox.and_then(|mailbox| mailbox.acked_position());
                let first = first.map_or(self.head + 1, |first| first.number());
                let range = last_final.unwrap_or(self.head)..first;
                prop_assert!(range.contains(&number), "started at {}, not in {:?}", number, range);
            }
            StartAt::Start => {
                let mut came = mailbox.into_iter().flat_map(|mailbox| mailbox.came());
                let held = came.find(|one| matches!(one.fate, Fate::Pending | Fate::Acked));
                prop_assert!(held.is_none_or(|held| number < held.number()), "{:?} at {}", held, number);
            }
        }
        let client = Client::at(number);
        let (cursor, attached_at) = (attached.cursor, attached.head);
        self.sessions[session] = Some(Session { user, key, handle, cursor, attached_at, client });
        Ok(())
    }

    fn detach(&mut self, session: usize) -> Result<(), TestCaseError> {
        if let Some(Session { key, handle, .. }) = self.sessions[session].take() {
            prop_assert!(self.state.registry.detach(&key, handle.id()));
        }
        Ok(())
    }

    fn pull(&mut self, session: usize, limits: PullLimits, received: usize) -> Result<(), TestCaseError> {
        let Some(Session { user, key, handle, cursor, attached_at, client }) = &mut self.sessions[session]
        else {
            return Ok(());
        };
        let (before, mut items) = (cursor.number, Vec::new());
        let more = self.state.registry.pull(key, cursor, limits, &mut items);
        handle.has_read(cursor.number);
        let position = self.model.judge(user, before, *attached_at, &items).map_err(TestCaseError::fail)?;
        prop_assert_eq!(position, cursor.number);
        let last = self.model.users.get(*user).map_or(0, |user| user.mailbox.last());
        prop_assert!(more || position >= last, "the end is reached");
        for item in items.iter().take(received) {
            client.receive(item).map_err(TestCaseError::fail)?;
        }
        if received < items.len() {
            let (user, client) = (*user, client.clone());
            self.attach(session, user, StartAt::After(client.position))?;
            self.sessions[session] =
                self.sessions[session].take().map(|session| Session { client, ..session });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let (state, model) = (&self.state, &self.model);
        prop_assert_eq!(state.log_time_ms(), model.log_time_ms);
        prop_assert_eq!(state.settings().map(|(_, settings)| settings), model.settings.clone());
        self.check_mailboxes()?;
        self.check_outcomes()?;
        for topic in TOPICS {
            let members: BTreeSet<String> =
                state.topics().members(topic).iter().map(|name| name.to_string()).collect();
            prop_assert_eq!(members, model.topics.get(topic).cloned().unwrap_or_default());
        }
        for user in USERS {
            let topics = state.topics().topics_of(user);
            let expected = model.topics.iter().filter(|(_, members)| members.contains(user));
            prop_assert!(topics.iter().map(|name| &**name).eq(expected.map(|(topic, _)| topic.as_str())));
        }
        for key in 0..KEYS {
            if let Some(number) = model.remembered(&key_of(key)) {
                let first = state.idempotency().first(&key_of(key), model.now_s()).map(|first| first.number);
                prop_assert_eq!(first, Some(number));
            }
        }
        Ok(())
    }

    fn check_mailboxes(&self) -> Result<(), TestCaseError> {
        let described: BTreeMap<String, Vec<u8>> =
            self.state.registry.describe().into_iter().map(|(user, held)| (user.to_string(), held)).collect();
        let expected: BTreeMap<String, Vec<u8>> = self
            .model
            .users
            .iter()
            .map(|(user, known)| (user.clone(), known.mailbox.describe()))
            .filter(|(_, held)| !held.is_empty())
            .collect();
        prop_assert_eq!(described, expected, "pending and history");
        for (name, user) in &self.model.users {
            let summary = self.state.registry.summary(name, self.head);
            prop_assert_eq!(summary.pending, user.mailbox.pending());
            if let Some(acked) = user.mailbox.acked_position() {
                let first = user.mailbox.came().iter().find(|one| one.is_pending()).unwrap().number();
                prop_assert!((acked..first).contains(&summary.acked), "{} acked {}", name, summary.acked);
            }
            let held = user.mailbox.came().iter().filter(|one| one.is_pending());
            prop_assert_eq!(summary.pending_bytes, held.map(|one| u64::from(one.arrival.bytes)).sum::<u64>());
            if let Some(settings) = &self.model.settings {
                prop_assert!(user.mailbox.history() <= settings.history.max(4) as usize);
            }
        }
        Ok(())
    }

    fn check_outcomes(&self) -> Result<(), TestCaseError> {
        let (state, model) = (&self.state, &self.model);
        let mut counts: BTreeMap<u8, u64> = BTreeMap::new();
        let settings = model.settings.clone().unwrap();
        let outcomes = state.outcomes();
        for known in &model.notifications {
            for outcome in known.states.values() {
                *counts.entry(*outcome as u8).or_default() += 1;
            }
            let report = match outcomes.report(known.id, &settings, model.now_s()) {
                Err(NoReport::Forgotten) if known.forgotten => continue,
                Ok(report) if !known.forgotten => report,
                other => {
                    return Err(TestCaseError::fail(format!("{known:?} is reported as {other:?}")));
                }
            };
            prop_assert_eq!(report.number, known.number);
            prop_assert_eq!(report.members.is_some(), known.to_topic);
            if let Some(members) = &report.members {
                let states = members.iter().map(|name| name.to_string()).zip(report.states.iter().copied());
                prop_assert_eq!(states.collect::<BTreeMap<_, _>>(), known.states.clone());
            } else {
                // Recipients stand in the order of their names here.
                prop_assert_eq!(&report.states, &known.states.values().copied().collect::<Vec<_>>());
            }
        }
        let stats = state.registry.stats();
        let count = |outcome: Outcome| counts.get(&(outcome as u8)).copied().unwrap_or(0);
        prop_assert_eq!(stats.imbalance, 0);
        prop_assert_eq!(stats.pending, count(Outcome::Pending));
        prop_assert_eq!(stats.totals.ledger.accepted, counts.values().sum::<u64>());
        for outcome in Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Pending) {
            prop_assert_eq!(stats.totals.ledger.of(outcome), count(outcome), "{:?}", outcome);
        }
        Ok(())
    }
}

fn told(effect: &Effect) -> Told {
    match effect {
        Effect::Published(receipt) => Told::Published {
            number: receipt.number,
            recipients: receipt.recipients,
            online: receipt.online,
            rejected: receipt.rejected.iter().map(|name| name.to_string()).collect(),
        },
        Effect::Repeated(first) => Told::Repeated { number: first.number },
        Effect::KeyReused => Told::KeyReused,
        Effect::None => Told::Nothing,
    }
}

#[test]
fn the_state_machine_does_what_its_model_says() {
    holds(&scenarios(), |scenario| compare(StateMachine::new(), &scenario).map(drop));
}

#[test]
fn the_random_logs_reach_every_end_of_a_notification() {
    let counts = Cell::new([0_u32; Outcome::ALL.len()]);
    let outcome = fixed_runner(40).run(&scenarios(), |scenario| {
        let model = compare(StateMachine::new(), &scenario)?;
        let mut sum = counts.get();
        for state in model.notifications.iter().flat_map(|known| known.states.values()) {
            sum[*state as usize] += 1;
        }
        counts.set(sum);
        Ok(())
    });
    outcome.unwrap();
    assert!(counts.get().iter().all(|count| *count > 40), "{counts:?}");
}
