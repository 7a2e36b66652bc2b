//! The nouns of the gateway: users, topics, notifications, positions, outcomes.
//!
//! Pure values with their rules. Nothing here knows of tokio, HTTP, sockets or a log, and nothing reads a clock.

mod name;
pub mod notification;
pub mod outcome;
pub mod position;
pub mod secret;
pub mod topic;
pub mod trace_context;
pub mod user_id;

pub use name::InvalidName;
pub use notification::{Fingerprint, IdempotencyKey, Notification, NotificationId, Priority, Target};
pub use outcome::{DropReason, GapReason, Outcome, OverflowPolicy, RemovalReason};
pub use position::{Epoch, Position};
pub use secret::Secret;
pub use topic::{InvalidTopic, TopicName};
pub use trace_context::{TraceContext, TraceParent};
pub use user_id::UserId;
