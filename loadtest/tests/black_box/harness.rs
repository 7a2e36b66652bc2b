//! Starts the load test as a process of its own, reads what it says and writes, and waits for its end.
//!
//! Loads are small and latency never decides unless a test wants it to: machines that run tests are busy. At most
//! [`RUNS_AT_A_TIME`] runs at a time, each ended after [`PATIENCE`]; a test that fails prints what the tool said.

mod gateway;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use loadtest::gate::{Class, GateResult};
use loadtest::summary::Summary;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinHandle;

pub(crate) use gateway::{Gateway, Greeted, binary as gateway_binary};

/// No single step of a test takes longer, not even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs that take place at the same time.
const RUNS_AT_A_TIME: usize = 2;

static RUNS: Semaphore = Semaphore::const_new(RUNS_AT_A_TIME);

/// Criteria that hold on any machine, in place of the ones a scenario brings.
const LENIENT: [&str; 8] = [
    "push_p50<60s",
    "push_p99<60s",
    "push_p999<60s",
    "push_max<60s",
    "lateness_p99<5s",
    "dispatch_p99<5s",
    "wakeup_p99<5s",
    "achieved>=0.5",
];

/// Waits for `future`, but not for ever.
pub(crate) async fn within_patience<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// A command line of the tool and the directory it runs in.
pub(crate) struct LoadTest {
    words: Vec<String>,
    options: Vec<(String, String)>,
    gates: Vec<String>,
    variables: Vec<(String, String)>,
    open_files: Option<u32>,
    folder: Arc<TempDir>,
}

impl LoadTest {
    /// Exactly these words.
    pub(crate) fn words(words: &[&str]) -> Self {
        Self {
            words: words.iter().map(ToString::to_string).collect(),
            options: Vec::new(),
            gates: Vec::new(),
            variables: Vec::new(),
            open_files: None,
            folder: Arc::new(TempDir::new().unwrap()),
        }
    }

    /// A scenario with a small load and no latency criterion that could fail.
    pub(crate) fn scenario(name: &str) -> Self {
        let mut test = Self::words(&[name])
            .option("--sockets", "40")
            .option("--rate", "200")
            .option("--duration", "2s")
            .option("--warm-up", "500ms")
            .option("--settle", "500ms")
            .option("--drain-timeout", "2s")
            .option("--metrics-listen", "off")
            .option("--json", "run.json");
        test.gates = LENIENT.map(str::to_owned).to_vec();
        test
    }

    /// A scenario against what listens there.
    pub(crate) fn against(name: &str, url: &str) -> Self {
        Self::scenario(name).option("--url", url)
    }

    /// A scenario against a gateway that the tool starts itself, with its log in memory.
    pub(crate) async fn spawning(name: &str) -> Self {
        let binary = gateway_binary().await;
        Self::scenario(name)
            .flag("--spawn")
            .option("--gateway-binary", binary.to_str().unwrap())
            .option("--spawn-log", "memory")
    }

    /// Gives an option its value, whatever it was before.
    pub(crate) fn option(self, name: &str, value: &str) -> Self {
        let mut this = self.without(name);
        this.options.push((name.to_owned(), value.to_owned()));
        this
    }

    /// Takes an option away.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.options.retain(|(known, _)| known != name);
        self
    }

    /// Adds a flag.
    pub(crate) fn flag(mut self, name: &str) -> Self {
        self.words.push(name.to_owned());
        self
    }

    /// Gives the gateway that the tool starts a configuration of its own.
    pub(crate) fn gateway_config(mut self, text: &str) -> Self {
        let path = self.folder.path().join("gateway.toml");
        std::fs::write(&path, text).unwrap();
        self.words.push("--gateway-argument=--config".to_owned());
        self.words.push(format!("--gateway-argument={}", path.display()));
        self
    }

    /// Sets a variable of its environment, which is otherwise empty.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a criterion, in place of any other for the same number.
    pub(crate) fn gate(mut self, text: &str) -> Self {
        let metric = |gate: &str| gate.split(['<', '>', '=']).next().map(str::to_owned);
        self.gates.retain(|known| metric(known) != metric(text));
        self.gates.push(text.to_owned());
        self
    }

    /// Lets the tool have so many file descriptors and no way to get more.
    pub(crate) fn open_files(mut self, count: u32) -> Self {
        self.open_files = Some(count);
        self
    }

    /// Writes a file into the directory that the tool runs in.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    /// Where a file lies in the directory that the tool runs in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Ended {
        self.start().await.ended().await
    }

    /// Starts it as soon as there is room for one more.
    pub(crate) async fn start(self) -> Running {
        let permit = RUNS.acquire().await.unwrap();
        let tool = env!("CARGO_BIN_EXE_loadtest");
        let mut command = match self.open_files {
            None => Command::new(tool),
            Some(count) => {
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(format!("ulimit -n {count}; exec \"$0\" \"$@\"")).arg(tool);
                shell
            }
        };
        command.args(&self.words);
        for (name, value) in &self.options {
            command.arg(name).arg(value);
        }
        for gate in &self.gates {
            command.arg("--gate").arg(gate);
        }
        // What the tool leaves behind in the directory for temporary files is found by `Ended::leftovers`.
        let temporary = self.folder.path().join("tmp");
        std::fs::create_dir(&temporary).unwrap();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("TMPDIR", temporary);
        command.envs(self.variables);
        command.current_dir(self.folder.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let printed = Output::read(child.stdout.take().unwrap());
        let complained = Output::read(child.stderr.take().unwrap());
        Running { child, printed, complained, folder: self.folder, _permit: permit }
    }
}

/// What a process has said so far.
struct Output {
    text: watch::Receiver<String>,
    reading: JoinHandle<()>,
}

impl Output {
    fn read(output: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, text) = watch::channel(String::new());
        let reading = tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                sender.send_modify(|text| {
                    text.push_str(&line);
                    text.push('\n');
                });
            }
        });
        Self { text, reading }
    }

    async fn all(self) -> String {
        self.reading.await.unwrap();
        self.text.borrow().clone()
    }
}

/// A tool at work.
pub(crate) struct Running {
    child: Child,
    printed: Output,
    complained: Output,
    folder: Arc<TempDir>,
    _permit: SemaphorePermit<'static>,
}

impl Running {
    /// The first line on standard error that contains `text`.
    pub(crate) async fn complaint(&mut self, text: &str) -> String {
        let said = self.complained.text.wait_for(|said| said.lines().any(|line| line.contains(text)));
        let said = within_patience(text, said).await.expect("standard error ended without it").clone();
        said.lines().find(|line| line.contains(text)).unwrap().to_owned()
    }

    /// Sends it a signal by its name.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it still runs").to_string();
        let sent = Command::new("/bin/kill").args(["-s", name, &id]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits until it ended by itself.
    pub(crate) async fn ended(mut self) -> Ended {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        if ended.is_err() {
            self.child.kill().await.unwrap();
        }
        let (stdout, stderr) = (self.printed.all().await, self.complained.all().await);
        let code = ended.ok().and_then(|status| status.unwrap().code());
        // An empty file is judged by a test of its own.
        let json = std::fs::read_to_string(self.folder.path().join("run.json")).ok();
        let json = json.filter(|text| !text.is_empty());
        let summary = json.map(|text| serde_json::from_str(&text).expect("the JSON is a summary"));
        let this = Ended { code, stdout, stderr, summary, folder: self.folder };
        assert!(this.code.is_some(), "a signal ended it, ours after {PATIENCE:?} or its own");
        this
    }
}

/// How the tool ended and what it left.
pub(crate) struct Ended {
    /// `None`: it was killed.
    code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    summary: Option<Summary>,
    folder: Arc<TempDir>,
}

impl Ended {
    /// Fails unless it ended with this code and its output begins with this word.
    #[track_caller]
    pub(crate) fn with(self, code: i32, verdict: &str) -> Self {
        assert_eq!(self.code, Some(code), "the exit code");
        assert!(self.stdout.starts_with(verdict), "standard output begins with {verdict}");
        self
    }

    /// Fails unless it ended with this code, said why on standard error, and neither judged nor wrote anything.
    #[track_caller]
    pub(crate) fn refused(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "the exit code");
        assert!(self.summary.is_none(), "no run took place");
        assert!(!self.stderr.trim().is_empty(), "it says why");
        assert!(!self.stdout.contains("PASSED"), "there is no verdict");
        self
    }

    /// What `--json` wrote.
    #[track_caller]
    pub(crate) fn summary(&self) -> &Summary {
        self.summary.as_ref().expect("a summary was written")
    }

    /// The criteria that do not hold.
    #[track_caller]
    pub(crate) fn failed(&self) -> Vec<&GateResult> {
        self.summary().gates.iter().filter(|gate| !gate.passed).collect()
    }

    /// Fails unless exactly the criteria about these numbers do not hold, all of this class.
    #[track_caller]
    pub(crate) fn failed_only(&self, class: Class, metrics: &[&str]) {
        let failed = self.failed();
        let is_about = |gate: &GateResult, metric: &str| {
            gate.text.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['<', '>', '=']))
        };
        assert!(
            failed.len() == metrics.len()
                && failed.iter().all(|gate| gate.class == class)
                && metrics.iter().all(|metric| failed.iter().any(|gate| is_about(gate, metric))),
            "{metrics:?} of {class:?} and nothing else should fail: {failed:?}"
        );
    }

    /// The path of a file in the directory that the tool ran in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What lies in the directory for temporary files.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        entries(&self.path("tmp"))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- exit code {:?}\n--- stdout\n{}--- stderr\n{}",
                self.code, self.stdout, self.stderr
            );
            if let Some(summary) = &self.summary {
                eprintln!("--- gates {:#?}\n--- {:#?}", self.failed(), summary.deliveries);
                eprintln!("--- {:?}\n--- errors {:?}", summary.sockets, summary.errors);
            }
        }
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}
