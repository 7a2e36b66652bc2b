//! The state machine's door: the one place where entries become state.
//!
//! What applying an entry does depends on the entries alone: log time comes from their timestamps, bounds and windows from
//! settings entries; no clock is read and nothing is encoded.

use std::sync::Arc;

use bytes::Bytes;

use super::elsewhere::Elsewhere;
use super::idempotency::First;
use super::outcomes::Times;
use super::state::{State, seconds};
use super::topics::{MEMORY_SECONDS, Members};
use crate::domain::{IdempotencyKey, NotificationId, RemovalReason};
use crate::log::entry::{Entry, Floor, Holding, Membership, Names, Publish, Recipients, Settings, Withdraw};
use crate::registry::{Arrival, Bounds, Delivered, Floors, OverflowPolicy, Scratch};

/// How long a notification with a time to live of 0 may wait for the acks of the sessions that got it, in seconds.
const VOLATILE_SECONDS: u32 = 5;

/// Applies entries to a state.
#[derive(Default)]
pub struct StateMachine {
    /// The first entry this machine applied; what stands before it was never seen.
    first: Option<u64>,
    settings: Option<(u64, Settings)>,
    /// The last entry whose effect may have depended on what held before it.
    last_decided: u64,
    /// What was missing in the part that this machine never saw.
    floors: Floors,
    /// When idempotency keys were last forgotten, in seconds of log time.
    keys_tidied_s: u32,
    scratch: Scratch,
    /// What is known of users on other nodes. It changes what senders are told, and nothing of the state.
    elsewhere: Option<Arc<dyn Elsewhere>>,
}

/// What an entry did, as far as a waiting sender is concerned.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// A notification came to its recipients.
    Published(Receipt),
    /// The same request was made before: nothing changed.
    Repeated(First),
    /// The key was used before with another body: nothing changed.
    KeyReused,
    /// Nothing that concerns a sender.
    None,
}

/// What apply says about a published entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The notification's name: this one's, or that of the first request with the same key.
    pub id: NotificationId,
    /// Its place in the log.
    pub number: u64,
    /// Mailboxes that took it.
    pub recipients: u32,
    /// Recipients that held a session when it came, on any node.
    pub online: u32,
    /// Those of them that held one on this node.
    pub online_here: u32,
    /// Recipients whose full mailbox refused it.
    pub rejected: Vec<Box<str>>,
    /// The same request was made before, and nothing changed.
    pub repeated: bool,
}

impl StateMachine {
    /// A machine that has applied nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A machine that has applied nothing, and counts users who are online on other nodes.
    #[must_use]
    pub fn beside(elsewhere: Option<Arc<dyn Elsewhere>>) -> Self {
        Self { elsewhere, ..Self::default() }
    }

    /// Applies one decoded entry. Numbers are dense; the first one may be any.
    pub fn apply(&mut self, state: &State, number: u64, timestamp_ms: u64, entry: &Entry) -> Effect {
        self.first.get_or_insert(number);
        // Log time never steps back, whatever the committer's clock does.
        let log_time_ms = state.log_time_ms().max(timestamp_ms);
        state.set_log_time(log_time_ms);
        let log_time_s = seconds(log_time_ms);
        if state.registry.next_due_s().is_some_and(|due_s| due_s <= log_time_s) {
            state.registry.expire(log_time_s, &mut self.scratch);
        }
        let mut matters_until_s = 0;
        let effect = match entry {
            Entry::Publish(publish) => {
                let (effect, until_s) = self.publish(state, number, log_time_ms, publish);
                matters_until_s = until_s;
                effect
            }
            Entry::Acks(acks) => {
                if let Some((_, settings)) = &self.settings {
                    let bounds = Bounds::from(settings);
                    for ack in acks {
                        state.registry.ack(ack.user(), ack.after, ack.until, &bounds, &mut self.scratch);
                    }
                }
                Effect::None
            }
            Entry::Withdraw(withdraw) => self.withdraw(state, withdraw),
            Entry::Subscribe(membership) => self.subscribe(state, number, membership),
            Entry::Unsubscribe(membership) => Self::unsubscribe(state, (number, log_time_s), membership),
            Entry::ForgetUser { user } => self.forget_user(state, (number, log_time_s), user),
            Entry::Settings(settings) => self.set_settings(state, number, settings),
            Entry::Holding(holding) => self.hold(state, (number, log_time_s), holding),
            Entry::GiveUp { through } => {
                state.registry.give_up(*through, &mut self.scratch);
                Effect::None
            }
            Entry::Floor(floor) => self.floor(state, *floor),
            Entry::Tick | Entry::Epoch(_) => Effect::None,
        };
        if !matches!(
            entry,
            Entry::Settings(_) | Entry::Holding(_) | Entry::Floor(_) | Entry::Tick | Entry::Epoch(_)
        ) {
            self.last_decided = number;
        }
        self.settle(state, number, log_time_s);
        state.horizon().note(number, log_time_s, matters_until_s);
        effect
    }

    /// Books what became final, and forgets what may be forgotten.
    fn settle(&mut self, state: &State, number: u64, log_time_s: u32) {
        let effects = &mut self.scratch.effects;
        let mut outcomes = state.outcomes();
        for one in effects.finals.drain(..) {
            outcomes.finalize(&one, log_time_s);
        }
        if let Some((_, settings)) = &self.settings {
            outcomes.tidy(number, settings, log_time_s);
        }
        drop(outcomes);
        // Keys go by whole seconds: looking once in each is enough.
        if log_time_s > self.keys_tidied_s {
            self.keys_tidied_s = log_time_s;
            state.idempotency().tidy(log_time_s);
            state.topics().tidy(log_time_s);
        }
        if !effects.dependencies.is_empty() {
            let mut horizon = state.horizon();
            for (earlier, later) in effects.dependencies.drain(..) {
                horizon.depends(earlier, later);
            }
        }
    }

    /// Returns the effect, and until which log time the entry matters.
    fn publish(&mut self, state: &State, number: u64, log_time_ms: u64, publish: &Publish) -> (Effect, u32) {
        let log_time_s = seconds(log_time_ms);
        // The first entry of every log; without it nothing can be accepted.
        let Some((_, settings)) = &self.settings else { return (Effect::None, 0) };
        if let Some(key) = &publish.idempotency
            && let Some(effect) = repeated(state, number, log_time_s, key)
        {
            return (effect, settings.matters_until(log_time_s, log_time_s, true));
        }
        if publish.recipients == Recipients::Everybody {
            // Kept for nobody: whoever is connected is woken once it stands in the ring of broadcasts.
            let here = u32::try_from(state.registry.online_users()).unwrap_or(u32::MAX);
            let elsewhere = self.elsewhere.as_ref().map_or(0, |elsewhere| elsewhere.users());
            let online = here.saturating_add(elsewhere);
            let receipt = Receipt { online_here: here, ..Receipt::new(publish.id, number, 0, online) };
            self.remember_key(state, publish, &receipt, log_time_s);
            let until_s = settings.matters_until(log_time_s, log_time_s, publish.idempotency.is_some());
            return (Effect::Published(receipt), until_s);
        }
        let ttl_seconds = publish.ttl_seconds.min(settings.max_ttl_seconds);
        let volatile = ttl_seconds == 0;
        // Whole seconds: what expires together is looked for once.
        let expires_at_s = seconds(log_time_ms.saturating_add(999)).saturating_add(if volatile {
            VOLATILE_SECONDS
        } else {
            ttl_seconds
        });
        let arrival = Arrival {
            number,
            expires_at_s,
            bytes: u32::try_from(publish.body.len()).expect("an entry is smaller than 4 GiB"),
            priority: publish.priority,
            collapse_key: publish.collapse_key.map_or(0, |key| key.short()),
            volatile,
        };
        let bounds = Bounds::from(settings);
        self.scratch.notes_away = self.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.users() > 0);
        let (delivered, elsewhere, rejected, count, members) = match &publish.recipients {
            Recipients::Users(names) => {
                let delivered = state.registry.deliver(names.iter(), &arrival, &bounds, &mut self.scratch);
                let rejected = rejected_names(names.iter(), &delivered);
                (delivered, self.online_elsewhere(names.iter()), rejected, names.count() as usize, None)
            }
            topic => {
                let members = state.topics().members(topic.topic().unwrap_or_default());
                let names = members.iter().map(|name| &**name);
                let delivered = state.registry.deliver(names.clone(), &arrival, &bounds, &mut self.scratch);
                let rejected = rejected_names(names.clone(), &delivered);
                (delivered, self.online_elsewhere(names), rejected, members.len(), Some(members))
            }
        };
        let times = Times { log_time_s, expires_at_s, retention_s: settings.outcome_retention_seconds };
        state.outcomes().publish((number, publish.id), count, &delivered.rejected, members, times);
        let (here, online) = (delivered.online, delivered.online + elsewhere);
        let receipt = Receipt {
            rejected,
            online_here: here,
            ..Receipt::new(publish.id, number, delivered.accepted, online)
        };
        self.remember_key(state, publish, &receipt, log_time_s);
        let until_s = settings.matters_until(log_time_s, expires_at_s, publish.idempotency.is_some());
        (Effect::Published(receipt), until_s)
    }

    /// How many of those who hold no session here hold one on another node.
    fn online_elsewhere<'a>(&self, names: impl Iterator<Item = &'a str>) -> u32 {
        let Some(elsewhere) = self.elsewhere.as_ref().filter(|_| !self.scratch.away.is_empty()) else {
            return 0;
        };
        let mut away = self.scratch.away.iter().copied().peekable();
        let named = (0_u32..).zip(names).filter(|(index, _)| away.next_if_eq(index).is_some());
        elsewhere.online(&mut named.map(|(_, name)| name))
    }

    /// A request that nobody's mailbox took uses up no key.
    fn remember_key(&self, state: &State, publish: &Publish, receipt: &Receipt, log_time_s: u32) {
        if let (Some(key), Some((_, settings))) = (&publish.idempotency, &self.settings)
            && !receipt.is_refused()
        {
            let first = First {
                body: key.body,
                id: receipt.id,
                number: receipt.number,
                recipients: receipt.recipients,
                online: receipt.online,
            };
            state.idempotency().remember(key.key, first, settings, log_time_s);
        }
    }

    fn withdraw(&mut self, state: &State, withdraw: &Withdraw) -> Effect {
        let mut take_from = |user: &str| state.registry.withdraw(user, withdraw.number, &mut self.scratch);
        match &withdraw.recipients {
            Some(names) => names.iter().for_each(&mut take_from),
            None => {
                let members: Option<Members> = state.outcomes().members(withdraw.number);
                members.iter().flat_map(|members| members.iter()).for_each(|user| take_from(user));
            }
        }
        Effect::None
    }

    fn subscribe(&self, state: &State, number: u64, membership: &Membership) -> Effect {
        let Some((_, settings)) = &self.settings else { return Effect::None };
        state.topics().join(membership.topic(), membership.users.iter(), number, settings);
        Effect::None
    }

    fn set_settings(&mut self, state: &State, number: u64, settings: &Settings) -> Effect {
        if let Some((before, _)) = self.settings.replace((number, settings.clone())) {
            state.horizon().depends(before, self.last_decided);
        }
        state.set_settings(number, settings.clone());
        Effect::None
    }

    /// What was said before is said again: whatever came in between rested on what said it then.
    ///
    /// What changed since it was gathered is left out: other nodes write, too.
    fn hold(&mut self, state: &State, (number, log_time_s): (u64, u32), holding: &Holding) -> Effect {
        let as_of = holding.as_of;
        if as_of.is_some_and(|as_of| log_time_s > as_of.log_time_s.saturating_add(MEMORY_SECONDS)) {
            // Nobody knows any more what ended since.
            return Effect::None;
        }
        let gathered = as_of.map_or(number, |as_of| as_of.number);
        if self.settings.as_ref().is_none_or(|(since, _)| *since <= gathered) {
            self.set_settings(state, number, &holding.settings);
        }
        let mut topics = state.topics();
        let mut horizon = state.horizon();
        let mut kept = Vec::new();
        let ended = topics.ended_since(gathered);
        for membership in &holding.memberships {
            for user in membership.users.iter() {
                match ended.by(membership.topic(), user) {
                    // A node that never saw its end would bring it back: both go together.
                    Some(end) => horizon.depends(end, number),
                    None => kept.push((membership.topic(), user)),
                }
            }
        }
        for (topic, user) in kept {
            if let Some(since) = topics.hold(topic, user, number) {
                horizon.depends(since, self.last_decided);
            }
        }
        Effect::None
    }

    fn unsubscribe(state: &State, at: (u64, u32), membership: &Membership) -> Effect {
        let mut topics = state.topics();
        for user in membership.users.iter() {
            if let Some(since) = topics.leave(membership.topic(), user, at) {
                state.horizon().depends(since, at.0 - 1);
            }
        }
        Effect::None
    }

    fn forget_user(&mut self, state: &State, at: (u64, u32), user: &Bytes) -> Effect {
        let user = Names::text(user);
        for since in state.topics().leave_all(user, at) {
            state.horizon().depends(since, at.0 - 1);
        }
        state.registry.forget(user, &mut self.scratch);
        Effect::None
    }

    /// What was missing in the part that this machine never saw.
    fn floor(&mut self, state: &State, floor: Floor) -> Effect {
        state.set_floor(floor.through);
        let unseen = self.first.map_or(0, |first| first - 1);
        let mut floors = Floors::default();
        floors.raise(RemovalReason::Expired, floor.through.min(unseen));
        floors.raise(RemovalReason::Overflow, floor.loss.min(unseen));
        // Raising them walks every user; nearly always they say nothing new.
        if floors != self.floors {
            self.floors = floors;
            state.registry.raise_floors(&floors);
        }
        Effect::None
    }
}

impl First {
    /// What the sender of a repetition is told.
    pub(super) fn receipt(&self) -> Receipt {
        Receipt { repeated: true, ..Receipt::new(self.id, self.number, self.recipients, self.online) }
    }
}

impl Receipt {
    pub(super) fn new(id: NotificationId, number: u64, recipients: u32, online: u32) -> Self {
        Self { id, number, recipients, online, online_here: 0, rejected: Vec::new(), repeated: false }
    }

    /// Whether every recipient's mailbox refused it.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.recipients == 0 && !self.rejected.is_empty()
    }
}

impl Settings {
    /// Until when a notification applied at `log_time_s` matters that expires at `expires_at_s`.
    fn matters_until(&self, log_time_s: u32, expires_at_s: u32, has_key: bool) -> u32 {
        let outcome = expires_at_s.saturating_add(self.outcome_retention_seconds);
        let key = log_time_s.saturating_add(self.idempotency_window_seconds);
        if has_key { outcome.max(key) } else { outcome }
    }
}

fn repeated(state: &State, number: u64, log_time_s: u32, key: &IdempotencyKey) -> Option<Effect> {
    let mut idempotency = state.idempotency();
    idempotency.tidy(log_time_s);
    let first = *idempotency.first(&key.key, log_time_s)?;
    state.horizon().depends(first.number, number);
    Some(if first.body == key.body { Effect::Repeated(first) } else { Effect::KeyReused })
}

fn rejected_names<'a>(names: impl Iterator<Item = &'a str> + Clone, delivered: &Delivered) -> Vec<Box<str>> {
    let mut rejected = delivered.rejected.iter().copied().peekable();
    let named = (0_u32..).zip(names).filter(|(index, _)| rejected.next_if_eq(index).is_some());
    if delivered.rejected.is_empty() { Vec::new() } else { named.map(|(_, name)| name.into()).collect() }
}

impl From<&Settings> for Bounds {
    fn from(settings: &Settings) -> Self {
        Self {
            max_count: settings.mailbox_max_count,
            max_bytes: settings.mailbox_max_bytes,
            policy: if settings.reject_on_overflow {
                OverflowPolicy::Reject
            } else {
                OverflowPolicy::DropOldest
            },
            history: settings.history,
        }
    }
}
