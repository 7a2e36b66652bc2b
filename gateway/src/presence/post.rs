//! Sending to other nodes, unless there is no connection: what the client keeps until there is one again comes too late.

use std::time::Duration;

use super::message::{Message, NodeId};
use crate::log::nats::Connection;

/// How long a message may wait for the client.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);

/// Sends as this node.
pub(super) struct Post {
    connection: Connection,
    stream: String,
    node: NodeId,
}

impl Post {
    pub(super) fn new(connection: Connection, stream: &str, node: NodeId) -> Self {
        Self { connection, stream: stream.to_owned(), node }
    }

    /// The subject of messages for everybody.
    pub(super) fn everybody(&self) -> String {
        format!("{}.node.all", self.stream)
    }

    /// The subject of messages for this node.
    pub(super) fn own(&self) -> String {
        self.subject_of(self.node)
    }

    /// This node's name.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// Tells everybody; whether it is on its way.
    pub(super) async fn tell_all(&self, message: &Message) -> bool {
        self.send(self.everybody(), message).await
    }

    /// Tells one node; whether it is on its way.
    pub(super) async fn tell(&self, node: NodeId, message: &Message) -> bool {
        self.send(self.subject_of(node), message).await
    }

    /// Waits until what was said has left.
    pub(super) async fn flush(&self) {
        // Who does not hear it finds out.
        let _ = tokio::time::timeout(SEND_TIMEOUT, self.connection.client().flush()).await;
    }

    fn subject_of(&self, node: NodeId) -> String {
        format!("{}.node.{node}", self.stream)
    }

    async fn send(&self, subject: String, message: &Message) -> bool {
        if !self.connection.is_up() {
            return false;
        }
        let bytes = message.encode(self.node).into();
        let sending = self.connection.client().publish(subject, bytes);
        matches!(tokio::time::timeout(SEND_TIMEOUT, sending).await, Ok(Ok(())))
    }
}
