//! Why a log in NATS does not open.

use std::io;
use std::path::PathBuf;

use crate::log::OpenError;

/// Why the log did not open; each is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// Nobody answers.
    #[error("NATS at {servers} cannot be reached: {reason}")]
    Unreachable {
        /// Who was asked.
        servers: String,
        /// What the last attempt said.
        reason: String,
    },
    /// The server lacks what is needed.
    #[error("nats-server {version} is too old: 2.9.0 or later is needed")]
    TooOld {
        /// What it calls itself.
        version: String,
    },
    /// An entry does not fit a message.
    #[error("the servers' max_payload is {max_payload} bytes; entries need 1 MiB, which is their default")]
    SmallPayload {
        /// What they allow.
        max_payload: usize,
    },
    /// The stream cannot be had.
    #[error("the stream {name}: {reason}")]
    Stream {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The stream is not as it has to be.
    #[error("the stream {name}: {reason}")]
    Unsuitable {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The copy cannot be read; it is fetched again.
    #[error("the copy of the stream: {0}")]
    Damaged(String),
    /// A question was not answered.
    #[error("the stream does not answer: {0}")]
    Asked(String),
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The directory for the copy belongs to something else.
    #[error(
        "{directory} is not empty, and no copy of the stream {name}: set nats.copy_directory to another one"
    )]
    NotACopy {
        /// The directory.
        directory: PathBuf,
        /// The stream.
        name: String,
    },
    /// The copy cannot be opened.
    #[error("the copy of the stream: {0}")]
    Copy(#[source] OpenError),
}

impl NatsError {
    /// Whether starting again would end the same way.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::TooOld { .. } | Self::SmallPayload { .. } | Self::NotACopy { .. } | Self::Unsuitable { .. }
        )
    }
}
