//! The gateway from outside: each test starts the real one on free ports and talks HTTP and WebSocket to it.
//!
//! `harness` starts gateways inside the test, sends and receives; `process_harness` starts the binary, too, and `raw_socket`
//! breaks the rules that real clients keep. Every other module tests one promise of the manual.

#![cfg(test)]

mod access;
mod acks;
mod addresses;
mod attacks;
mod backpressure;
mod bad_machine;
mod browser;
mod commands;
mod corpus;
mod drain;
mod durable;
mod exposition;
mod harness;
mod hostile;
mod idempotency;
mod limits;
mod log_lines;
mod manual;
mod metrics;
mod nats;
#[expect(dead_code, reason = "the tests of the log use more of it")]
mod nats_server;
mod open_metrics;
mod openapi;
mod outcomes;
mod pages;
mod process;
mod process_harness;
mod pull;
mod push;
mod raw_socket;
mod restart;
mod resume;
mod robust;
mod saturation;
mod security;
mod send;
mod slow_requests;
mod sse;
mod stats;
mod tls;
mod topics;
mod torture;
mod traces;
