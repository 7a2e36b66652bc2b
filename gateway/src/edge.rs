//! What the edges share: how a request is read, how a failure is told, who is let in.
//!
//! HTTP, WebSocket and later edges build on this and know nothing of each other.

pub mod body;
pub mod parameters;
pub mod problem;

pub use body::{BatchBody, InvalidBody, JsonAnswer, JsonBody};
pub use parameters::{AckMode, AckParam, AfterParam, UserParam};
pub use problem::Problem;
