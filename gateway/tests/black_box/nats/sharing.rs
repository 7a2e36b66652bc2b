//! What one gateway accepted, every other one has: delivery, acks, keys, topics, settings.

use std::collections::HashSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::nodes::Nodes;
use crate::harness::Gateway;

/// The texts in a user's mailbox, oldest first.
async fn mailbox(gateway: &Gateway, user: &str) -> Vec<Value> {
    let page = gateway.get(&format!("/v1/users/{user}/notifications?after=start&limit=1000")).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let frames = page.body["frames"].as_array().unwrap().iter();
    frames.filter(|frame| frame["type"] == "notification").cloned().collect()
}

#[tokio::test]
async fn what_one_node_accepts_another_one_delivers_and_an_ack_there_counts_here() {
    let nodes = Nodes::start(2).await;
    let [here, there] = &nodes.gateways[..] else { panic!("two nodes") };
    let mut bob = there.listen("bob").await;
    let sent = here.send_text("bob", "hello").await;
    let received = bob.notification().await;
    assert_eq!((&received["body"], &received["position"]), (&json!("hello"), &sent.body["position"]));
    let position = bob.position();
    bob.say(Message::text(json!({"type": "ack", "position": position}).to_string())).await;
    here.until_outcome(&sent, "acked", 1).await;
    bob.close().await;
    for text in ["one", "two"] {
        here.send_text("bob", text).await;
    }
    // With its position it goes on where nobody knows its session.
    let mut back = here.listen_after("bob", &position).await;
    assert_eq!(back.texts(2).await, ["one", "two"]);
    back.close().await;
    nodes.agree().await;
    nodes.stop().await;
}

#[tokio::test]
async fn what_was_accepted_here_is_there_for_whoever_asks_next() {
    let nodes = Nodes::start(2).await;
    let [here, there] = &nodes.gateways[..] else { panic!("two nodes") };
    for round in 0..50 {
        let sent = here.send_text("bob", &round.to_string()).await;
        match round % 4 {
            0 => assert_eq!(there.outcome(&sent).await.status, 200),
            1 => assert_eq!(mailbox(there, "bob").await.last().unwrap()["body"], json!(round.to_string())),
            2 => {
                let path = "/v1/users/bob/acks";
                let acked = there.sender().post(path, &json!({"position": sent.position()})).await;
                assert_eq!(acked.status, 202, "{}", acked.body);
            }
            _ => assert_eq!(there.withdraw(&sent).await.body["counts"]["withdrawn"], json!(1)),
        }
    }
    nodes.stop().await;
}

#[tokio::test]
async fn of_two_nodes_with_the_same_key_one_sends() {
    let nodes = Nodes::start(2).await;
    let notification = |index: usize| json!({"to": ["bob"], "body": index.to_string()});
    for index in 0..20 {
        let racing = nodes.gateways.iter().map(|node| {
            let notification = notification(index);
            async move { node.send_with_key(&format!("key-{index}"), &notification).await.accepted() }
        });
        let answers = join_all(racing).await;
        assert_eq!(answers[0].body["id"], answers[1].body["id"]);
        assert_eq!(answers[0].position(), answers[1].position());
        let replayed = answers.iter().filter(|answer| answer.header("idempotent-replayed") == "true").count();
        assert_eq!(replayed, 1, "one was the first");
    }
    for node in &nodes.gateways {
        assert_eq!(mailbox(node, "bob").await.len(), 20);
        let other = node.send_with_key("key-0", &json!({"to": ["bob"], "body": "another one"})).await;
        other.refused(422, None);
    }
    nodes.agree().await;
    nodes.stop().await;
}

#[tokio::test]
async fn while_members_change_on_one_node_and_another_sends_every_mailbox_is_the_same_everywhere() {
    let nodes = Nodes::start(2).await;
    let [changing, sending] = &nodes.gateways[..] else { panic!("two nodes") };
    let users: Vec<String> = (0..8).map(|index| format!("user-{index}")).collect();
    let changes = async {
        for round in 0..40 {
            let user = &users[round % users.len()];
            let method = if (round / users.len()).is_multiple_of(2) { Method::PUT } else { Method::DELETE };
            let changed = changing.subscriber(method, "news", user).await;
            assert!((200..300).contains(&changed.status), "{}", changed.body);
        }
    };
    let sends = async {
        for index in 0..100 {
            sending.send(json!({"topic": "news", "body": index.to_string()})).await.accepted();
        }
    };
    tokio::join!(changes, sends);
    nodes.agree().await;
    let mut received = HashSet::new();
    for user in &users {
        let [left, right] = [mailbox(changing, user).await, mailbox(sending, user).await];
        assert_eq!(left, right, "{user}");
        received.extend(left.iter().map(|frame| frame["body"].as_str().unwrap().to_owned()));
    }
    assert!(received.len() > 10, "somebody was a member most of the time: {}", received.len());
    nodes.stop().await;
}

#[tokio::test]
async fn the_settings_of_who_came_last_hold_everywhere_and_a_newcomer_computes_the_same() {
    let mut nodes = Nodes::start(1).await;
    for index in 0..10 {
        nodes.gateways[0].send_text("bob", &index.to_string()).await;
    }
    nodes.join(|config| config.mailbox.max_notifications = 4).await;
    nodes.gateways[1].send_text("bob", "ten").await;
    nodes.agree().await;
    for node in &nodes.gateways {
        let kept = mailbox(node, "bob").await;
        let texts: Vec<&str> = kept.iter().map(|frame| frame["body"].as_str().unwrap()).collect();
        assert_eq!(texts, ["7", "8", "9", "ten"]);
        assert_eq!(node.metric("gateway_ledger_imbalance").await, 0.0);
    }
    nodes.join(|config| config.mailbox.max_notifications = 4).await;
    nodes.agree().await;
    nodes.stop().await;
}
