//! What the registry promises, tested without a socket, a log or a clock.
//!
//! `model` is a mailbox that is obviously right and slow, `client` a receiver that trusts nobody; `mailbox_property` drives
//! the real mailbox side by side with them, `mailbox_faults` shows that it finds what is wrong. `registry_rules` tests what the registry adds: sessions, shards, forgetting; `registry_stress` does so with real threads.

pub(crate) mod client;
mod mailbox_faults;
mod mailbox_property;
pub(crate) mod model;
pub(crate) mod property;
mod registry_rules;
mod registry_stress;

use std::sync::Arc;

use super::{Arrival, Bounds, OverflowPolicy, PullLimits, SessionHandle, SessionId};
use crate::domain::Priority;

const MAX_SESSIONS: usize = 16;
const UNLIMITED: PullLimits = PullLimits { frames: usize::MAX, bytes: u64::MAX };
const ROOMY: Bounds = holding(1_000);

const fn holding(max_count: u32) -> Bounds {
    Bounds { max_count, max_bytes: 1 << 20, policy: OverflowPolicy::DropOldest, history: 100 }
}

fn arrival(number: u64) -> Arrival {
    let expires_at_s = 1_000 + u32::try_from(number).unwrap();
    let priority = Priority::Normal;
    Arrival { number, expires_at_s, bytes: 100, priority, collapse_key: 0, volatile: false }
}

fn session(id: u64) -> Arc<SessionHandle> {
    Arc::new(SessionHandle::new(SessionId(id), 0))
}
