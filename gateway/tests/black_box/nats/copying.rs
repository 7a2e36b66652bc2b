//! From the disk of one gateway to a stream: `gateway copy-log`.

use serde_json::json;

use super::nodes::{STREAM, Shared};
use crate::harness::Dial;
use crate::process_harness::{Folder, Process, Server, send, until_metric};

const ALONE: [(&str, &str); 1] = [("GATEWAY_NATS_REPLICAS", "1")];

async fn put(server: &Server, path: &str) {
    let answer = reqwest::Client::new().put(format!("{}{path}", server.url())).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn post(server: &Server, body: serde_json::Value) {
    let request = reqwest::Client::new().post(format!("{}/v1/notifications", server.url()));
    assert_eq!(request.json(&body).send().await.unwrap().status(), 202);
}

#[tokio::test]
async fn what_waits_and_what_holds_goes_along_and_clients_are_told_of_the_new_epoch() {
    let (shared, disk) = (Shared::new().await, Folder::new());
    let server = Server::start_on_disk(disk.path(), &[]).await;
    put(&server, "/v1/topics/news/subscribers/bob").await;
    put(&server, "/v1/topics/news/subscribers/carol").await;
    let mut bob = Dial::new(server.addresses.http, "bob").open().await;
    assert_eq!(send(server.addresses.http, &["bob"], "acked").await.0, 202);
    assert_eq!(bob.texts(1).await, ["acked"]);
    let position = bob.position();
    bob.say(tokio_tungstenite::tungstenite::Message::text(
        json!({"type": "ack", "position": position}).to_string(),
    ))
    .await;
    until_metric(server.addresses.ops, r#"gateway_ledger_final_total{outcome="acked"}"#, 1.0).await;
    bob.close().await;
    assert_eq!(send(server.addresses.http, &["bob", "dave"], "for two").await.0, 202);
    let mut carol = Dial::new(server.addresses.http, "carol").acks_itself().open().await;
    post(&server, json!({"topic": "news", "body": "for a topic", "collapse_key": "news"})).await;
    post(&server, json!({"to": ["bob"], "body": "for whoever is here", "ttl_seconds": 0})).await;
    assert_eq!(carol.texts(1).await, ["for a topic"], "and she does not ack it");
    let log = format!("disk:{}", disk.path().display());
    let stream = shared.cluster.log(STREAM);
    let copy = async || Process::run(&["copy-log", "--from", &log, "--to", &stream], &ALONE).await;
    let early = copy().await;
    assert_eq!(early.code, Some(1), "the gateway still runs");
    assert!(early.complained[0].contains("in use"), "{early:?}");
    server.process.terminate();
    assert_eq!(carol.expect_closed().await, 1012);
    assert_eq!(server.process.ended().await.code, Some(0));
    let copied = copy().await;
    assert_eq!(copied.code, Some(0), "{copied:?}");
    assert_eq!(copied.printed, ["copied 2 notifications that wait for 4 recipients, and 2 memberships"]);
    let again = copy().await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.complained.iter().any(|line| line.contains("not empty")), "{again:?}");

    let nodes = [Server::start_on(&stream, &ALONE).await, Server::start_on(&stream, &ALONE).await];
    let mut bob = Dial::new(nodes[1].addresses.http, "bob").after(&position).open().await;
    let gap = bob.gap().await;
    assert_eq!((&gap["reason"], &gap["after"]), (&json!("epoch"), &json!(position)));
    assert_eq!(bob.texts(2).await, ["for two", "for a topic"]);
    let mut dave = Dial::new(nodes[0].addresses.http, "dave").after("start").open().await;
    assert_eq!(dave.texts(1).await, ["for two"]);
    // Who was connected until the end goes on where nobody knows what she saw.
    let mut carol = Dial::new(nodes[0].addresses.http, "carol").after(&carol.position()).open().await;
    assert_eq!(carol.gap().await["reason"], "epoch");
    assert_eq!(carol.texts(1).await, ["for a topic"]);
    // Memberships go on, and so does what replaces what.
    post(&nodes[0], json!({"topic": "news", "body": "newer", "collapse_key": "news"})).await;
    assert_eq!(bob.texts(1).await, ["newer"]);
    let mut carol = Dial::new(nodes[1].addresses.http, "carol").after("start").open().await;
    assert_eq!(carol.texts(1).await, ["newer"]);
    super::nodes::agree(&[nodes[0].ops_url(), nodes[1].ops_url()]).await;
}
