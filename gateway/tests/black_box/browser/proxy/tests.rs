//! Each kind of trouble, with plain sockets and a server that answers every byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Direction, Proxy, Trouble};
use crate::browser::within;

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";

/// A server that says back what it hears; it ends with the test's runtime.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

/// A connection through the proxy that works.
async fn open(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut stream, HEAD).await;
    stream
}

/// Says something and hears it again.
async fn say(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    let mut heard = vec![0; bytes.len()];
    within("the echo", stream.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard, bytes);
}

/// Reads to the end: how much came, and whether it was an orderly one.
async fn end_of(stream: &mut TcpStream) -> (usize, bool) {
    let mut heard = Vec::new();
    let end = within("the end", stream.read_to_end(&mut heard)).await;
    (heard.len(), end.is_ok())
}

#[tokio::test]
async fn bytes_go_both_ways_and_an_end_is_passed_on() {
    let proxy = Proxy::start(echo().await);
    let mut stream = open(&proxy).await;
    proxy.delay(Duration::from_millis(1));
    say(&mut stream, &[7; 100_000]).await;
    stream.shutdown().await.unwrap();
    assert_eq!(end_of(&mut stream).await, (0, true));
    let seen = proxy.seen();
    assert_eq!((seen.connections, seen.upgrades), (1, 0));
    assert_eq!(seen.heads[0].as_bytes(), HEAD);
}

#[tokio::test]
async fn connections_that_are_open_are_struck_and_later_ones_are_not() {
    let proxy = Proxy::start(echo().await);
    for (trouble, orderly) in [(Trouble::Reset, false), (Trouble::End, true)] {
        let mut struck = [open(&proxy).await, open(&proxy).await];
        proxy.strike(trouble);
        for stream in &mut struck {
            assert_eq!(end_of(stream).await, (0, orderly), "{trouble:?}");
        }
        open(&proxy).await;
    }
}

#[tokio::test]
async fn a_trap_closes_after_so_many_bytes_in_its_direction() {
    let proxy = Proxy::start(echo().await);
    for direction in [Direction::Up, Direction::Down] {
        let mut stream = open(&proxy).await;
        proxy.strike_after(direction, 1_000, Trouble::End);
        say(&mut stream, &[1; 900]).await;
        stream.write_all(&[2; 900]).await.unwrap();
        let (came, _) = end_of(&mut stream).await;
        assert!(came <= 100, "{direction:?}: {came}");
        if direction == Direction::Down {
            assert_eq!(came, 100, "what is below the limit still gets through");
        }
        // One trap, one connection.
        open(&proxy).await;
    }
    assert_eq!(proxy.until("both traps", |seen| seen.sprung == 2).await.connections, 4);
}

#[tokio::test]
async fn a_silent_connection_stays_silent_and_later_ones_are_forwarded_again() {
    let proxy = Proxy::start(echo().await);
    let mut old = open(&proxy).await;
    proxy.fall_silent();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    new.write_all(HEAD).await.unwrap();
    old.write_all(b"is anybody there?").await.unwrap();
    proxy.until("the silent one", |seen| seen.connections == 2).await;
    proxy.forward();
    say(&mut open(&proxy).await, b"back").await;
    for stream in [&mut old, &mut new] {
        let mut byte = [0];
        assert!(
            stream.try_read(&mut byte).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        );
    }
    proxy.strike(Trouble::Reset);
    assert_eq!(end_of(&mut old).await, (0, false));
    assert_eq!(end_of(&mut new).await, (0, false));
}

#[tokio::test]
async fn refused_connections_are_refused_until_the_proxy_forwards_again() {
    let proxy = Proxy::start(echo().await);
    let mut stream = open(&proxy).await;
    proxy.refuse().await;
    let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    say(&mut stream, b"still open").await;
    proxy.forward();
    open(&proxy).await;
}

#[tokio::test]
async fn upgrades_are_counted_and_blocked_and_everything_else_gets_through() {
    let proxy = Proxy::start(echo().await);
    proxy.block_upgrades(true);
    let mut blocked = TcpStream::connect(proxy.address()).await.unwrap();
    blocked.write_all(UPGRADE).await.unwrap();
    assert_eq!(end_of(&mut blocked).await, (0, false));
    open(&proxy).await;
    proxy.block_upgrades(false);
    say(&mut TcpStream::connect(proxy.address()).await.unwrap(), UPGRADE).await;
    let seen = proxy.seen();
    assert_eq!((seen.connections, seen.upgrades), (3, 2));
}

#[tokio::test]
async fn a_proxy_leads_elsewhere_once_it_is_told() {
    let proxy = Proxy::start(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(HEAD).await.unwrap();
    assert_eq!(end_of(&mut stream).await, (0, false), "nobody is there");
    proxy.retarget(echo().await);
    open(&proxy).await;
}
