//! A gateway of the run's own: built if need be, started on free ports of this machine with a log of its own, restarted at
//! the same addresses, and gone with the run.
//!
//! It gets nothing of this process's environment but `PATH`, `HOME` and `TMPDIR` and what the run says, and works in a
//! temporary directory: no setting of somebody else's gateway reaches it. What it prints on standard error is kept, as far as the last lines go,
//! and quoted when it ends without being asked to.

mod build;
mod process;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::set_up::SetUpError;
use process::{Addresses, Running};

/// How long a gateway that is restarted may take to end before it is killed.
const RESTART_PATIENCE: Duration = Duration::from_secs(30);

/// How long a gateway that is stopped may take to end before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// Any port.
const ANY: &str = "127.0.0.1:0";

/// What to start.
#[derive(Debug, Clone)]
pub struct SpawnOptions {
    /// The program; without it the `gateway` beside this one, which is built first when cargo runs this one.
    pub binary: Option<PathBuf>,
    /// Where its log is.
    pub log: SpawnLog,
    /// Further arguments of the gateway. It works in another directory: paths in them must be absolute.
    pub arguments: Vec<String>,
    /// Further variables of its environment.
    pub environment: Vec<(&'static str, String)>,
}

/// Where the log of a started gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SpawnLog {
    /// In a temporary directory on disk, which a restart keeps.
    Disk,
    /// In its memory: a restart forgets everything.
    Memory,
}

/// A running gateway; killed when dropped, and its directory removed.
#[derive(Debug)]
pub struct Spawned {
    // Dropped in this order: the directory is removed when nobody writes to it any more.
    running: Running,
    folder: TempDir,
    program: PathBuf,
    log: SpawnLog,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

/// How a restart went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// From SIGTERM until the successor is ready.
    pub down: Duration,
    /// How the predecessor ended; `None` if a signal ended it, as when it had to be killed after 30 s.
    pub exit_code: Option<i32>,
}

impl Spawned {
    /// Starts a gateway and returns when it is ready. Building it takes as long as it takes; the start itself has 60 s.
    ///
    /// # Errors
    /// [`SetUpError`]: there is no program, it cannot be built, or it does not become ready; with what it said.
    pub async fn start(options: &SpawnOptions) -> Result<Self, SetUpError> {
        let program = match &options.binary {
            Some(binary) => build::given(binary)?,
            None => build::beside_own().await?,
        };
        let folder = tempfile::Builder::new().prefix("loadtest-").tempdir();
        let folder = folder.map_err(|error| SetUpError(format!("cannot make a directory: {error}")))?;
        let SpawnOptions { log, arguments, environment, .. } = options.clone();
        let arguments_of_first = gateway_arguments(ANY, ANY, log, folder.path(), &arguments);
        let running = Running::start(&program, &arguments_of_first, &environment, folder.path()).await?;
        Ok(Self { running, folder, program, log, arguments, environment })
    }

    /// The address of API and sockets, `http://127.0.0.1:<port>`; a restart keeps it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.running.addresses.http)
    }

    /// The operators' address, `http://127.0.0.1:<port>`; a restart keeps it.
    #[must_use]
    pub fn ops_url(&self) -> String {
        format!("http://{}", self.running.addresses.ops)
    }

    /// The process, until it is restarted.
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.running.process_id
    }

    /// Asks it to stop, waits for its end (at most 30 s, then it is killed) and starts a successor with the same addresses,
    /// log and arguments. Returns when that is ready.
    ///
    /// # Errors
    /// [`SetUpError`]: the successor does not become ready within 60 s; with what it said. Nothing is running then.
    pub async fn restart(&mut self) -> Result<Restart, SetUpError> {
        let begun = Instant::now();
        let ended = self.running.terminate(RESTART_PATIENCE).await?;
        let Addresses { http, ops } = self.running.addresses;
        let (http, ops) = (http.to_string(), ops.to_string());
        let arguments = gateway_arguments(&http, &ops, self.log, self.folder.path(), &self.arguments);
        self.running =
            Running::start(&self.program, &arguments, &self.environment, self.folder.path()).await?;
        Ok(Restart { down: begun.elapsed(), exit_code: ended.code() })
    }

    /// Asks it to stop and waits for its end: at most 15 s, then it is killed.
    ///
    /// # Errors
    /// [`SetUpError`]: it had to be killed, or ended with an error; with what it said.
    pub async fn stop(mut self) -> Result<(), SetUpError> {
        let ended = self.running.terminate(STOP_PATIENCE).await?;
        if ended.success() {
            return Ok(());
        }
        Err(SetUpError(
            self.running.quoted(&format!("the gateway was asked to stop and ended with {ended}")).await,
        ))
    }

    /// What to say of a gateway that ended without being asked to, with its last 50 lines on standard error. `None`: it is
    /// running. Does not wait.
    pub async fn ended_early(&mut self) -> Option<String> {
        self.running.ended_early().await
    }
}

fn gateway_arguments(
    listen: &str,
    ops_listen: &str,
    log: SpawnLog,
    folder: &Path,
    further: &[String],
) -> Vec<OsString> {
    let log = match log {
        SpawnLog::Disk => format!("disk:{}", folder.join("log").display()),
        SpawnLog::Memory => "memory".to_owned(),
    };
    let ours = ["--listen", listen, "--ops-listen", ops_listen, "--log", &log];
    ours.iter().map(OsString::from).chain(further.iter().map(OsString::from)).collect()
}

#[cfg(test)]
mod tests;
