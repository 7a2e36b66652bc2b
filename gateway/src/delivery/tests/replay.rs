//! One log, several machines: whatever sessions, seeds, restarts and truncations there are, the state is the same.
//!
//! A *reference* applies everything from the start. A *survivor* lives beside it as a node does: it trims its log as
//! retention says, appends again what still holds, and is now and then started anew from what the log still has.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::machine_model::MachineModel;
use super::script::{Operation, Pace, USERS, Writer, decode, settings, timed_operation};
use crate::delivery::retention::{REFRESH_SECONDS, droppable, renewals};
use crate::delivery::state::seconds;
use crate::delivery::{Effect, Receipt, State, StateMachine};
use crate::log::entry::{self, Entry, Floor, Settings};
use crate::registry::tests::client::Client;
use crate::registry::tests::property::{fixed_runner, holds};
use crate::registry::{PullLimits, SessionHandle, SessionId, StartAt};

/// Slow enough that what was said an hour ago is said again.
const PACE: Pace = Pace { lasting_s: 2_500, step_ms: 150_000, leap_ms: 7_200_000, back_ms: 0 };
const BEGIN_MS: u64 = 1_000_000;

/// How the survivor's log is trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trim {
    /// As retention does.
    AsRetention,
    /// One entry more than retention allows.
    OneTooFar,
    /// As if no entry depended on another.
    IgnoringDependencies,
    /// Nothing is said again before it goes.
    WithoutRenewal,
    /// The loss in what goes is not remembered.
    WithoutFloor,
}

#[derive(Debug, Clone)]
enum Action {
    Entry(i64, Operation),
    /// The log is looked after; what holds is said again if it is time, or anyway. If that goes slowly, another node is faster
    /// with the entry that comes next.
    LookAfter {
        anyway: bool,
        slowly: bool,
    },
    /// The survivor starts anew from its log.
    Restart,
    /// A client of the survivor comes, reads, and leaves.
    Visit {
        user: usize,
        frames: usize,
    },
}

#[derive(Debug)]
struct Scenario {
    settings: Settings,
    actions: Vec<Action>,
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let other = prop_oneof![
        6 => (prop::bool::weighted(0.3), prop::bool::weighted(0.3))
            .prop_map(|(anyway, slowly)| Action::LookAfter { anyway, slowly }),
        1 => Just(Action::Restart),
        2 => (0..USERS.len(), 1..5_usize).prop_map(|(user, frames)| Action::Visit { user, frames }),
    ];
    let entry = timed_operation(PACE).prop_map(|(later_ms, operation)| Action::Entry(later_ms, operation));
    let actions = proptest::collection::vec(prop_oneof![3 => entry, 1 => other], 20..240);
    (settings(PACE.lasting_s), actions).prop_map(|(settings, actions)| Scenario { settings, actions })
}

/// A machine and what it made.
#[derive(Default)]
pub(super) struct Instance {
    pub(super) state: State,
    pub(super) machine: StateMachine,
}

struct Replay {
    trim: Trim,
    /// Number 1 stands first; what is in front of `first` is trimmed.
    log: Vec<(u64, Entry)>,
    first: u64,
    clock_ms: u64,
    writer: Writer,
    reference: Instance,
    survivor: Instance,
    model: MachineModel,
    refreshed: Option<(u32, u64)>,
    /// What was gathered, and is not in the log yet: other nodes write meanwhile.
    on_their_way: Vec<bytes::Bytes>,
    clients: Vec<Client>,
    next_session: u64,
    trimmed: u32,
}

/// Runs the scenario and returns how many entries were trimmed, and whether a survivor had to do without them.
fn run(scenario: &Scenario, trim: Trim) -> Result<u64, TestCaseError> {
    let mut replay = Replay {
        trim,
        log: Vec::new(),
        first: 1,
        clock_ms: BEGIN_MS,
        writer: Writer::default(),
        reference: Instance::default(),
        survivor: Instance::default(),
        model: MachineModel::default(),
        refreshed: None,
        on_their_way: Vec::new(),
        clients: vec![Client::at(0); USERS.len()],
        next_session: 0,
        trimmed: 0,
    };
    replay.append(&entry::encode_settings(&scenario.settings))?;
    for action in &scenario.actions {
        match action {
            Action::Entry(later_ms, operation) => {
                // A log's timestamps never step back.
                replay.clock_ms += later_ms.unsigned_abs();
                let number = replay.log.len() as u64 + 1;
                let payload = replay.writer.write(operation, number, replay.clock_ms);
                replay.append(&payload)?;
                replay.arrive()?;
            }
            Action::LookAfter { anyway, slowly } => replay.look_after(*anyway, *slowly)?,
            Action::Restart => replay.restart()?,
            Action::Visit { user, frames } => replay.visit(*user, *frames)?,
        }
    }
    replay.arrive()?;
    replay.look_after(false, false)?;
    replay.restart()?;
    for user in 0..USERS.len() {
        replay.visit(user, usize::MAX)?;
    }
    Ok(replay.first - 1)
}

impl Instance {
    pub(super) fn apply(&mut self, number: u64, (timestamp_ms, entry): &(u64, Entry)) -> Effect {
        self.machine.apply(&self.state, number, *timestamp_ms, entry)
    }
}

impl Replay {
    fn append(&mut self, payload: &bytes::Bytes) -> Result<u64, TestCaseError> {
        self.log.push((self.clock_ms, decode(payload)));
        let number = self.log.len() as u64;
        let (timestamp_ms, entry) = &self.log[self.log.len() - 1];
        self.model.apply(number, *timestamp_ms, entry, &BTreeSet::new());
        let reference = self.reference.apply(number, &self.log[self.log.len() - 1]);
        let survivor = self.survivor.apply(number, &self.log[self.log.len() - 1]);
        prop_assert_eq!(without_sessions(survivor), without_sessions(reference), "entry {}", number);
        self.compare("applied")?;
        Ok(number)
    }

    fn compare(&self, what: &str) -> Result<(), TestCaseError> {
        if self.survivor.state.digest() != self.reference.state.digest() {
            let (reference, survivor) = (&self.reference.state, &self.survivor.state);
            let log: Vec<String> =
                (1..).zip(&self.log).map(|(number, entry)| format!("{number}: {entry:?}")).collect();
            return Err(TestCaseError::fail(format!(
                "{what} {}, the log begins at {}: the states differ\n{:?}\n{:?}\n{}\n{}\n{}",
                self.log.len(),
                self.first,
                reference.registry.describe(),
                survivor.registry.describe(),
                topics(reference),
                topics(survivor),
                log.join("\n"),
            )));
        }
        Ok(())
    }

    /// What the keeper does once a period.
    fn look_after(&mut self, anyway: bool, slowly: bool) -> Result<(), TestCaseError> {
        let log_time_s = seconds(self.clock_ms);
        if self.survivor.state.registry.next_due_s().is_some_and(|due_s| due_s <= log_time_s) {
            self.append(&entry::encode_tick())?;
        }
        self.refresh(anyway, slowly)?;
        if self.trim == Trim::IgnoringDependencies {
            self.survivor.state.horizon().forget_dependencies();
        }
        // Where the weaker rule holds, states may differ.
        self.survivor.state.horizon().never_yield();
        let mut through = droppable(&self.survivor.state);
        if self.trim == Trim::OneTooFar {
            through += 1;
        }
        if through >= self.first && through < self.log.len() as u64 {
            let loss = self.survivor.state.registry.loss_up_to(through);
            if self.trim != Trim::WithoutFloor {
                self.append(&entry::encode_floor(Floor { through, loss }))?;
            }
            self.first = through + 1;
            self.trimmed += 1;
            self.survivor.state.horizon().dropped(through);
        }
        Ok(())
    }

    fn refresh(&mut self, anyway: bool, slowly: bool) -> Result<(), TestCaseError> {
        let (log_time_s, head) = (seconds(self.survivor.state.log_time_ms()), self.log.len() as u64);
        let Some((at_s, head_then)) = self.refreshed else {
            self.refreshed = Some((log_time_s, head));
            return Ok(());
        };
        if !anyway && log_time_s < at_s.saturating_add(REFRESH_SECONDS) || head == head_then {
            return Ok(());
        }
        self.append(&entry::encode_tick())?;
        if self.trim != Trim::WithoutRenewal {
            self.on_their_way = renewals(&self.survivor.state, self.log.len() as u64);
            if !slowly {
                self.arrive()?;
            }
        }
        self.refreshed = Some((log_time_s, self.log.len() as u64));
        Ok(())
    }

    /// What was gathered gets into the log, and changes nothing for whoever saw everything.
    fn arrive(&mut self) -> Result<(), TestCaseError> {
        for payload in std::mem::take(&mut self.on_their_way) {
            let known = |replay: &Self| {
                let state = &replay.reference.state;
                let mut members = super::script::TOPICS.map(|topic| {
                    let members = state.topics().members(topic);
                    members.iter().cloned().collect::<Vec<_>>()
                });
                members.iter_mut().for_each(|members| members.sort_unstable());
                (members, state.settings().map(|(_, settings)| settings))
            };
            let before = known(self);
            self.append(&payload)?;
            prop_assert_eq!(before, known(self), "what is said again changes something");
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), TestCaseError> {
        self.survivor = Instance::default();
        self.refreshed = None;
        for number in self.first..=self.log.len() as u64 {
            self.survivor.apply(number, &self.log[number as usize - 1]);
        }
        self.compare("restarted at")
    }

    /// A client reads behind its position and leaves; the reference knows nothing of it.
    fn visit(&mut self, user: usize, frames: usize) -> Result<(), TestCaseError> {
        let (registry, client) = (&self.survivor.state.registry, &mut self.clients[user]);
        let (key, head) = (registry.key(USERS[user]), self.log.len() as u64);
        self.next_session += 1;
        let session = SessionId(self.next_session);
        let handle = Arc::new(SessionHandle::new(session, 0));
        let start = StartAt::After(client.position);
        let mut attached = registry.attach(&key, Arc::clone(&handle), start, head, usize::MAX);
        let mut items = Vec::new();
        let more =
            registry.pull(&key, &mut attached.cursor, PullLimits { frames, bytes: u64::MAX }, &mut items);
        handle.has_read(attached.cursor.number);
        let judged = self.model.judge(USERS[user], client.position, attached.head, &items);
        let position = judged.map_err(|error| {
            let begins = self.first;
            TestCaseError::fail(format!("{} of {head} from {begins}: {error}", USERS[user]))
        })?;
        let last = self.model.users.get(USERS[user]).map_or(0, |user| user.mailbox.last());
        prop_assert!(more || position >= last, "{} is not told of {}: {:?}", USERS[user], last, items);
        for item in &items {
            client.receive(item).map_err(TestCaseError::fail)?;
        }
        // Some stay for a while, and let nothing go that they have not read.
        if !self.next_session.is_multiple_of(3) {
            prop_assert!(registry.detach(&key, session));
        }
        Ok(())
    }
}

/// What does not depend on who is connected, and in which order a topic's subscribers are known.
fn without_sessions(effect: Effect) -> String {
    let sorted = |mut rejected: Vec<Box<str>>| {
        rejected.sort_unstable();
        rejected
    };
    match effect {
        Effect::Published(Receipt { id, number, recipients, rejected, .. }) => {
            format!("{id} {number} {recipients} {:?}", sorted(rejected))
        }
        Effect::Repeated(first) => format!("repeats {} {} {}", first.id, first.number, first.recipients),
        other => format!("{other:?}"),
    }
}

fn topics(state: &State) -> String {
    format!("{:?}", super::script::TOPICS.map(|topic| state.topics().members(topic)))
}

#[test]
fn a_machine_started_from_what_retention_leaves_has_the_same_state() {
    holds(&scenarios(), |scenario| run(&scenario, Trim::AsRetention).map(drop));
}

#[test]
fn the_random_logs_are_truncated_in_a_good_share_of_the_cases() {
    let (cases, entries) = (Cell::new(0), Cell::new(0));
    let outcome = fixed_runner(60).run(&scenarios(), |scenario| {
        let trimmed = run(&scenario, Trim::AsRetention)?;
        cases.set(cases.get() + u32::from(trimmed > 0));
        entries.set(entries.get() + trimmed);
        Ok(())
    });
    outcome.unwrap();
    assert!(cases.get() >= 30, "only in {cases:?} of 60 cases");
    assert!(entries.get() >= 1_000, "only {entries:?} entries");
}

fn the_property_holds_with(trim: Trim) -> bool {
    fixed_runner(150).run(&scenarios(), |scenario| run(&scenario, trim).map(drop)).is_ok()
}

#[test]
fn the_property_finds_a_log_that_is_truncated_one_entry_too_far() {
    assert!(!the_property_holds_with(Trim::OneTooFar));
}

#[test]
fn the_property_finds_a_truncation_that_ignores_dependencies() {
    assert!(!the_property_holds_with(Trim::IgnoringDependencies));
}

#[test]
fn the_property_finds_a_truncation_that_leaves_no_floor() {
    assert!(!the_property_holds_with(Trim::WithoutFloor));
}

#[test]
fn without_renewals_nothing_that_holds_is_lost_but_the_log_keeps_more() {
    let trimmed = |trim| {
        let sum = Cell::new(0);
        let outcome = fixed_runner(40).run(&scenarios(), |scenario| {
            sum.set(sum.get() + run(&scenario, trim)?);
            Ok(())
        });
        outcome.map(|()| sum.get())
    };
    assert!(trimmed(Trim::WithoutRenewal).unwrap() < trimmed(Trim::AsRetention).unwrap());
}
