//! The stream itself: created as it has to be, or refused when somebody made it otherwise.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind, Stream as Remote};
use bytes::Bytes;
use tokio::time::Instant;

use super::NatsError;
use super::connection::Connection;
use super::fence::{Checkpoint, Tag, UnknownFormat};
use super::settings::{StreamSettings, unknown_setting};
use crate::domain::Epoch;
use crate::log::entry;

/// What stands behind the stream's name in the subjects of what is no entry of a batch.
const EPOCH: &str = ".epoch";
const CHECKPOINT: &str = ".checkpoint";

/// Between two attempts while the stream has no leader.
const RETRY: Duration = Duration::from_millis(250);

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
                    match unknown_setting(connection, &settings.name).await {
                        Ok(None) => return Ok(Self { remote, name: settings.name.clone() }),
                        Ok(Some(key)) => {
                            let reason =
                                format!("it has the setting {key}, of which this gateway knows nothing");
                            return Err(NatsError::Unsuitable { name: settings.name.clone(), reason });
                        }
                        Err(reason) => reason,
                    }
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

    /// Says the epoch and the checkpoint again if they were said before `since_ms`, in milliseconds since the Unix epoch: the
    /// stream drops what is old.
    pub(super) async fn renew(&self, connection: &Connection, since_ms: u64) -> Result<(), String> {
        for subject in [epochs(&self.name), checkpoints(&self.name)] {
            if let Some(last) = self.last(&subject).await?
                && last.timestamp_ms < since_ms
            {
                self.say(connection, subject, last.payload, last.number).await?;
            }
        }
        Ok(())
    }

    /// The last checkpoint, and where it stands; of a log that was never trimmed, that of its beginning.
    pub(super) async fn last_checkpoint(&self) -> Result<(Checkpoint, u64), String> {
        let Some(last) = self.last(&checkpoints(&self.name)).await? else {
            return Ok((Checkpoint::default(), 0));
        };
        let decoded = Checkpoint::decode(&last.payload)
            .map_err(|UnknownFormat| "its checkpoint is one of a newer gateway".to_owned())?;
        // It cannot speak of what comes behind it.
        let sound = decoded.filter(|checkpoint| checkpoint.through < last.number);
        Ok((sound.unwrap_or_default(), last.number))
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
            Some(EPOCH) => Self::Epoch,
            Some(CHECKPOINT) => Self::Checkpoint,
            _ => Self::Entry,
        }
    }
}

/// Where epoch entries go: the last one is found without following the log.
pub(super) fn epochs(name: &str) -> String {
    format!("{name}{EPOCH}")
}

/// Where checkpoints go.
pub(super) fn checkpoints(name: &str) -> String {
    format!("{name}{CHECKPOINT}")
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
