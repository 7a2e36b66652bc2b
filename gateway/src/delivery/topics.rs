//! Topics: who is subscribed to what, as the log says.
//!
//! A notification to a topic takes the subscribers of the moment it is applied. They are one shared list: whoever still
//! needs it (an outcome that may be asked for) keeps it, the next change then works on a copy.

mod ended;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use indexmap::IndexSet;

use crate::log::entry::Settings;

pub(super) use ended::MEMORY_SECONDS;
use ended::{Ended, EndedSince};

/// The subscribers of a topic at one moment.
pub type Members = Arc<IndexSet<Arc<str>>>;

/// Every topic with its subscribers, and every subscriber with its topics.
#[derive(Default)]
pub struct Topics {
    topics: HashMap<Arc<str>, Members>,
    by_user: HashMap<Arc<str>, Vec<Subscription>>,
    /// How many memberships each entry of the log still accounts for.
    by_number: BTreeMap<u64, u32>,
    /// What the last entries could not do, for those who wait for them on this node; no part of what nodes share.
    refusals: VecDeque<(u64, Refused)>,
    ended: Ended,
}

struct Subscription {
    topic: Arc<str>,
    /// The last entry that said so.
    number: u64,
}

/// Why a user could not join a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CannotJoin {
    /// The topic has as many subscribers as it may.
    TopicFull,
    /// The user has as many topics as one may.
    UserFull,
}

/// The users whom one entry could not subscribe.
pub type Refused = Vec<(Arc<str>, CannotJoin)>;

/// Entries whose refusals are kept until whoever asked has read them.
const KEPT_REFUSALS: usize = 64;

impl Topics {
    pub(super) fn join<'a>(
        &mut self,
        topic: &str,
        users: impl Iterator<Item = &'a str>,
        number: u64,
        settings: &Settings,
    ) {
        let mut refused = Refused::new();
        for user in users {
            if self.is_member(topic, user) {
                continue;
            }
            match self.obstacle(topic, user, settings) {
                None => self.add(topic, user, number),
                Some(why) => refused.push((user.into(), why)),
            }
        }
        if !refused.is_empty() {
            self.refusals.push_back((number, refused));
            if self.refusals.len() > KEPT_REFUSALS {
                self.refusals.pop_front();
            }
        }
    }

    /// Whom the entry could not subscribe; told once.
    pub(super) fn take_refused(&mut self, number: u64) -> Refused {
        let found = self.refusals.iter().position(|(entry, _)| *entry == number);
        found.and_then(|index| self.refusals.remove(index)).map_or_else(Refused::new, |(_, refused)| refused)
    }

    fn obstacle(&self, topic: &str, user: &str, settings: &Settings) -> Option<CannotJoin> {
        let subscribers = self.topics.get(topic).map_or(0, |members| members.len());
        let topics = self.by_user.get(user).map_or(0, Vec::len);
        if subscribers >= settings.topic_max_subscribers as usize {
            Some(CannotJoin::TopicFull)
        } else if topics >= settings.user_max_topics as usize {
            Some(CannotJoin::UserFull)
        } else {
            None
        }
    }

    /// A membership that holds rests on this entry from now on; returns the one it had rested on, if it was known.
    pub(super) fn hold(&mut self, topic: &str, user: &str, number: u64) -> Option<u64> {
        let Some(known) = self.by_user.get_mut(user).and_then(|topics| find(topics, topic)) else {
            self.add(topic, user, number);
            return None;
        };
        let since = std::mem::replace(&mut known.number, number);
        self.forget_number(since);
        *self.by_number.entry(number).or_default() += 1;
        Some(since)
    }

    fn add(&mut self, topic: &str, user: &str, number: u64) {
        let topic =
            self.topics.get_key_value(topic).map_or_else(|| topic.into(), |(name, _)| Arc::clone(name));
        let user = self.by_user.get_key_value(user).map_or_else(|| user.into(), |(name, _)| Arc::clone(name));
        Arc::make_mut(self.topics.entry(Arc::clone(&topic)).or_default()).insert(Arc::clone(&user));
        self.by_user.entry(user).or_default().push(Subscription { topic, number });
        *self.by_number.entry(number).or_default() += 1;
    }

    /// What ended behind this number.
    pub(super) fn ended_since(&self, number: u64) -> EndedSince<'_> {
        self.ended.since(number)
    }

    /// Forgets what ended long ago.
    pub(super) fn tidy(&mut self, log_time_s: u32) {
        self.ended.tidy(log_time_s);
    }

    /// Ends a membership, at this entry and log time; returns the entry it had held since.
    pub(super) fn leave(&mut self, topic: &str, user: &str, (number, log_time_s): (u64, u32)) -> Option<u64> {
        self.ended.note(number, log_time_s, Some(topic), user);
        let topics = self.by_user.get_mut(user)?;
        let index = topics.iter().position(|known| &*known.topic == topic)?;
        let since = topics.swap_remove(index).number;
        if topics.is_empty() {
            self.by_user.remove(user);
        }
        self.forget_member(topic, user);
        self.forget_number(since);
        Some(since)
    }

    /// Ends every membership of a user, at this entry and log time; returns the entries they had held since.
    pub(super) fn leave_all(&mut self, user: &str, (number, log_time_s): (u64, u32)) -> Vec<u64> {
        self.ended.note(number, log_time_s, None, user);
        let topics = self.by_user.remove(user).unwrap_or_default();
        for known in &topics {
            self.forget_member(&known.topic, user);
            self.forget_number(known.number);
        }
        topics.into_iter().map(|known| known.number).collect()
    }

    /// The topic's subscribers now.
    #[must_use]
    pub fn members(&self, topic: &str) -> Members {
        self.topics.get(topic).cloned().unwrap_or_default()
    }

    /// The user's topics, sorted by name.
    #[must_use]
    pub fn topics_of(&self, user: &str) -> Vec<Arc<str>> {
        let topics = self.by_user.get(user).into_iter().flatten();
        let mut topics: Vec<_> = topics.map(|known| Arc::clone(&known.topic)).collect();
        topics.sort_unstable();
        topics
    }

    /// Whether the user is subscribed.
    #[must_use]
    pub fn is_member(&self, topic: &str, user: &str) -> bool {
        self.topics.get(topic).is_some_and(|members| members.contains(user))
    }

    /// How many topics there are, and how many memberships.
    #[must_use]
    pub fn counts(&self) -> (usize, u64) {
        (self.topics.len(), self.topics.values().map(|members| members.len() as u64).sum())
    }

    /// The oldest entry that a membership rests on.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.by_number.keys().next().copied()
    }

    /// Every topic with its subscribers. Cheap: what takes long can be done without holding up apply.
    pub(super) fn all(&self) -> Vec<(Arc<str>, Members)> {
        self.topics.iter().map(|(topic, members)| (Arc::clone(topic), Arc::clone(members))).collect()
    }

    /// What two nodes share that applied the same log, or parts of it.
    pub(super) fn describe(&self, out: &mut Vec<u8>) {
        let mut topics: Vec<_> = self.topics.iter().collect();
        topics.sort_unstable_by_key(|(name, _)| *name);
        for (name, members) in topics {
            out.extend(name.as_bytes());
            out.push(0);
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable();
            for member in members {
                out.extend(member.as_bytes());
                out.push(1);
            }
        }
    }

    fn forget_member(&mut self, topic: &str, user: &str) {
        if let Some(members) = self.topics.get_mut(topic) {
            Arc::make_mut(members).swap_remove(user);
            if members.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    fn forget_number(&mut self, number: u64) {
        if let Some(count) = self.by_number.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.by_number.remove(&number);
            }
        }
    }
}

fn find<'a>(topics: &'a mut [Subscription], topic: &str) -> Option<&'a mut Subscription> {
    topics.iter_mut().find(|known| &*known.topic == topic)
}
