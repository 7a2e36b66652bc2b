//! Who comes online on this node and who goes: noted for whoever tells other nodes.
//!
//! A shard notes names only, and only once somebody watches. What is told of a user is what holds when it is looked at, so a
//! name that was noted twice does no harm.

use std::sync::Arc;

use super::{Registry, lock};

/// Names that a shard notes between two looks; beyond it whoever looks has to begin anew.
const MAX_NOTED: usize = 8 * 1024;

/// Users who came online or went since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UserChanges {
    /// They hold a session now.
    pub came: Vec<Arc<str>>,
    /// They hold none now.
    pub went: Vec<Arc<str>>,
    /// There were too many: others came and went, too.
    pub lost: bool,
}

/// What one shard noted.
#[derive(Default)]
pub(super) struct Watch {
    watched: bool,
    noted: Vec<Arc<str>>,
    lost: bool,
}

impl Watch {
    pub(super) fn begin(&mut self) {
        self.watched = true;
    }

    pub(super) fn note(&mut self, user: &Arc<str>) {
        if !self.watched {
            return;
        }
        if self.noted.len() < MAX_NOTED {
            self.noted.push(Arc::clone(user));
        } else {
            self.lost = true;
        }
    }

    pub(super) fn take(&mut self) -> (Vec<Arc<str>>, bool) {
        (std::mem::take(&mut self.noted), std::mem::take(&mut self.lost))
    }
}

impl Registry {
    /// Notes from now on who comes online and who goes.
    pub fn watch_users(&self) {
        self.shards.iter().for_each(|shard| lock(shard).watch());
    }

    /// Who came online and who went since the last call.
    #[must_use]
    pub fn take_user_changes(&self) -> UserChanges {
        let mut changes = UserChanges::default();
        for shard in &self.shards {
            lock(shard).take_changes(|user| self.hash(user), &mut changes);
        }
        changes
    }

    /// Every user with at least one session. Each shard is looked at in one moment, all of them are not.
    #[must_use]
    pub fn online_names(&self) -> Vec<Arc<str>> {
        self.shards.iter().flat_map(|shard| lock(shard).online_names().collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{SessionHandle, SessionId, StartAt};

    const MAX_SESSIONS: usize = 2;

    fn attach(registry: &Registry, user: &str, id: u64) {
        let session = Arc::new(SessionHandle::new(SessionId(id), 0));
        registry.attach(&registry.key(user), session, StartAt::Now, 0, MAX_SESSIONS);
    }

    fn detach(registry: &Registry, user: &str, id: u64) {
        assert!(registry.detach(&registry.key(user), SessionId(id)));
    }

    fn changes(came: &[&str], went: &[&str]) -> UserChanges {
        let names = |users: &[&str]| users.iter().map(|user| Arc::from(*user)).collect();
        UserChanges { came: names(came), went: names(went), lost: false }
    }

    #[test]
    fn the_first_session_of_a_user_and_the_end_of_the_last_are_changes() {
        let registry = Registry::new();
        attach(&registry, "before", 1);
        registry.watch_users();
        assert_eq!(registry.take_user_changes(), UserChanges::default(), "nobody looked yet");
        assert_eq!(registry.online_names(), [Arc::from("before")]);
        attach(&registry, "bob", 2);
        assert_eq!(registry.take_user_changes(), changes(&["bob"], &[]));
        attach(&registry, "bob", 3);
        // One too many takes the place of another.
        attach(&registry, "bob", 4);
        detach(&registry, "bob", 3);
        assert_eq!(registry.take_user_changes(), UserChanges::default(), "bob is online all the time");
        detach(&registry, "bob", 4);
        assert_eq!(registry.take_user_changes(), changes(&[], &["bob"]));
        assert_eq!(registry.online_names(), [Arc::from("before")]);
    }

    #[test]
    fn what_is_told_of_a_user_is_what_holds_when_it_is_looked_at() {
        let registry = Registry::new();
        registry.watch_users();
        attach(&registry, "bob", 1);
        detach(&registry, "bob", 1);
        attach(&registry, "bob", 2);
        let UserChanges { came, went, lost } = registry.take_user_changes();
        assert!(came.iter().all(|user| &**user == "bob") && !came.is_empty() && went.is_empty() && !lost);
    }

    #[test]
    fn a_shard_notes_no_more_than_its_bound_and_says_so() {
        let registry = Registry::new();
        registry.watch_users();
        for id in 0..=MAX_NOTED as u64 / 2 {
            attach(&registry, "bob", id);
            detach(&registry, "bob", id);
        }
        let changes = registry.take_user_changes();
        assert!(changes.lost && changes.went.len() == MAX_NOTED, "{}", changes.went.len());
        assert_eq!(registry.take_user_changes(), UserChanges::default());
    }

    #[test]
    fn nobody_who_does_not_watch_pays_for_it() {
        let registry = Registry::new();
        attach(&registry, "bob", 1);
        assert_eq!(registry.take_user_changes(), UserChanges::default());
    }
}
