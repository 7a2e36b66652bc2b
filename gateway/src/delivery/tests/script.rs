//! Random logs: operations, and the entries that say them.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Builder;

use crate::domain::{
    Fingerprint, IdempotencyKey, Notification, NotificationId, Priority, Target, TopicName, UserId,
};
use crate::log::entry::{self, Entry, Names, Recipients, Settings};

pub(super) const USERS: [&str; 5] = ["alice", "bob", "carol", "dave", "eve"];
pub(super) const TOPICS: [&str; 3] = ["news", "sport", "weather"];
/// Idempotency keys that senders use.
pub(super) const KEYS: u8 = 5;

/// Something that somebody does, as far as it enters the log.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Publish(Draft),
    /// User, and the share of the log behind which and up to which it acks.
    Acks(Vec<(usize, u64, u64)>),
    /// One of the last published.
    Withdraw {
        back: usize,
    },
    Subscribe {
        topic: usize,
        users: u8,
    },
    Unsubscribe {
        topic: usize,
        users: u8,
    },
    Forget {
        user: usize,
    },
    Settings(Settings),
    GiveUp {
        permille: u64,
    },
    Tick,
}

/// A notification before it is written.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    to: To,
    ttl_seconds: u32,
    bytes: usize,
    priority: Priority,
    collapse_key: Option<u8>,
    /// The key, and which of several bodies the request has.
    idempotency: Option<(u8, u8)>,
}

/// Whom it is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum To {
    /// A bit for each.
    Users(u8),
    Topic(usize),
    Everybody,
}

/// How long things last in a script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Seconds, for times to live and windows.
    pub(super) lasting_s: u32,
    /// Milliseconds between most operations.
    pub(super) step_ms: i64,
    /// Milliseconds that pass now and then.
    pub(super) leap_ms: i64,
    /// Milliseconds by which a clock steps back now and then.
    pub(super) back_ms: i64,
}

/// An operation, and how much later than the one before it the committer's clock says it is.
pub(super) fn timed_operation(pace: Pace) -> impl Strategy<Value = (i64, Operation)> + Clone {
    let later = prop_oneof![
        20 => 0..=pace.step_ms,
        1 => 0..=pace.leap_ms,
        1 => -pace.back_ms..=0,
    ];
    (later, operation(pace))
}

fn operation(pace: Pace) -> impl Strategy<Value = Operation> + Clone {
    let permille = || prop_oneof![0..=1_000_u64, 900..=1_000_u64];
    let ack = (0..USERS.len(), permille(), permille());
    let users = || 1..(1_u8 << USERS.len());
    prop_oneof![
        40 => draft(pace.lasting_s).prop_map(Operation::Publish),
        8 => vec(ack, 1..4).prop_map(Operation::Acks),
        7 => (0..8_usize).prop_map(|back| Operation::Withdraw { back }),
        8 => (0..TOPICS.len(), users()).prop_map(|(topic, users)| Operation::Subscribe { topic, users }),
        3 => (0..TOPICS.len(), users()).prop_map(|(topic, users)| Operation::Unsubscribe { topic, users }),
        1 => (0..USERS.len()).prop_map(|user| Operation::Forget { user }),
        2 => settings(pace.lasting_s).prop_map(Operation::Settings),
        1 => (0..900_u64).prop_map(|permille| Operation::GiveUp { permille }),
        5 => Just(Operation::Tick),
    ]
}

fn draft(lasting_s: u32) -> impl Strategy<Value = Draft> + Clone {
    let to = prop_oneof![
        8 => (1..(1_u8 << USERS.len())).prop_map(To::Users),
        6 => (0..USERS.len()).prop_map(|user| To::Users(1 << user)),
        4 => (0..TOPICS.len()).prop_map(To::Topic),
        1 => Just(To::Everybody),
    ];
    let ttl_seconds = prop_oneof![1 => Just(0), 4 => 1..=lasting_s / 10, 5 => 1..=lasting_s];
    let priority = prop::sample::select(&Priority::ALL[..]);
    let collapse_key = prop::option::weighted(0.3, 0..3_u8);
    let idempotency = prop::option::weighted(0.4, (0..KEYS, prop_oneof![4 => Just(0_u8), 1 => Just(1)]));
    (to, ttl_seconds, 0..40_usize, priority, collapse_key, idempotency).prop_map(
        |(to, ttl_seconds, bytes, priority, collapse_key, idempotency)| Draft {
            to,
            ttl_seconds,
            bytes,
            priority,
            collapse_key,
            idempotency,
        },
    )
}

pub(super) fn settings(lasting_s: u32) -> impl Strategy<Value = Settings> + Clone {
    let max_count = prop_oneof![1..5_u32, 1..12_u32];
    let mailbox = (max_count, prop_oneof![20..200_u64, Just(1 << 20)], prop::bool::weighted(0.3), 0..4_u32);
    let window = || prop_oneof![0..=lasting_s / 10, 0..=lasting_s];
    let windows = (window(), 0..5_u32, window(), prop_oneof![1..20_u32, Just(1_000)]);
    let topics = (1..5_u32, 1..4_u32);
    (mailbox, windows, topics, 1..=lasting_s).prop_map(|(mailbox, windows, topics, max_ttl_seconds)| {
        Settings {
            mailbox_max_count: mailbox.0,
            mailbox_max_bytes: mailbox.1,
            reject_on_overflow: mailbox.2,
            history: mailbox.3,
            max_ttl_seconds,
            idempotency_window_seconds: windows.0,
            idempotency_max_keys: windows.1,
            outcome_retention_seconds: windows.2,
            outcome_max_recipients: windows.3,
            topic_max_subscribers: topics.0,
            user_max_topics: topics.1,
        }
    })
}

/// Writes entries, and knows what was published.
#[derive(Debug, Default)]
pub(super) struct Writer {
    published: Vec<(u64, Option<Names>)>,
}

impl Writer {
    /// The entry of an operation that becomes `number`.
    pub(super) fn write(&mut self, operation: &Operation, number: u64, timestamp_ms: u64) -> Bytes {
        let at = |permille: u64| (number - 1) * permille / 1_000;
        match operation {
            Operation::Publish(draft) => {
                let payload = draft.encode(number, timestamp_ms);
                let Entry::Publish(publish) = decode(&payload) else { unreachable!("it was encoded as one") };
                match publish.recipients {
                    Recipients::Users(names) => self.published.push((number, Some(names))),
                    Recipients::Topic(_) => self.published.push((number, None)),
                    Recipients::Everybody => {}
                }
                payload
            }
            Operation::Acks(acks) => {
                let acks = acks.iter().map(|(user, after, until)| (USERS[*user], at(*after), at(*until)));
                entry::encode_acks(acks)
            }
            Operation::Withdraw { back } => {
                let published = self.published.iter().rev().nth(*back);
                published.map_or_else(entry::encode_tick, |(number, names)| {
                    entry::encode_withdraw(*number, names.as_ref()).unwrap()
                })
            }
            Operation::Subscribe { topic, users } => {
                entry::encode_subscribe(TOPICS[*topic], users_of(*users)).unwrap()
            }
            Operation::Unsubscribe { topic, users } => {
                entry::encode_unsubscribe(TOPICS[*topic], users_of(*users)).unwrap()
            }
            Operation::Forget { user } => entry::encode_forget_user(USERS[*user]),
            Operation::Settings(settings) => entry::encode_settings(settings),
            Operation::GiveUp { permille } => entry::encode_give_up(at(*permille)),
            Operation::Tick => entry::encode_tick(),
        }
    }
}

impl Draft {
    fn encode(&self, number: u64, timestamp_ms: u64) -> Bytes {
        let user = |name: &str| UserId::parse(name).unwrap();
        let target = match self.to {
            To::Users(users) => Target::Users(users_of(users).map(user).collect()),
            To::Topic(topic) => Target::Topic(TopicName::parse(TOPICS[topic]).unwrap()),
            To::Everybody => Target::Everybody,
        };
        let notification = Notification {
            id: id_of(number, timestamp_ms),
            accepted_at_us: timestamp_ms * 1_000,
            target,
            from: None,
            title: None,
            body: None,
            data: None,
            ttl_seconds: self.ttl_seconds,
            collapse_key: self.collapse_key.map(|key| Fingerprint::of(&[&[key]])),
            priority: self.priority,
            idempotency: self
                .idempotency
                .map(|(key, body)| IdempotencyKey { key: key_of(key), body: Fingerprint::of(&[&[body]]) }),
        };
        entry::encode_publish(&notification, None, &vec![b'x'; self.bytes]).unwrap()
    }
}

/// A notification written by hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script {
    pub(super) to: To,
    pub(super) ttl_seconds: u32,
    pub(super) priority: Priority,
    pub(super) key: Option<u8>,
}

impl Script {
    pub(super) fn to(user: &str) -> Self {
        let index = USERS.iter().position(|known| *known == user).unwrap();
        Self { to: To::Users(1 << index), ttl_seconds: 100, priority: Priority::Normal, key: None }
    }

    pub(super) fn to_topic(topic: &str) -> Self {
        let index = TOPICS.iter().position(|known| *known == topic).unwrap();
        Self { to: To::Topic(index), ttl_seconds: 100, priority: Priority::Normal, key: None }
    }

    pub(super) fn encode(self, number: u64, timestamp_ms: u64) -> Bytes {
        let draft = Draft {
            to: self.to,
            ttl_seconds: self.ttl_seconds,
            bytes: 10,
            priority: self.priority,
            collapse_key: None,
            idempotency: self.key.map(|key| (key, 0)),
        };
        draft.encode(number, timestamp_ms)
    }
}

/// Settings that let everything happen.
pub(super) fn script_settings() -> Settings {
    Settings {
        mailbox_max_count: 100,
        mailbox_max_bytes: 1 << 20,
        reject_on_overflow: false,
        history: 2,
        max_ttl_seconds: 10_000,
        idempotency_window_seconds: 100,
        idempotency_max_keys: 100,
        outcome_retention_seconds: 100,
        outcome_max_recipients: 1_000,
        topic_max_subscribers: 10,
        user_max_topics: 10,
    }
}

/// The fingerprint of an idempotency key.
pub(super) fn key_of(key: u8) -> Fingerprint {
    Fingerprint::of(&[b"key", &[key]])
}

pub(super) fn decode(payload: &Bytes) -> Entry {
    entry::decode(payload).unwrap()
}

/// An id of version 7, made when the entry was.
fn id_of(number: u64, timestamp_ms: u64) -> NotificationId {
    let mut random = [0x55; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    NotificationId::from_uuid(Builder::from_unix_timestamp_millis(timestamp_ms, &random).into_uuid())
}

fn users_of(bits: u8) -> impl Iterator<Item = &'static str> + Clone {
    USERS.into_iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1).map(|(_, user)| user)
}
