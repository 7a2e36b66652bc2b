//! Where something on the way blocks WebSockets the client reads server-sent events instead, and nothing else changes.

use reqwest::Method;
use serde_json::json;

use super::guarded::Guarded;
use super::page::Page;
use super::proxy::Proxy;
use super::{BROKEN_LINES, within};
use crate::harness::{Answer, Gateway};
use crate::security::credentials::claims;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_without_sockets_receives_and_acks_and_its_stream_outlives_its_token() {
    let guarded = Guarded::start(|_| {}).await;
    let Guarded { secured, proxy, page, ahead, .. } = &guarded;
    proxy.block_upgrades(true);
    let token = guarded.token("bob", 300);
    let options = json!({"user": "bob", "tokens": [token], "minBackoffMs": 1, "maxBackoffMs": 20});
    let bob = page.listen_with(options).await;
    bob.until_state("open").await;
    // The gateway opens it only for a token, and no address shows one: it came in the header.
    assert_eq!(bob.property("transport").await, "sse");
    let one = secured.tell("bob", "one").await;
    assert_eq!(bob.until_texts(1).await, ["one"]);
    let path = format!("/v1/notifications/{}", one.body["id"].as_str().expect("an id"));
    let ask = || secured.request_of(&secured.sending.text(), Method::GET, &path);
    let acked = async {
        while Answer::of(ask()).await.body["counts"]["acked"] != 1 {
            tokio::task::yield_now().await;
        }
    };
    within("the ack by HTTP", acked).await;

    // The stream just ends, and the next one shows the next token.
    let next = secured.issuer.token(&claims("bob"));
    bob.hand_out(&next).await;
    ahead.leap(600);
    bob.until_told("open", 2).await;
    secured.tell("bob", "two").await;
    assert_eq!(bob.until_texts(2).await, ["one", "two"]);
    assert_eq!(bob.events("welcome").await.len(), 2);
    assert_eq!(bob.property("transport").await, "sse");
    let resumed = format!("http://{}/sse/bob?ack=client&after={}", proxy.address(), one.position());
    let requests = page.browser.sights().await.requests;
    assert!(requests.contains(&resumed), "{requests:#?}");
    guarded.stop(&BROKEN_LINES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_is_refused_as_a_socket_is() {
    let guarded = Guarded::start(|_| {}).await;
    let Guarded { secured, page, .. } = &guarded;
    for (user, code, asked) in [("nobody", 4001, 2), ("alice", 4003, 1)] {
        let token = if code == 4003 { secured.issuer.token(&claims(user)) } else { "not.a.token".to_owned() };
        let options = json!({"user": "bob", "transport": "sse", "tokens": [token], "minBackoffMs": 1});
        let bob = page.listen_with(options).await;
        let closed = bob.until_told("closed", 1).await;
        let error = &closed["error"];
        assert_eq!((&error["name"], &error["code"]), (&json!("ConnectionRefused"), &json!(code)), "{closed}");
        assert_eq!(bob.asked().await, asked);
    }
    guarded
        .stop(&["the server responded with a status of 401", "the server responded with a status of 403"])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_the_page_chose_is_the_only_one_that_is_tried() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.address());
    let page = Page::open(&[proxy.address()]).await;
    let options = |transport: &str| json!({"user": "bob", "transport": transport, "minBackoffMs": 1, "maxBackoffMs": 5});
    let stream = page.listen_with(options("sse")).await;
    stream.until_state("open").await;
    gateway.send_text("bob", "one").await;
    assert_eq!(stream.until_texts(1).await, ["one"]);
    stream.call("pause", json!([])).await;
    gateway.send_text("bob", "two").await;
    stream.call("resume", json!([])).await;
    let two = stream.until_texts(2).await;
    assert_eq!((two, proxy.seen().upgrades), (vec!["one".to_owned(), "two".to_owned()], 0));
    assert!(stream.events("notification").await[1]["replayed"] == true);
    stream.close().await;

    proxy.block_upgrades(true);
    let socket = page.listen_with(options("websocket")).await;
    let tries = proxy.until("many tries", |seen| seen.upgrades >= 10).await;
    let streams = tries.heads.iter().filter(|head| head.starts_with("GET /sse")).count();
    assert!(streams <= 2, "streams of the first client: {streams}");
    proxy.block_upgrades(false);
    socket.until_state("open").await;
    gateway.send_text("bob", "three").await;
    socket.until_texts(1).await;
    assert_eq!(socket.property("transport").await, "websocket");
    page.close(&BROKEN_LINES).await;
    drop(proxy);
    gateway.stop().await;
}
