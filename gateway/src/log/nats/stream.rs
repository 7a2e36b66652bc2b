//! The stream itself: created as it has to be, or refused when somebody made it otherwise.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, LastRawMessageErrorKind, RetentionPolicy, StorageType, Stream as Remote,
};
use bytes::Bytes;
use tokio::time::Instant;

use super::NatsError;
use super::connection::{Connection, HEADER_BYTES};
use super::fence::{Checkpoint, Tag};
use crate::domain::Epoch;
use crate::log::{MAX_ENTRY_BYTES, entry};

/// How long the servers remember a message's id: longer than an append is tried again.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Between two attempts while the stream has no leader.
const RETRY: Duration = Duration::from_millis(250);

/// What the stream has to be.
#[derive(Debug, Clone)]
pub struct StreamSettings {
    /// Its name; also the first word of its subjects.
    pub name: String,
    /// Servers that keep each entry.
    pub replicas: usize,
    /// When it drops an entry by itself, if it is made here.
    pub max_age: Duration,
    /// What one that is there already has to keep at least; `None`: exactly what it would be made with.
    pub least_age: Option<Duration>,
    /// The most it holds.
    pub max_bytes: u64,
}

/// The stream that all nodes share.
pub(super) struct Stream {
    remote: Remote,
    name: String,
}

/// What the stream holds, and whose history it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) epoch: Epoch,
    pub(super) first: u64,
    pub(super) head: u64,
    pub(super) bytes: u64,
    pub(super) told: Option<Told>,
}

/// An epoch entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) bits: u64,
    pub(super) number: u64,
}

/// The last message of a subject.
struct Last {
    number: u64,
    timestamp_ms: u64,
    payload: Bytes,
}

/// What the stream holds, and who said so.
pub(super) struct Reach {
    pub(super) first: u64,
    pub(super) head: u64,
    pub(super) bytes: u64,
    /// `None` where there is only one server.
    pub(super) leader: Option<String>,
}

/// A message of the stream.
pub(super) struct Message {
    pub(super) tag: Option<Tag>,
    pub(super) timestamp_ms: u64,
    pub(super) kind: Kind,
    pub(super) payload: Bytes,
}

/// What a message is, by its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An entry of somebody's batch.
    Entry,
    /// It begins a new epoch, or says again which one it is.
    Epoch,
    /// It says how far writers had come, for whoever begins behind that.
    Checkpoint,
}

impl StreamSettings {
    /// Where entries go.
    pub(super) fn entries(&self) -> String {
        format!("{}.entries", self.name)
    }

    fn config(&self) -> Config {
        Config {
            name: self.name.clone(),
            description: Some("the log of a notification gateway".to_owned()),
            subjects: vec![checkpoints(&self.name), self.entries(), epochs(&self.name)],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            num_replicas: self.replicas,
            max_age: self.max_age,
            max_bytes: i64::try_from(self.max_bytes).unwrap_or(i64::MAX),
            max_messages: -1,
            // The servers become slow with it, and mailboxes have their own bounds.
            max_messages_per_subject: -1,
            max_consumers: -1,
            discard: DiscardPolicy::New,
            duplicate_window: DUPLICATE_WINDOW,
            // A hole would be a position that nobody can explain.
            deny_delete: true,
            ..Config::default()
        }
    }

    /// Why a stream that was found cannot be used: the first thing that is not as it has to be.
    fn difference(&self, found: &Config) -> Option<String> {
        let wanted = self.config();
        let says = |what: &str, found: &dyn std::fmt::Debug, wanted: &dyn std::fmt::Debug| {
            Some(format!("{what} is {found:?} and must be {wanted:?}"))
        };
        let mut subjects = found.subjects.clone();
        subjects.sort();
        if subjects != wanted.subjects {
            return says("its list of subjects", &found.subjects, &wanted.subjects);
        }
        if found.storage != wanted.storage {
            return says("its storage", &found.storage, &wanted.storage);
        }
        if found.retention != wanted.retention {
            return says("its retention", &found.retention, &wanted.retention);
        }
        if found.discard != wanted.discard {
            return says("its discard policy", &found.discard, &wanted.discard);
        }
        // To JetStream, none is no limit.
        let is_old_enough = |least: Duration| found.max_age.is_zero() || found.max_age >= least;
        if let Some(least) = self.least_age.filter(|least| !is_old_enough(*least)) {
            return says("its maximum age (nats.max_age)", &found.max_age, &format!("{least:?} or more"));
        }
        if self.least_age.is_none() && found.max_age != wanted.max_age {
            return says("its maximum age (nats.max_age)", &found.max_age, &wanted.max_age);
        }
        let numbers = [
            ("number of replicas (nats.replicas)", found.num_replicas as i64, wanted.num_replicas as i64),
            ("maximum size (nats.max_bytes)", found.max_bytes, wanted.max_bytes),
            ("maximum number of messages", found.max_messages, wanted.max_messages),
            (
                "maximum number of messages a subject",
                found.max_messages_per_subject,
                wanted.max_messages_per_subject,
            ),
        ];
        for (what, found, wanted) in numbers {
            if found != wanted {
                return says(&format!("its {what}"), &found, &wanted);
            }
        }
        let oddities = [
            (found.sealed, "it is sealed"),
            (
                (1..MAX_ENTRY_BYTES + HEADER_BYTES)
                    .contains(&usize::try_from(found.max_message_size).unwrap_or(0)),
                "its maximum size of a message is below 1 MiB",
            ),
            (found.max_consumers > 0, "it allows a certain number of consumers only"),
            (found.republish.is_some(), "it republishes what it gets"),
            (found.no_ack, "it does not acknowledge"),
            (found.allow_rollup, "it allows rollups"),
            (found.deny_purge, "it denies to be purged of what is over"),
            (!found.deny_delete, "it allows to delete single messages"),
            (found.mirror.is_some(), "it mirrors another one"),
            (found.sources.as_ref().is_some_and(|sources| !sources.is_empty()), "it has sources"),
            (
                found.duplicate_window < DUPLICATE_WINDOW,
                "its window for duplicates is shorter than two minutes",
            ),
        ];
        oddities.into_iter().find(|(is_so, _)| *is_so).map(|(_, says)| says.to_owned())
    }
}

impl Stream {
    /// Finds the stream, or makes it; waits for a leader, but not beyond the deadline.
    pub(super) async fn open(
        connection: &Connection,
        settings: &StreamSettings,
        deadline: Instant,
    ) -> Result<Self, NatsError> {
        let jetstream = connection.jetstream();
        loop {
            let refused = |reason: String| NatsError::Stream { name: settings.name.clone(), reason };
            let reason = match jetstream.get_stream(&settings.name).await {
                Ok(remote) => {
                    if let Some(reason) = settings.difference(&remote.cached_info().config) {
                        let reason =
                            format!("{reason}; change one of them, the stream by `nats stream edit`");
                        return Err(NatsError::Unsuitable { name: settings.name.clone(), reason });
                    }
                    return Ok(Self { remote, name: settings.name.clone() });
                }
                Err(error) => match error.kind() {
                    GetStreamErrorKind::JetStream(error)
                        if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        match jetstream.create_stream(settings.config()).await {
                            // Another node may have made it at the same time: it is looked at like any other.
                            Ok(_) => continue,
                            Err(error) => match error.kind() {
                                CreateStreamErrorKind::JetStream(error) if is_final(&error) => {
                                    return Err(refused(format!("cannot be made: {error}")));
                                }
                                _ => error.to_string(),
                            },
                        }
                    }
                    _ => error.to_string(),
                },
            };
            if Instant::now() + RETRY >= deadline {
                return Err(refused(reason));
            }
            tracing::info!(reason, "the stream does not answer; trying again");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// What the stream holds now.
    pub(super) async fn standing(&self) -> Result<Standing, String> {
        let info = self.remote.get_info().await.map_err(|error| error.to_string())?;
        let told = self.last_epoch().await?;
        Ok(self.standing_of(&info, told))
    }

    fn standing_of(&self, info: &Info, told: Option<Told>) -> Standing {
        let head = info.state.last_sequence;
        // An empty one says 0, or the number of the entry that will come.
        let first = if info.state.messages == 0 { head + 1 } else { info.state.first_sequence };
        // A stream that was removed and made again is another one. What was created when is decided once, for all servers.
        let identity = (info.created.unix_timestamp_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let epoch = Epoch::from_bits(identity ^ told.map_or(0, |told| told.bits));
        Standing { epoch, first, head, bytes: info.state.bytes, told }
    }

    /// Only what it holds, without whose history it is: for every second.
    pub(super) async fn reach(&self) -> Result<Reach, String> {
        let info = self.remote.get_info().await.map_err(|error| error.to_string())?;
        let Standing { first, head, bytes, .. } = self.standing_of(&info, None);
        Ok(Reach { first, head, bytes, leader: info.cluster.and_then(|cluster| cluster.leader) })
    }

    /// The message with this number, if there is one.
    pub(super) async fn get(&self, number: u64) -> Result<Option<Message>, String> {
        match self.remote.get_raw_message(number).await {
            Ok(message) => Ok(Some(Message {
                tag: Tag::of(&message.headers),
                timestamp_ms: milliseconds(message.time.unix_timestamp_nanos()),
                kind: Kind::of(&self.name, message.subject.as_str()),
                payload: message.payload,
            })),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The last epoch entry there is.
    async fn last_epoch(&self) -> Result<Option<Told>, String> {
        // What somebody else wrote there says nothing, but the next one stands behind it.
        let bits = |payload: &Bytes| entry::epoch_bits(payload).unwrap_or(0);
        let last = self.last(&epochs(&self.name)).await?;
        Ok(last.map(|last| Told { bits: bits(&last.payload), number: last.number }))
    }

    /// Appends an epoch entry behind the last one. Of nodes that do so at the same time one does.
    pub(super) async fn say_epoch(
        &self,
        connection: &Connection,
        last: Option<Told>,
        bits: u64,
    ) -> Result<(), String> {
        let last = last.map_or(0, |told| told.number);
        self.say(connection, epochs(&self.name), entry::encode_epoch(bits), last).await.map(drop)
    }

    /// Makes sure that the epoch outlives what is about to be dropped up to `through`.
    pub(super) async fn keep_epoch(&self, connection: &Connection, through: u64) -> Result<(), String> {
        match self.last_epoch().await? {
            Some(told) if told.number <= through => self.say_epoch(connection, Some(told), told.bits).await,
            _ => Ok(()),
        }
    }

    /// Says the epoch again if that was said before `since_ms`, in milliseconds since the Unix epoch: the stream drops what is old.
    pub(super) async fn renew_epoch(&self, connection: &Connection, since_ms: u64) -> Result<(), String> {
        match self.last(&epochs(&self.name)).await? {
            Some(last) if last.timestamp_ms < since_ms => {
                self.say(connection, epochs(&self.name), last.payload, last.number).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The last checkpoint, and where it stands; of a log that was never trimmed, that of its beginning.
    pub(super) async fn last_checkpoint(&self) -> Result<(Checkpoint, u64), String> {
        let last = self.last(&checkpoints(&self.name)).await?;
        let number = last.as_ref().map_or(0, |last| last.number);
        Ok((last.and_then(|last| Checkpoint::decode(&last.payload)).unwrap_or_default(), number))
    }

    /// Appends a checkpoint behind the last one; `false` if another node did meanwhile.
    pub(super) async fn say_checkpoint(
        &self,
        connection: &Connection,
        last: u64,
        checkpoint: Bytes,
    ) -> Result<bool, String> {
        self.say(connection, checkpoints(&self.name), checkpoint, last).await
    }

    async fn last(&self, subject: &str) -> Result<Option<Last>, String> {
        match self.remote.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(Last {
                number: message.sequence,
                timestamp_ms: milliseconds(message.time.unix_timestamp_nanos()),
                payload: message.payload,
            })),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Appends a message to a subject whose last one has this number; `false` if it has another one.
    async fn say(
        &self,
        connection: &Connection,
        subject: String,
        payload: Bytes,
        last: u64,
    ) -> Result<bool, String> {
        let message = PublishMessage::build().payload(payload).expected_last_subject_sequence(last);
        let sent = connection.jetstream().send_publish(subject, message).await;
        match sent.map_err(|error| error.to_string())?.await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Drops everything before `first`.
    pub(super) async fn purge_before(&self, first: u64) -> Result<(), String> {
        // To purge before 1 means to a server: everything.
        if first <= 1 {
            return Ok(());
        }
        self.remote.purge().sequence(first).await.map(drop).map_err(|error| error.to_string())
    }

    /// The stream as the client knows it.
    pub(super) fn remote(&self) -> &Remote {
        &self.remote
    }
}

impl Kind {
    pub(super) fn of(name: &str, subject: &str) -> Self {
        match subject.strip_prefix(name) {
            Some(".epoch") => Self::Epoch,
            Some(".checkpoint") => Self::Checkpoint,
            _ => Self::Entry,
        }
    }
}

/// Where epoch entries go: the last one is found without following the log.
fn epochs(name: &str) -> String {
    format!("{name}.epoch")
}

/// Where checkpoints go.
fn checkpoints(name: &str) -> String {
    format!("{name}.checkpoint")
}

/// Log time: JetStream's, in whole milliseconds.
pub(super) fn milliseconds(nanoseconds: i128) -> u64 {
    u64::try_from(nanoseconds / 1_000_000).unwrap_or(0)
}

/// Whether trying again is in vain: the servers understood, and will not. Without a quorum, or while servers join, they may.
fn is_final(error: &async_nats::jetstream::Error) -> bool {
    const UNAVAILABLE: usize = 503;
    error.code() != UNAVAILABLE && error.error_code() != ErrorCode::CLUSTER_NO_PEERS
}
