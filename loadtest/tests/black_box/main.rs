//! The load test from outside: each test starts the real binary and judges what it says, writes and ends with.
//!
//! `harness` starts the tool and gateways, `proxy` stands between the two and does harm, `stand_in` plays other kinds of
//! server, `collector` one that takes spans, `wire` is the HTTP that both speak. `nats` needs a nats-server. Every other module tests one promise of the tool's manual. A load test that
//! passes proves nothing until it has failed for the right reason: that is what `faults` and `cuts` are for.

#![cfg(test)]

mod chat;
mod collector;
mod cuts;
mod faults;
mod harness;
mod interruption;
mod nats;
mod nodes;
mod own_metrics;
mod proxy;
mod real_gateway;
mod refusals;
mod secured;
mod stand_in;
mod summaries;
mod traces;
mod usage;
mod wire;
