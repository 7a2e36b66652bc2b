//! Starts gateways: as the real binary in a process of its own, or as an `App` inside the test.
//!
//! Both listen on ports the system chooses. A process is killed when its handle is dropped, so that no test leaves one behind.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::app::{Addresses, App, RunError};
use gateway::config::Config;
use gateway::listener::ClientAddresses;
use gateway::metrics::Metrics;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::exposition::Exposition;

/// No single step of a test takes longer, not even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition that has no event of its own is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits for `future`, but not for ever.
pub(crate) async fn within_patience<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// Looks again and again until `look` finds something.
pub(crate) async fn until_some<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within_patience(what, async {
        let mut interval = tokio::time::interval(LOOK_EVERY);
        loop {
            interval.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    })
    .await
}

/// A directory of its own, removed when dropped: no `gateway.toml` of anybody else lies in it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("gateway-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `gateway`, whatever its command.
pub(crate) struct Process {
    child: Child,
    printed: mpsc::UnboundedReceiver<String>,
    complained: mpsc::UnboundedReceiver<String>,
    _folder: Folder,
}

/// How a process ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) printed: Vec<String>,
    pub(crate) complained: Vec<String>,
}

impl Process {
    /// Starts the binary with nothing in its environment but `variables`.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(arguments);
        Self::spawn(command, variables)
    }

    /// Like [`Process::start`], with so many file descriptors and no way to get more.
    pub(crate) fn start_with_open_files(
        open_files: u32,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("ulimit -n {open_files}; exec \"$0\" \"$@\""));
        command.arg(env!("CARGO_BIN_EXE_gateway")).args(arguments);
        Self::spawn(command, variables)
    }

    /// Runs a command to its end.
    pub(crate) async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        Self::start(arguments, variables).ended().await
    }

    fn spawn(mut command: Command, variables: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        command.env_clear().envs(variables.iter().copied()).current_dir(&folder.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let printed = lines(child.stdout.take().unwrap());
        let complained = lines(child.stderr.take().unwrap());
        Self { child, printed, complained, _folder: folder }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line on standard output.
    pub(crate) async fn line(&mut self) -> Option<String> {
        within_patience("a line on standard output", self.printed.recv()).await
    }

    /// The next line on standard error that contains `text`.
    pub(crate) async fn complaint(&mut self, text: &str) -> String {
        let found = async {
            loop {
                let line = self.complained.recv().await.expect("standard error ended");
                if line.contains(text) {
                    return line;
                }
            }
        };
        within_patience(text, found).await
    }

    /// Stops reading what it says, as `gateway | head` does.
    pub(crate) fn close_outputs(&mut self) {
        self.printed.close();
        self.complained.close();
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends SIGTERM each time it is called, also while somebody waits for the end; not to be called after that.
    pub(crate) fn terminator(&self) -> impl Fn() + use<> {
        let id = self.id();
        move || signal(id, "TERM")
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits until it ended by itself.
    pub(crate) async fn ended(mut self) -> Ended {
        let drain = async |lines: &mut mpsc::UnboundedReceiver<String>| {
            let mut all = Vec::new();
            while let Some(line) = lines.recv().await {
                all.push(line);
            }
            all
        };
        let (printed, complained) = within_patience("the end of the process", async {
            tokio::join!(drain(&mut self.printed), drain(&mut self.complained))
        })
        .await;
        // Both outputs are closed: it is ending or has ended.
        let code = self.child.wait().unwrap().code();
        Ended { code, printed, complained }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(id: u32, name: &str) {
    let command = format!("kill -{name} {id}");
    assert!(Command::new("/bin/sh").arg("-c").arg(command).status().unwrap().success());
}

fn lines(output: impl Read + Send + 'static) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            // The test may have ended before the process.
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A serving process and where it listens, as it says itself.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) greeting: Vec<String>,
    pub(crate) addresses: Addresses,
}

impl Server {
    /// Starts a gateway and waits until it is ready.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_and_read_greeting(variables).await.ready().await
    }

    /// Starts a gateway and returns as soon as its greeting is printed.
    pub(crate) async fn start_and_read_greeting(variables: &[(&str, &str)]) -> Self {
        Self::greeted(Process::start(&EPHEMERAL, variables)).await
    }

    /// Starts a gateway whose log lies in this directory, and waits until it is ready.
    pub(crate) async fn start_on_disk(directory: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_on(&format!("disk:{}", directory.display()), variables).await
    }

    /// Starts a gateway with this log, and waits until it is ready.
    pub(crate) async fn start_on(log: &str, variables: &[(&str, &str)]) -> Self {
        let arguments = [&EPHEMERAL[..4], &["--log", log]].concat();
        Self::greeted(Process::start(&arguments, variables)).await.ready().await
    }

    /// Ends it as the kernel does when memory runs out, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    async fn ready(self) -> Self {
        let url = format!("{}/health/ready", self.ops_url());
        until_some("readiness", async || {
            reqwest::get(&url).await.unwrap().status().is_success().then_some(())
        })
        .await;
        self
    }

    pub(crate) async fn start_with_open_files(open_files: u32, variables: &[(&str, &str)]) -> Self {
        Self::greeted(Process::start_with_open_files(open_files, &EPHEMERAL, variables)).await
    }

    async fn greeted(mut process: Process) -> Self {
        let mut greeting = Vec::new();
        // The greeting ends with the only line that speaks of curl.
        while greeting.last().is_none_or(|line: &String| !line.contains("curl")) {
            greeting.push(process.line().await.expect("the gateway greets"));
        }
        let address = |before: &str, after: &str| -> SocketAddr {
            let line = greeting.iter().find(|line| line.contains(before)).unwrap();
            let rest = line.split(before).nth(1).unwrap();
            rest.split("://").last().unwrap().split(after).next().unwrap().parse().unwrap()
        };
        let addresses =
            Addresses { http: address("manual ", "/docs"), ops: address("health ", "/health/ready") };
        Self { process, greeting, addresses }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addresses.http)
    }

    pub(crate) fn ops_url(&self) -> String {
        format!("http://{}", self.addresses.ops)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most it ever was.
    pub(crate) fn highest_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
    }

    /// CPU time used so far, in user space and in the kernel.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // The second field is the name in brackets and may contain spaces.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // The kernel reports hundredths of a second to user space.
        Duration::from_millis(ticks * 10)
    }

    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }
}

/// Arguments for ports that the system chooses and a log that leaves nothing behind.
pub(crate) const EPHEMERAL: [&str; 6] =
    ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log", "memory"];

/// A gateway inside the test.
pub(crate) struct Running {
    pub(crate) addresses: Addresses,
    pub(crate) clients: Arc<ClientAddresses>,
    pub(crate) metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), RunError>>,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        let app = App::bind(config).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let addresses = app.addresses();
        let clients = Arc::clone(app.clients());
        let metrics = Arc::clone(app.metrics());
        let ended = tokio::spawn(app.run_until(async {
            // A test that drops the handle stops the gateway, too.
            let _ = stopped.await;
        }));
        Self { addresses, clients, metrics, stop, ended }
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::for_tests();
        change(&mut config);
        Self::start(config).await
    }

    /// Begins the stop; the future resolves at its end.
    pub(crate) fn stop(self) -> impl Future<Output = Result<(), RunError>> {
        let Self { stop, ended, metrics, .. } = self;
        // It may have ended by itself.
        let _ = stop.send(());
        async move {
            let end = within_patience("the end of the gateway", ended).await.expect("no panic");
            assert_eq!(metrics.ledger_imbalance.get(), 0, "what was accepted is accounted for");
            end
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addresses.http)
    }
}

/// POSTs a notification with this text and returns the answer's status and body.
pub(crate) async fn send(http: SocketAddr, users: &[&str], text: &str) -> (u16, Value) {
    let notification = json!({"to": users, "body": text});
    let request = reqwest::Client::new().post(format!("http://{http}/v1/notifications")).json(&notification);
    let response = within_patience("the answer to a send", request.send()).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Reads `/metrics`.
pub(crate) async fn scrape(ops: SocketAddr) -> Exposition {
    let request = reqwest::Client::new().get(format!("http://{ops}/metrics"));
    let response = within_patience("a scrape", request.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    Exposition::parse(&response.text().await.unwrap())
}

/// Scrapes until the series has this value.
pub(crate) async fn until_metric(ops: SocketAddr, series: &str, value: f64) {
    let what = format!("{series} is {value}");
    until_some(&what, async || (scrape(ops).await.value(series) == value).then_some(())).await;
}
