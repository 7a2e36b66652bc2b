//! What the registry promises, tested without a socket, a log or a clock.
//!
//! `model` is a mailbox that is obviously right and slow, `mailbox_property` drives it side by side with the real one.

mod mailbox_property;
mod model;
