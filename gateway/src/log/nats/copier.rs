//! Following the stream: an ordered consumer, whose messages go into the local copy, where the tails find them.
//!
//! A consumer that ends, for whatever reason, is made again behind the last entry of the copy. Each time, and after each
//! connect, the stream is compared with the copy first: the client's own repair would go on behind a head that moved backwards.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::push::OrderedConfig;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::NatsError;
use super::copy::{self, Judgement, SHORT_PATIENCE};
use super::fence::{Fence, Tag};
use super::shared::{EndOnPanic, Shared};
use super::stream::{Kind, Message, milliseconds};
use crate::clock::Clock;
use crate::log::entry;
use crate::log::{Log, LogEntry, ReadError};
use crate::telemetry::Throttle;

/// The most messages that are written at once.
const CHUNK: usize = 4_096;

/// How often it is read on without a consumer.
const READ_EVERY: Duration = Duration::from_millis(50);

/// How often it is looked at whether a consumer brings nothing although there is something.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// For how long entries are then read at once.
const READ_FOR: Duration = Duration::from_millis(250);

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
    /// Since when the stream seems to end before what it once held.
    pub(super) short_since: Option<Instant>,
}

/// Why the stream is not followed any more.
enum Break {
    /// What was seen has to be looked at again, now: nothing is wrong as far as anybody knows, and senders wait meanwhile.
    Doubted,
    /// For the moment.
    Lost(String),
    /// The stream is not the one that the state was computed from.
    Changed(String),
}

impl Copier {
    /// Follows until it is dropped, or the stream is another one.
    pub(super) async fn run(mut self) {
        let _ended = EndOnPanic(Arc::clone(&self.shared));
        loop {
            match self.follow().await {
                Break::Changed(why) => {
                    tracing::error!(why, "the stream is not what it was; the state is computed anew");
                    self.shared.change(&why);
                    return;
                }
                Break::Doubted => {
                    tracing::debug!("what was seen of the stream is looked at again");
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
        let (first, head) = shared.copy.reach();
        // What is doubted comes again, and is compared.
        let from = (shared.doubt().trusted() + 1).clamp(first, head + 1);
        let config = OrderedConfig {
            deliver_subject: shared.connection.client().new_inbox(),
            description: Some("a gateway".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
            ..OrderedConfig::default()
        };
        let creating = async {
            let consumer =
                shared.stream.remote().create_consumer(config).await.map_err(|error| lost(&error))?;
            consumer.messages().await.map_err(|error| lost(&error))
        };
        let messages = {
            let mut creating = std::pin::pin!(creating);
            let mut interval = tokio::time::interval_at(Instant::now() + READ_EVERY, READ_EVERY);
            loop {
                tokio::select! {
                    biased;
                    messages = &mut creating => break messages?,
                    _ = interval.tick() => self.read_on().await?,
                }
            }
        };
        let mut chunks = messages.ready_chunks(CHUNK);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut has_brought = true;
        loop {
            let chunk = tokio::select! {
                biased;
                _ = look.tick() => {
                    if !has_brought && shared.copy.reach().1 < shared.known().head {
                        // Its server hangs, or has lost it and does not say so; the stream has a leader that answers.
                        self.read_on().await?;
                    }
                    has_brought = false;
                    continue;
                }
                _ = connects.changed() => return Err(Break::Lost("the connection was made again".to_owned())),
                () = shared.doubted.notified() => return Err(Break::Doubted),
                chunk = chunks.next() => chunk.ok_or_else(|| lost(&"the consumer ended"))?,
            };
            has_brought = true;
            let mut broken = None;
            let mut messages = Vec::with_capacity(chunk.len());
            for message in chunk {
                match message.map_err(|error| lost(&error)).and_then(|message| self.arrived(message)) {
                    Ok(message) => messages.push(message),
                    Err(error) => {
                        broken = Some(error);
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

    /// Reads entries one by one. Servers that have no leader for making consumers may have one for the stream: then appends
    /// work, and whoever made them waits.
    async fn read_on(&mut self) -> Result<(), Break> {
        let deadline = Instant::now() + READ_FOR;
        while Instant::now() < deadline {
            let (_, head) = self.shared.copy.reach();
            // An error comes again, where the consumer is made.
            let Ok(Some(message)) = self.shared.stream.get(head + 1).await else { break };
            self.take(vec![(head + 1, message)]).await?;
        }
        Ok(())
    }

    fn arrived(&self, message: jetstream::Message) -> Result<(u64, Message), Break> {
        let info = message.info().map_err(|error| Break::Lost(error.to_string()))?;
        let number = info.stream_sequence;
        let arrived = Message {
            tag: message.headers.as_ref().and_then(Tag::of),
            timestamp_ms: milliseconds(info.published.unix_timestamp_nanos()),
            kind: Kind::of(&self.shared.name, message.subject.as_str()),
            payload: message.payload.clone(),
        };
        Ok((number, arrived))
    }

    /// Whether the stream still has what the copy has.
    async fn compare(&mut self) -> Result<(), Break> {
        let lost = |why: String| Break::Lost(why);
        self.shared.connection.check().map_err(|error| lost(error.to_string()))?;
        let standing = self.shared.stream.standing().await.map_err(lost)?;
        let copy = &self.shared.copy;
        let judged = copy::judge(copy, copy.reach(), &self.shared.stream, standing).await;
        let judged = judged.map_err(|error| match error {
            NatsError::Damaged(why) => self.damaged(why),
            error => lost(error.to_string()),
        });
        let judged = judged?;
        self.shared.is_short.store(matches!(judged, Judgement::Short), Ordering::Release);
        match judged {
            Judgement::Same => {
                self.short_since = None;
                Ok(())
            }
            Judgement::Short
                if self.short_since.get_or_insert_with(Instant::now).elapsed() < SHORT_PATIENCE =>
            {
                Err(lost(
                    "the stream ends before what it once held; perhaps its leader is not ready yet"
                        .to_owned(),
                ))
            }
            judged @ (Judgement::Short | Judgement::Contradicted(_)) => Err(self.contradicted(judged.why())),
            Judgement::Useless(why) => Err(Break::Changed(why.to_owned())),
        }
    }

    /// Writes what came into the copy.
    async fn take(&mut self, messages: Vec<(u64, Message)>) -> Result<(), Break> {
        let mut entries = Vec::with_capacity(messages.len());
        let (_, mut head) = self.shared.copy.reach();
        self.compare_known(&messages, head).await?;
        let (mut changed, mut own) = (None, Vec::new());
        for (number, message) in messages {
            if number <= head {
                continue;
            }
            if number > head + 1 {
                // The next comparison says whether the stream begins later now.
                changed = Some(Break::Lost(format!("entry {} is missing", head + 1)));
                break;
            }
            head = number;
            self.timestamp_ms = self.timestamp_ms.max(message.timestamp_ms);
            match message.kind {
                Kind::Entry => {}
                Kind::Checkpoint => {
                    entries.push(self.entry(number, copy::pack(None, false, &entry::encode_tick())));
                    continue;
                }
                Kind::Epoch => {
                    let is_one = entry::epoch_bits(&message.payload).is_some();
                    let kept = if is_one { message.payload.clone() } else { entry::encode_tick() };
                    entries.push(self.entry(number, copy::pack(None, is_one, &kept)));
                    if self.shared.is_news(number, &message.payload) {
                        changed = Some(Break::Changed("another node began a new epoch".to_owned()));
                        break;
                    }
                    continue;
                }
            }
            let tag = message.tag;
            let admitted = tag.filter(|tag| self.fence.admit(*tag, self.timestamp_ms));
            let kept = match admitted {
                Some(tag) => {
                    own.push((tag, number));
                    copy::pack(Some(tag), true, &message.payload)
                }
                None => {
                    self.warn_of(number, tag);
                    copy::pack(tag, false, &entry::encode_tick())
                }
            };
            entries.push(self.entry(number, kept));
        }
        {
            // Before they are shown: whoever waits for the copy finds them noted.
            let mut noted = self.shared.own();
            own.into_iter().for_each(|(tag, number)| noted.note(tag, number));
        }
        if !entries.is_empty() && !self.shared.copy.copy(entries).await {
            let why = self.shared.copy.ended().unwrap_or_default();
            return Err(Break::Lost(self.shared.copy_failed(&why)));
        }
        changed.map_or(Ok(()), Err)
    }

    /// Whether what came again is what the copy has.
    async fn compare_known(&self, messages: &[(u64, Message)], head: u64) -> Result<(), Break> {
        let known: Vec<_> = messages.iter().filter(|(number, _)| *number <= head).collect();
        let Some((last, _)) = known.last() else { return Ok(()) };
        let numbers = known.iter().map(|(number, _)| *number).collect();
        let ours = self.shared.copy.read(numbers).await.map_err(|ReadError(why)| self.damaged(why))?;
        for ((number, theirs), ours) in known.iter().zip(ours) {
            if let Some(ours) = ours
                && !copy::is_same(&ours, theirs)
            {
                tracing::error!(number, "the stream has another entry where it had one before");
                return Err(self.contradicted("the stream has another entry where it had one before"));
            }
        }
        self.shared.doubt().compared(*last);
        Ok(())
    }

    /// The copy cannot be read: it is fetched again, which a start does.
    fn damaged(&self, why: String) -> Break {
        copy::give_up(&self.shared.copy_directory);
        Break::Changed(why)
    }

    /// Others may have seen it, too: whoever starts from here begins a new epoch.
    fn contradicted(&self, why: &str) -> Break {
        copy::contradict(&self.shared.copy_directory, self.shared.epoch);
        Break::Changed(why.to_owned())
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
