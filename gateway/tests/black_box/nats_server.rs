//! Real nats-servers with JetStream, one or a cluster of them, which tests may kill, pause and start again.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(20);

/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One server; it ends with this value.
pub(crate) struct NatsServer {
    child: Option<Child>,
    directory: PathBuf,
    port: u16,
}

/// Servers that know each other; they and what they stored end with this value.
pub(crate) struct NatsCluster {
    servers: Vec<NatsServer>,
    _directory: tempfile::TempDir,
}

impl NatsCluster {
    /// A single server, which is no cluster.
    pub(crate) async fn single() -> Self {
        Self::start(1).await
    }

    /// So many servers.
    pub(crate) async fn start(count: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Held until all are chosen: none is given twice.
        let held: Vec<TcpListener> =
            (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|held| held.local_addr().unwrap().port()).collect();
        drop(held);
        let (clients, peers) = ports.split_at(count);
        let routes: Vec<String> = peers.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let servers = clients.iter().zip(peers).enumerate().map(|(index, (port, peer))| {
            let place = directory.path().join(format!("n{index}"));
            fs::create_dir(&place).unwrap();
            let mut text = format!(
                "server_name: n{index}\nlisten: \"127.0.0.1:{port}\"\npid_file: \"{pid}\"\n\
                 jetstream {{ store_dir: \"{store}\", max_file_store: 20GB }}\n",
                pid = place.join("pid").display(),
                store = place.display(),
            );
            if count > 1 {
                text += &format!(
                    "cluster {{ name: test, listen: \"127.0.0.1:{peer}\", routes: [{}] }}\n",
                    routes.join(", ")
                );
            }
            fs::write(place.join("server.conf"), text).unwrap();
            NatsServer { child: None, directory: place, port: *port }
        });
        let mut cluster = Self { servers: servers.collect(), _directory: directory };
        cluster.servers.iter_mut().for_each(NatsServer::launch);
        for server in &cluster.servers {
            server.wait_until_it_answers().await;
        }
        cluster
    }

    /// What `--log` takes.
    pub(crate) fn log(&self, stream: &str) -> String {
        let hosts: Vec<String> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("nats://{}/{stream}", hosts.join(","))
    }

    /// Where clients connect.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("nats://127.0.0.1:{}", server.port)).collect()
    }

    /// A server that keeps a copy of the stream and does not lead it.
    pub(crate) async fn follower_of(&self, stream: &str) -> usize {
        let client = async_nats::connect(self.urls()).await.unwrap();
        let jetstream = async_nats::jetstream::new(client);
        let leading = loop {
            let Ok(stream) = jetstream.get_stream(stream).await else { continue };
            if let Some(leader) =
                stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.clone())
            {
                break leader;
            }
        };
        (0..self.servers.len()).find(|index| format!("n{index}") != leading).expect("there is more than one")
    }

    /// The servers, in the order of their names n0, n1, …
    pub(crate) fn servers(&mut self) -> &mut [NatsServer] {
        &mut self.servers
    }
}

impl NatsServer {
    /// Kills it, without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again, on what it stored.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.launch();
        self.wait_until_it_answers().await;
    }

    /// Stops its clock: it keeps its connections and does nothing.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// Kills it, keeps a backup of what it stored, and starts it again.
    pub(crate) async fn back_up(&mut self) -> tempfile::TempDir {
        self.kill();
        let backup = tempfile::tempdir().unwrap();
        copy_tree(&self.store(), &backup.path().join("store"));
        self.restart().await;
        backup
    }

    /// Kills it and starts it again on a backup: what it stored since is forgotten.
    pub(crate) async fn go_back_to(&mut self, backup: &tempfile::TempDir) {
        self.kill();
        self.forget_everything();
        copy_tree(&backup.path().join("store"), &self.store());
        self.restart().await;
    }

    /// Removes what it stored; it must not run.
    pub(crate) fn forget_everything(&self) {
        assert!(self.child.is_none(), "it runs");
        let _ = fs::remove_dir_all(self.directory.join("jetstream"));
    }

    /// Where it keeps what it stored.
    fn store(&self) -> PathBuf {
        self.directory.join("jetstream")
    }

    fn signal(&self, name: &str) {
        let child = self.child.as_ref().expect("it runs");
        let sent =
            Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn launch(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.join("log")).unwrap();
        let child = Command::new("nats-server")
            .arg("--config")
            .arg(self.directory.join("server.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("nats-server is there; install: apt-get install --no-install-recommends nats-server");
        self.child = Some(child);
    }

    /// It greets whoever connects.
    async fn wait_until_it_answers(&self) {
        let greeted = async {
            let mut interval = tokio::time::interval(LOOK_EVERY);
            loop {
                interval.tick().await;
                if let Ok(first) = self.greeting().await {
                    return assert_eq!(&first, b"INFO");
                }
            }
        };
        if tokio::time::timeout(START, greeted).await.is_err() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            panic!("nats-server does not answer\n{log}");
        }
    }

    async fn greeting(&self) -> std::io::Result<[u8; 4]> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        let mut first = [0; 4];
        stream.read_exact(&mut first).await.map(|_| first)
    }
}

fn copy_tree(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
