//! The nouns of the gateway: users, notifications, positions, outcomes.
//!
//! Pure values with their rules. Nothing here knows of tokio, HTTP, sockets or a log, and nothing reads a clock.

pub mod notification;
pub mod outcome;
pub mod position;
pub mod user_id;

pub use notification::{Notification, NotificationId, Priority};
pub use outcome::{DropReason, GapReason, OverflowPolicy, RemovalReason};
pub use position::{Epoch, Position};
pub use user_id::{InvalidUserId, UserId};
