//! What became of each notification, per recipient, for as long as a sender may ask.
//!
//! One record a notification, in the order of the log; a recipient's state is a byte at the recipient's index. What is
//! forgotten, and when, follows from the log alone: by log time after the last state became final, and by how many
//! recipients came since.

use std::collections::{HashMap, VecDeque};

use hashbrown::HashTable;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::topics::Members;
use crate::domain::{NotificationId, Outcome};
use crate::log::entry::Settings;
use crate::registry::Final;

/// Places for records that are kept although nobody needs them.
const SPARE_PLACES: usize = 1_024;

/// The records, by number and by name.
#[derive(Default)]
pub struct Outcomes {
    /// The number of `records[0]`.
    first: u64,
    /// `None` where the log has no notification, or one that went to everybody.
    records: VecDeque<Option<Record>>,
    /// Numbers, by the notification's name.
    by_id: HashTable<u64>,
    /// Recipients of all notifications so far.
    recipients: u64,
    /// The last entry that was applied.
    newest: u64,
    /// Notifications made up to this time, in milliseconds, may have been forgotten.
    forgotten_until_ms: u64,
    /// Who waits until a notification is final, by its number.
    watchers: HashMap<u64, SmallVec<[oneshot::Sender<()>; 1]>>,
}

/// One notification's states.
#[derive(Debug, Clone)]
struct Record {
    id: NotificationId,
    /// [`Outcomes::recipients`] when it came, itself included.
    recipients_until: u64,
    states: SmallVec<[u8; 16]>,
    pending: u32,
    /// When it is due. However late the log notices, it has expired then.
    expires_at_s: u32,
    /// How long it is remembered once it is final, as the settings said when it came: later ones change nothing, or what was
    /// dropped from the log might matter again.
    retention_s: u32,
    /// When the last state became final, in seconds of log time.
    final_at_s: u32,
    /// The topic's subscribers when it came; the names of others stand in their entry.
    members: Option<Members>,
}

/// When a notification came, when it is due, and how long its outcome is remembered; in seconds of log time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) log_time_s: u32,
    pub(super) expires_at_s: u32,
    pub(super) retention_s: u32,
}

/// What a sender may know of one notification.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its place in the log.
    pub number: u64,
    /// Each recipient's state, in the order of the recipients.
    pub states: Vec<Outcome>,
    /// Who they are, if it went to a topic; else their names stand in its entry.
    pub members: Option<Members>,
}

/// Why there is no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoReport {
    /// There never was such a notification, or it went to everybody who was connected.
    #[error("no such notification")]
    Unknown,
    /// Its outcome was final long ago, or too many came since.
    #[error("the outcome is not remembered any more")]
    Forgotten,
}

impl Outcomes {
    /// A notification came to `count` recipients, of whom those with an index in `rejected` refused it.
    pub(super) fn publish(
        &mut self,
        (number, id): (u64, NotificationId),
        count: usize,
        rejected: &[u32],
        members: Option<Members>,
        times: Times,
    ) {
        let mut states: SmallVec<[u8; 16]> = SmallVec::from_elem(Outcome::Pending as u8, count);
        for index in rejected {
            states[*index as usize] = Outcome::Rejected as u8;
        }
        self.recipients += count as u64;
        let record = Record {
            id,
            recipients_until: self.recipients,
            pending: u32::try_from(count - rejected.len()).expect("recipients fit an entry"),
            states,
            expires_at_s: times.expires_at_s,
            retention_s: times.retention_s,
            final_at_s: times.log_time_s,
            members,
        };
        if self.records.is_empty() {
            self.first = number;
        }
        while self.first + (self.records.len() as u64) < number {
            self.records.push_back(None);
        }
        self.records.push_back(Some(record));
        let (first, records) = (self.first, &self.records);
        self.by_id.insert_unique(hash(id), number, |number| hash_of(first, records, *number));
    }

    /// A recipient's state became final.
    pub(super) fn finalize(&mut self, one: &Final, log_time_s: u32) {
        let Some(record) = self.record_mut(one.number) else { return };
        let Some(state) = record.states.get_mut(one.recipient as usize) else { return };
        if *state != Outcome::Pending as u8 {
            return;
        }
        *state = Outcome::from(one.reason) as u8;
        record.pending -= 1;
        if record.pending > 0 {
            return;
        }
        record.final_at_s = log_time_s.min(record.expires_at_s);
        if !self.watchers.is_empty() {
            for watcher in self.watchers.remove(&one.number).unwrap_or_default() {
                // Whoever watched may have gone.
                let _ = watcher.send(());
            }
        }
    }

    /// Forgets what may be forgotten, from the front; `number` is the last entry that was applied.
    pub(super) fn tidy(&mut self, number: u64, settings: &Settings, log_time_s: u32) {
        self.newest = number;
        while let Some(front) = self.records.front() {
            if let Some(record) = front {
                if self.is_remembered(self.first, record, settings, log_time_s) {
                    break;
                }
                let (id, number) = (record.id, self.first);
                self.forgotten_until_ms = self.forgotten_until_ms.max(id.made_at_ms().unwrap_or(0));
                if let Ok(entry) = self.by_id.find_entry(hash(id), |known| *known == number) {
                    entry.remove();
                }
                self.watchers.remove(&number);
            }
            self.records.pop_front();
            self.first += 1;
        }
        // A crowd leaves no empty places behind.
        let len = self.records.len();
        if self.records.capacity() > SPARE_PLACES.max(8 * len) {
            self.records.shrink_to(2 * len);
            let (first, records) = (self.first, &self.records);
            self.by_id.shrink_to(2 * len, |number| hash_of(first, records, *number));
        }
    }

    /// When the oldest may be forgotten, in seconds of log time; `None` as long as it waits for a recipient.
    pub(super) fn next_due_s(&self) -> Option<u32> {
        let oldest = self.records.front()?.as_ref();
        let Some(record) = oldest else { return Some(0) };
        (record.pending == 0).then(|| record.final_at_s.saturating_add(record.retention_s))
    }

    /// Notifications whose outcome is remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// What is known of a notification.
    ///
    /// # Errors
    /// [`NoReport`] when nothing is.
    pub fn report(
        &self,
        id: NotificationId,
        settings: &Settings,
        log_time_s: u32,
    ) -> Result<Report, NoReport> {
        let found =
            self.by_id.find(hash(id), |number| self.record(*number).is_some_and(|record| record.id == id));
        let Some(number) = found else {
            let may_have_been =
                id.made_at_ms().is_some_and(|made_at_ms| made_at_ms <= self.forgotten_until_ms);
            return Err(if may_have_been { NoReport::Forgotten } else { NoReport::Unknown });
        };
        let record =
            self.record(*number).filter(|record| self.is_remembered(*number, record, settings, log_time_s));
        let record = record.ok_or(NoReport::Forgotten)?;
        let states = record.states.iter().map(|state| Outcome::ALL[usize::from(*state)]).collect();
        Ok(Report { number: *number, states, members: record.members.clone() })
    }

    /// The subscribers to whom a notification for a topic went.
    pub(super) fn members(&self, number: u64) -> Option<Members> {
        self.record(number)?.members.clone()
    }

    /// Resolves when every state is final; `None` if that is so already, or nothing is known.
    pub(super) fn watch(&mut self, number: u64) -> Option<oneshot::Receiver<()>> {
        if self.record(number)?.pending == 0 {
            return None;
        }
        let (watcher, final_at_last) = oneshot::channel();
        let watchers = self.watchers.entry(number).or_default();
        watchers.retain(|watcher| !watcher.is_closed());
        watchers.push(watcher);
        Some(final_at_last)
    }

    /// Forgets those who do not wait any more.
    pub(super) fn unwatch(&mut self, number: u64) {
        if let Some(watchers) = self.watchers.get_mut(&number) {
            watchers.retain(|watcher| !watcher.is_closed());
            if watchers.is_empty() {
                self.watchers.remove(&number);
            }
        }
    }

    /// The first number that is remembered.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.records.front().map(|_| self.first)
    }

    /// What two nodes share that applied the same log.
    pub(super) fn describe(&self, out: &mut Vec<u8>, settings: &Settings, log_time_s: u32) {
        for (number, record) in (self.first..).zip(&self.records) {
            let Some(record) = record else { continue };
            if !self.is_remembered(number, record, settings, log_time_s) {
                continue;
            }
            out.extend(number.to_le_bytes());
            out.extend(record.id.as_bytes());
            match &record.members {
                None => out.extend(record.states.iter()),
                Some(members) => {
                    // Nodes may know the same subscribers in another order.
                    let mut states: Vec<_> = members.iter().zip(&record.states).collect();
                    states.sort_unstable();
                    for (name, state) in states {
                        out.extend(name.as_bytes());
                        out.push(*state);
                    }
                }
            }
        }
    }

    /// As long as it is not final for long, and neither too many recipients nor, since each entry takes room here, too many
    /// entries came since.
    fn is_remembered(&self, number: u64, record: &Record, settings: &Settings, log_time_s: u32) -> bool {
        let came_since = (self.recipients - record.recipients_until).max(self.newest.saturating_sub(number));
        let forget_at_s = record.final_at_s.saturating_add(record.retention_s);
        came_since < u64::from(settings.outcome_max_recipients)
            && (record.pending > 0 || log_time_s < forget_at_s)
    }

    fn record(&self, number: u64) -> Option<&Record> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.records.get(index)?.as_ref()
    }

    fn record_mut(&mut self, number: u64) -> Option<&mut Record> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.records.get_mut(index)?.as_mut()
    }
}

/// The name's last eight bytes: a counter within the millisecond, whose neighbours then lie together in the table, which the
/// processor's cache likes, and random ones, by which the table tells them apart. Nobody outside chooses them.
fn hash(id: NotificationId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn hash_of(first: u64, records: &VecDeque<Option<Record>>, number: u64) -> u64 {
    let record = usize::try_from(number - first).ok().and_then(|index| records.get(index)?.as_ref());
    hash(record.expect("every listed number has its record").id)
}
