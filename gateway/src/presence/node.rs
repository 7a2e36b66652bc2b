//! The task of a node among others.
//!
//! Its inputs: messages for everybody and messages for this node, from the other nodes; a heartbeat each second; a look each
//! 100 ms at who came online here and who went; a new connection to NATS; the wish to leave.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::message::{Message, NodeId, Wanted};
use super::others::hash;
use super::{Cluster, PresenceError};
use crate::clock::Clock;
use crate::delivery::Delivery;
use crate::domain::UserId;
use crate::lifecycle::{Lifecycle, Readiness};
use crate::log::nats::Connection;
use crate::telemetry::Throttle;

/// How often a node says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often it tells who came online and who went.
const LOOK: Duration = Duration::from_millis(100);

/// The task's own.
pub(super) struct Node {
    cluster: Arc<Cluster>,
    delivery: Delivery,
    everybody: Subscriber,
    own: Subscriber,
    connects: watch::Receiver<u64>,
    /// Changes of this node's users that were said so far.
    version: u64,
    lifecycle: Lifecycle,
    clock: Clock,
    /// Of those who come, and those who go.
    throttles: [Throttle; 2],
}

impl Node {
    /// Listens from here on.
    pub(super) async fn listen(
        connection: &Connection,
        cluster: Arc<Cluster>,
        (delivery, lifecycle, clock): (Delivery, Lifecycle, Clock),
    ) -> Result<Self, PresenceError> {
        let subscribe = async |subject: String| {
            connection.client().subscribe(subject).await.map_err(|error| PresenceError(error.to_string()))
        };
        let everybody = subscribe(cluster.post.everybody()).await?;
        let own = subscribe(cluster.post.own()).await?;
        let connects = connection.connects();
        let throttles = [(); 2].map(|()| Throttle::default());
        Ok(Self { cluster, delivery, everybody, own, connects, version: 0, lifecycle, clock, throttles })
    }

    /// Runs until it is dropped; returns why it cannot go on.
    pub(super) async fn run(mut self) -> &'static str {
        let (mut heartbeat, mut look) = (interval(HEARTBEAT), interval(LOOK));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (cluster, lifecycle) = (Arc::clone(&self.cluster), self.lifecycle.clone());
        let mut said_goodbye_to_clients = false;
        loop {
            // What is for this node goes first: another's users, part by part, and only then the changes it said behind them.
            let message = tokio::select! {
                biased;
                () = cluster.leaving.cancelled() => return self.leave().await,
                () = lifecycle.stopping(), if !said_goodbye_to_clients => {
                    // Others that stop as well must not send theirs here.
                    said_goodbye_to_clients = true;
                    self.beat().await;
                    continue;
                }
                _ = heartbeat.tick() => {
                    self.beat().await;
                    continue;
                }
                Ok(()) = self.connects.changed() => {
                    self.beat().await;
                    continue;
                }
                _ = look.tick() => {
                    self.tell_changes().await;
                    continue;
                }
                message = self.own.next() => message,
                message = self.everybody.next() => message,
            };
            match message {
                Some(message) => self.hear(&message.payload).await,
                None => return "the connection to NATS was closed",
            }
        }
    }

    fn hello(&self) -> Message {
        let welcomes = !matches!(self.lifecycle.readiness(), Readiness::Stopping | Readiness::Halted);
        Message::Hello { version: self.version, welcomes }
    }

    async fn beat(&mut self) {
        for node in self.cluster.others.bury(Instant::now()) {
            if let Some(held_back) = self.throttles[1].pass(self.clock.now_ms()) {
                tracing::warn!(%node, held_back, "another gateway is silent and counts as gone");
            }
        }
        self.cluster.post.tell_all(&self.hello()).await;
    }

    async fn hear(&mut self, bytes: &[u8]) {
        let Some((from, message)) = Message::decode(bytes) else {
            tracing::debug!(bytes = bytes.len(), "a message that this build does not know");
            return;
        };
        let cluster = Arc::clone(&self.cluster);
        let now = Instant::now();
        if from == cluster.post.node() {
            return;
        }
        if message == Message::Goodbye {
            if cluster.others.remove(from)
                && let Some(held_back) = self.throttles[1].pass(self.clock.now_ms())
            {
                tracing::info!(node = %from, held_back, "another gateway left");
            }
            return;
        }
        if cluster.others.heard(from, now) {
            if let Some(held_back) = self.throttles[0].pass(self.clock.now_ms()) {
                tracing::info!(node = %from, held_back, "another gateway is there");
            }
            // So that it need not wait for a heartbeat.
            cluster.post.tell(from, &self.hello()).await;
        }
        match message {
            Message::Hello { version, welcomes } => {
                cluster.others.welcomes(from, welcomes);
                self.compare(from, version, now).await;
            }
            Message::Changed { version, came, went } => {
                cluster.others.change(from, version, &came, &went);
                self.compare(from, version, now).await;
            }
            Message::WhoIsThere => self.tell_everything(from).await,
            Message::Users { version, part, parts, users } => {
                cluster.others.take(from, version, (part, parts), &users);
            }
            Message::Question { question, wanted, user } => {
                let sessions = self.sessions(wanted, &user);
                cluster.post.tell(from, &Message::Answer { question, sessions }).await;
            }
            Message::Answer { question, sessions } => cluster.questions.answer(question, from, sessions),
            Message::Goodbye => {}
        }
    }

    /// Asks for all users of a node that has said other changes than this one knows.
    async fn compare(&self, from: NodeId, version: u64, now: Instant) {
        if self.cluster.others.has_said(from, version, now) {
            self.cluster.post.tell(from, &Message::WhoIsThere).await;
        }
    }

    fn sessions(&self, wanted: Wanted, user: &str) -> u32 {
        let Ok(user) = UserId::parse(user) else { return 0 };
        match wanted {
            Wanted::Sessions => self.delivery.user(&user).sessions,
            Wanted::Disconnect => u32::try_from(self.delivery.disconnect(&user)).unwrap_or(u32::MAX),
        }
    }

    /// Tells everybody who came online here and who went since the last time.
    async fn tell_changes(&mut self) {
        let changes = self.delivery.take_user_changes();
        if changes.lost {
            // Nobody can follow: everybody asks.
            self.version += 1;
        }
        let hashes = |users: &[Arc<str>]| users.iter().map(|user| hash(user)).collect::<Vec<u64>>();
        let (came, went) = (hashes(&changes.came), hashes(&changes.went));
        for message in Message::changes(&mut self.version, &came, &went) {
            // If it gets lost, the next heartbeat tells that there was one.
            self.cluster.post.tell_all(&message).await;
        }
    }

    /// Tells one node all users of this one.
    async fn tell_everything(&mut self, node: NodeId) {
        // What is noted so far is said to all: the version then means the same to everybody.
        self.tell_changes().await;
        let users: Vec<u64> = self.delivery.online_names().iter().map(|user| hash(user)).collect();
        for message in Message::users(self.version, &users) {
            self.cluster.post.tell(node, &message).await;
        }
    }

    /// Says goodbye and nothing more.
    async fn leave(&self) -> &'static str {
        self.cluster.post.tell_all(&Message::Goodbye).await;
        self.cluster.post.flush().await;
        self.cluster.left.notify_one();
        std::future::pending().await
    }
}
