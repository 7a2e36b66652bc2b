//! One gateway process: its start, what it says, its end.
//!
//! Ready means what the gateway's own readiness says, not only that it has greeted: a log is rebuilt in between.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::set_up::SetUpError;

/// How long a start may take until the gateway is ready; a long log is rebuilt in it.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How often readiness is asked for, and how long one answer may take.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the last words of an ended process are waited for: something it started may hold its outputs open.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(1);

/// Lines of standard error that are kept.
const MAX_LINES: usize = 50;

/// All that the gateway learns from this process's environment by itself.
const VARIABLES: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// Where a gateway listens, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) http: SocketAddr,
    pub(super) ops: SocketAddr,
}

/// A process that is ready; killed when dropped.
#[derive(Debug)]
pub(super) struct Running {
    child: Started,
    pub(super) process_id: i32,
    pub(super) addresses: Addresses,
}

/// A process that may not be ready yet; killed when dropped.
#[derive(Debug)]
struct Started {
    child: Child,
    complaints: Arc<Mutex<VecDeque<String>>>,
    listener: JoinHandle<()>,
}

impl Running {
    /// Starts the program and waits until it is ready.
    pub(super) async fn start(
        program: &Path,
        arguments: &[OsString],
        environment: &[(&'static str, String)],
        folder: &Path,
    ) -> Result<Self, SetUpError> {
        let client = reqwest::Client::builder().no_proxy().timeout(LOOK_TIMEOUT).build();
        let client = client.map_err(|error| SetUpError(format!("cannot set up the HTTP client: {error}")))?;
        let (mut child, printed) = Started::start(program, arguments, environment, folder)?;
        let program = program.display();
        let how = match tokio::time::timeout(START_PATIENCE, child.until_ready(printed, &client)).await {
            Ok(Some((process_id, addresses))) => return Ok(Self { child, process_id, addresses }),
            Ok(None) => match child.end(LAST_WORDS_PATIENCE).await {
                Ok(status) => format!("{program} ended with {status} before it was ready"),
                Err(error) => format!("{program}: {error}"),
            },
            Err(_) => {
                // Its last words are complete only when it has ended.
                child.kill().await;
                format!("{program} was not ready within {START_PATIENCE:?}")
            }
        };
        Err(SetUpError(child.quoted(&how).await))
    }

    /// Sends SIGTERM and waits for the end; kills when that takes longer than `patience`.
    pub(super) async fn terminate(&mut self, patience: Duration) -> Result<ExitStatus, SetUpError> {
        let failed = |error: std::io::Error| SetUpError(format!("cannot stop the gateway: {error}"));
        if let Some(process_id) = self.child.process_id() {
            kill(process_id, Signal::SIGTERM).map_err(|error| failed(error.into()))?;
        }
        self.child.end(patience).await.map_err(failed)
    }

    /// What to say if it has ended by itself.
    pub(super) async fn ended_early(&mut self) -> Option<String> {
        let how = match self.child.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => format!("the gateway ended with {status}"),
            Err(error) => format!("the gateway cannot be looked after: {error}"),
        };
        Some(self.child.quoted(&how).await)
    }

    /// How it ended and what it complained of; only for a process that has ended.
    pub(super) async fn quoted(&mut self, how: &str) -> String {
        self.child.quoted(how).await
    }
}

impl Started {
    fn start(
        program: &Path,
        arguments: &[OsString],
        environment: &[(&'static str, String)],
        folder: &Path,
    ) -> Result<(Self, Lines<BufReader<ChildStdout>>), SetUpError> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).env_clear().kill_on_drop(true);
        command.envs(VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        // An interrupt from the terminal ends the run; the gateway is ended by the run, and not beside it.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| SetUpError(format!("cannot start {}: {error}", program.display())))?;
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        let complaints = Arc::default();
        let listener = tokio::spawn(keep_last_lines(stderr, Arc::clone(&complaints)));
        Ok((Self { child, complaints, listener }, BufReader::new(stdout).lines()))
    }

    /// Its number and addresses, once it is ready. `None`: it has ended, or greets nobody.
    async fn until_ready(
        &mut self,
        mut printed: Lines<BufReader<ChildStdout>>,
        client: &reqwest::Client,
    ) -> Option<(i32, Addresses)> {
        let addresses = greeting(&mut printed).await?;
        // It goes on speaking, and must not wait for anybody who listens.
        tokio::spawn(async move { while let Ok(Some(_)) = printed.next_line().await {} });
        let url = format!("http://{}/health/ready", addresses.ops);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while let Ok(None) = self.child.try_wait() {
            looks.tick().await;
            if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Some((self.process_id()?.as_raw(), addresses));
            }
        }
        None
    }

    /// Waits for its end; kills when that takes longer than `patience`.
    async fn end(&mut self, patience: Duration) -> std::io::Result<ExitStatus> {
        if let Ok(ended) = tokio::time::timeout(patience, self.child.wait()).await {
            return ended;
        }
        self.kill().await;
        self.child.wait().await
    }

    /// `None`: it has ended, and its number may be another's by now.
    fn process_id(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)
    }

    async fn kill(&mut self) {
        // It fails for a process that has just ended: that is what is wanted.
        let _ = self.child.kill().await;
    }

    async fn quoted(&mut self, how: &str) -> String {
        // When this takes too long, what is known so far has to do.
        let _ = tokio::time::timeout(LAST_WORDS_PATIENCE, &mut self.listener).await;
        let lines = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return format!("{how}, without a word");
        }
        lines.iter().fold(format!("{how}:"), |text, line| format!("{text}\n  {line}"))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let Some(process_id) = self.process_id() else { return };
        // Both fail only for a process that has ended. The wait is for a kill, so it is short; it leaves the status to be
        // collected by the runtime.
        let _ = self.child.start_kill();
        let _ = waitid(Id::Pid(process_id), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
    }
}

/// Reads the greeting up to its addresses; `None`: the output ended before.
async fn greeting(printed: &mut Lines<impl AsyncBufRead + Unpin>) -> Option<Addresses> {
    let (mut http, mut ops) = (None, None);
    while let Ok(Some(line)) = printed.next_line().await {
        http = http.or_else(|| address(&line, "manual "));
        ops = ops.or_else(|| address(&line, "health "));
        if let (Some(http), Some(ops)) = (http, ops) {
            return Some(Addresses { http, ops });
        }
    }
    None
}

/// The address of the URL behind a word.
fn address(line: &str, word: &str) -> Option<SocketAddr> {
    let (_, behind) = line.split_once(word)?;
    let (_, behind) = behind.split_once("http://")?;
    behind.split('/').next()?.parse().ok()
}

async fn keep_last_lines(output: impl AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MAX_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_greeting_says_where_it_listens() {
        let text = "\
notification gateway 0.1.0
  log      in memory

  console  http://127.0.0.1:8001/            (open it: send, and see it arrive)
  manual   http://127.0.0.1:8001/docs
  metrics  http://127.0.0.1:9465/metrics     health  http://127.0.0.1:9466/health/ready
paste
";
        let mut lines = BufReader::new(text.as_bytes()).lines();
        let [http, ops] = ["127.0.0.1:8001", "127.0.0.1:9466"].map(|address| address.parse().unwrap());
        assert_eq!(greeting(&mut lines).await, Some(Addresses { http, ops }));
        assert_eq!(greeting(&mut lines).await, None);
    }

    #[tokio::test]
    async fn only_the_last_lines_are_kept() {
        let kept = Arc::default();
        let text: String = (0..120).map(|number| format!("line {number}\n")).collect();
        keep_last_lines(text.as_bytes(), Arc::clone(&kept)).await;
        let kept = kept.lock().unwrap();
        assert_eq!((kept.len(), &*kept[0], &*kept[49]), (50, "line 70", "line 119"));
    }
}
