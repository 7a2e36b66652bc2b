//! What the registry promises, tested without a socket, a log or a clock.
//!
//! `model` is a mailbox that is obviously right and slow, `mailbox_property` drives it side by side with the real one,
//! `registry_rules` tests what the registry adds: sessions, shards, forgetting; `registry_stress` does so with real threads.

mod mailbox_property;
mod model;
mod registry_rules;
mod registry_stress;

use std::sync::Arc;

use super::{Arrival, Bounds, OverflowPolicy, PullLimits, SessionHandle, SessionId};
use crate::domain::Priority;

const MAX_SESSIONS: usize = 16;
const UNLIMITED: PullLimits = PullLimits { frames: usize::MAX, bytes: u64::MAX };
const ROOMY: Bounds = holding(1_000);

const fn holding(max_count: u32) -> Bounds {
    Bounds { max_count, max_bytes: 1 << 20, policy: OverflowPolicy::DropOldest }
}

fn arrival(number: u64) -> Arrival {
    Arrival { number, expires_at_ms: 1_000 + number, bytes: 100, priority: Priority::Normal }
}

fn session(id: u64) -> Arc<SessionHandle> {
    Arc::new(SessionHandle::new(SessionId(id), 0))
}
