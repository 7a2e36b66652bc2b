//! From one kind of log to another, while no gateway runs on either.

use super::BindError;
use super::open_log::open_log;
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::{Carried, CarryError, carry};

/// Why a log was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyLogError {
    /// One of them could not be opened.
    #[error(transparent)]
    Open(#[from] BindError),
    /// It could not be copied.
    #[error(transparent)]
    Carry(#[from] CarryError),
}

/// Copies what holds and what waits from the log of one configuration into that of another, which has to be empty.
///
/// # Errors
/// [`CopyLogError`].
pub async fn copy_log(from: &Config, to: &Config) -> Result<Carried, CopyLogError> {
    let clock = Clock::system();
    let from = open_log(from, &clock).await?.log;
    let to = open_log(to, &clock).await?.log;
    Ok(carry(&*from, &*to, &clock).await?)
}
