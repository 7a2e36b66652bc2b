//! The real gateway: its binary, built once, and processes of it on ports that the system chooses.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::OnceCell;

use super::within_patience;

/// A gateway with its log in memory, killed when dropped.
pub(crate) struct Gateway {
    pub(crate) http: SocketAddr,
    pub(crate) ops: SocketAddr,
    child: Child,
    /// Open as long as the gateway runs, which may say more.
    _output: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

impl Gateway {
    /// Starts one and waits until it has greeted.
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new(binary().await);
        command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log", "memory"]);
        command.env_clear().current_dir(folder.path()).stderr(Stdio::null());
        let Greeted { http, ops, child, output } = Greeted::spawn(command).await;
        Self { http, ops, child, _output: output, _folder: folder }
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    pub(crate) fn ops_url(&self) -> String {
        format!("http://{}", self.ops)
    }
}

/// A gateway that has said where it listens.
pub(crate) struct Greeted {
    pub(crate) http: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) child: Child,
    pub(crate) output: Lines<BufReader<ChildStdout>>,
}

impl Greeted {
    /// Starts a gateway, which is killed when it is dropped, and waits for its greeting.
    pub(crate) async fn spawn(mut command: Command) -> Self {
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut greeting = String::new();
        // The greeting ends with the only line that speaks of curl.
        while !greeting.contains("curl") {
            let line = within_patience("the gateway's greeting", output.next_line()).await.unwrap();
            greeting.push_str(&line.expect("the gateway greets"));
            greeting.push('\n');
        }
        let http = address(&greeting, "manual ");
        let ops = address(&greeting, "metrics ");
        Self { http, ops, child, output }
    }
}

/// The address in the line that begins with `label`.
fn address(greeting: &str, label: &str) -> SocketAddr {
    let line = greeting.lines().find(|line| line.trim_start().starts_with(label)).unwrap();
    let rest = line.split("http://").nth(1).unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// The gateway's binary, built once from the sources beside these, in the profile and the directory of this test.
pub(crate) async fn binary() -> &'static Path {
    static BINARY: OnceCell<PathBuf> = OnceCell::const_new();
    BINARY.get_or_init(build).await
}

async fn build() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    // target/<profile>/deps/<this test>
    let profile = executable.ancestors().nth(2).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    // With the whole workspace and a test, dependencies have the features that `cargo test` gives them: where that ran,
    // nothing is left to do.
    cargo.args(["build", "--locked", "--workspace", "--bin", "gateway", "--test", "tidy", "--target-dir"]);
    cargo.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.stdin(Stdio::null()).output().await.unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    profile.join("gateway")
}
