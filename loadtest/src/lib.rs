//! The load test of the gateway: what it will rest its verdict on.
//!
//! So far there is only the accounting in [`sequence`]: which notifications were accepted, which arrived, and what follows
//! for loss, duplicates and order. The part that opens sockets, sends and measures latency is still to come; see README.md.

pub mod sequence;
