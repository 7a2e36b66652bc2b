//! A client's end of a connection, for clients that mean harm: bytes go out as they are, and every error is an answer.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

pub(crate) const FINAL: u8 = 0x80;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;

/// No attacker waits longer for anything: a gateway that hangs is a finding, not a reason to hang, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// What attackers met with, and how often.
pub(crate) type Tally = BTreeMap<String, usize>;

/// A connection and what was read from it but not used yet.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A masked frame, as clients have to send them; the mask is zero, so that the payload stands as it is.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length) if length < 126 => bytes.push(FINAL | payload.len().to_le_bytes()[0]),
        Ok(length) => {
            bytes.push(FINAL | 126);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(FINAL | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// An upgrade request; `extra` are whole header lines.
pub(crate) fn upgrade(user: &str, extra: &str) -> String {
    format!(
        "GET /ws/{user} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: notify.v1\r\n{extra}\r\n"
    )
}

/// A POST of JSON; `extra` are whole header lines.
pub(crate) fn post(path: &str, extra: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{extra}\r\n"
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// An address of this machine: attackers come from several, so that the ports of one do not run out.
pub(crate) fn somebody(number: usize) -> Ipv4Addr {
    let [low, high, ..] = number.to_le_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

impl Wire {
    /// Connects from an address of this machine.
    pub(crate) async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        Self::connect_with(from, to, None).await
    }

    /// Likewise, with a receive buffer so small that one who does not read is noticed soon.
    pub(crate) async fn connect_narrow(from: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        Self::connect_with(from, to, Some(4_096)).await
    }

    async fn connect_with(from: Ipv4Addr, to: SocketAddr, receive_buffer: Option<u32>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.set_reuseaddr(true)?;
        socket.bind((IpAddr::V4(from), 0).into())?;
        let stream = within(socket.connect(to)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        within(self.stream.write_all(bytes)).await
    }

    /// Opens a socket and reads its welcome.
    pub(crate) async fn open(&mut self, user: &str, extra: &str) -> io::Result<()> {
        self.send(upgrade(user, extra).as_bytes()).await?;
        let status = self.status().await?;
        if status != 101 {
            return Err(io::Error::other(format!("status {status}")));
        }
        let (opcode, payload) = self.frame().await?;
        if opcode == TEXT && payload.starts_with(b"{\"type\":\"welcome\"") {
            return Ok(());
        }
        let code = if opcode == CLOSE { code_of(&payload) } else { self.close_code().await? };
        Err(io::Error::other(format!("closed {code}")))
    }

    /// The status of the next answer; its body, if its length is announced, is read and thrown away.
    pub(crate) async fn status(&mut self) -> io::Result<u16> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        self.take(end + length.unwrap_or(0)).await?;
        status.ok_or_else(|| io::Error::other("no status"))
    }

    /// Sends a byte now and then until there is an answer; returns its status.
    pub(crate) async fn drip(&mut self, every: Duration) -> io::Result<u16> {
        loop {
            if let Ok(status) = tokio::time::timeout(every, self.status()).await {
                return status;
            }
            self.send(b"x").await?;
        }
    }

    /// Reads nothing and sends these bytes now and then, until the other end is gone or the time is over; returns whether it
    /// is gone.
    pub(crate) async fn prod(&mut self, bytes: &[u8], every: Duration, until: Instant) -> bool {
        let mut interval = tokio::time::interval(every);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = tokio::time::sleep_until(until) => return false,
            }
            // A connection that takes no bytes is not gone.
            if let Err(error) = self.stream.try_write(bytes)
                && error.kind() != io::ErrorKind::WouldBlock
            {
                return true;
            }
        }
    }

    /// The next frame: its opcode and its payload.
    pub(crate) async fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let start = self.take(2).await?;
        let length = match start[1] {
            126 => self.take(2).await?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            127 => self.take(8).await?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            short => usize::from(short),
        };
        Ok((start[0] & 0xf, self.take(length).await?))
    }

    /// Reads up to the close frame and returns its code.
    pub(crate) async fn close_code(&mut self) -> io::Result<u16> {
        loop {
            let (opcode, payload) = self.frame().await?;
            if opcode == CLOSE {
                return Ok(code_of(&payload));
            }
        }
    }

    /// Waits until the other end is gone, however it goes.
    pub(crate) async fn gone(&mut self) {
        while self.fill().await.is_ok() {
            self.unread.clear();
        }
    }

    /// Goes away with a reset, as an attacker does who wants his port back.
    pub(crate) fn reset(self) {
        // A connection that is gone already needs none.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < length {
            self.fill().await?;
        }
        Ok(self.unread.drain(..length).collect())
    }

    async fn fill(&mut self) -> io::Result<()> {
        if within(self.stream.read_buf(&mut self.unread)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// What an attacker met with, in a word.
pub(crate) fn told(result: io::Result<u16>) -> String {
    match result {
        Ok(number) => number.to_string(),
        Err(error) if error.kind() == io::ErrorKind::Other => error.to_string(),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => "nothing".to_owned(),
        Err(_) => "cut".to_owned(),
    }
}

/// Adds up what several attackers met with.
pub(crate) fn tally(told: impl IntoIterator<Item = String>) -> Tally {
    let mut tally = Tally::new();
    told.into_iter().for_each(|one| *tally.entry(one).or_default() += 1);
    tally
}

fn code_of(payload: &[u8]) -> u16 {
    match payload {
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 1005,
    }
}

async fn within<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}
