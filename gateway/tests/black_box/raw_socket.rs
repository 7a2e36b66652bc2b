//! A WebSocket client that can break every rule: bytes go out as the test writes them, frames come in undecoded.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::process_harness::within_patience;

pub(crate) const FINAL: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A connection and what was read from it but not used yet.
pub(crate) struct RawSocket {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl RawFrame {
    /// The JSON of a text frame.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.opcode, TEXT, "{self:?}");
        serde_json::from_slice(&self.payload).unwrap()
    }

    /// The code of a close frame; 1005 if it has none.
    pub(crate) fn close_code(&self) -> u16 {
        assert_eq!(self.opcode, CLOSE, "{self:?}");
        if self.payload.is_empty() {
            return 1005;
        }
        u16::from_be_bytes([self.payload[0], self.payload[1]])
    }
}

/// The upgrade request for a user who acks by frames, so that no ping comes unasked; `extra` are whole header lines.
pub(crate) fn handshake(user: &str, extra: &str) -> String {
    format!(
        "GET /ws/{user}?ack=client HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
    )
}

/// A masked frame, as clients have to send them.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length) if length < 126 => bytes.push(FINAL | u8::try_from(length).unwrap()),
        Ok(length) => {
            bytes.push(FINAL | 126);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(FINAL | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

impl RawSocket {
    /// Connects and says nothing.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within_patience("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Connects with a receive buffer so small that a reader who does not read is noticed soon.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let stream = within_patience("a connection", socket.connect(address)).await.unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Connects, upgrades and reads the `welcome`.
    pub(crate) async fn open(address: SocketAddr, user: &str) -> Self {
        let mut socket = Self::connect(address).await;
        socket.upgrade(user).await;
        socket
    }

    /// Upgrades a connection and reads the `welcome`.
    pub(crate) async fn upgrade(&mut self, user: &str) {
        self.write(handshake(user, "Sec-WebSocket-Protocol: notify.v1\r\n").as_bytes()).await;
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(self.frame().await.json()["type"], "welcome");
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within_patience("a write", self.stream.write_all(bytes)).await.unwrap();
    }

    /// The head of an HTTP answer, in lower case but for the status line's own words.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.fill().await, "the connection ended within the head");
        }
    }

    /// An HTTP answer's head and its JSON body of announced length.
    pub(crate) async fn answer(&mut self) -> (String, Value) {
        let head = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let length: usize = length.expect("an answer announces its length").parse().unwrap();
        let body = self.take(length).await;
        (head, serde_json::from_slice(&body).unwrap())
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> RawFrame {
        let start = self.take(2).await;
        assert_eq!(start[0] & 0x70, 0, "no extension was agreed on");
        assert_eq!(start[0] & FINAL, FINAL, "the gateway does not fragment");
        assert_eq!(start[1] & FINAL, 0, "a server does not mask");
        let length = match start[1] {
            126 => {
                let length = self.take(2).await;
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            127 => {
                let length = self.take(8).await;
                usize::try_from(u64::from_be_bytes(length.try_into().unwrap())).unwrap()
            }
            short => usize::from(short),
        };
        RawFrame { opcode: start[0] & 0xf, payload: self.take(length).await }
    }

    /// Reads up to the next frame of this kind.
    pub(crate) async fn frame_of(&mut self, opcode: u8) -> RawFrame {
        loop {
            let frame = self.frame().await;
            if frame.opcode == opcode {
                return frame;
            }
        }
    }

    /// The next text frame of this `type`.
    pub(crate) async fn frame_of_type(&mut self, kind: &str) -> Value {
        loop {
            let json = self.frame_of(TEXT).await.json();
            if json["type"] == kind {
                return json;
            }
        }
    }

    /// Reads to the end, which has to come by itself and without a reset.
    pub(crate) async fn end(&mut self) {
        while self.fill().await {}
    }

    /// Reads to the end, however it comes, and returns what was read.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let reading =
            async { while self.stream.read_buf(&mut self.unread).await.is_ok_and(|count| count > 0) {} };
        within_patience("the end of the connection", reading).await;
        std::mem::take(&mut self.unread)
    }

    /// Whether nothing comes for this long.
    pub(crate) async fn is_silent_for(&mut self, duration: Duration) -> bool {
        self.unread.is_empty() && tokio::time::timeout(duration, self.fill()).await.is_err()
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.fill().await, "the connection ended; unread: {:?}", self.unread);
        }
        self.unread.drain(..length).collect()
    }

    /// Reads once; returns whether there was something.
    async fn fill(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.unread);
        within_patience("bytes", reading).await.expect("no reset") > 0
    }
}
