//! Several gateways that share one log in a real nats-server: what they do together.

mod presence;

use gateway::config::{Config, LogStore, NatsAddress};

use crate::harness::Gateway;
use crate::nats_server::NatsCluster;
use crate::process_harness::{Folder, Server};

/// The stream, and thereby the name of the cluster.
const STREAM: &str = "shared";

/// What gateways share, and where their copies lie.
struct Shared {
    nats: NatsCluster,
    folder: Folder,
}

impl Shared {
    /// A server without a stream.
    async fn new() -> Self {
        Self { nats: NatsCluster::single().await, folder: Folder::new() }
    }

    /// Starts a gateway inside the test; no two may have the same name.
    async fn gateway(&self, name: &str) -> Gateway {
        Gateway::start_with(self.configure(name)).await
    }

    /// Starts two of them and waits until each knows the other.
    async fn two(&self) -> [Gateway; 2] {
        let gateways = [self.gateway("first").await, self.gateway("second").await];
        for gateway in &gateways {
            gateway.until_metric("gateway_nodes", 2.0).await;
        }
        gateways
    }

    /// Starts one in a process of its own.
    async fn process(&self) -> Server {
        Server::start_on(&self.nats.log(STREAM), &[("GATEWAY_NATS_REPLICAS", "1")]).await
    }

    fn configure(&self, name: &str) -> impl FnOnce(&mut Config) + use<> {
        let address = NatsAddress { servers: self.nats.urls(), stream: STREAM.to_owned() };
        let copy = self.folder.path().join(name);
        move |config| {
            config.log.store = LogStore::Nats(address);
            config.nats.copy_directory = Some(copy);
            config.nats.replicas = 1;
        }
    }
}
