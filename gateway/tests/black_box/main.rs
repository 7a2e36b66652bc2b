//! The gateway from outside: each test starts the real one on a free port and talks HTTP and WebSocket to it.
//!
//! `harness` starts gateways, sends and receives; every other module tests one promise of the manual.

mod access;
mod backpressure;
mod harness;
mod openapi;
mod push;
mod resume;
mod send;
