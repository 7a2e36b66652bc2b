//! Who is online where: several gateways tell each other, over plain NATS messages beside the log.
//!
//! Nothing here is needed to deliver: each node pushes what it reads from the log. This is what the log does not say: which
//! nodes live, how many sessions a user holds on all of them, how to close those, and who is online elsewhere, which senders
//! are told. Messages may be lost; whoever missed one notices by the next heartbeat and asks.
//!
//! | file | does |
//! |---|---|
//! | `presence/message.rs` | what nodes say, as bytes |
//! | `presence/others.rs` | what is known of the other nodes |
//! | `presence/post.rs` | sends |
//! | `presence/node.rs` | the task: says hello, listens, tells who comes and goes |
//! | `presence/questions.rs` | asks all others, and waits a moment |
//!
//! **Subjects.** `<stream>.node.all` is for everybody, `<stream>.node.<id>` for one node. Neither is a subject of the stream.
//!
//! **Two ways to know.** An administrator who looks at a user, or disconnects one, waits for the others' answers: that is
//! exact, and rare. A sender waits for nobody: each node keeps the hashes of whom the others have online, some 100 ms old.

mod message;
mod node;
mod others;
mod post;
mod questions;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::delivery::{Delivery, UserSummary};
use crate::domain::UserId;
use crate::lifecycle::Lifecycle;
use crate::log::nats::Connection;
use crate::metrics::Metrics;
use message::{NodeId, Wanted};
use node::Node;
use post::Post;
use questions::Questions;

pub use others::Others;

/// How long a goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// All nodes, seen from this one; cheap to clone.
#[derive(Clone)]
pub struct Presence {
    delivery: Delivery,
    /// `None` where the log is this node's own.
    cluster: Option<Arc<Cluster>>,
}

/// What the handle and the task share.
struct Cluster {
    others: Arc<Others>,
    post: Post,
    questions: Questions,
    leaving: CancellationToken,
    left: Notify,
}

/// Why a node cannot tell others that it is there.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen to other gateways: {0}")]
pub struct PresenceError(String);

/// What a node needs to be one of several.
pub struct Joining {
    /// The connection of the log.
    pub connection: Connection,
    /// The stream, whose name is that of the cluster, too.
    pub stream: String,
    /// What `delivery` asks, too.
    pub others: Arc<Others>,
    /// Random bits: the node's name for as long as it runs.
    pub node: u64,
    /// What counts.
    pub metrics: Arc<Metrics>,
    /// What throttles lines.
    pub clock: Clock,
}

impl Presence {
    /// A node that shares its log with nobody.
    #[must_use]
    pub fn alone(delivery: Delivery) -> Self {
        Self { delivery, cluster: None }
    }

    /// Joins the nodes that share the log.
    ///
    /// # Errors
    /// [`PresenceError`] when the connection is closed.
    pub async fn join(
        joining: Joining,
        delivery: Delivery,
        lifecycle: &Lifecycle,
    ) -> Result<Self, PresenceError> {
        let Joining { connection, stream, others, node, metrics, clock } = joining;
        let post = Post::new(connection.clone(), &stream, NodeId(node));
        let cluster = Arc::new(Cluster {
            others,
            questions: Questions::new(metrics, clock.clone()),
            leaving: CancellationToken::new(),
            left: Notify::new(),
            post,
        });
        // From here on nobody comes or goes unnoticed.
        delivery.watch_users();
        let node =
            Node::listen(&connection, Arc::clone(&cluster), (delivery.clone(), lifecycle.clone(), clock))
                .await?;
        lifecycle.spawn_essential("presence", node.run());
        Ok(Self { delivery, cluster: Some(cluster) })
    }

    /// Nodes that live, this one included.
    #[must_use]
    pub fn nodes(&self) -> usize {
        1 + self.cluster.as_ref().map_or(0, |cluster| cluster.others.count())
    }

    /// Whether another node takes the clients of this one.
    #[must_use]
    pub fn others_welcome(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.others.any_welcomes())
    }

    /// Users of other nodes that this one keeps in mind.
    #[must_use]
    pub fn users_elsewhere(&self) -> usize {
        self.cluster.as_ref().map_or(0, |cluster| cluster.others.held())
    }

    /// What is known of a user: sessions on all nodes that answer within half a second, the rest from the log.
    pub async fn user(&self, user: &UserId) -> UserSummary {
        let elsewhere = self.ask_others(Wanted::Sessions, user).await;
        self.delivery.user_with(user, elsewhere)
    }

    /// Closes every session of a user with 4010 and returns how many there were, on all nodes that answer within half a second.
    pub async fn disconnect(&self, user: &UserId) -> u32 {
        let here = u32::try_from(self.delivery.disconnect(user)).unwrap_or(u32::MAX);
        here.saturating_add(self.ask_others(Wanted::Disconnect, user).await)
    }

    /// Says goodbye, so that the others need not find out.
    pub async fn leave(&self) {
        let Some(cluster) = &self.cluster else { return };
        cluster.leaving.cancel();
        // Without it they find out all the same.
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, cluster.left.notified()).await;
    }

    async fn ask_others(&self, wanted: Wanted, user: &UserId) -> u32 {
        let Some(cluster) = &self.cluster else { return 0 };
        cluster.questions.ask(&cluster.others, &cluster.post, wanted, user.as_str()).await
    }
}
