//! Who may do what.
//!
//! Without keys the gateway is in *open* mode: everybody who reaches its loopback listener may send and listen. What keeps
//! web pages of strangers out then is the browser's own word: `Host` (against DNS rebinding) and `Origin`.

pub mod origin;

pub use origin::{HostPolicy, OriginPolicy, host};
