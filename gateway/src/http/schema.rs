//! Requests and answers as JSON. Field comments here are what the manual shows.

pub(super) mod outcomes;
pub(super) mod pull;
pub(super) mod sending;
pub(super) mod stats;
pub(super) mod topics;
pub(super) mod users;
