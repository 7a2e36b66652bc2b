//! Stopping the target and starting it again in the middle of a run, and other harm done to it.

use std::process::Stdio;
use std::time::Duration;

use crate::set_up::SetUpError;
use crate::spawn::{Restart, Spawned};
use crate::timeline::Watched;
use crate::usage::Source;

/// How long a command may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(120);

/// Who restarts the target.
#[derive(Debug)]
pub enum Restarter {
    /// This tool started it and can do it again.
    Spawned(Box<Spawned>, Watched),
    /// A command of the operator's, given to `sh -c`; it may do other harm than to restart.
    Command(String),
    /// Nobody.
    Nobody,
}

impl Restarter {
    /// Stops the target and starts it again; gives how long it was down and whether it had ended as it should, as far as
    /// that is known.
    ///
    /// # Errors
    /// When it does not come back, in words.
    pub async fn restart(&mut self) -> Result<Option<Restart>, SetUpError> {
        match self {
            Self::Spawned(spawned, watched) => {
                watched.changed(None).await;
                let restart = spawned.restart().await?;
                watched.changed(Some(Source::Process(spawned.process_id()))).await;
                Ok(Some(restart))
            }
            Self::Command(command) => {
                // A successor that it leaves behind may hold its outputs open: nobody waits for their end.
                let mut shell = tokio::process::Command::new("sh");
                shell.arg("-c").arg(&*command).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
                match tokio::time::timeout(COMMAND_PATIENCE, shell.status()).await {
                    Ok(Ok(status)) if status.success() => Ok(None),
                    Ok(Ok(status)) => Err(SetUpError(format!("the command ended with {status}"))),
                    Ok(Err(error)) => Err(SetUpError(format!("the command cannot be run: {error}"))),
                    Err(_) => {
                        let seconds = COMMAND_PATIENCE.as_secs();
                        Err(SetUpError(format!("the command has not ended after {seconds} s")))
                    }
                }
            }
            Self::Nobody => Err(SetUpError("nobody said how to restart the target".to_owned())),
        }
    }

    /// What to say of a target that this tool started and that has ended by itself; `None`: it has not, or nobody knows.
    pub async fn ended_early(&mut self) -> Option<String> {
        match self {
            Self::Spawned(spawned, _) => spawned.ended_early().await,
            Self::Command(_) | Self::Nobody => None,
        }
    }

    /// Ends a target that this tool started.
    ///
    /// # Errors
    /// When it does not end, in words.
    pub async fn end(self) -> Result<(), SetUpError> {
        match self {
            Self::Spawned(spawned, _) => spawned.stop().await,
            Self::Command(_) | Self::Nobody => Ok(()),
        }
    }
}
