//! The load test of the gateway: opens sockets, sends at a chosen rate, measures the push and judges the delivery.
//!
//! Follow a run: [`plan`] settles what it will do → [`run`] opens the sockets and waits for stragglers → [`attack`] are
//! goose's users, which send what the [`pacer`] says is due → a [`socket`] reads, and notes in the [`collector`] how long it
//! took and in [`sequence`] what it was → [`judge`] adds everything up to a [`summary`] → [`report`] shows it.
//!
//! | room | modules |
//! |---|---|
//! | what is measured and said | `summary`, `metric`, `gate`, `payload`, `sequence`, `collector`, `clock`, `exporter`, `trace` |
//! | the target | `target` (how it is spoken to), `nodes`, `security`, `spawn`, `restart`, `usage`, `set_up` |
//! | the run | `scenario`, `plan`, `context`, `pacer`, `socket`, `attack`, `timeline`, `run`, `judge` |
//! | what people see | `progress`, `report`, `compare`, `merge` |

pub mod attack;
pub mod clock;
pub mod collector;
pub mod compare;
pub mod context;
pub mod exporter;
pub mod gate;
pub mod judge;
pub mod merge;
pub mod metric;
pub mod nodes;
pub mod pacer;
pub mod payload;
pub mod plan;
pub mod progress;
pub mod report;
pub mod restart;
pub mod run;
pub mod scenario;
pub mod security;
pub mod sequence;
pub mod set_up;
pub mod socket;
pub mod spawn;
pub mod summary;
pub mod target;
pub mod timeline;
pub mod trace;
pub mod usage;
