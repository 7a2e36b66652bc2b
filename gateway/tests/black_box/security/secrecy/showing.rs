//! Shows a credential wherever one can be shown, in place and out of place.

use std::net::SocketAddr;

use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Answer, Dial, segment, within};

/// How many bytes of a stream are enough to have seen its beginning.
const ENOUGH: usize = 16 * 1_024;

/// A client of the gateway at an address.
pub(super) struct Client {
    address: SocketAddr,
    http: reqwest::Client,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, http: reqwest::Client::new() }
    }

    /// In headers of every operation, in addresses, at sockets and streams, by both versions of HTTP, and in requests that fail.
    pub(super) async fn show_everywhere(&self, credential: &str) {
        let bearer = format!("Bearer {credential}");
        for (method, path) in OPERATIONS {
            let method: Method = method.parse().unwrap();
            let request = self.request(method, path).header("authorization", &bearer);
            let request = request.header("content-type", "application/json").body(body_of(path));
            Answer::of(request).await;
        }
        for name in
            ["token", "access_token", "jwt", "api_key", "key", "authorization", "bearer", "after", "x"]
        {
            for value in [credential.to_owned(), segment(credential)] {
                let path = format!("/v1/users/bob/notifications?{name}={value}");
                Answer::of(self.request(Method::GET, &path)).await;
            }
        }
        let pull = || self.request(Method::GET, "/v1/users/bob/notifications");
        for request in [
            pull().header("authorization", credential),
            pull().header("authorization", format!("Basic {credential}")),
            pull().header("authorization", &bearer).header("authorization", &bearer),
            pull().header("cookie", format!("token={credential}")),
            pull().header("x-api-key", credential),
            pull().header("sec-websocket-protocol", format!("bearer.{credential}")),
            pull().header("authorization", &bearer).header("host", "evil.example"),
            pull().header("authorization", &bearer).header("origin", "https://evil.example"),
            self.request(Method::GET, "/v1/nowhere").header("authorization", &bearer),
            self.request(Method::PATCH, "/v1/notifications").header("authorization", &bearer),
            self.request(Method::POST, "/v1/notifications").header("authorization", &bearer).body("{"),
        ] {
            Answer::of(request).await;
        }
        self.open_sockets(credential).await;
        for path in ["/sse/bob".to_owned(), format!("/sse/bob?token={credential}"), "/ws/bob".to_owned()] {
            let head =
                format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {bearer}\r\n\r\n", self.address);
            self.beginning_of(head.as_bytes()).await;
        }
        self.ask_by_http2(&bearer).await;
    }

    /// Opens a session with a good token and refreshes it by another credential.
    pub(super) async fn refresh(&self, good: &str, credential: &str) {
        let dial = Dial::new(self.address, "bob").subprotocol(&format!("notify.v1, bearer.{good}"));
        let (mut socket, _) = dial.connect().await.expect("a good token opens");
        for frame in [
            json!({"type": "refresh", "token": credential}).to_string(),
            // Out of place, and it ends the session if the refresh did not.
            json!({"type": "unknown", "token": credential}).to_string(),
        ] {
            socket.say_if_open(Message::text(frame)).await;
        }
        within("the end", async { while socket.next_message().await.is_some() {} }).await;
    }

    /// Opens a session and listens until the gateway closes it; with which code.
    pub(super) async fn listen_to_the_end(&self, token: &str) -> Option<u16> {
        let dial = Dial::new(self.address, "bob").subprotocol(&format!("notify.v1, bearer.{token}"));
        let (mut socket, _) = dial.connect().await.expect("upgraded");
        let mut code = None;
        let to_the_end = async {
            while let Some(message) = socket.next_message().await {
                if let Message::Close(Some(frame)) = message {
                    code = Some(frame.code.into());
                }
            }
        };
        within("the end", to_the_end).await;
        code
    }

    async fn open_sockets(&self, credential: &str) {
        let bearer = format!("Bearer {credential}");
        let dial = || Dial::new(self.address, "bob");
        for dial in [
            dial().header("authorization", &bearer),
            dial().header("authorization", &bearer).subprotocol("notify.v1"),
            dial().subprotocol(&format!("notify.v1, bearer.{credential}")),
            dial().subprotocol(&format!("bearer.{credential}, notify.v1")),
            dial().subprotocol("notify.v1").parameter(&format!("token={credential}")),
            dial().parameter(&format!("access_token={credential}")),
            dial()
                .subprotocol(&format!("notify.v1, bearer.{credential}"))
                .header("origin", "https://evil.example"),
            dial()
                .subprotocol(&format!("notify.v1, bearer.{credential}"))
                .header("sec-websocket-version", "8"),
        ] {
            if let Ok((mut socket, _)) = dial.connect().await {
                // A welcome or a close; more is not needed.
                socket.next_message().await;
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address))
    }

    /// Sends bytes and reads what comes first.
    async fn beginning_of(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        within("an answer", stream.read_buf(&mut answer)).await.unwrap();
        answer
    }

    /// One request with prior knowledge (RFC 9113 §3.3), written by hand: its logging is another library's.
    async fn ask_by_http2(&self, bearer: &str) {
        let authority = self.address.to_string();
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/v1/users/bob/notifications"),
            (":authority", &authority),
            ("authorization", bearer),
        ] {
            // A literal that is not indexed, with a literal name (RFC 7541 §6.2.2).
            block.push(0);
            for text in [name, value] {
                write_length(&mut block, text.len());
                block.extend(text.as_bytes());
            }
        }
        let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        write_frame(&mut request, 4, 0, 0, &[]);
        // The end of the headers and of the stream.
        write_frame(&mut request, 1, 0x5, 1, &block);
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        let body = async {
            // The answer's body is JSON, a page or a problem; every byte before it belongs to frames.
            while !answer.contains(&b'}') && answer.len() < ENOUGH {
                if stream.read_buf(&mut answer).await.unwrap() == 0 {
                    break;
                }
            }
        };
        within("an answer by HTTP/2", body).await;
        assert!(answer.contains(&b'}'), "HTTP/2 was understood: {answer:?}");
    }
}

/// Every operation, each with a body that it understands.
const OPERATIONS: [(&str, &str); 15] = [
    ("POST", "/v1/notifications"),
    ("POST", "/v1/notifications/batch"),
    ("GET", "/v1/notifications/0190a0a0-0000-7000-8000-000000000000"),
    ("DELETE", "/v1/notifications/0190a0a0-0000-7000-8000-000000000000"),
    ("GET", "/v1/users/bob"),
    ("GET", "/v1/users/bob/topics"),
    ("GET", "/v1/users/bob/notifications"),
    ("POST", "/v1/users/bob/acks"),
    ("PUT", "/v1/topics/news/subscribers"),
    ("DELETE", "/v1/topics/news/subscribers"),
    ("PUT", "/v1/topics/news/subscribers/bob"),
    ("GET", "/v1/topics/news"),
    ("DELETE", "/v1/topics/news/subscribers/bob"),
    ("DELETE", "/v1/users/carol/sessions"),
    ("DELETE", "/v1/users/carol"),
];

fn body_of(path: &str) -> String {
    let notification = json!({"to": ["bob"], "body": "x"});
    let body = match path {
        "/v1/notifications" => notification,
        "/v1/notifications/batch" => json!([notification]),
        path if path.ends_with("/subscribers") => json!(["bob"]),
        _ => json!({"position": "0000000000001-1"}),
    };
    body.to_string()
}

/// A length as RFC 7541 §5.1 writes it with a prefix of seven bits.
fn write_length(block: &mut Vec<u8>, length: usize) {
    const PREFIX: usize = 127;
    if length < PREFIX {
        block.push(length as u8);
        return;
    }
    block.push(PREFIX as u8);
    let mut rest = length - PREFIX;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

fn write_frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    bytes.extend(&length[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}
