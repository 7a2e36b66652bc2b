//! Clients that cost as little as possible, so that the gateway is what is measured: HTTP/1.1 and WebSocket by hand.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A keep-alive connection that POSTs.
pub(crate) struct Poster {
    stream: TcpStream,
    host: String,
    answer: Vec<u8>,
}

/// A receiving socket.
pub(crate) struct Receiver {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out.
    read: usize,
}

impl Poster {
    pub(crate) async fn connect(host: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: host.to_owned(), answer: Vec::with_capacity(4_096) })
    }

    /// The bytes of a POST.
    pub(crate) fn request(&self, path: &str, body: &str) -> Vec<u8> {
        self.request_with("POST", path, body)
    }

    fn request_with(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        let host = &self.host;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body.as_bytes()].concat()
    }

    /// Sends the bytes of a request and reads the answer; panics unless it is a 2xx.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = find(&self.answer, b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.answer[..end]).expect("headers are text");
                assert!(head.starts_with("HTTP/1.1 20"), "{}", String::from_utf8_lossy(&self.answer));
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                });
                let length: usize = length.expect("a length");
                while self.answer.len() < end + 4 + length {
                    self.stream.read_buf(&mut self.answer).await?;
                }
                return Ok(());
            }
        }
    }

    pub(crate) async fn put(&mut self, path: &str, body: &str) -> io::Result<()> {
        let request = self.request_with("PUT", path, body);
        self.send(&request).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> io::Result<()> {
        let request = self.request(path, body);
        self.send(&request).await
    }
}

impl Receiver {
    /// Opens a socket and reads its welcome.
    pub(crate) async fn connect(host: &str, user: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /ws/{user}?after=now HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut receiver = Self { stream, buffer: Vec::with_capacity(512), read: 0 };
        let end = loop {
            receiver.fill().await?;
            if let Some(end) = find(&receiver.buffer, b"\r\n\r\n") {
                break end;
            }
        };
        assert!(
            receiver.buffer.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&receiver.buffer)
        );
        receiver.read = end + 4;
        let welcome = receiver.text().await?;
        assert!(welcome.starts_with(b"{\"type\":\"welcome\""));
        Ok(receiver)
    }

    /// The next text frame that is no heartbeat.
    pub(crate) async fn text(&mut self) -> io::Result<&[u8]> {
        let (start, end) = loop {
            match self.frame() {
                Some((0x81, start, end))
                    if !self.buffer[start..end].starts_with(b"{\"type\":\"heartbeat") =>
                {
                    break (start, end);
                }
                Some((0x89, start, end)) => {
                    // Masked with zeros: the payload as it came, which is what acks.
                    let length = u8::try_from(end - start).expect("a ping is short");
                    let pong = [&[0x8a, 0x80 | length, 0, 0, 0, 0], &self.buffer[start..end]].concat();
                    self.stream.write_all(&pong).await?;
                }
                Some((0x88, ..)) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Some(_) => {}
                None => self.fill().await?,
            }
        };
        Ok(&self.buffer[start..end])
    }

    /// Takes a whole frame out of the buffer: first byte, start and end of its payload.
    fn frame(&mut self) -> Option<(u8, usize, usize)> {
        let rest = &self.buffer[self.read..];
        let (first, length, header) = match *rest {
            [first, 126, high, low, ..] => (first, usize::from(u16::from_be_bytes([high, low])), 4),
            [first, 127, _, _, _, _, a, b, c, d, ..] => {
                (first, u32::from_be_bytes([a, b, c, d]) as usize, 10)
            }
            [first, length, ..] if length < 126 => (first, usize::from(length), 2),
            _ => return None,
        };
        if rest.len() < header + length {
            return None;
        }
        let start = self.read + header;
        self.read = start + length;
        Some((first, start, start + length))
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.read);
        self.read = 0;
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// One sample of `/metrics`.
pub(crate) async fn metric(ops: &str, name: &str) -> f64 {
    let text = reqwest::get(format!("http://{ops}/metrics"))
        .await
        .expect("it answers")
        .text()
        .await
        .expect("with text");
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("the metric exists")
}
