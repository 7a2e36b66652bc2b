//! What has to hold whatever bytes arrive: one property for each fuzz target, a function that panics when it does not hold.
//!
//! A property says more than that nothing panics: what parses means what stands there, what was encoded reads back, what is
//! refused is refused for a reason. The targets in `fuzz_targets` look for bytes that break one; the ordinary tests of the
//! gateway include this very file and replay the seeds.

mod config;
mod credential;
mod entry;
mod forwarded;
mod frame;
mod journal;
mod names;
mod notification;
mod websocket;

pub use config::config;
pub use credential::credential;
pub use entry::{entry, record};
pub use forwarded::forwarded_for;
pub use frame::client_frame;
pub use journal::journal;
pub use names::names;
pub use notification::{batch, notification};
pub use websocket::websocket;

/// A property: takes the input of a target, and panics when the gateway breaks its word.
pub type Property = fn(&[u8]);

/// Every property under the name of its target and of its folder of seeds.
pub const PROPERTIES: [(&str, Property); 11] = [
    ("batch", batch),
    ("client_frame", client_frame),
    ("config", config),
    ("credential", credential),
    ("entry", entry),
    ("forwarded_for", forwarded_for),
    ("journal", journal),
    ("names", names),
    ("notification", notification),
    ("record", record),
    ("websocket", websocket),
];
