//! A cluster under load, of which one part after the other dies, hangs or is replaced: nothing that was accepted is lost,
//! comes twice or in another order, and all gateways compute the same.

mod cluster;
#[path = "../../../gateway/tests/black_box/nats_server.rs"]
#[expect(dead_code, reason = "the gateway's tests use more of it")]
mod nats_server;

use std::time::Duration;

use cluster::Cluster;

use crate::harness::{Ended, LoadTest, Running};
use crate::own_metrics::{metrics_of, until_value};

/// Notifications a second.
const RATE: u32 = 100;

/// How long something hangs that hangs.
const HANGS: Duration = Duration::from_secs(10);

/// A load that goes on while harm is done.
struct Load {
    metrics: String,
}

impl Load {
    /// Waits until so many sends of this run were accepted.
    async fn accepted(&self, count: u32) {
        let family = "loadtest_sent_total{result=\"accepted\"}";
        until_value(&self.metrics, family, |value| value >= f64::from(count)).await;
    }
}

impl Cluster {
    /// Puts it under load for so many seconds, lets harm be done after two of them, and fails if anything comes of it.
    async fn survives(&mut self, what: &str, seconds: u32, harm: impl AsyncFnOnce(&mut Self, &Load)) {
        let test = LoadTest::against("failover", &self.urls())
            .option("--sockets", "150")
            .option("--rate", &RATE.to_string())
            .option("--duration", &format!("{seconds}s"))
            .option("--warm-up", "0s")
            .option("--send-timeout", "3s")
            // Whoever is behind is waited for; the end of everything is not.
            .option("--settle", "30s")
            .option("--drain-timeout", "50s")
            .option("--metrics-listen", "127.0.0.1:0")
            .option("--linger", "0s")
            .option("--ops-url", &self.ops_url())
            .gate("longest_outage<45s");
        let mut running: Running = test.start().await;
        let load = Load { metrics: metrics_of(&mut running).await };
        load.accepted(2 * RATE).await;
        harm(self, &load).await;
        let ended = running.ended().await;
        nothing_is_wrong(what, ended, u64::from(seconds * RATE));
        self.agree().await;
    }
}

/// Everything that was due was accepted in the end, and was received by whom it was for, once and in order.
#[track_caller]
fn nothing_is_wrong(what: &str, ended: Ended, due: u64) {
    let ended = ended.with(0, "PASSED");
    let summary = ended.summary();
    let deliveries = &summary.deliveries;
    let seconds = |name: &str| summary.values.get(name).map_or(0.0, |micros| micros / 1e6);
    println!(
        "{what}: no send accepted for {:.2} s at most; a send took up to {:.2} s, a push {:.2} s, a reconnect {:.2} s; \
         {} attempts failed, {} connections were made again",
        seconds("longest_outage"),
        seconds("post_max"),
        seconds("push_max"),
        seconds("resume_max"),
        deliveries.failed_attempts,
        summary.sockets.reconnected,
    );
    assert_eq!([deliveries.offered, deliveries.accepted, deliveries.received], [due; 3], "{what}");
    let wrong = [deliveries.lost, deliveries.duplicates, deliveries.out_of_order, deliveries.unexpected];
    assert_eq!(wrong, [0; 4], "{what}: {deliveries:?}");
    assert_eq!(summary.sockets.at_end, 150, "{what}: {:?}", summary.sockets);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whatever_part_of_a_cluster_dies() {
    let mut cluster = Cluster::start().await;

    cluster
        .survives("the server that leads the stream is killed", 8, async |cluster, _| {
            let leader = cluster.leader(None).await;
            cluster.servers.servers()[leader].kill();
            cluster.leader(Some(leader)).await;
            cluster.servers.servers()[leader].restart().await;
        })
        .await;

    cluster
        .survives("a gateway is killed", 8, async |cluster, load| {
            cluster.gateways[1].kill().await;
            load.accepted(5 * RATE).await;
            cluster.start_gateway(1).await;
        })
        .await;

    cluster
        .survives("a server that follows hangs", 15, async |cluster, _| {
            let follower = (cluster.leader(None).await + 1) % 3;
            cluster.servers.servers()[follower].pause();
            tokio::time::sleep(HANGS).await;
            cluster.servers.servers()[follower].resume();
        })
        .await;

    cluster
        .survives("a gateway hangs", 15, async |cluster, _| {
            cluster.gateways[2].pause().await;
            tokio::time::sleep(HANGS).await;
            cluster.gateways[2].resume().await;
        })
        .await;

    cluster
        .survives("all servers are killed at once", 8, async |cluster, _| {
            let servers = cluster.servers.servers();
            servers.iter_mut().for_each(nats_server::NatsServer::kill);
            for server in servers {
                server.restart().await;
            }
        })
        .await;

    // Fewer than each mailbox holds at the end: what goes is decided in the log, also for the gateway that was started with more.
    cluster.bound_mailboxes(8);
    cluster
        .survives("two of three gateways are replaced, with smaller mailboxes", 15, async |cluster, _| {
            cluster.replace(0).await;
            cluster.replace(1).await;
        })
        .await;

    cluster.survives("the third one is replaced", 6, async |cluster, _| cluster.replace(2).await).await;
}
