//! What arrives at the gateway arrives on the page, and is acked without anybody's help.

use reqwest::Method;
use serde_json::{Value, json};

use super::page::Page;
use super::proxy::Proxy;
use crate::harness::Gateway;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_is_told_in_order_and_acked() {
    let gateway = Gateway::start().await;
    let waiting = gateway.send_text("bob", "it waited").await;
    let page = Page::open(&[gateway.address()]).await;
    let bob = page.listen("bob").await;
    bob.until_texts(1).await;

    let rich = json!({
        "to": ["bob"], "from": "alice", "title": "Hello", "body": "Your parcel is at the door.",
        "data": {"order": 4711, "items": ["a", {"b": null}]},
    });
    let rich = gateway.send(rich).await.accepted();
    assert_eq!(gateway.subscriber(Method::PUT, "lines/7", "bob").await.status, 200);
    gateway.send(json!({"topic": "lines/7", "body": "late"})).await.accepted();
    let everybody = gateway.send(json!({"topic": "*", "body": "noon"})).await;
    assert_eq!(everybody.status, 202, "{}", everybody.body);
    // It has no place among the others: a session that reads both at once gets it behind them.
    bob.until_texts(4).await;
    let last = gateway.send_text("bob", "the last").await;

    assert_eq!(
        bob.until_texts(5).await,
        ["it waited", "Your parcel is at the door.", "late", "noon", "the last"]
    );
    let told = bob.events("notification").await;
    assert_eq!(told[0]["replayed"], true);
    assert_eq!(told[0]["id"], waiting.body["id"]);
    let alices = &told[1];
    assert_eq!(alices["type"], "notification");
    assert_eq!((&alices["id"], &alices["position"]), (&rich.body["id"], &rich.body["position"]));
    assert_eq!((&alices["from"], &alices["title"]), (&json!("alice"), &json!("Hello")));
    assert_eq!(alices["data"], json!({"order": 4711, "items": ["a", {"b": null}]}));
    assert!(alices["sent_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{alices}");
    assert_eq!((&alices["prev"], &alices["replayed"]), (&told[0]["position"], &json!(false)));
    assert_eq!(told[2]["topic"], "lines/7");
    assert_eq!((&told[3]["topic"], &told[3]["position"]), (&json!("*"), &Value::Null));
    for absent in ["from", "title", "data", "topic"] {
        assert!(told[4].get(absent).is_none(), "{absent}: {}", told[4]);
    }

    // What is told is dealt with once its listeners have returned, and not before.
    let dealt_with: Vec<_> = told[1..].iter().map(|told| &told["dealtWith"]).collect();
    assert_eq!(
        dealt_with,
        [&told[0]["position"], &told[1]["position"], &told[2]["position"], &told[2]["position"]]
    );
    bob.until_position(&last.position()).await;
    gateway.until_outcome(&rich, "acked", 1).await;
    gateway.until_acked("bob", &last.position()).await;
    assert_eq!(gateway.user("bob").await.body["pending"], 0);

    let welcomes = bob.events("welcome").await;
    assert_eq!(welcomes.len(), 1, "once for each session: {welcomes:?}");
    assert_eq!((&welcomes[0]["user"], &welcomes[0]["heartbeat_ms"]), (&json!("bob"), &json!(25_000)));
    assert!(welcomes[0]["session"].is_string() && welcomes[0]["head"].is_string(), "{welcomes:?}");
    let states: Vec<_> = bob.events("state").await.iter().map(|told| told["state"].clone()).collect();
    assert_eq!(states, ["connecting", "open"]);
    assert_eq!(bob.property("transport").await, "websocket");
    assert_eq!(bob.property("user").await, "bob");
    page.close(&[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_may_be_a_users_name_receives() {
    let gateway = Gateway::start().await;
    let page = Page::open(&[gateway.address()]).await;
    let users = ["a/b", "100%", "50%2F", "Zoë Müller", "日本語", "a?b#c&d=e+f", "\"quoted\"", "..."];
    for user in users {
        let client = page.listen(user).await;
        assert_eq!(client.until_events("welcome", 1).await[0]["user"], user);
        let sent = gateway.send_text(user, user).await;
        assert_eq!(client.until_texts(1).await, [user]);
        gateway.until_outcome(&sent, "acked", 1).await;
        client.close().await;
    }
    page.close(&[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_closed_in_the_same_turn_never_opens_a_socket() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.address());
    let page = Page::open(&[proxy.address()]).await;
    // As a framework does that mounts everything twice.
    let [discarded, kept] = [page.name_client(), page.name_client()];
    let mount = "const [first, second, options] = arguments; page.listen(first, options).close(); page.listen(second, options)";
    let options = json!({"user": "bob", "url": proxy.url()});
    page.browser.run(mount, json!([discarded.name(), kept.name(), options])).await;
    kept.until_state("open").await;
    gateway.send_text("bob", "once").await;
    assert_eq!(kept.until_texts(1).await, ["once"]);
    assert_eq!(discarded.property("state").await, "closed");
    assert_eq!(discarded.texts().await, [] as [&str; 0]);
    assert_eq!(proxy.seen().upgrades, 1, "one client, one socket");
    gateway.until_sessions("bob", 1).await;
    page.close(&[]).await;
    drop(proxy);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_pauses_leaves_and_comes_back_behind_its_place() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.address());
    let page = Page::open(&[proxy.address()]).await;
    let bob = page.listen("bob").await;
    bob.until_state("open").await;
    gateway.send_text("bob", "one").await;
    bob.until_texts(1).await;
    for round in 1..=2 {
        bob.call("pause", json!([])).await;
        bob.until_state("paused").await;
        gateway.until_sessions("bob", 0).await;
        assert_eq!(bob.property("transport").await, Value::Null);
        gateway.send_text("bob", &format!("away {round}")).await;
        bob.call("resume", json!([])).await;
        bob.until_told("open", 1 + round).await;
        gateway.send_text("bob", &format!("back {round}")).await;
    }
    let last = gateway.send_text("bob", "the last").await;
    let expected = ["one", "away 1", "back 1", "away 2", "back 2", "the last"];
    assert_eq!(bob.until_texts(6).await, expected);
    let told = bob.events("notification").await;
    let replayed: Vec<_> = told.iter().map(|told| told["replayed"] == true).collect();
    assert_eq!(replayed, [false, true, false, true, false, false]);
    gateway.until_acked("bob", &last.position()).await;

    let resumed = &proxy.seen().heads[1];
    let place = told[0]["position"].as_str().expect("a position");
    assert!(resumed.lines().next().is_some_and(|line| line.contains(&format!("after={place}"))), "{resumed}");
    let states: Vec<_> = bob.events("state").await.iter().map(|told| told["state"].clone()).collect();
    let round = ["paused", "connecting", "open"];
    assert_eq!(states, [&["connecting", "open"][..], &round, &round].concat());
    page.close(&[]).await;
    drop(proxy);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_to_which_nobody_listens_does_not_connect_and_acks_nothing() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.address());
    let page = Page::open(&[proxy.address()]).await;
    let waiting = gateway.send_text("bob", "waiting").await;
    let begin = "const { NotificationClient } = await import('/client.js'); \
         window.heard = []; window.idle = new NotificationClient(arguments[0]); \
         idle.addEventListener('state', () => {})";
    page.browser.run_async(begin, json!([{"user": "bob", "url": proxy.url()}])).await;
    // Another one has come and gone before anybody listens to the first.
    let ann = page.listen("ann").await;
    ann.until_state("open").await;
    assert_eq!(proxy.seen().upgrades, 1);
    gateway.until_outcome(&waiting, "pending", 1).await;
    let listen = "idle.addEventListener('notification', ({ detail }) => heard.push(detail.body))";
    page.browser.run(listen, json!([])).await;
    page.browser.until("what waited", "heard.includes('waiting')", json!([])).await;
    gateway.until_outcome(&waiting, "acked", 1).await;
    page.close(&[]).await;
    drop(proxy);
    gateway.stop().await;
}
