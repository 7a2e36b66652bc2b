//! Clients that break the rules of RFC 6455: each is told which one, and nobody else suffers.

use std::time::Duration;

use crate::process_harness::{Running, Server, send, until_metric};
use crate::raw_socket::{
    BINARY, CLOSE, CONTINUATION, FINAL, PING, PONG, RawFrame, RawSocket, TEXT, frame, handshake,
};

/// The largest frame a client may send.
const MAX_INBOUND: usize = 4_096;

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// Sends the bytes and more behind them, and expects to be closed with this code, properly.
async fn expect_close(gateway: &Running, what: &str, bytes: &[u8], code: u16) {
    let mut socket = RawSocket::open(gateway.addresses.http, "mallory").await;
    // What is already under way when the gateway closes must not turn the close frame into a reset.
    let more = frame(FINAL | PING, b"more").repeat(4_000);
    socket.write(&[bytes, &more].concat()).await;
    let close = socket.frame_of(CLOSE).await;
    assert_eq!(close.close_code(), code, "{what}");
    // A client that has not come to the close frame yet goes on sending: a reset could overtake the frame.
    for _ in 0..3 {
        socket.write(&more).await;
    }
    socket.end().await;
}

/// Waits until so many sessions are counted as closed with this code, and none is left.
async fn expect_counted(gateway: &Running, code: &str, initiator: &str, count: usize) {
    let series = format!(r#"gateway_sessions_closed_total{{code="{code}",initiator="{initiator}"}}"#);
    until_metric(gateway.addresses.ops, &series, count as f64).await;
    until_metric(gateway.addresses.ops, r#"gateway_sessions{transport="websocket"}"#, 0.0).await;
    until_metric(gateway.addresses.ops, "gateway_connections", 0.0).await;
}

#[tokio::test]
async fn what_breaks_the_framing_is_closed_with_1002() {
    let gateway = Running::start_with(|_| {}).await;
    let reserved: Vec<Vec<u8>> =
        [0x40, 0x20, 0x10].iter().map(|bit| frame(FINAL | TEXT | bit, b"{}")).collect();
    let cases: [(&str, Vec<u8>); 13] = [
        ("an unmasked text", [&[FINAL | TEXT, 2][..], b"{}"].concat()),
        ("an unmasked ping", vec![FINAL | PING, 0]),
        ("the first reserved bit, nobody agreed to compress", reserved[0].clone()),
        ("the second reserved bit", reserved[1].clone()),
        ("the third reserved bit", reserved[2].clone()),
        ("an unknown data opcode", frame(FINAL | 0x3, b"{}")),
        ("an unknown control opcode", frame(FINAL | 0xb, b"{}")),
        ("a fragmented ping", frame(PING, b"half")),
        ("a fragmented close", frame(CLOSE, &close_payload(1000, ""))),
        ("a ping of 126 bytes", frame(FINAL | PING, &[b'x'; 126])),
        ("a continuation of nothing", frame(FINAL | CONTINUATION, b"{}")),
        ("a new message within another", [frame(TEXT, b"{"), frame(FINAL | TEXT, b"{}")].concat()),
        ("a close frame with half a code", frame(FINAL | CLOSE, &[3])),
    ];
    for (what, bytes) in cases {
        expect_close(&gateway, what, &bytes, 1002).await;
    }
    expect_counted(&gateway, "1002", "server", 13).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn what_the_protocol_does_not_know_is_closed_with_1003() {
    let gateway = Running::start_with(|_| {}).await;
    let longest = format!(r#"{{"type":"dance","pad":"{}"}}"#, "x".repeat(MAX_INBOUND - 25));
    assert_eq!(longest.len(), MAX_INBOUND);
    let by_bytes: Vec<u8> = longest.as_bytes().chunks(1).flat_map(|byte| frame(CONTINUATION, byte)).collect();
    let by_bytes = [frame(TEXT, b""), by_bytes, frame(FINAL | CONTINUATION, b"")].concat();
    let halves = [frame(TEXT, br#"{"type":"#), frame(FINAL | CONTINUATION, br#""dance"}"#)].concat();
    for (what, bytes) in [
        ("a binary message", frame(FINAL | BINARY, b"{}")),
        ("a frame of another version", frame(FINAL | TEXT, br#"{"type":"dance"}"#)),
        ("the same in two fragments", halves),
        ("the longest frame there may be", frame(FINAL | TEXT, longest.as_bytes())),
        ("the same, each byte in a fragment", by_bytes),
    ] {
        expect_close(&gateway, what, &bytes, 1003).await;
    }
    expect_counted(&gateway, "1003", "server", 5).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn text_that_is_no_json_or_no_utf_8_is_closed_with_1007() {
    let gateway = Running::start_with(|_| {}).await;
    let nested = format!("{}{}", r#"{"type":"dance","x":"#, "[".repeat(4_000));
    let halves = [frame(TEXT, b"\xc3"), frame(FINAL | CONTINUATION, b"(")].concat();
    for (what, bytes) in [
        ("no JSON", frame(FINAL | TEXT, b"hello")),
        ("nothing", frame(FINAL | TEXT, b"")),
        ("JSON without a type", frame(FINAL | TEXT, b"{}")),
        ("JSON nested without end", frame(FINAL | TEXT, nested.as_bytes())),
        ("bytes that are no UTF-8", frame(FINAL | TEXT, b"\xff\xfe")),
        ("a character cut in half", frame(FINAL | TEXT, b"\xc3")),
        ("two halves that do not fit", halves),
    ] {
        expect_close(&gateway, what, &bytes, 1007).await;
    }
    expect_counted(&gateway, "1007", "server", 7).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn what_is_too_large_is_closed_with_1009_however_it_is_cut() {
    let gateway = Running::start_with(|_| {}).await;
    let whole = frame(FINAL | TEXT, &[b' '; MAX_INBOUND + 1]);
    let announced = vec![FINAL | TEXT, FINAL | 127, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let part = vec![b' '; MAX_INBOUND / 2];
    let parts = [frame(TEXT, &part), frame(CONTINUATION, &part), frame(FINAL | CONTINUATION, b" ")].concat();
    let empty = [frame(TEXT, b""), frame(CONTINUATION, b"").repeat(10_000)].concat();
    for (what, bytes) in [
        ("one byte too many", whole),
        ("a frame that announces 4 GiB", announced),
        ("fragments that are too large together", parts),
        ("empty fragments without end", empty),
    ] {
        expect_close(&gateway, what, &bytes, 1009).await;
    }
    expect_counted(&gateway, "1009", "server", 4).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_goodbye_is_echoed_with_its_code() {
    let gateway = Running::start_with(|_| {}).await;
    let cases: [(&str, Vec<u8>, u16); 5] = [
        ("normal", close_payload(1000, "bye"), 1000),
        ("the page is left", close_payload(1001, ""), 1001),
        ("an application's own", close_payload(4321, ""), 4321),
        ("none", Vec::new(), 1005),
        ("one that never travels", close_payload(1006, ""), 1002),
    ];
    for (what, payload, code) in cases {
        let mut socket = RawSocket::open(gateway.addresses.http, "bob").await;
        socket.write(&frame(FINAL | CLOSE, &payload)).await;
        assert_eq!(socket.frame().await.close_code(), code, "{what}");
        socket.end().await;
    }
    expect_counted(&gateway, "1000", "client", 1).await;
    expect_counted(&gateway, "1001", "client", 1).await;
    // Codes from outside never become labels.
    expect_counted(&gateway, "other", "client", 2).await;
    expect_counted(&gateway, "1002", "client", 1).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn what_was_pushed_before_a_goodbye_does_not_garble_its_echo() {
    let gateway = Running::start_with(|_| {}).await;
    for round in 0..20 {
        let user = format!("user{round}");
        let mut socket = RawSocket::open(gateway.addresses.http, &user).await;
        let goodbye = frame(FINAL | CLOSE, &close_payload(1000, ""));
        let users = [user.as_str()];
        let ((status, _), ()) =
            tokio::join!(send(gateway.addresses.http, &users, "hello"), socket.write(&goodbye));
        assert_eq!(status, 202);
        // Every frame is whole, whether the notification came first or not.
        assert_eq!(socket.frame_of(CLOSE).await.close_code(), 1000);
        socket.end().await;
    }
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload_between_pushes() {
    const PUSHES: usize = 50;
    let gateway = Running::start_with(|_| {}).await;
    let mut socket = RawSocket::open(gateway.addresses.http, "bob").await;
    for number in 0..PUSHES {
        let payload = format!("ping {number}").into_bytes();
        let ping = frame(FINAL | PING, &payload);
        let text = number.to_string();
        let ((status, _), ()) =
            tokio::join!(send(gateway.addresses.http, &["bob"], &text), socket.write(&ping));
        assert_eq!(status, 202);
        let (mut pong, mut body) = (None, None);
        while pong.is_none() || body.is_none() {
            let frame = socket.frame().await;
            match frame.opcode {
                PONG => pong = Some(frame.payload),
                _ => body = Some(frame.json()["body"].clone()),
            }
        }
        assert_eq!((pong, body), (Some(payload), Some(text.into())));
    }
    let largest = vec![b'x'; 125];
    socket.write(&frame(FINAL | PING, &largest)).await;
    assert_eq!(socket.frame().await, RawFrame { opcode: PONG, payload: largest });
    drop(socket);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn pings_of_a_client_that_never_reads_neither_fill_memory_nor_stop_pushes() {
    const PINGS: usize = 200_000;
    const MOST_GROWTH: u64 = 8 << 20;
    let server = Server::start(&[("GATEWAY_SESSIONS_WRITE_TIMEOUT", "1m")]).await;
    let mut calm = RawSocket::open(server.addresses.http, "calm").await;
    let mut flood = RawSocket::connect_narrow(server.addresses.http).await;
    flood.upgrade("flood").await;
    let before = server.resident_bytes();
    let chunk = frame(FINAL | PING, &[b'x'; 125]).repeat(1_000);
    let flooding = async {
        for _ in 0..PINGS / 1_000 {
            flood.write(&chunk).await;
        }
    };
    // The gateway may stop reading from such a client; it just must not keep what it reads.
    let all_taken = tokio::time::timeout(Duration::from_secs(5), flooding).await.is_ok();
    let growth = server.resident_bytes().saturating_sub(before);
    assert!(growth < MOST_GROWTH, "{growth} bytes more, all pings taken: {all_taken}");

    assert_eq!(send(server.addresses.http, &["calm", "flood"], "for both").await.0, 202);
    assert_eq!(calm.frame_of_type("notification").await["body"], "for both");
    if all_taken {
        assert_eq!(flood.frame_of_type("notification").await["body"], "for both");
    }
}

#[tokio::test]
async fn a_frame_in_the_same_segment_as_the_handshake_is_heard() {
    let gateway = Running::start_with(|_| {}).await;
    let mut socket = RawSocket::connect(gateway.addresses.http).await;
    let early = frame(FINAL | PING, b"early");
    socket.write(&[handshake("bob", "").as_bytes(), &early].concat()).await;
    let head = socket.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (first, second) = (socket.frame().await, socket.frame().await);
    assert_eq!(first.json()["type"], "welcome", "always the first frame");
    assert_eq!(second, RawFrame { opcode: PONG, payload: b"early".to_vec() });
    drop(socket);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_reset_frees_the_session() {
    const SOCKETS: usize = 50;
    let gateway = Running::start_with(|_| {}).await;
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        sockets.push(RawSocket::open(gateway.addresses.http, &format!("user{number}")).await);
    }
    let ops = gateway.addresses.ops;
    until_metric(ops, r#"gateway_sessions{transport="websocket"}"#, SOCKETS as f64).await;
    for socket in sockets {
        // Closing with a linger of zero sends RST instead of FIN.
        socket2::SockRef::from(&socket.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    until_metric(ops, r#"gateway_sessions{transport="websocket"}"#, 0.0).await;
    until_metric(ops, r#"gateway_sessions_closed_total{code="1006",initiator="network"}"#, SOCKETS as f64)
        .await;
    for gauge in ["gateway_users", "gateway_known_users", "gateway_connections"] {
        until_metric(ops, gauge, 0.0).await;
    }
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn hanging_up_without_a_goodbye_counts_as_a_broken_connection() {
    let gateway = Running::start_with(|_| {}).await;
    drop(RawSocket::open(gateway.addresses.http, "bob").await);
    let ops = gateway.addresses.ops;
    until_metric(ops, r#"gateway_sessions_closed_total{code="1006",initiator="network"}"#, 1.0).await;
    // The same in the middle of a frame.
    let mut socket = RawSocket::open(gateway.addresses.http, "bob").await;
    socket.write(&frame(FINAL | TEXT, br#"{"type":"dance"}"#)[..9]).await;
    drop(socket);
    until_metric(ops, r#"gateway_sessions_closed_total{code="1006",initiator="network"}"#, 2.0).await;
    until_metric(ops, "gateway_known_users", 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}
