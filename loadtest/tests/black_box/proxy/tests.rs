//! The proxy itself, with a client written by hand: what it must not change, and that its faults strike where they say.

use std::net::SocketAddr;

use futures_util::StreamExt;
use loadtest::payload::Payload;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::tampering::{Decision, Tampering};
use super::{Fault, Proxy};
use crate::harness::{Gateway, within_patience};

/// A socket of `bob`, opened at whatever stands at an address.
struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr, query: &str) -> Self {
        let mut request = format!("ws://{address}/ws/bob?{query}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "notify.v1".parse().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, answer) = client_async(request, stream).await.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "notify.v1");
        Self(socket)
    }

    /// The next text frame; an error when the connection broke.
    async fn next(&mut self) -> Result<String, Error> {
        loop {
            let message = within_patience("a frame", self.0.next()).await.expect("an end has an error");
            if let Message::Text(text) = message? {
                return Ok(text.to_string());
            }
        }
    }

    async fn json(&mut self) -> Value {
        serde_json::from_str(&self.next().await.unwrap()).unwrap()
    }

    async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            let frame = self.json().await;
            assert_eq!(frame["type"], "notification", "{frame}");
            bodies.push(frame["body"].as_str().unwrap().to_owned());
        }
        bodies
    }
}

async fn send_numbers(proxy: &Proxy, numbers: std::ops::RangeInclusive<u32>) {
    let client = reqwest::Client::new();
    for number in numbers {
        let notification = json!({"to": ["bob"], "body": number.to_string(), "ttl_seconds": 60});
        let request = client.post(format!("{}/v1/notifications", proxy.url())).json(&notification);
        assert_eq!(within_patience("an answer", request.send()).await.unwrap().status(), 202);
    }
}

#[tokio::test]
async fn without_a_fault_everything_passes_unchanged() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.http, Fault::None).await;
    let mut direct = Client::connect(gateway.http, "ack=client").await;
    let mut through = Client::connect(proxy.address(), "ack=client").await;
    for client in [&mut direct, &mut through] {
        let welcome = client.json().await;
        assert_eq!((&welcome["type"], &welcome["user"]), (&json!("welcome"), &json!("bob")));
    }
    send_numbers(&proxy, 1..=20).await;
    for number in 1..=20 {
        let (a, b) = (direct.next().await.unwrap(), through.next().await.unwrap());
        assert_eq!(a, b, "the same frame, byte by byte");
        assert!(a.contains(&format!(r#""body":"{number}""#)), "{a}");
    }
    assert_eq!((proxy.pushes(), proxy.strikes()), (20, 0));

    through.0.close(None).await.unwrap();
    let end = within_patience("the gateway's close", async { through.0.next().await }).await;
    assert!(matches!(end, None | Some(Ok(Message::Close(_)))), "a close is answered: {end:?}");
}

#[tokio::test]
async fn exactly_each_third_is_dropped() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.http, Fault::DropEvery(3)).await;
    let mut client = Client::connect(proxy.address(), "ack=client").await;
    assert_eq!(client.json().await["type"], "welcome");
    send_numbers(&proxy, 1..=10).await;
    assert_eq!(client.bodies(7).await, ["1", "2", "4", "5", "7", "8", "10"]);
    assert_eq!((proxy.pushes(), proxy.strikes()), (10, 3));
}

#[tokio::test]
async fn a_cut_is_no_close_and_what_was_missed_comes_with_the_position_or_not_at_all() {
    let gateway = Gateway::start().await;
    for (fault, expected) in [(Fault::CutEvery(3), ["3", "4"]), (Fault::CutAndLose(3), ["4", "5"])] {
        let proxy = Proxy::start(gateway.http, fault).await;
        let mut client = Client::connect(proxy.address(), "ack=client&after=now").await;
        assert_eq!(client.json().await["type"], "welcome");
        send_numbers(&proxy, 1..=2).await;
        let mut position = Value::Null;
        for _ in 1..=2 {
            position = client.json().await["position"].clone();
        }
        send_numbers(&proxy, 3..=3).await;
        assert!(client.next().await.is_err(), "the connection breaks without a close");

        let after = format!("ack=client&after={}", position.as_str().unwrap());
        let mut client = Client::connect(proxy.address(), &after).await;
        assert_eq!(client.json().await["type"], "welcome");
        send_numbers(&proxy, 4..=5).await;
        assert_eq!(client.bodies(2).await, expected, "{fault:?}");
    }
}

/// What is delivered in place of the notifications of streams 7 and 8, alternating, three of each.
fn delivered(fault: Fault) -> (Vec<(u32, u32)>, Tampering) {
    let tampering = Tampering::new(fault, 0);
    let mut delivered = Vec::new();
    for number in 0..3 {
        for stream in [7, 8] {
            let text = Payload { run: "r", stream, number, intended: 1, begun: 2 }.to_text(100);
            let Decision::Deliver(frames) = tampering.decide(&format!("user-{stream}"), text.into()) else {
                panic!("no such fault")
            };
            for frame in frames {
                let payload = Payload::find(&frame).unwrap();
                delivered.push((payload.stream, payload.number));
            }
        }
    }
    (delivered, tampering)
}

#[test]
fn the_last_of_one_stream_is_the_only_one_that_is_held_for_ever() {
    let (delivered, tampering) = delivered(Fault::DropOnlyTheLast);
    assert_eq!(delivered, [(8, 0), (7, 0), (8, 1), (7, 1), (8, 2)]);
    assert_eq!(
        Payload::find(&tampering.held().unwrap()).map(|held| (held.stream, held.number)),
        Some((7, 2))
    );
}

#[test]
fn two_of_one_stream_change_places_once() {
    let (delivered, tampering) = delivered(Fault::SwapTwo);
    assert_eq!(delivered, [(8, 0), (7, 1), (7, 0), (8, 1), (7, 2), (8, 2)]);
    assert_eq!((tampering.strikes(), tampering.held()), (1, None));
}
