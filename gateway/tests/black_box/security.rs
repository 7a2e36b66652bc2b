//! Who may do what: every rule about keys, tokens, origins and hosts, tried from outside through every door there is.
//!
//! `credentials` makes keys and tokens, good ones and forged ones; `secured` starts a gateway that asks for them; `doors` knocks
//! with them wherever a receiver can come in. The other modules test one promise each; `secrecy` greps everything that a
//! gateway says for what it was shown.

mod algorithms;
mod audit;
mod claims;
pub(crate) mod credentials;
mod description;
mod doors;
mod expiry;
mod issuing;
mod key_server;
mod keys_file;
mod open_mode;
mod operations;
mod origins;
mod rates;
mod refresh;
mod rotation;
mod secrecy;
pub(crate) mod secured;
mod senders;
mod start;
mod stuck_streams;
mod urls;
mod wiretap;
