//! Servers, and gateways that share a stream on them.

use std::time::Duration;

use gateway::config::{Config, LogStore, NatsAddress};
use serde_json::Value;

use crate::harness::{Gateway, within};
use crate::nats_server::NatsCluster;
use crate::process_harness::{Folder, Server};

/// The stream of every test: each has servers of its own.
pub(super) const STREAM: &str = "notify";

/// What gateways share, and where their copies lie.
pub(super) struct Shared {
    pub(super) cluster: NatsCluster,
    folder: Folder,
}

/// Servers take their time to agree on a leader, the more so on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Gateways inside the test.
pub(super) struct Nodes {
    pub(super) gateways: Vec<Gateway>,
    pub(super) shared: Shared,
}

impl Shared {
    /// A server without a stream.
    pub(super) async fn new() -> Self {
        Self { cluster: NatsCluster::single().await, folder: Folder::new() }
    }

    /// Starts a gateway inside the test; no two may have the same name.
    pub(super) async fn gateway(&self, name: &str) -> Gateway {
        Gateway::start_with(self.configure(name)).await
    }

    /// Starts two of them and waits until each knows the other.
    pub(super) async fn two(&self) -> [Gateway; 2] {
        let gateways = [self.gateway("first").await, self.gateway("second").await];
        for gateway in &gateways {
            gateway.until_metric("gateway_nodes", 2.0).await;
        }
        gateways
    }

    /// Starts one in a process of its own.
    pub(super) async fn process(&self) -> Server {
        Server::start_on(&self.cluster.log(STREAM), &[("GATEWAY_NATS_REPLICAS", "1")]).await
    }

    /// What such a gateway has to know.
    pub(super) fn configure(&self, name: &str) -> impl FnOnce(&mut Config) + use<> {
        let address = NatsAddress { servers: self.cluster.urls(), stream: STREAM.to_owned() };
        let replicas = u32::try_from(address.servers.len()).unwrap();
        let copy = self.folder.path().join(name);
        move |config| {
            config.log.store = LogStore::Nats(address);
            config.nats.copy_directory = Some(copy);
            config.nats.replicas = replicas;
        }
    }
}

impl Nodes {
    /// One server and so many gateways.
    pub(super) async fn start(gateways: usize) -> Self {
        Self::start_on(NatsCluster::single().await, gateways).await
    }

    /// So many gateways on these servers.
    pub(super) async fn start_on(cluster: NatsCluster, gateways: usize) -> Self {
        let mut nodes = Self { gateways: Vec::new(), shared: Shared { cluster, folder: Folder::new() } };
        for _ in 0..gateways {
            nodes.join(|_| {}).await;
        }
        nodes
    }

    /// Starts one gateway more, which knows nothing yet.
    pub(super) async fn join(&mut self, configure: impl FnOnce(&mut Config)) {
        let shared = self.shared.configure(&self.gateways.len().to_string());
        let gateway = Gateway::start_with(|config| {
            shared(config);
            configure(config);
        });
        self.gateways.push(gateway.await);
    }

    /// Waits until all have applied the same, and makes sure that it led to the same.
    pub(super) async fn agree(&self) {
        let ops: Vec<String> =
            self.gateways.iter().map(|gateway| format!("http://{}", gateway.operators_address())).collect();
        agree(&ops).await;
    }

    /// Stops every gateway in order.
    pub(super) async fn stop(self) {
        for gateway in self.gateways {
            gateway.stop().await;
        }
    }
}

/// Looks again and again until `look` finds something, longer than others would wait.
pub(super) async fn until_some<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        let mut interval = tokio::time::interval(LOOK_EVERY);
        loop {
            interval.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Waits until the gateways with these operators' listeners have applied the same, and makes sure that it led to the same.
pub(super) async fn agree(ops: &[String]) {
    let states = until_some("the nodes to have applied the same", async || {
        let mut states: Vec<Value> = Vec::new();
        for ops in ops {
            states.push(reqwest::get(format!("{ops}/state")).await.ok()?.json().await.ok()?);
        }
        states.windows(2).all(|pair| pair[0]["applied"] == pair[1]["applied"]).then_some(states)
    })
    .await;
    for state in &states {
        assert_eq!(state, &states[0], "nodes that applied the same differ");
    }
}

/// Starts the binary as a node that keeps its copy in this folder.
pub(super) async fn start_process(cluster: &NatsCluster, copy: &Folder) -> Server {
    start_process_with(cluster, copy, &[]).await
}

/// The same, with settings of its own.
pub(super) async fn start_process_with(
    cluster: &NatsCluster,
    copy: &Folder,
    more: &[(&str, &str)],
) -> Server {
    let directory = copy.path().join("copy").display().to_string();
    let own = [
        ("GATEWAY_NATS_REPLICAS", "1"),
        ("GATEWAY_NATS_COPY_DIRECTORY", directory.as_str()),
        ("GATEWAY_LOG_STALL_TIMEOUT", "1s"),
    ];
    let variables = [&own[..], more].concat();
    within("the gateway to start", Server::start_on(&cluster.log(STREAM), &variables)).await
}

/// Status and text of `/health/ready`.
pub(super) async fn readiness(gateway: &Gateway) -> (u16, String) {
    let url = format!("http://{}/health/ready", gateway.operators_address());
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
