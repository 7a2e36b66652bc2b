//! scaffold
pub mod clock;
pub mod domain;
pub mod log;
pub mod protocol;
pub mod registry;
