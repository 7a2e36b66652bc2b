//! Following the stream: an ordered consumer, whose messages go into the local copy, where the tails find them.
//!
//! A consumer that ends, for whatever reason, is made again behind the last entry of the copy. Each time, and after each
//! connect, the stream is compared with the copy first: the client's own repair would go on behind a head that moved backwards.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::push::OrderedConfig;
use futures_util::StreamExt;

use super::Shared;
use super::copy::{self, Judgement};
use super::fence::{Fence, Tag};
use super::stream::{epochs, milliseconds};
use crate::clock::Clock;
use crate::log::LogEntry;
use crate::log::entry;
use crate::telemetry::Throttle;

/// The most messages that are written at once.
const CHUNK: usize = 4_096;

/// Between two attempts to follow.
const RETRY: Duration = Duration::from_millis(200);

/// The task's own.
pub(super) struct Copier {
    pub(super) shared: Arc<Shared>,
    pub(super) fence: Fence,
    /// The newest timestamp: they never step back, whatever the servers' clocks do.
    pub(super) timestamp_ms: u64,
    pub(super) clock: Clock,
    pub(super) throttle: Throttle,
}

/// Why the stream is not followed any more.
enum Break {
    /// For the moment.
    Lost(String),
    /// The stream is not the one that the state was computed from.
    Changed(String),
}

impl Copier {
    /// Follows until it is dropped, or the stream is another one.
    pub(super) async fn run(mut self) {
        loop {
            match self.follow().await {
                Break::Changed(why) => {
                    tracing::error!(why, "the stream is not what it was; the state is computed anew");
                    self.shared.change(&why);
                    return;
                }
                Break::Lost(why) => {
                    if let Some(held_back) = self.throttle.pass(self.clock.now_ms()) {
                        tracing::warn!(why, held_back, "the stream cannot be followed; trying again");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn follow(&mut self) -> Break {
        match self.try_to_follow().await {
            Ok(never) => match never {},
            Err(broken) => broken,
        }
    }

    async fn try_to_follow(&mut self) -> Result<std::convert::Infallible, Break> {
        let shared = Arc::clone(&self.shared);
        let lost = |error: &dyn std::fmt::Display| Break::Lost(error.to_string());
        let mut connects = shared.connection.connects();
        connects.mark_unchanged();
        self.compare().await?;
        let (_, head) = shared.copy.reach();
        let config = OrderedConfig {
            deliver_subject: shared.connection.client().new_inbox(),
            description: Some("a gateway".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: head + 1 },
            ..OrderedConfig::default()
        };
        let consumer = shared.stream.remote().create_consumer(config).await.map_err(|error| lost(&error))?;
        let messages = consumer.messages().await.map_err(|error| lost(&error))?;
        let mut chunks = messages.ready_chunks(CHUNK);
        loop {
            let chunk = tokio::select! {
                biased;
                _ = connects.changed() => return Err(Break::Lost("the connection was made again".to_owned())),
                () = shared.doubted.notified() => return Err(Break::Lost("the stream may have changed".to_owned())),
                chunk = chunks.next() => chunk.ok_or_else(|| lost(&"the consumer ended"))?,
            };
            let mut broken = None;
            let mut messages = Vec::with_capacity(chunk.len());
            for message in chunk {
                match message {
                    Ok(message) => messages.push(message),
                    Err(error) => {
                        broken = Some(lost(&error));
                        break;
                    }
                }
            }
            self.take(messages).await?;
            if let Some(broken) = broken {
                return Err(broken);
            }
        }
    }

    /// Whether the stream still has what the copy has.
    async fn compare(&self) -> Result<(), Break> {
        let lost = |why: String| Break::Lost(why);
        self.shared.connection.check().map_err(|error| lost(error.to_string()))?;
        let standing = self.shared.stream.standing().await.map_err(lost)?;
        let judged = copy::judge(&self.shared.copy, &self.shared.stream, standing).await;
        match judged.map_err(|error| lost(error.to_string()))? {
            Judgement::Same => Ok(()),
            Judgement::Useless(why) | Judgement::Contradicted(why) => Err(Break::Changed(why.to_owned())),
        }
    }

    /// Writes what came into the copy.
    async fn take(&mut self, messages: Vec<Message>) -> Result<(), Break> {
        let mut entries = Vec::with_capacity(messages.len());
        let (_, mut head) = self.shared.copy.reach();
        let mut changed = None;
        for message in messages {
            let info = message.info().map_err(|error| Break::Lost(error.to_string()))?;
            let number = info.stream_sequence;
            if number <= head {
                continue;
            }
            if number > head + 1 {
                // The next comparison says whether the stream begins later now.
                changed = Some(Break::Lost(format!("entry {} is missing", head + 1)));
                break;
            }
            head = number;
            self.timestamp_ms = self.timestamp_ms.max(milliseconds(info.published.unix_timestamp_nanos()));
            if message.subject.as_str() == epochs(&self.shared.name) {
                entries.push(self.entry(number, copy::pack(None, &message.payload)));
                if self.shared.is_news(&message.payload) {
                    changed = Some(Break::Changed("another node began a new epoch".to_owned()));
                    break;
                }
                continue;
            }
            let tag = message.headers.as_ref().and_then(Tag::of);
            let admitted = tag.filter(|tag| self.fence.admit(*tag, self.timestamp_ms));
            let kept = match admitted {
                Some(tag) => copy::pack(Some(tag), &message.payload),
                None => {
                    self.warn_of(number, tag);
                    copy::pack(None, &entry::encode_tick())
                }
            };
            entries.push(self.entry(number, kept));
        }
        if !entries.is_empty() && !self.shared.copy.copy(entries).await {
            let why = self.shared.copy.ended().unwrap_or_default();
            return Err(Break::Lost(format!("the copy cannot be written: {why}")));
        }
        changed.map_or(Ok(()), Err)
    }

    fn entry(&self, number: u64, payload: bytes::Bytes) -> LogEntry {
        LogEntry { number, timestamp_ms: self.timestamp_ms, payload }
    }

    /// Of ours what does not count comes again; of others nobody knows what it was meant to be.
    fn warn_of(&self, number: u64, tag: Option<Tag>) {
        if let Some(held_back) = self.throttle.pass(self.clock.now_ms()) {
            match tag {
                Some(_) => tracing::info!(
                    number,
                    held_back,
                    "an entry came twice or out of its order; it does not count"
                ),
                None => tracing::warn!(
                    number,
                    held_back,
                    "a message of somebody else stands in the stream; it does not count"
                ),
            }
        }
    }
}
