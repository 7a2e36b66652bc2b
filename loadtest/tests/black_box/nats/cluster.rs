//! Gateways that share one log, and the servers that keep it: to be killed, paused and started again.
//!
//! Each gateway has an address of its own in 127.0.0.0/8 and comes back at it. Nothing else has that address, so nobody else
//! takes the port meanwhile.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::nats_server::NatsCluster;
use crate::harness::{Greeted, gateway_binary, within_patience};

/// How often a condition that has no event of its own is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The stream.
const NAME: &str = "GATEWAY";

/// Three servers, three gateways.
pub(super) struct Cluster {
    pub(super) servers: NatsCluster,
    pub(super) gateways: Vec<Node>,
    log: String,
    /// Whose history the stream is. It stays the same: positions go on to mean what they did.
    epoch: String,
    mailbox: u32,
    folder: TempDir,
}

/// One gateway, over all its processes.
pub(super) struct Node {
    http: SocketAddr,
    ops: SocketAddr,
    /// Absent: it does not run.
    process: Option<Process>,
}

struct Process {
    child: Child,
    /// Open as long as the gateway runs, which may say more.
    _output: Lines<BufReader<ChildStdout>>,
}

/// What a gateway says that it computed from the log.
#[derive(Debug, PartialEq, Eq)]
struct Computed {
    epoch: String,
    applied: u64,
    digest: String,
}

impl Cluster {
    /// Starts everything and waits until it is ready.
    pub(super) async fn start() -> Self {
        let servers = NatsCluster::start(3).await;
        let (log, folder) = (servers.log(NAME), TempDir::new().unwrap());
        let mut cluster =
            Self { servers, gateways: Vec::new(), log, epoch: String::new(), mailbox: 1_000, folder };
        // Of two runs at the same time each has its own.
        let [_, middle, low, ..] = std::process::id().to_le_bytes().map(|byte| byte.max(1));
        for number in 1..=3 {
            let anywhere = SocketAddr::from(([127, 100 + middle % 100, low, number], 0));
            cluster.gateways.push(Node { http: anywhere, ops: anywhere, process: None });
        }
        for index in 0..3 {
            cluster.start_gateway(index).await;
        }
        cluster.epoch = cluster.gateways[0].computed().await.epoch;
        cluster
    }

    /// What `--url` takes.
    pub(super) fn urls(&self) -> String {
        let urls: Vec<String> = self.gateways.iter().map(|node| format!("http://{}", node.http)).collect();
        urls.join(",")
    }

    /// The first gateway's metrics.
    pub(super) fn ops_url(&self) -> String {
        format!("http://{}", self.gateways[0].ops)
    }

    /// The mailboxes of gateways that are started from now on hold so many notifications.
    pub(super) fn bound_mailboxes(&mut self, notifications: u32) {
        self.mailbox = notifications;
    }

    /// Starts a gateway where it was before, and waits until it is ready.
    pub(super) async fn start_gateway(&mut self, index: usize) {
        let place = self.folder.path().join(format!("g{index}"));
        std::fs::create_dir_all(&place).unwrap();
        let log = File::options().create(true).append(true).open(log_of(self.folder.path(), index)).unwrap();
        let node = &mut self.gateways[index];
        let mut command = Command::new(gateway_binary().await);
        command.args(["--listen", &node.http.to_string(), "--ops-listen", &node.ops.to_string()]);
        command.args(["--log", &self.log]).current_dir(&place).stderr(Stdio::from(log));
        command
            .env_clear()
            .env("GATEWAY_NATS_REPLICAS", "3")
            .env("GATEWAY_NATS_COPY_DIRECTORY", place.join("copy"))
            .env("GATEWAY_MAILBOX_MAX_NOTIFICATIONS", self.mailbox.to_string())
            .env("GATEWAY_SHUTDOWN_RECONNECT_WINDOW", "2s");
        let Greeted { http, ops, child, output } = Greeted::spawn(command).await;
        (node.http, node.ops) = (http, ops);
        node.process = Some(Process { child, _output: output });
        let url = format!("http://{ops}/health/ready");
        until_some("readiness", async || reqwest::get(&url).await.ok()?.status().is_success().then_some(()))
            .await;
    }

    /// Stops a gateway as a deploy does, and starts its successor.
    pub(super) async fn replace(&mut self, index: usize) {
        self.gateways[index].stop().await;
        self.start_gateway(index).await;
    }

    /// The number of the server that leads the stream, as soon as it is another one than `before`.
    pub(super) async fn leader(&self, before: Option<usize>) -> usize {
        let client = async_nats::connect(self.servers.urls()).await.unwrap();
        let context = jetstream::new(client);
        until_some("a server leads the stream", async || {
            let stream = context.get_stream(NAME).await.ok()?;
            let name = stream.cached_info().cluster.as_ref()?.leader.as_ref()?;
            let number = name.strip_prefix('n').unwrap().parse().unwrap();
            (Some(number) != before).then_some(number)
        })
        .await
    }

    /// Waits until all gateways have applied the same entries; then they have computed the same, and their books balance.
    pub(super) async fn agree(&self) {
        let computed = until_some("all gateways have applied the same", async || {
            let mut all = Vec::new();
            for node in &self.gateways {
                all.push(node.computed().await);
            }
            all.iter().all(|computed| computed.applied == all[0].applied).then_some(all)
        })
        .await;
        assert!(computed.iter().all(|other| *other == computed[0]), "{computed:#?}");
        assert_eq!(computed[0].epoch, self.epoch);
        for node in &self.gateways {
            let metrics = reqwest::get(format!("http://{}/metrics", node.ops)).await.unwrap().text().await;
            let metrics = metrics.unwrap();
            let imbalance = metrics.lines().find_map(|line| line.strip_prefix("gateway_ledger_imbalance "));
            assert_eq!(imbalance, Some("0"), "the books of the gateway at {}", node.http);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for index in 0..self.gateways.len() {
                let log = std::fs::read_to_string(log_of(self.folder.path(), index)).unwrap_or_default();
                eprintln!("--- gateway {index}\n{log}");
            }
        }
    }
}

impl Node {
    /// Kills it, without a word.
    pub(super) async fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.child.kill().await.unwrap();
    }

    /// Tells it to stop, and waits until it has.
    pub(super) async fn stop(&mut self) {
        self.signal("TERM").await;
        let mut process = self.process.take().expect("it runs");
        let status = within_patience("the gateway's end", process.child.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0));
    }

    /// Stops its clock: it keeps its connections and does nothing.
    pub(super) async fn pause(&self) {
        self.signal("STOP").await;
    }

    /// Lets it go on.
    pub(super) async fn resume(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, name: &str) {
        let process = self.process.as_ref().expect("it runs");
        let id = process.child.id().expect("it runs").to_string();
        assert!(Command::new("/bin/kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    async fn computed(&self) -> Computed {
        let state = reqwest::get(format!("http://{}/state", self.ops)).await.unwrap().bytes().await.unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let text = |name: &str| state[name].as_str().unwrap().to_owned();
        Computed { epoch: text("epoch"), applied: state["applied"].as_u64().unwrap(), digest: text("digest") }
    }
}

fn log_of(folder: &Path, gateway: usize) -> PathBuf {
    folder.join(format!("g{gateway}.log"))
}

/// Looks again and again until `look` finds something.
async fn until_some<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
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
