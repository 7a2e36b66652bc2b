//! Three servers that keep each entry three times, and three gateways: each server is lost once, the leader among them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use super::nodes::{Nodes, STREAM, Shared, until_some};
use crate::harness::{Gateway, Receiver};
use crate::nats_server::{NatsCluster, NatsServer};

/// Notifications that have to be accepted after each fault.
const ENOUGH: usize = 30;

/// Sends numbered texts through one node, each until it is accepted, and returns how many there were. A text that nobody can
/// tell about is sent again with its key.
async fn send_on(node: &Gateway, index: usize, accepted: &AtomicUsize, stop: &AtomicBool) -> usize {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let notification = json!({"to": ["bob"], "body": format!("{index}:{number}")});
        until_some("the notification to be accepted", async || {
            let answer = node.send_with_key(&format!("{index}:{number}"), &notification).await;
            assert!(matches!(answer.status, 202 | 409 | 503), "{}", answer.body);
            (answer.status == 202).then_some(())
        })
        .await;
        number += 1;
        accepted.fetch_add(1, Ordering::SeqCst);
    }
    number
}

/// Everything that was sent, each once and in its sender's order.
async fn check(mut bob: Receiver, sent: &[usize]) {
    let mut next = vec![0; sent.len()];
    while next != sent {
        let text = bob.texts(1).await.remove(0);
        let (sender, number) = text.split_once(':').unwrap();
        let (sender, number): (usize, usize) = (sender.parse().unwrap(), number.parse().unwrap());
        assert_eq!(number, next[sender], "of {sender}");
        next[sender] += 1;
    }
    assert_eq!(bob.duplicates(), 0);
    bob.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_server_is_lost_what_was_accepted_is_delivered_once_and_in_order() {
    let mut nodes = Nodes::start_on(NatsCluster::start(3).await, 3).await;
    let (accepted, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let Nodes { gateways, shared: Shared { cluster, .. } } = &mut nodes;
    let sending = futures_util::future::join_all(
        gateways.iter().enumerate().map(|(index, node)| send_on(node, index, &accepted, &stop)),
    );
    let faults = async {
        let more = async |what: &str| {
            let enough = accepted.load(Ordering::SeqCst) + ENOUGH;
            until_some(what, async || (accepted.load(Ordering::SeqCst) >= enough).then_some(())).await;
        };
        more("notifications before any fault").await;
        for server in cluster.servers() {
            server.kill();
            more("notifications while a server is gone").await;
            server.restart().await;
            more("notifications once it is back").await;
        }
        // Its connections stay open: only time tells that it does nothing.
        let follower = cluster.follower_of(STREAM).await;
        cluster.servers()[follower].pause();
        more("notifications while a server does nothing").await;
        cluster.servers()[follower].resume();
        more("notifications once it goes on").await;
        cluster.servers().iter_mut().for_each(NatsServer::kill);
        for server in cluster.servers() {
            server.restart().await;
        }
        more("notifications once all are back").await;
        stop.store(true, Ordering::SeqCst);
    };
    let (sent, ()) = tokio::join!(sending, faults);
    nodes.agree().await;
    for node in &nodes.gateways {
        check(node.listen_after("bob", "start").await, &sent).await;
    }
    nodes.stop().await;
}
