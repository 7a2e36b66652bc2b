//! What a log means, in the plainest words: lists of all that ever happened, walked from end to end every time.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Fingerprint, NotificationId, OverflowPolicy, RemovalReason};
use crate::log::entry::{Entry, Names, Publish, Recipients, Settings};
use crate::registry::mailbox::Readers;
use crate::registry::tests::model::{Fate, Model};
use crate::registry::{Arrival, Bounds, Final, Item, Put};

pub(super) use crate::domain::Outcome;

/// Everything that the log said.
#[derive(Debug, Default)]
pub(super) struct MachineModel {
    pub(super) log_time_ms: u64,
    pub(super) settings: Option<Settings>,
    pub(super) users: BTreeMap<String, User>,
    pub(super) topics: BTreeMap<String, BTreeSet<String>>,
    pub(super) notifications: Vec<Notification>,
    requests: Vec<Request>,
    pub(super) rejected: u64,
}

/// One user.
#[derive(Debug, Default)]
pub(super) struct User {
    pub(super) mailbox: Model,
    /// Nothing up to here can be read, not even by a session that was behind it.
    cleared: u64,
}

/// A notification and what became of it.
#[derive(Debug)]
pub(super) struct Notification {
    pub(super) number: u64,
    pub(super) id: NotificationId,
    pub(super) states: BTreeMap<String, Outcome>,
    pub(super) to_topic: bool,
    expires_at_s: u32,
    retention_s: u32,
    final_at_s: Option<u32>,
    recipients_since: u64,
    pub(super) forgotten: bool,
}

#[derive(Debug)]
struct Request {
    key: Fingerprint,
    body: Fingerprint,
    number: u64,
    until_s: u32,
    forgotten: bool,
}

/// What a sender is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Published { number: u64, recipients: u32, online: u32, rejected: BTreeSet<String> },
    Repeated { number: u64 },
    KeyReused,
    Nothing,
}

impl MachineModel {
    /// Applies an entry. `online` are the users who hold a session.
    pub(super) fn apply(
        &mut self,
        number: u64,
        timestamp_ms: u64,
        entry: &Entry,
        online: &BTreeSet<String>,
    ) -> Told {
        self.log_time_ms = self.log_time_ms.max(timestamp_ms);
        let now_s = self.now_s();
        self.change_all(|_, mailbox, finals| mailbox.expire(now_s, finals));
        let told = match entry {
            Entry::Publish(publish) => self.publish(number, publish, online),
            Entry::Settings(settings) => {
                self.settings = Some(settings.clone());
                Told::Nothing
            }
            // Whoever saw everything learns nothing from what is said again.
            Entry::Holding(_) => Told::Nothing,
            _ if self.settings.is_none() => Told::Nothing,
            Entry::Acks(acks) => {
                let bounds = self.bounds();
                for ack in acks {
                    self.change(ack.user(), |mailbox, finals| {
                        mailbox.ack(ack.after, ack.until, &bounds, Readers::NONE, finals);
                    });
                }
                Told::Nothing
            }
            Entry::Withdraw(withdraw) => {
                let known = self.notifications.iter().find(|known| known.number == withdraw.number);
                let users: Vec<String> = match &withdraw.recipients {
                    Some(names) => names.iter().map(str::to_owned).collect(),
                    None => known
                        .filter(|known| known.to_topic && !known.forgotten)
                        .map_or_else(Vec::new, |known| known.states.keys().cloned().collect()),
                };
                for user in users {
                    self.change(&user, |mailbox, finals| mailbox.withdraw(withdraw.number, finals));
                }
                Told::Nothing
            }
            Entry::Subscribe(membership) => {
                for user in membership.users.iter() {
                    self.subscribe(membership.topic(), user);
                }
                Told::Nothing
            }
            Entry::Unsubscribe(membership) => {
                for user in membership.users.iter() {
                    self.topics.entry(membership.topic().to_owned()).or_default().remove(user);
                }
                Told::Nothing
            }
            Entry::ForgetUser { user } => {
                let user = Names::text(user);
                self.change(user, |mailbox, finals| mailbox.forget(finals));
                self.users.entry(user.to_owned()).or_default().cleared = number;
                for members in self.topics.values_mut() {
                    members.remove(user);
                }
                Told::Nothing
            }
            Entry::GiveUp { through } => {
                self.change_all(|_, mailbox, finals| mailbox.give_up(*through, finals));
                for user in self.users.values_mut() {
                    user.cleared = user.cleared.max(*through);
                }
                Told::Nothing
            }
            Entry::Tick | Entry::Floor(_) | Entry::Epoch(_) => Told::Nothing,
        };
        self.forget_outcomes(number);
        told
    }

    pub(super) fn now_s(&self) -> u32 {
        u32::try_from(self.log_time_ms / 1_000).unwrap()
    }

    /// The number of the first request with this key, if a repetition would be recognised.
    pub(super) fn remembered(&self, key: &Fingerprint) -> Option<u64> {
        self.request(key).map(|request| request.number)
    }

    /// Whether what a session reads behind `position` is what it must be told. It was attached at `attached_at`.
    pub(super) fn judge(
        &self,
        user: &str,
        mut position: u64,
        attached_at: u64,
        items: &[Item],
    ) -> Result<u64, String> {
        let nobody = User::default();
        let user = self.users.get(user).unwrap_or(&nobody);
        let came = user.mailbox.came();
        let between =
            |after, until| came.iter().filter(move |one| after < one.number() && one.number() <= until);
        for item in items {
            match *item {
                Item::Notification { number, .. } => {
                    if between(position, number - 1).next().is_some() {
                        return Err(format!("a hole behind {position} that nobody announced: {items:?}"));
                    }
                    let Some(one) = came.iter().find(|one| one.number() == number) else {
                        return Err(format!("{number} never came"));
                    };
                    // What was acked may be kept for sessions that are behind it.
                    let kept = matches!(one.fate, Fate::Gone { reason: RemovalReason::Acked, .. })
                        && one.arrival.expires_at_s > self.now_s()
                        && number > user.cleared
                        && !(one.arrival.volatile && number <= attached_at);
                    if !one.is_readable_by(attached_at) && !kept {
                        return Err(format!("{number} is {:?}, at {attached_at} in {items:?}", one.fate));
                    }
                    position = number;
                }
                Item::Gap { after, until, count, reason } => {
                    let missing: Vec<_> = between(after, until).collect();
                    if let Some(there) = missing.iter().find(|one| one.is_readable_by(attached_at)) {
                        return Err(format!("{} is there: {items:?}", there.number()));
                    }
                    let gravest = missing.iter().map(|one| one.reason_to_miss()).max();
                    if gravest.is_some_and(|gravest| reason < gravest.into()) {
                        return Err(format!("milder than {gravest:?}: {item:?}"));
                    }
                    if count.is_some_and(|count| count as usize != missing.len()) {
                        return Err(format!("not {}: {item:?}", missing.len()));
                    }
                    position = until;
                }
            }
        }
        Ok(position)
    }

    fn publish(&mut self, number: u64, publish: &Publish, online: &BTreeSet<String>) -> Told {
        let Some(settings) = self.settings.clone() else { return Told::Nothing };
        if let Some(key) = &publish.idempotency
            && let Some(first) = self.request(&key.key)
        {
            let same = first.body == key.body;
            return if same { Told::Repeated { number: first.number } } else { Told::KeyReused };
        }
        let users: Vec<String> = match &publish.recipients {
            Recipients::Users(names) => names.iter().map(str::to_owned).collect(),
            Recipients::Topic(_) => {
                let members = self.topics.get(publish.recipients.topic().unwrap());
                members.into_iter().flatten().cloned().collect()
            }
            Recipients::Everybody => {
                self.remember_request(number, publish, &settings);
                let online = u32::try_from(online.len()).unwrap();
                return Told::Published { number, recipients: 0, online, rejected: BTreeSet::new() };
            }
        };
        let ttl_seconds = publish.ttl_seconds.min(settings.max_ttl_seconds);
        let lives_s = if ttl_seconds == 0 { 5 } else { ttl_seconds };
        let arrival = Arrival {
            number,
            expires_at_s: u32::try_from(self.log_time_ms.div_ceil(1_000)).unwrap() + lives_s,
            bytes: u32::try_from(publish.body.len()).unwrap(),
            priority: publish.priority,
            collapse_key: publish.collapse_key.map_or(0, |key| key.short()),
            volatile: ttl_seconds == 0,
        };
        for known in &mut self.notifications {
            known.recipients_since += users.len() as u64;
        }
        self.notifications.push(Notification {
            number,
            id: publish.id,
            states: users.iter().map(|user| (user.clone(), Outcome::Pending)).collect(),
            to_topic: publish.recipients.topic().is_some(),
            expires_at_s: arrival.expires_at_s,
            retention_s: settings.outcome_retention_seconds,
            final_at_s: users.is_empty().then_some(self.now_s()),
            recipients_since: 0,
            forgotten: false,
        });
        let bounds = self.bounds();
        let (mut rejected, mut accepted, mut reached) = (BTreeSet::new(), 0, 0);
        for user in &users {
            self.users.entry(user.clone()).or_default();
            let put =
                self.change(user, |mailbox, finals| mailbox.put(&arrival, 0, &bounds, Readers::NONE, finals));
            if put == Some(Put::Rejected) {
                rejected.insert(user.clone());
                self.ends(number, user, Outcome::Rejected);
            } else {
                accepted += 1;
                reached += u32::from(online.contains(user));
            }
        }
        self.rejected += rejected.len() as u64;
        if accepted > 0 || rejected.is_empty() {
            self.remember_request(number, publish, &settings);
        }
        Told::Published { number, recipients: accepted, online: reached, rejected }
    }

    fn remember_request(&mut self, number: u64, publish: &Publish, settings: &Settings) {
        let Some(key) = &publish.idempotency else { return };
        let until_s = self.now_s() + settings.idempotency_window_seconds;
        self.requests.push(Request { key: key.key, body: key.body, number, until_s, forgotten: false });
        let too_many = self.requests.len().saturating_sub(settings.idempotency_max_keys as usize);
        for request in &mut self.requests[..too_many] {
            request.forgotten = true;
        }
    }

    fn subscribe(&mut self, topic: &str, user: &str) {
        let Some(settings) = &self.settings else { return };
        let holds = self.topics.values().filter(|members| members.contains(user)).count();
        let members = self.topics.entry(topic.to_owned()).or_default();
        let topic_has_room = members.len() < settings.topic_max_subscribers as usize;
        if topic_has_room && holds < settings.user_max_topics as usize {
            members.insert(user.to_owned());
        }
    }

    fn request(&self, key: &Fingerprint) -> Option<&Request> {
        let now_s = self.now_s();
        let known = self.requests.iter().rev().find(|request| request.key == *key)?;
        Some(known).filter(|request| !request.forgotten && now_s < request.until_s)
    }

    fn bounds(&self) -> Bounds {
        let settings = self.settings.as_ref().unwrap();
        Bounds {
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

    fn change<T>(&mut self, user: &str, change: impl FnOnce(&mut Model, &mut Vec<Final>) -> T) -> Option<T> {
        let mut finals = Vec::new();
        let done = change(&mut self.users.get_mut(user)?.mailbox, &mut finals);
        for one in finals {
            self.ends(one.number, user, one.reason.into());
        }
        Some(done)
    }

    fn change_all(&mut self, mut change: impl FnMut(&str, &mut Model, &mut Vec<Final>)) {
        for user in self.users.keys().cloned().collect::<Vec<_>>() {
            self.change(&user, |mailbox, finals| change(&user, mailbox, finals));
        }
    }

    /// A state ends, and it was pending before.
    fn ends(&mut self, number: u64, user: &str, outcome: Outcome) {
        let now_s = self.now_s();
        let known = self.notifications.iter_mut().find(|known| known.number == number).unwrap();
        let before = known.states.insert(user.to_owned(), outcome);
        assert_eq!(before, Some(Outcome::Pending), "{number} for {user} ended twice");
        if !known.states.values().any(|state| *state == Outcome::Pending) {
            // However late the log noticed, what has expired has done so when it was due.
            known.final_at_s = Some(now_s.min(known.expires_at_s));
        }
    }

    fn forget_outcomes(&mut self, newest: u64) {
        let now_s = self.now_s();
        let Some(settings) = &self.settings else { return };
        for known in &mut self.notifications {
            let long_ago = known.final_at_s.is_some_and(|at_s| at_s + known.retention_s <= now_s);
            let came_since = known.recipients_since.max(newest - known.number);
            let too_many = came_since >= u64::from(settings.outcome_max_recipients);
            known.forgotten |= long_ago || too_many;
        }
    }
}
