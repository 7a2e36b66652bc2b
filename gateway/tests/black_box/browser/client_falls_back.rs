//! Where something on the way blocks WebSockets the client reads server-sent events instead, and nothing else changes.

use std::net::SocketAddr;

use poem::endpoint::make_sync;
use poem::http::StatusCode;
use poem::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{Response, Route, Server};
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

    // The stream ends with its token, and the next one shows the next.
    let next = secured.issuer.token(&claims("bob"));
    bob.hand_out(&next).await;
    ahead.leap(600);
    bob.until_told("open", 2).await;
    let ended = bob.until_told("waiting", 1).await;
    assert_eq!(
        (&ended["code"], &ended["reason"]),
        (&json!(4205), &json!("token_expired")),
        "behind two blocked sockets"
    );
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
async fn a_stream_says_why_it_ends_as_a_socket_does() {
    let gateway = Gateway::start_with(|config| config.sessions.max_per_user = 1).await;
    let page = Page::open(&[gateway.address()]).await;
    let listen = || page.listen_with(json!({"user": "bob", "transport": "sse", "minBackoffMs": 1}));
    let first = listen().await;
    first.until_state("open").await;
    let second = listen().await;
    second.until_state("open").await;
    assert_eq!(first.until_told("closed", 1).await["error"]["code"], 4009);
    let disconnected = gateway.ask(Method::DELETE, "/v1/users/bob/sessions").await;
    assert!((200..300).contains(&disconnected.status), "{}", disconnected.body);
    let error = second.until_told("closed", 1).await["error"].clone();
    assert_eq!((&error["code"], &error["reason"]), (&json!(4010), &json!("disconnected")));
    page.close(&[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_on_the_way_who_refuses_is_not_the_gateway() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(stranger().await);
    let page = Page::open(&[proxy.address()]).await;
    let options = json!({"user": "bob", "transport": "sse", "minBackoffMs": 1, "maxBackoffMs": 20});
    let bob = page.listen_with(options).await;
    bob.until_told("waiting", 2).await;
    // Whoever was in the way has let it through.
    proxy.retarget(gateway.address());
    bob.until_state("open").await;
    gateway.send_text("bob", "through").await;
    assert_eq!(bob.until_texts(1).await, ["through"]);
    page.close(&[&BROKEN_LINES[..], &["the server responded with a status of 403"]].concat()).await;
    drop(proxy);
    gateway.stop().await;
}

/// A server that forbids everything with a page of its own, as networks do that want one to sign in; it ends with the test.
async fn stranger() -> SocketAddr {
    let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.expect("a free port");
    let address = *acceptor.local_addr()[0].as_socket_addr().expect("an address of IP");
    let forbid = make_sync(|_| {
        let answer = Response::builder().status(StatusCode::FORBIDDEN).content_type("text/html");
        answer
            .header("access-control-allow-origin", "*")
            .header("connection", "close")
            .body("<p>Sign in first")
    });
    tokio::spawn(Server::new_with_acceptor(acceptor).run(forbid));
    address
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_fails_without_saying_when_to_come_back_is_not_asked_in_a_loop() {
    let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.expect("a free port");
    let address = *acceptor.local_addr()[0].as_socket_addr().expect("an address of IP");
    let failure = make_sync(|_| {
        Response::builder()
            .status(StatusCode::INTERNAL_SERVER_ERROR)
            .content_type("application/problem+json")
            .header(ACCESS_CONTROL_ALLOW_ORIGIN, "*")
            .body(r#"{"detail":"it fails"}"#)
    });
    // There are no sockets at all.
    let routes = Route::new().at("/sse/:user", failure);
    let serving = tokio::spawn(Server::new_with_acceptor(acceptor).run(routes));
    let page = Page::open(&[address]).await;
    let options = json!({
        "user": "bob", "url": format!("http://{address}"), "minBackoffMs": 1, "maxBackoffMs": 1_000,
    });
    let bob = page.listen_with(options).await;
    bob.until_told("waiting", 5).await;
    let told = bob.events("state").await.into_iter().filter(|told| told["state"] == "waiting");
    for (attempt, waiting) in told.take(5).enumerate() {
        let pause = waiting["retryInMs"].as_f64().expect("a pause");
        assert_eq!(waiting["code"], if attempt < 2 { 1006 } else { 1013 }, "{waiting}");
        // A stream is tried at once when the second socket has failed; nothing else is.
        assert_eq!(pause == 0.0, attempt == 1, "{waiting}");
    }
    bob.close().await;
    page.close(&["WebSocket connection to", "status of 500"]).await;
    serving.abort();
}
