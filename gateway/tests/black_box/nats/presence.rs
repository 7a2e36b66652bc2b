//! Administration and what senders are told, across nodes.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::nodes::{Nodes, STREAM, Shared};
use crate::harness::{Answer, Dial, Gateway, within};

/// Kinds of messages; the kind stands behind a message's format and its sender.
const HELLO: u8 = 1;
const GOODBYE: u8 = 2;
const KIND: usize = 9;

/// How many sessions a node says that a user has; it is sure at once.
async fn sessions(gateway: &Gateway, user: &str) -> Value {
    gateway.user(user).await.body["sessions"].clone()
}

/// Sends to these users until the answer says that so many are online: what happens on another node is known a moment later.
async fn until_online(gateway: &Gateway, to: &[&str], count: u64) -> Answer {
    let told = async {
        loop {
            let answer = gateway.send(json!({"to": to, "body": "?"})).await.accepted();
            if answer.body["online"] == count {
                return answer;
            }
        }
    };
    within(&format!("{count} of {to:?} to be online"), told).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_those_of_all_nodes_whichever_is_asked() {
    let shared = Shared::new().await;
    let [first, second] = shared.two().await;
    let here = first.listen("bob").await;
    assert_eq!((sessions(&first, "bob").await, sessions(&second, "bob").await), (json!(1), json!(1)));
    let there = [second.listen("bob").await, second.listen("bob").await];
    assert_eq!((sessions(&first, "bob").await, sessions(&second, "bob").await), (json!(3), json!(3)));
    // What the log says of the user is the same, too, whoever has the sessions.
    second.send_text("bob", "for all three").await;
    let applied = async { while first.user("bob").await.body["pending"] != 1 {} };
    within("the other node to read it in the log", applied).await;
    assert_eq!(first.user("bob").await.body, second.user("bob").await.body);
    here.close().await;
    second.until_sessions("bob", 2).await;
    let [one, other] = there;
    one.close().await;
    other.close().await;
    first.until_sessions("bob", 0).await;
    for gateway in [first, second] {
        assert_eq!(gateway.metric("gateway_nodes_unanswered_total").await, 0.0);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_told_to_leave_one_node_is_told_to_come_to_another_at_once() {
    let mut nodes = Nodes::start(0).await;
    for _ in 0..2 {
        nodes.join(|config| config.shutdown.reconnect_window = Duration::ZERO).await;
    }
    let [first, second] = <[Gateway; 2]>::try_from(nodes.gateways).ok().unwrap();
    // The one that is alone in the end expects a successor.
    for (gateway, others, expected_ms) in [(first, 1.0, 0), (second, 0.0, 3_000)] {
        gateway.until_metric("gateway_nodes", 1.0 + others).await;
        let mut bob = gateway.listen("bob").await;
        let stopping = tokio::spawn(gateway.shut_down());
        let drain = bob.next_event().await;
        assert_eq!((&drain["type"], &drain["reconnect_in_ms"]), (&json!("drain"), &json!(expected_ms)));
        assert_eq!(bob.expect_closed().await, 1012);
        assert_eq!(stopping.await.unwrap(), Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_closes_the_sockets_of_every_node() {
    let shared = Shared::new().await;
    let [first, second] = shared.two().await;
    let mut bobs = [first.listen("bob").await, second.listen("bob").await, second.listen("bob").await];
    let carol = second.listen("carol").await;
    let closed = first.ask(Method::DELETE, "/v1/users/bob/sessions").await;
    assert_eq!((closed.status, &closed.body), (200, &json!({"sessions": 3})));
    for bob in &mut bobs {
        assert_eq!(bob.expect_closed().await, 4010);
    }
    second.until_sessions("bob", 0).await;
    assert_eq!(sessions(&first, "carol").await, 1, "nobody else");
    let nobody = second.ask(Method::DELETE, "/v1/users/bob/sessions").await;
    assert_eq!((nobody.status, &nobody.body), (200, &json!({"sessions": 0})));
    carol.close().await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_forgotten_is_closed_on_every_node() {
    let shared = Shared::new().await;
    let [first, second] = shared.two().await;
    let mut bobs = [first.listen("bob").await, second.listen("bob").await];
    let forgotten = first.ask(Method::DELETE, "/v1/users/bob").await;
    assert_eq!(forgotten.status, 204, "{}", forgotten.body);
    for bob in &mut bobs {
        assert_eq!(bob.expect_closed().await, 4010);
    }
    // That was then: a node that reads it again in the log closes nobody.
    let again = shared.gateway("third").await;
    let bob = again.listen("bob").await;
    again.send_text("bob", "still here").await;
    first.until_sessions("bob", 1).await;
    bob.close().await;
    for gateway in [first, second, again] {
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_takes_its_sessions_along() {
    let shared = Shared::new().await;
    let gateway = shared.gateway("first").await;
    let doomed = shared.process().await;
    gateway.until_metric("gateway_nodes", 2.0).await;
    let bob = Dial::new(doomed.addresses.http, "bob").open().await;
    assert_eq!(sessions(&gateway, "bob").await, 1);
    until_online(&gateway, &["bob"], 1).await;
    doomed.kill();
    gateway.until_metric("gateway_nodes", 1.0).await;
    assert_eq!(sessions(&gateway, "bob").await, 0);
    let sent = gateway.send_text("bob", "where are you?").await;
    assert_eq!(sent.body["online"], 0);
    assert_eq!(gateway.metric(r#"gateway_remembered{kind="online_elsewhere"}"#).await, 0.0);
    drop(bob);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_answer_holds_nobody_up_and_is_counted() {
    let shared = Shared::new().await;
    let gateway = shared.gateway("first").await;
    let frozen = shared.process().await;
    gateway.until_metric("gateway_nodes", 2.0).await;
    let bobs = [gateway.listen("bob").await, Dial::new(frozen.addresses.http, "bob").open().await];
    assert_eq!(sessions(&gateway, "bob").await, 2);
    frozen.process.signal("STOP");
    // It may take the kernel a moment to stop every thread.
    gateway.until_sessions("bob", 1).await;
    assert_eq!(gateway.metric("gateway_nodes_unanswered_total").await, 1.0);
    gateway.until_metric("gateway_nodes", 1.0).await;
    // It wakes up and is one of them again, without a start.
    frozen.process.signal("CONT");
    gateway.until_metric("gateway_nodes", 2.0).await;
    gateway.until_sessions("bob", 2).await;
    until_online(&gateway, &["bob"], 1).await;
    drop(bobs);
    drop(frozen);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_hear_who_is_online_on_other_nodes() {
    let shared = Shared::new().await;
    let [first, second] = shared.two().await;
    let alone = first.send_text("bob", "nobody there").await;
    assert_eq!(alone.body["online"], 0);
    let bob = second.listen("bob").await;
    until_online(&first, &["bob"], 1).await;
    // On both nodes: one recipient, which a sender sees from either.
    let also = first.listen("bob").await;
    let ann = first.listen("ann").await;
    until_online(&first, &["bob", "ann", "carol"], 2).await;
    until_online(&second, &["bob", "ann", "carol"], 2).await;
    // A repetition is told what was counted first, wherever it is made, whoever has gone.
    let notification = json!({"to": ["bob", "ann"], "body": "once"});
    let once = first.send_with_key("key", &notification).await.accepted();
    assert_eq!(once.body["online"], 2);
    ann.close().await;
    also.close().await;
    until_online(&second, &["ann"], 0).await;
    let [here, there] =
        [first.send_with_key("key", &notification).await, second.send_with_key("key", &notification).await];
    assert_eq!((here.body, there.body), (once.body.clone(), once.body));
    // Everybody who is connected, anywhere.
    first.until_sessions("bob", 1).await;
    assert_eq!(first.send(json!({"topic": "*", "body": "all"})).await.accepted().body["online"], 1);
    bob.close().await;
    until_online(&first, &["bob"], 0).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_later_learns_who_is_online_and_one_that_leaves_says_so() {
    let shared = Shared::new().await;
    let first = shared.gateway("first").await;
    let bob = first.listen("bob").await;
    let late = shared.gateway("late").await;
    until_online(&late, &["bob"], 1).await;
    // What they say about it is no part of the log.
    let client = async_nats::connect(shared.cluster.urls()).await.unwrap();
    let mut said = client.subscribe(format!("{STREAM}.node.all")).await.unwrap();
    client.flush().await.unwrap();
    bob.close().await;
    assert_eq!(first.shut_down().await, Ok(()));
    let goodbye = async { while said.next().await.unwrap().payload[KIND] != GOODBYE {} };
    within("a goodbye", goodbye).await;
    late.until_metric("gateway_nodes", 1.0).await;
    assert_eq!(sessions(&late, "bob").await, 0);
    assert_eq!(late.metric("gateway_nodes_unanswered_total").await, 0.0, "nobody was waited for");
    late.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_nats_all_is_known_again() {
    let mut shared = Shared::new().await;
    let [first, second] = shared.two().await;
    let bob = second.listen("bob").await;
    until_online(&first, &["bob"], 1).await;
    let server = &mut shared.cluster.servers()[0];
    server.kill();
    for gateway in [&first, &second] {
        gateway.until_metric("gateway_nodes", 1.0).await;
    }
    // Nobody hears of it now.
    let carol = second.listen("carol").await;
    bob.close().await;
    assert_eq!(sessions(&first, "carol").await, 0, "and nobody is waited for");
    shared.cluster.servers()[0].restart().await;
    for gateway in [&first, &second] {
        gateway.until_metric("gateway_nodes", 2.0).await;
    }
    assert_eq!(sessions(&first, "carol").await, 1);
    first.until_metric("gateway_ready", 1.0).await;
    until_online(&first, &["carol", "bob"], 1).await;
    carol.close().await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_counts_at_once_and_what_is_no_message_does_no_harm() {
    let shared = Shared::new().await;
    let gateway = shared.gateway("first").await;
    let client = async_nats::connect(shared.cluster.urls()).await.unwrap();
    let everybody = format!("{STREAM}.node.all");
    let listen = async |node: u64| client.subscribe(format!("{STREAM}.node.{node:016x}")).await.unwrap();
    let mut answers = [listen(1).await, listen(2).await];
    let say = async |node: u64, kind: u8, rest: &[u8]| {
        let message = [&[1], &node.to_le_bytes()[..], &[kind], rest].concat();
        client.publish(everybody.clone(), message.into()).await.unwrap();
    };
    for nonsense in [&b""[..], &[1; 5], &[9; 400], &[0xff; 18]] {
        client.publish(everybody.clone(), nonsense.to_vec().into()).await.unwrap();
    }
    say(1, HELLO, &[0; 9]).await;
    within("the answer to a new node", answers[0].next()).await.expect("a hello");
    assert_eq!(gateway.metric("gateway_nodes").await, 2.0);
    // What comes behind the goodbye is answered: then it was heard.
    say(1, GOODBYE, &[]).await;
    say(2, HELLO, &[0; 9]).await;
    within("the answer to another new node", answers[1].next()).await.expect("a hello");
    assert_eq!(gateway.metric("gateway_nodes").await, 2.0, "one came, one left");
    gateway.stop().await;
}
