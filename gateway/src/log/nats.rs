//! The log of several gateways: a NATS JetStream stream.
//!
//! The stream orders and keeps; its sequence is the number of an entry, its time the log's. Each gateway follows the whole
//! stream into a copy of its own on disk, and reads from there: JetStream is asked for little more than to append.
//!
//! | file | does |
//! |---|---|
//! | `nats/connection.rs` | connects, and checks what the servers can do |
//! | `nats/settings.rs` | the stream, as it has to be |
//! | `nats/stream.rs` | the stream itself, and questions to it |
//! | `nats/writer.rs` | appends |
//! | `nats/shared.rs` | what these share |
//! | `nats/copier.rs` | follows the stream into the copy |
//! | `nats/doubt.rs` | when what was seen has to be looked at again |
//! | `nats/fence.rs` | which messages count: what was sent twice, or overtook another one, does not |
//! | `nats/copy.rs` | the copy: whether it still is one, and its form |
//! | `nats/upkeep.rs` | what is dropped, and what must not go with it |
//!
//! **Epoch.** It is made from the time at which the stream was made, and the last `epoch` entry in it. A gateway whose copy
//! has what the stream has not, or otherwise, appends such an entry: then nobody relies on positions from before.

mod connection;
mod copier;
mod copy;
mod doubt;
mod error;
mod fence;
mod settings;
mod shared;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod upkeep;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::copy::Found;
use self::doubt::Doubt;
use self::shared::{Known, Shared};
use self::stream::{Reach, Stream};
use self::writer::{Request, Writer};
use super::{
    AppendError, BoxFuture, Claim, Durability, Log, LogEntry, LogState, NewEntry, ReadError, Tail, TailError,
};
use crate::clock::Clock;
use crate::telemetry::Throttle;

pub use connection::{Connection, ConnectionOptions};
pub use error::NatsError;
pub use settings::StreamSettings;

/// The part of the stream's size that ordinary entries leave alone: one in so many.
const RESERVE: u64 = 10;

/// What a message takes in the stream beside an entry, about.
const MESSAGE_BYTES: usize = 100;

/// Between two attempts to open it.
const RETRY: std::time::Duration = std::time::Duration::from_millis(250);

/// How to open the log.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// The stream.
    pub stream: StreamSettings,
    /// Where this gateway's copy is.
    pub copy_directory: PathBuf,
    /// How long the stream may be without a leader while it is opened.
    pub timeout: std::time::Duration,
    /// Declares every position from before meaningless.
    pub new_epoch: bool,
    /// Random bits.
    pub random: fn() -> u64,
}

/// The log in a stream.
pub struct NatsLog {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedSender<Request>,
    durability: Durability,
    max_bytes: u64,
    tasks: [AbortHandle; 3],
    clock: Clock,
    throttle: Throttle,
}

impl NatsLog {
    /// Opens the stream, or makes it, and follows it from where the copy in its directory ends.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn open(
        connection: Connection,
        mut options: NatsOptions,
        clock: Clock,
    ) -> Result<Self, NatsError> {
        let deadline = Instant::now() + options.timeout;
        loop {
            match Self::try_to_open(connection.clone(), &mut options, clock.clone(), deadline).await {
                // A leader that was just lost: there will be another one.
                Err(NatsError::Asked(why) | NatsError::Damaged(why)) if Instant::now() + RETRY < deadline => {
                    tracing::info!(why, "the stream does not answer; trying again");
                    tokio::time::sleep(RETRY).await;
                }
                opened => return opened,
            }
        }
    }

    async fn try_to_open(
        connection: Connection,
        options: &mut NatsOptions,
        clock: Clock,
        deadline: Instant,
    ) -> Result<Self, NatsError> {
        let NatsOptions { stream: settings, copy_directory, random, .. } = options.clone();
        let stream = Stream::open(&connection, &settings, deadline).await?;
        let mut standing = stream.standing().await.map_err(NatsError::Asked)?;
        if options.new_epoch {
            stream.say_epoch(&connection, standing.told, random()).await.map_err(NatsError::Asked)?;
            // Once, however often it is tried to open.
            options.new_epoch = false;
            standing = stream.standing().await.map_err(NatsError::Asked)?;
        }
        let (checkpoint, _) = stream.last_checkpoint().await.map_err(NatsError::Asked)?;
        // Whoever said it is about to drop what it speaks of, or has done so.
        standing.first = standing.first.max(checkpoint.through + 1);
        let copy = loop {
            match copy::open(&copy_directory, &settings.name, &stream, standing, &clock).await? {
                Found::Good(copy) => break copy,
                Found::Contradicted => {
                    stream.say_epoch(&connection, standing.told, random()).await.map_err(NatsError::Asked)?;
                    tracing::warn!("a new epoch: positions from before mean nothing");
                    standing = stream.standing().await.map_err(NatsError::Asked)?;
                    standing.first = standing.first.max(checkpoint.through + 1);
                }
            }
        };
        let first = stream.get(standing.first).await.map_err(NatsError::Asked)?;
        let recalled = copy::recall(&copy, checkpoint, first.map_or(0, |first| first.timestamp_ms)).await;
        if let Err(NatsError::Damaged(_)) = recalled {
            copy::give_up(&copy_directory);
        }
        let (fence, timestamp_ms) = recalled?;
        let shared = Arc::new(Shared {
            connection,
            name: settings.name.clone(),
            epoch: standing.epoch,
            known: Mutex::new(Known { head: standing.head, bytes: standing.bytes, told: standing.told }),
            doubt: Mutex::new(Doubt::new(copy.reach().1)),
            copy_directory,
            own: Mutex::default(),
            copy,
            doubted: Notify::new(),
            is_short: AtomicBool::new(false),
            changed: CancellationToken::new(),
            why: Mutex::default(),
            stream,
        });
        let (requests, waiting) = mpsc::unbounded_channel();
        let writer =
            Writer { shared: Arc::clone(&shared), subject: settings.entries(), name: random(), batches: 0 };
        let copier = copier::Copier {
            shared: Arc::clone(&shared),
            fence,
            timestamp_ms,
            clock: clock.clone(),
            throttle: Throttle::every(connection::EVENT_PERIOD_MS),
            short_since: None,
        };
        let least_age = settings.least_age.map_or(settings.max_age, |least| least.min(settings.max_age));
        let renewing = upkeep::renew(Arc::clone(&shared), least_age, clock.clone());
        let tasks = [tokio::spawn(writer.run(waiting)), tokio::spawn(copier.run()), tokio::spawn(renewing)];
        let tasks = tasks.map(|task| task.abort_handle());
        let durability = Durability::Replicated { servers: settings.replicas };
        let throttle = Throttle::every(connection::EVENT_PERIOD_MS);
        Ok(Self { shared, requests, durability, max_bytes: settings.max_bytes, tasks, clock, throttle })
    }

    fn reserve(&self) -> u64 {
        self.max_bytes / RESERVE
    }

    async fn hand_over(&self, mut entries: Vec<NewEntry>) -> Vec<Result<u64, AppendError>> {
        let free_bytes = self.max_bytes.saturating_sub(self.shared.known().bytes);
        let is_refused = |entry: &NewEntry| match entry.claim {
            Claim::Ordinary => free_bytes <= self.reserve(),
            Claim::Acks => free_bytes <= self.reserve() / 2,
            Claim::Housekeeping => false,
        };
        let refused: Vec<bool> = entries.iter().map(is_refused).collect();
        entries.retain(|entry| !is_refused(entry));
        let count = entries.len();
        let bytes: usize = entries.iter().map(|entry| entry.payload.len() + MESSAGE_BYTES).sum();
        // Until it is asked again.
        self.shared.known_mut().bytes += bytes as u64;
        let (answer, answered) = oneshot::channel();
        let sent = count == 0 || self.requests.send(Request { entries, answer }).is_ok();
        let ended = || Err(AppendError::Ambiguous("the writing task ended".to_owned()));
        let results = match sent {
            true if count > 0 => answered.await.unwrap_or_else(|_| vec![ended(); count]),
            _ => vec![Err(AppendError::Unavailable("the writing task ended".to_owned())); count],
        };
        let mut results = results.into_iter();
        let result = |is_refused| {
            if is_refused { Err(AppendError::Full) } else { results.next().unwrap_or_else(ended) }
        };
        refused.into_iter().map(result).collect()
    }

    async fn ask(&self) -> Result<LogState, ReadError> {
        let shared = &self.shared;
        // Before the question: what comes meanwhile raises no doubt.
        let (copy_first, copy_head) = shared.copy.reach();
        let mut reach = shared.stream.reach().await;
        if reach.as_ref().is_ok_and(|reach| reach.head < copy_head) {
            // A leader that is just behind what it has made sure of is no leader that has lost it.
            reach = shared.stream.reach().await;
        }
        let is_doubted = match &reach {
            Ok(reach) => shared.doubt().answer(reach.leader.clone(), copy_head),
            Err(_) => {
                shared.doubt().no_answer();
                false
            }
        };
        let Reach { first, head, bytes, .. } = reach.map_err(ReadError)?;
        {
            let mut known = shared.known_mut();
            (known.head, known.bytes) = (head, bytes);
        }
        let is_short = head < copy_head;
        if is_short {
            // Before it is looked at again: whoever does may clear it.
            shared.is_short.store(true, Ordering::Release);
        }
        if is_doubted || is_short {
            shared.doubted.notify_one();
        }
        if is_short {
            return Err(ReadError("the stream ends before what it once held".to_owned()));
        }
        if copy_first < first {
            // Another node trimmed it, or its age did.
            shared.copy.trim(first - 1).await;
        }
        Ok(LogState {
            epoch: shared.epoch,
            // A part that somebody is about to drop is not copied any more.
            first: first.max(shared.copy.reach().0),
            head,
            bytes,
            // The copy takes what the stream takes, on a disk of its own.
            free_bytes: self.max_bytes.saturating_sub(bytes).min(shared.copy.free_bytes()),
            reserve_bytes: self.reserve(),
            // What is refused meanwhile was never accepted.
            short_of_room_until: None,
        })
    }

    async fn find(&self, numbers: Vec<u64>) -> Result<Vec<Option<LogEntry>>, ReadError> {
        if let Some(last) = numbers.iter().max()
            && *last > self.shared.copy.reach().1
        {
            // What the stream has is on its way; whether it counts turns out only then.
            let head = self.shared.stream.reach().await.map_err(ReadError)?.head;
            self.shared.copied(head.min(*last)).await?;
        }
        match self.shared.copy.read(numbers).await {
            Ok(found) => Ok(found.into_iter().map(|entry| entry.map(copy::shown)).collect()),
            // The copy is damaged: the stream is not, and the next start fetches it again.
            Err(ReadError(why)) => {
                if self.shared.copy.ended().is_none() {
                    copy::give_up(&self.shared.copy_directory);
                    self.shared.change(&why);
                }
                Err(ReadError(why))
            }
        }
    }
}

impl Log for NatsLog {
    fn append(&self, batch: Vec<NewEntry>) -> BoxFuture<'_, Vec<Result<u64, AppendError>>> {
        Box::pin(self.hand_over(batch))
    }

    fn tail(&self, after: u64) -> Result<Box<dyn Tail>, TailError> {
        Ok(Box::new(NatsTail { inner: self.shared.copy.tail(after)?, shared: Arc::clone(&self.shared) }))
    }

    fn read(&self, numbers: Vec<u64>) -> BoxFuture<'_, Result<Vec<Option<LogEntry>>, ReadError>> {
        Box::pin(self.find(numbers))
    }

    fn state(&self) -> BoxFuture<'_, Result<LogState, ReadError>> {
        Box::pin(self.ask())
    }

    fn trim(&self, through: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // It comes again.
            if let Err(why) = upkeep::trim(&self.shared, through).await
                && let Some(held_back) = self.throttle.pass(self.clock.now_ms())
            {
                tracing::warn!(why, held_back, "the stream was not trimmed");
            }
        })
    }

    fn durability(&self) -> Durability {
        self.durability
    }
}

impl Drop for NatsLog {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Follows the copy.
struct NatsTail {
    inner: Box<dyn Tail>,
    shared: Arc<Shared>,
}

impl Tail for NatsTail {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<LogEntry>, TailError>> {
        Box::pin(async move {
            tokio::select! {
                biased;
                () = self.shared.changed.cancelled() => Err(self.shared.why()),
                entries = self.inner.next() => match entries {
                    Ok(entries) => Ok(entries.into_iter().map(copy::shown).collect()),
                    // The copy is damaged; the stream is not.
                    Err(TailError::Unavailable(why)) if self.shared.copy.ended().is_none() => {
                        copy::give_up(&self.shared.copy_directory);
                        Err(TailError::Changed(why))
                    }
                    Err(TailError::Unavailable(why)) => {
                        Err(TailError::Unavailable(self.shared.copy_failed(&why)))
                    }
                    Err(error) => Err(error),
                }
            }
        })
    }
}
