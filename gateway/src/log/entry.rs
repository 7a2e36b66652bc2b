//! The encoding of an entry: one format version byte, one kind byte, the fields (integers little-endian).
//!
//! An entry is encoded once, by the task that accepted it, and decoded by the applying thread without copying: names and
//! frame body stay slices of the entry. A format version or kind that this build does not know is an error of its own, so
//! that a node stops rather than skip what it does not understand.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::MAX_ENTRY_BYTES;
use crate::domain::{Notification, NotificationId, Priority, UserId};

/// The format this build writes.
const FORMAT_VERSION: u8 = 1;

const KIND_PUBLISH: u8 = 1;
const KIND_SETTINGS: u8 = 2;
const KIND_TICK: u8 = 3;
const KIND_GIVE_UP: u8 = 4;

/// The fields of a publish entry in front of the names: version, kind, id, acceptance, time to live, priority, two lengths.
const PUBLISH_HEADER_BYTES: usize = 1 + 1 + 16 + 8 + 4 + 1 + 4 + 4;

/// A decoded entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A notification to one or many users.
    Publish(Publish),
    /// What apply depends on, from here on.
    Settings(Settings),
    /// Nothing but its timestamp: moves log time on when something is due.
    Tick,
    /// The log runs short of room: what still waits up to this number is dropped as overflow.
    GiveUp {
        /// The last number that is given up.
        through: u64,
    },
}

/// A notification as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The notification's name.
    pub id: NotificationId,
    /// When the gateway accepted it, in microseconds since the Unix epoch.
    pub accepted_at_us: u64,
    /// How long it may wait, in seconds of log time.
    pub ttl_seconds: u32,
    /// What overflow evicts first.
    pub priority: Priority,
    /// To whom.
    pub recipients: Recipients,
    /// The shared part of its frame; see [`crate::protocol::encode_body`].
    pub body: Bytes,
}

/// The names in a publish entry; validated when it was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipients {
    count: u32,
    /// Each name behind its length in two bytes.
    names: Bytes,
}

/// What apply depends on; enters the log when it changes, so that every node applies the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Notifications a mailbox holds.
    pub mailbox_max_count: u32,
    /// Bytes of frames a mailbox holds.
    pub mailbox_max_bytes: u64,
    /// Whether a full mailbox refuses instead of evicting.
    pub reject_on_overflow: bool,
}

/// Why bytes are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a later version.
    #[error("entry format {0} is newer than this build understands ({FORMAT_VERSION})")]
    UnknownVersion(u8),
    /// A kind this build does not know.
    #[error("entry kind {0} is not known to this build")]
    UnknownKind(u8),
    /// Too short, too long, or not what its kind prescribes.
    #[error("the entry is damaged: {0}")]
    Damaged(&'static str),
}

/// The encoded entry would exceed [`MAX_ENTRY_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "with its recipients the notification takes {0} bytes in the log, at most {MAX_ENTRY_BYTES} fit; use fewer recipients"
)]
pub struct EntryTooLarge(pub usize);

/// Encodes a notification with the body of its frame.
///
/// # Errors
/// [`EntryTooLarge`] when names and body together do not fit an entry.
pub fn encode_publish(notification: &Notification, body: &[u8]) -> Result<Bytes, EntryTooLarge> {
    let names: usize = notification.recipients.iter().map(|user| 2 + user.as_str().len()).sum();
    let size = PUBLISH_HEADER_BYTES + names + body.len();
    if size > MAX_ENTRY_BYTES {
        return Err(EntryTooLarge(size));
    }
    let length = |value: usize| u32::try_from(value).expect("less than an entry");
    let mut out = BytesMut::with_capacity(size);
    out.put_u8(FORMAT_VERSION);
    out.put_u8(KIND_PUBLISH);
    out.put_slice(notification.id.as_bytes());
    out.put_u64_le(notification.accepted_at_us);
    out.put_u32_le(notification.ttl_seconds);
    out.put_u8(notification.priority as u8);
    out.put_u32_le(length(notification.recipients.len()));
    out.put_u32_le(length(names));
    for user in &notification.recipients {
        put_name(&mut out, user);
    }
    out.put_slice(body);
    Ok(out.freeze())
}

/// Encodes a settings entry.
#[must_use]
pub fn encode_settings(settings: &Settings) -> Bytes {
    let mut out = vec![FORMAT_VERSION, KIND_SETTINGS];
    serde_json::to_writer(&mut out, settings).expect("numbers serialize, and a vector takes them");
    out.into()
}

/// Encodes a tick.
#[must_use]
pub fn encode_tick() -> Bytes {
    Bytes::from_static(&[FORMAT_VERSION, KIND_TICK])
}

/// Encodes the decision to give up everything up to `through`.
#[must_use]
pub fn encode_give_up(through: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(10);
    out.put_slice(&[FORMAT_VERSION, KIND_GIVE_UP]);
    out.put_u64_le(through);
    out.freeze()
}

/// Decodes an entry; names and body share its memory.
///
/// # Errors
/// [`DecodeError`]; the bytes are never skipped silently.
pub fn decode(payload: &Bytes) -> Result<Entry, DecodeError> {
    let mut rest = payload.clone();
    if rest.len() < 2 {
        return Err(DecodeError::Damaged("shorter than its header"));
    }
    let version = rest.get_u8();
    if version != FORMAT_VERSION {
        return Err(DecodeError::UnknownVersion(version));
    }
    match rest.get_u8() {
        KIND_PUBLISH => decode_publish(rest).map(Entry::Publish),
        KIND_SETTINGS => {
            let settings = serde_json::from_slice(&rest);
            settings.map(Entry::Settings).map_err(|_| DecodeError::Damaged("settings are not as written"))
        }
        KIND_TICK if rest.is_empty() => Ok(Entry::Tick),
        KIND_GIVE_UP if rest.len() == 8 => Ok(Entry::GiveUp { through: rest.get_u64_le() }),
        KIND_GIVE_UP => Err(DecodeError::Damaged("giving up names one number")),
        KIND_TICK => Err(DecodeError::Damaged("a tick carries nothing")),
        kind => Err(DecodeError::UnknownKind(kind)),
    }
}

fn put_name(out: &mut BytesMut, user: &UserId) {
    out.put_u16_le(u16::try_from(user.as_str().len()).expect("a user id has at most 256 bytes"));
    out.put_slice(user.as_str().as_bytes());
}

fn decode_publish(mut rest: Bytes) -> Result<Publish, DecodeError> {
    if rest.len() < PUBLISH_HEADER_BYTES - 2 {
        return Err(DecodeError::Damaged("shorter than a notification's header"));
    }
    let mut id = [0; 16];
    rest.copy_to_slice(&mut id);
    let accepted_at_us = rest.get_u64_le();
    let ttl_seconds = rest.get_u32_le();
    let priority = Priority::from_byte(rest.get_u8()).ok_or(DecodeError::Damaged("no such priority"))?;
    let count = rest.get_u32_le();
    let names = rest.get_u32_le() as usize;
    if rest.len() < names {
        return Err(DecodeError::Damaged("shorter than its names"));
    }
    let recipients = Recipients { count, names: rest.split_to(names) };
    recipients.validate()?;
    Ok(Publish {
        id: NotificationId::from_bytes(id),
        accepted_at_us,
        ttl_seconds,
        priority,
        recipients,
        body: rest,
    })
}

impl Recipients {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The names, in the order the sender gave.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest: &[u8] = &self.names;
        std::iter::from_fn(move || {
            let name;
            (name, rest) = split_name(rest)?;
            Some(std::str::from_utf8(name).expect("checked when the entry was decoded"))
        })
    }

    fn validate(&self) -> Result<(), DecodeError> {
        let mut rest: &[u8] = &self.names;
        let mut found = 0;
        while let Some((name, behind)) = split_name(rest) {
            std::str::from_utf8(name).map_err(|_| DecodeError::Damaged("a name is not UTF-8"))?;
            found += 1;
            rest = behind;
        }
        if found == self.count && rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Damaged("the names do not add up"))
        }
    }
}

fn split_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notification(names: &[String], priority: Priority) -> Notification {
        Notification {
            id: NotificationId::from_bytes([7; 16]),
            accepted_at_us: 42,
            recipients: names.iter().map(|name| UserId::parse(name).unwrap()).collect(),
            from: None,
            title: None,
            body: None,
            data: None,
            ttl_seconds: 60,
            priority,
        }
    }

    proptest! {
        #[test]
        fn a_publish_entry_reads_back_as_written(names in prop::collection::vec("[a-zäß日]{1,20}", 1..20), body: Vec<u8>) {
            let payload = encode_publish(&notification(&names, Priority::High), &body).unwrap();
            let Ok(Entry::Publish(publish)) = decode(&payload) else { panic!("not a publish entry") };
            prop_assert!(publish.recipients.iter().eq(names.iter()));
            prop_assert_eq!(publish.recipients.count() as usize, names.len());
            prop_assert_eq!(&publish.body[..], &body[..]);
            prop_assert_eq!((publish.id, publish.accepted_at_us), (NotificationId::from_bytes([7; 16]), 42));
            prop_assert_eq!((publish.ttl_seconds, publish.priority), (60, Priority::High));
        }

        #[test]
        fn damaged_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes.into());
        }

        #[test]
        fn a_truncated_publish_entry_never_panics_nor_invents_a_name(cut in 0_usize..60) {
            let names = ["bob".to_owned(), "alice".to_owned()];
            let payload = encode_publish(&notification(&names, Priority::Low), b"{}").unwrap();
            if let Ok(Entry::Publish(publish)) = decode(&payload.slice(..cut.min(payload.len()))) {
                prop_assert!(publish.recipients.iter().eq(names.iter()));
            }
        }
    }

    #[test]
    fn settings_and_ticks_read_back_as_written() {
        let settings =
            Settings { mailbox_max_count: 5, mailbox_max_bytes: 1 << 40, reject_on_overflow: true };
        assert_eq!(decode(&encode_settings(&settings)), Ok(Entry::Settings(settings)));
        assert_eq!(decode(&encode_tick()), Ok(Entry::Tick));
        assert_eq!(decode(&encode_give_up(1 << 40)), Ok(Entry::GiveUp { through: 1 << 40 }));
    }

    #[test]
    fn what_a_later_version_wrote_is_named_and_not_skipped() {
        assert_eq!(decode(&Bytes::from_static(&[2, 1, 0])), Err(DecodeError::UnknownVersion(2)));
        assert_eq!(decode(&Bytes::from_static(&[1, 99])), Err(DecodeError::UnknownKind(99)));
        assert!(matches!(decode(&Bytes::from_static(&[1])), Err(DecodeError::Damaged(_))));
    }

    #[test]
    fn an_entry_that_would_not_fit_is_refused_before_the_log_sees_it() {
        let names: Vec<String> = (0..3_100).map(|index| format!("{index:0256}")).collect();
        assert!(matches!(encode_publish(&notification(&names, Priority::Low), b"{}"), Err(EntryTooLarge(_))));
    }
}
