//! What happens when a server, a gateway, or a part of the stream is gone.

use serde_json::{Value, json};

use super::nodes::{Nodes, agree, readiness, start_process, start_process_with, until_some};
use crate::harness::Dial;
use crate::nats_server::NatsCluster;
use crate::process_harness::{Folder, send};

#[tokio::test]
async fn without_its_server_a_node_refuses_after_a_while_keeps_its_sockets_and_goes_on_by_itself() {
    let mut nodes = Nodes::start(0).await;
    for _ in 0..2 {
        nodes.join(|config| config.log.stall_timeout = std::time::Duration::from_millis(500)).await;
    }
    let mut bob = nodes.gateways[1].listen("bob").await;
    nodes.gateways[0].send_text("bob", "before").await;
    assert_eq!(bob.texts(1).await, ["before"]);
    nodes.shared.cluster.servers()[0].kill();
    // Nobody can say what becomes of the first one: it may have got there.
    let unknown = nodes.gateways[0].send(json!({"to": ["bob"], "body": "perhaps"})).await;
    unknown.refused(503, None);
    assert_eq!(unknown.body["delivered"], "unknown");
    until_some("nobody to be ready", async || {
        let ready = [readiness(&nodes.gateways[0]).await.0, readiness(&nodes.gateways[1]).await.0];
        (ready == [503, 503]).then_some(())
    })
    .await;
    // From then on nothing is handed over, and nobody waits.
    let refused = nodes.gateways[0].send(json!({"to": ["bob"], "body": "certainly not"})).await;
    refused.refused(503, None);
    assert_eq!(refused.body.get("delivered"), None);
    assert!(!refused.header("retry-after").is_empty());
    nodes.shared.cluster.servers()[0].restart().await;
    until_some("everybody to be ready", async || {
        let ready = [readiness(&nodes.gateways[0]).await.0, readiness(&nodes.gateways[1]).await.0];
        (ready == [200, 200]).then_some(())
    })
    .await;
    nodes.gateways[0].send_text("bob", "after").await;
    // The same socket; what nobody could tell about came at most once.
    let texts = bob.texts(1).await;
    let texts = if texts == ["perhaps"] { bob.texts(1).await } else { texts };
    assert_eq!(texts, ["after"]);
    assert_eq!(bob.duplicates(), 0);
    bob.close().await;
    nodes.agree().await;
    nodes.stop().await;
}

#[tokio::test]
async fn the_client_of_a_killed_node_goes_on_at_another_one() {
    let cluster = NatsCluster::single().await;
    let copies = [Folder::new(), Folder::new()];
    let [killed, other] =
        [start_process(&cluster, &copies[0]).await, start_process(&cluster, &copies[1]).await];
    let mut bob = Dial::new(killed.addresses.http, "bob").open().await;
    assert_eq!(send(other.addresses.http, &["bob"], "one").await.0, 202);
    assert_eq!(bob.texts(1).await, ["one"]);
    // Accepted by a node that does not live to deliver it.
    assert_eq!(send(killed.addresses.http, &["bob"], "two").await.0, 202);
    killed.kill();
    let mut bob = Dial::new(other.addresses.http, "bob").after(&bob.position()).open().await;
    assert_eq!(bob.texts(1).await, ["two"]);
    // It comes back with the copy that it left behind.
    let back = start_process(&cluster, &copies[0]).await;
    assert_eq!(send(back.addresses.http, &["bob"], "three").await.0, 202);
    assert_eq!(bob.texts(1).await, ["three"]);
    agree(&[back.ops_url(), other.ops_url()]).await;
}

#[tokio::test]
async fn when_the_stream_forgets_what_was_delivered_nodes_start_over_and_clients_are_told() {
    let mut cluster = NatsCluster::single().await;
    let copies = [Folder::new(), Folder::new()];
    let bound = [("GATEWAY_MAILBOX_MAX_NOTIFICATIONS", "2")];
    let nodes =
        [start_process(&cluster, &copies[0]).await, start_process_with(&cluster, &copies[1], &bound).await];
    let mut bob = Dial::new(nodes[0].addresses.http, "bob").open().await;
    assert_eq!(send(nodes[1].addresses.http, &["bob"], "kept").await.0, 202);
    assert_eq!(bob.texts(1).await, ["kept"]);
    let backup = cluster.servers()[0].back_up().await;
    assert_eq!(send(nodes[1].addresses.http, &["bob"], "lost").await.0, 202);
    assert_eq!(bob.texts(1).await, ["lost"]);
    let position = bob.position();
    cluster.servers()[0].go_back_to(&backup).await;
    // Told to come back, to the same address.
    assert_eq!(bob.expect_closed().await, 1012);
    let epoch = |position: &str| position.split('-').next().unwrap().to_owned();
    until_some("the node to be back with another epoch", async || {
        let state: Value =
            reqwest::get(format!("{}/state", nodes[0].ops_url())).await.ok()?.json().await.ok()?;
        (state["epoch"] != epoch(&position)).then_some(())
    })
    .await;
    let mut back = Dial::new(nodes[0].addresses.http, "bob").after(&position).open().await;
    let gap = back.gap().await;
    assert_eq!((&gap["reason"], &gap["after"]), (&json!("epoch"), &json!(position)));
    until_some("both nodes to be ready", async || {
        let ready =
            async |ops: String| Some(reqwest::get(format!("{ops}/health/ready")).await.ok()?.status());
        let both = [ready(nodes[0].ops_url()).await?, ready(nodes[1].ops_url()).await?];
        both.iter().all(|status| status.is_success()).then_some(())
    })
    .await;
    for node in nodes.iter().chain(&nodes) {
        assert_eq!(send(node.addresses.http, &["carol"], "new").await.0, 202);
    }
    // Who starts over does not insist on settings that others have replaced.
    for node in &nodes {
        let carol: Value =
            reqwest::get(format!("{}/v1/users/carol", node.url())).await.unwrap().json().await.unwrap();
        assert_eq!(carol["pending"], 2);
    }
    agree(&[nodes[0].ops_url(), nodes[1].ops_url()]).await;
}
