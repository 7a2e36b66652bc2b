//! How much one address may open, and that nobody else pays for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use gateway::config::{Config, Rate, RateLimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::process_harness::{Folder, Running, until_metric, until_some, within_patience};

const CONNECTS: &str = r#"gateway_limited_total{limit="connects_per_address"}"#;
const CONNECTIONS: &str = r#"gateway_limited_total{limit="connections_per_address"}"#;

/// Connects as 127.0.0.`host`; every address of 127.0.0.0/8 is this machine.
async fn connect_from(host: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
    within_patience("a connection", socket.connect(to)).await.unwrap()
}

/// Whether a request on the connection is answered, or the connection closed.
async fn is_served(stream: &mut TcpStream) -> bool {
    let request = b"GET /v1/users/bob HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    // A connection that was reset takes no bytes, or gives none.
    if within_patience("a write", stream.write_all(request)).await.is_err() {
        return false;
    }
    let mut answer = [0; 9];
    let read = within_patience("an answer", stream.read_exact(&mut answer)).await;
    read.is_ok_and(|_| &answer == b"HTTP/1.1 ")
}

/// Hardly gives anything back.
fn at_once(burst: u32) -> RateLimit {
    RateLimit::At(Rate { period: Duration::from_secs(3_600), ..Rate::per_second(1, burst) })
}

fn secured(config: &mut Config, folder: &Folder) {
    let secret = folder.write("secret", "a secret of at least thirty-two bytes, for tests");
    config.auth.token_key_files = vec![secret.into()];
}

#[tokio::test]
async fn an_address_with_enough_connections_gets_no_more_until_it_closes_one() {
    let gateway = Running::start_with(|config| config.http.max_connections_per_address = Some(2)).await;
    let http = gateway.addresses.http;
    let mut first = connect_from(2, http).await;
    let mut second = connect_from(2, http).await;
    assert!(is_served(&mut first).await && is_served(&mut second).await);
    for _ in 0..3 {
        assert!(!is_served(&mut connect_from(2, http).await).await);
    }
    assert!(is_served(&mut connect_from(3, http).await).await, "somebody else");
    until_metric(gateway.addresses.ops, CONNECTIONS, 3.0).await;
    drop(first);
    until_some("a place for another", async || {
        is_served(&mut connect_from(2, http).await).await.then_some(())
    })
    .await;
    drop(second);
    until_some("nobody is remembered", async || (gateway.clients.remembered() == 0).then_some(())).await;
    until_metric(gateway.addresses.ops, "gateway_connections", 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_turned_away() {
    let gateway = Running::start_with(|config| config.limits.connects_per_address = at_once(3)).await;
    let http = gateway.addresses.http;
    for number in 0..6 {
        assert_eq!(is_served(&mut connect_from(2, http).await).await, number < 3, "connection {number}");
    }
    assert!(is_served(&mut connect_from(3, http).await).await, "somebody else");
    until_metric(gateway.addresses.ops, CONNECTS, 3.0).await;
    assert_eq!(gateway.clients.remembered(), 2);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn who_came_is_forgotten_when_its_tokens_are_back() {
    let gateway = Running::start_with(|config| {
        config.limits.connects_per_address = RateLimit::At(Rate::per_second(1_000, 10));
    })
    .await;
    for host in 2..50 {
        assert!(is_served(&mut connect_from(host, gateway.addresses.http).await).await);
    }
    assert!(gateway.clients.remembered() > 0);
    // The gateway looks for them every few seconds by itself.
    until_some("nobody is remembered", async || (gateway.clients.remembered() == 0).then_some(())).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn trusted_proxies_and_exempt_addresses_are_not_limited() {
    let gateway = Running::start_with(|config| {
        config.http.max_connections_per_address = Some(1);
        config.limits.connects_per_address = at_once(1);
        config.http.trusted_proxies = vec!["127.0.0.2/32".parse().unwrap()];
        config.limits.exempt_addresses = vec!["127.0.0.4/30".parse().unwrap()];
    })
    .await;
    let http = gateway.addresses.http;
    let mut open = Vec::new();
    for host in [2, 2, 2, 4, 4, 5, 5] {
        let mut stream = connect_from(host, http).await;
        assert!(is_served(&mut stream).await, "127.0.0.{host}");
        open.push(stream);
    }
    let mut other = connect_from(8, http).await;
    assert!(is_served(&mut other).await);
    assert!(!is_served(&mut connect_from(8, http).await).await, "the bounds hold for others");
    drop((open, other));
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn without_keys_one_address_may_open_whatever_there_is_and_with_keys_a_quarter() {
    let folder = Folder::new();
    for is_secured in [false, true] {
        let gateway = Running::start_with(|config| {
            config.http.max_connections = Some(12);
            if is_secured {
                secured(config, &folder);
            }
        })
        .await;
        let mut open = Vec::new();
        for number in 0..12 {
            let mut stream = connect_from(2, gateway.addresses.http).await;
            let expected = !is_secured || number < 3;
            assert_eq!(is_served(&mut stream).await, expected, "secured: {is_secured}, connection {number}");
            open.push(stream);
        }
        drop(open);
        assert_eq!(gateway.stop().await, Ok(()));
    }
}
