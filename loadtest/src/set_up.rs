//! Why a run cannot begin.
//!
//! Everything that is read, started or bound before the first socket opens fails with this one type: its text is the line
//! that is printed, and it names the file, address or command it is about. It never quotes a secret.

/// What keeps a run from beginning, in one line that names the file, address or command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SetUpError(pub String);
