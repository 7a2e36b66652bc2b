//! The gateway from outside: each test starts the real one on a free port and talks HTTP and WebSocket to it.
//!
//! `harness` starts gateways, sends and receives; every other module tests one promise of the manual.

mod harness;
mod push;
mod resume;
