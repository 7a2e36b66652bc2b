//! A self-hosted notification gateway: a back end POSTs, the gateway pushes over WebSocket.
//!
//! # The way of one notification
//!
//! ```text
//! http::send ──▶ delivery::publish ──▶ log ──▶ delivery::follow ──▶ delivery::apply ──▶ registry ──▶ ws::connection
//! parse, check    encode the frame,    order,   read the tail,       what the entry      wake the     sse::session
//!                 hand to committer    sync     decode               does to the state   sessions     pull, write
//! ```
//!
//! The sender's 202 comes when the entry is applied: the notification is in the log *and* in the mailboxes. A session holds
//! nothing but a cursor; it is woken, pulls what lies behind the cursor, and is told of every hole by a gap. Its acks are
//! gathered in `delivery::acks`, become an entry of the log like any other, and apply makes the notification's outcome of
//! them. Everything beside the log is rebuilt from it at the next start.
//!
//! # Layers
//!
//! A module imports only from layers with a lower number; `tests/tidy.rs` checks it.
//!
//! 1. [`domain`]: users, notifications, positions, outcomes
//! 2. [`protocol`]: frames and close codes
//! 3. [`clock`], [`config`], [`lifecycle`], [`machine`], [`metrics`]; on them [`telemetry`] and [`limits`]; on them [`auth`] and
//!    [`listener`]; on them [`ops`]
//! 4. [`log`] and [`registry`], which do not know each other
//! 5. [`delivery`]: the state machine and the use cases; on it [`presence`], what several nodes tell each other beside the log
//! 6. [`edge`] (what edges share); on it [`http`], [`ws`], [`sse`] and [`console`], which know neither each other nor the log
//! 7. [`app`] (puts everything together), [`commands`]

pub mod app;
pub mod auth;
pub mod clock;
pub mod commands;
pub mod config;
pub mod console;
pub mod delivery;
pub mod domain;
pub mod edge;
pub mod http;
pub mod lifecycle;
pub mod limits;
pub mod listener;
pub mod log;
pub mod machine;
pub mod metrics;
pub mod ops;
pub mod presence;
pub mod protocol;
pub mod registry;
pub mod sse;
pub mod telemetry;
pub mod ws;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit this build was made from, or `unknown`.
pub const REVISION: &str = env!("BUILD_REVISION");
