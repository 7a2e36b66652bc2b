//! What happens when descriptors run out or the cap on connections is reached.

use std::time::Duration;

use futures_util::future::join_all;

use crate::process_harness::{Server, scrape, send, until_metric, until_some};
use crate::raw_socket::RawSocket;

/// How long CPU time is watched: the one place where a duration is what is measured.
const WATCHED: Duration = Duration::from_secs(1);

/// How long nothing has to come before a connection counts as waiting.
const SILENCE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_full_table_of_descriptors_neither_spins_nor_kills_the_gateway() {
    const OPEN_FILES: usize = 64;
    let variables = [("GATEWAY_HTTP_MAX_CONNECTIONS", "1000"), ("GATEWAY_HTTP_FIRST_REQUEST_TIMEOUT", "1m")];
    let server = Server::start_with_open_files(OPEN_FILES as u32, &variables).await;
    assert_eq!(scrape(server.addresses.ops).await.value("gateway_accept_errors_total"), 0.0);
    let crowd = join_all((0..200).map(|_| RawSocket::connect(server.addresses.http))).await;
    until_some("a full table", async || (server.open_files() >= OPEN_FILES).then_some(())).await;

    let before = server.cpu_time();
    tokio::time::sleep(WATCHED).await;
    let used = server.cpu_time() - before;
    assert!(used < WATCHED / 5, "{used:?} of CPU time in {WATCHED:?} of doing nothing");
    assert!(server.open_files() >= OPEN_FILES, "the table was full all the time");

    drop(crowd);
    until_metric(server.addresses.ops, "gateway_connections", 0.0).await;
    let errors = scrape(server.addresses.ops).await.value("gateway_accept_errors_total");
    assert!(errors > 0.0, "each failed accept is counted");
    assert!(errors < 200.0, "a pause follows each failed accept, but there were {errors}");
    assert_eq!(send(server.addresses.http, &["bob"], "after the storm").await.0, 202);
    let mut bob = RawSocket::open(server.addresses.http, "bob").await;
    assert_eq!(bob.frame_of_type("notification").await["body"], "after the storm");
    server.process.terminate();
    assert_eq!(server.process.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_connection_beyond_the_cap_waits_until_another_one_closes() {
    let server = Server::start(&[("GATEWAY_HTTP_MAX_CONNECTIONS", "10")]).await;
    let mut sockets = Vec::new();
    for number in 0..10 {
        sockets.push(RawSocket::open(server.addresses.http, &format!("user{number}")).await);
    }
    let mut eleventh = RawSocket::connect(server.addresses.http).await;
    eleventh.write(b"GET /v1/users/bob HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await;
    assert!(eleventh.is_silent_for(SILENCE).await, "an eleventh connection is not served");
    let metrics = scrape(server.addresses.ops).await;
    assert_eq!(metrics.value("gateway_connections"), 10.0, "operators still get in");

    sockets.pop();
    let (head, answer) = eleventh.answer().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(answer["user"], "bob");
    eleventh.end().await;
    until_metric(server.addresses.ops, "gateway_connections", 9.0).await;
    // The one that was served gave its place back.
    RawSocket::open(server.addresses.http, "late").await;
    drop(sockets);
    until_metric(server.addresses.ops, "gateway_connections", 0.0).await;
}

#[tokio::test]
async fn a_gateway_at_its_cap_of_connections_still_stops() {
    let server = Server::start(&[("GATEWAY_HTTP_MAX_CONNECTIONS", "1")]).await;
    let mut only = RawSocket::open(server.addresses.http, "bob").await;
    let _waiting = RawSocket::connect(server.addresses.http).await;
    server.process.terminate();
    only.frame_of_type("drain").await;
    drop(only);
    assert_eq!(server.process.ended().await.code, Some(0));
}
