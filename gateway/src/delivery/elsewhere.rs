//! What the delivery wants to know of other nodes: who is online there, and nothing that it could not do without.

use std::fmt::Debug;
use std::sync::Arc;

use super::Delivery;
use crate::domain::UserId;
use crate::registry::{UserChanges, UserSummary};

/// What is known of users on other nodes, as far as this one has heard. It is asked by the applying task, and must not wait.
pub trait Elsewhere: Debug + Send + Sync {
    /// How many of `users` hold a session on another node.
    fn online(&self, users: &mut dyn Iterator<Item = &str>) -> u32;

    /// Users online on other nodes; one who is on several is counted on each.
    fn users(&self) -> u32;
}

impl Delivery {
    /// What is known of a user who holds so many sessions on other nodes.
    #[must_use]
    pub fn user_with(&self, user: &UserId, sessions_elsewhere: u32) -> UserSummary {
        let mut summary = self.user(user);
        if sessions_elsewhere > 0 && summary == UserSummary::default() {
            // Nothing waits, so everything is final: as it would be said where the sessions are.
            summary.acked = self.shared.applied.get();
        }
        summary.sessions += sessions_elsewhere;
        summary
    }

    /// Notes from now on who comes online on this node and who goes.
    pub fn watch_users(&self) {
        self.shared.state.registry.watch_users();
    }

    /// Who came online on this node and who went since the last call.
    #[must_use]
    pub fn take_user_changes(&self) -> UserChanges {
        self.shared.state.registry.take_user_changes()
    }

    /// Every user with a session on this node.
    #[must_use]
    pub fn online_names(&self) -> Vec<Arc<str>> {
        self.shared.state.registry.online_names()
    }
}
