//! Well-behaved clients beside an attack: each sends at an even rate and receives what it sends, over connections of its own.
//!
//! They block on threads of their own, so that what they measure is the gateway's delay and not that of a runtime full of
//! attackers. A notification's text is the moment when it was due, from which its latency counts.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::time::Instant;

use super::target::Target;
use super::wire::{CLOSE, FINAL, Tally, masked, post, upgrade};

const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// How long a receiver waits for the last ones once its sender has stopped.
const LAST_CALL: Duration = Duration::from_secs(20);

/// How long any single read may take; a sender whose request takes longer gives it up.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a receiver looks whether its sender has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is not known yet.
const UNKNOWN: usize = usize::MAX;

/// Some of them at work.
pub(crate) struct Bystanders {
    pairs: Vec<Pair>,
}

struct Pair {
    stop: mpsc::Sender<()>,
    sending: JoinHandle<Sent>,
    receiving: JoinHandle<Received>,
}

/// One notification that came: when it was due, and how long it took from then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) due: Instant,
    pub(crate) latency: Duration,
}

/// What became of everything they did.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Notifications answered with 202.
    pub(crate) accepted: usize,
    /// Requests that were answered otherwise, or not at all.
    pub(crate) not_accepted: Tally,
    /// Accepted ones that never came.
    pub(crate) lost: usize,
    /// Those that came twice.
    pub(crate) twice: usize,
    /// How receivers' sockets broke, if they did.
    pub(crate) broken: Vec<String>,
    pub(crate) arrivals: Vec<Arrival>,
}

struct Sent {
    accepted: Vec<u64>,
    not_accepted: Tally,
}

struct Received {
    arrivals: Vec<Arrival>,
    known: HashSet<u64>,
    twice: usize,
    broken: Option<String>,
}

/// A receiving socket.
struct Listening {
    stream: TcpStream,
    unread: Vec<u8>,
    origin: Instant,
    /// How many its sender had accepted when it stopped.
    expected: Arc<AtomicUsize>,
}

impl Bystanders {
    /// Starts so many pairs, each of which sends so often a second.
    pub(crate) fn start(target: &Target, pairs: u8, rate: u32) -> Self {
        let origin = Instant::now();
        let pairs = (1..=pairs).map(|number| {
            let user = format!("bystander-{number}");
            let from = Ipv4Addr::new(127, 0, 1, number);
            let connect = || connect(from, target.http).expect("a calm gateway accepts");
            let expected = Arc::new(AtomicUsize::new(UNKNOWN));
            let mut listening =
                Listening { stream: connect(), unread: Vec::new(), origin, expected: Arc::clone(&expected) };
            listening.open(&user, &target.user(&user)).expect("a calm gateway opens a socket");
            let receiving = std::thread::spawn(move || listening.receive());
            let (stop, stopped) = mpsc::channel();
            let (stream, http, sender) = (connect(), target.http, target.sender());
            let sending = std::thread::spawn(move || {
                let request = |stamp: u64| {
                    let body = format!(r#"{{"to":["{user}"],"body":"{stamp:020}","ttl_seconds":5}}"#);
                    post("/v1/notifications", &sender, &body)
                };
                let sent = send(stream, (from, http), &request, (origin, rate), &stopped);
                expected.store(sent.accepted.len(), Ordering::Release);
                sent
            });
            Pair { stop, sending, receiving }
        });
        Self { pairs: pairs.collect() }
    }

    /// Stops sending, waits for what is under way, and says what became of everything.
    pub(crate) fn finish(self) -> Seen {
        let mut seen = Seen::default();
        for pair in &self.pairs {
            // A sender that has panicked says so when it is joined.
            let _ = pair.stop.send(());
        }
        for pair in self.pairs {
            let sent = pair.sending.join().expect("senders do not panic");
            let received = pair.receiving.join().expect("receivers do not panic");
            seen.accepted += sent.accepted.len();
            seen.lost += sent.accepted.iter().filter(|stamp| !received.known.contains(stamp)).count();
            seen.twice += received.twice;
            seen.broken.extend(received.broken);
            seen.arrivals.extend(received.arrivals);
            sent.not_accepted
                .into_iter()
                .for_each(|(what, count)| *seen.not_accepted.entry(what).or_default() += count);
        }
        seen.arrivals.sort_by_key(|arrival| arrival.due);
        seen
    }
}

/// Sends until it is told to stop; the stop is what it waits for between two sends.
fn send(
    mut stream: TcpStream,
    (from, to): (Ipv4Addr, SocketAddr),
    request: &dyn Fn(u64) -> Vec<u8>,
    (origin, rate): (Instant, u32),
    stopped: &mpsc::Receiver<()>,
) -> Sent {
    let mut sent = Sent { accepted: Vec::new(), not_accepted: Tally::new() };
    let mut due = Instant::now();
    loop {
        let wait = due.saturating_duration_since(Instant::now());
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return sent;
        }
        let stamp = nanoseconds(due.duration_since(origin));
        due += Duration::from_secs(1) / rate;
        match exchange(&mut stream, &request(stamp)) {
            Ok(202) => sent.accepted.push(stamp),
            Ok(status) => *sent.not_accepted.entry(status.to_string()).or_default() += 1,
            Err(error) => {
                *sent.not_accepted.entry(error.kind().to_string()).or_default() += 1;
                // The next one is sent over another connection, if there is one.
                if let Ok(another) = connect(from, to) {
                    stream = another;
                }
            }
        }
    }
}

fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<u16> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    loop {
        let mut part = [0; 4_096];
        let read = stream.read(&mut part)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            return status.ok_or_else(|| io::Error::other("no status"));
        }
    }
}

impl Listening {
    fn open(&mut self, user: &str, credential: &str) -> io::Result<()> {
        self.stream.write_all(upgrade(user, credential).as_bytes())?;
        loop {
            self.fill()?;
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                let is_open = head.starts_with(b"HTTP/1.1 101");
                return if is_open { Ok(()) } else { Err(io::Error::other("it is refused")) };
            }
        }
    }

    /// Receives until everything has come that its sender knows to be accepted, or nothing comes any more.
    fn receive(mut self) -> Received {
        let mut received = Received { arrivals: Vec::new(), known: HashSet::new(), twice: 0, broken: None };
        let mut stopped_at = None;
        self.stream.set_read_timeout(Some(LOOK_EVERY)).expect("not zero");
        loop {
            let expected = self.expected.load(Ordering::Acquire);
            if expected != UNKNOWN {
                let stopped_at = *stopped_at.get_or_insert_with(Instant::now);
                if received.known.len() >= expected || stopped_at.elapsed() > LAST_CALL {
                    return received;
                }
            }
            match self.fill() {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => {
                    received.broken = Some(error.to_string());
                    return received;
                }
            }
            if let Err(error) = self.take_frames(&mut received) {
                received.broken = Some(error.to_string());
                return received;
            }
        }
    }

    fn take_frames(&mut self, received: &mut Received) -> io::Result<()> {
        let now = Instant::now();
        while let Some((first, payload)) = self.frame() {
            match first & 0xf {
                PING => self.stream.write_all(&masked(FINAL | PONG, &payload))?,
                CLOSE => return Err(io::Error::other(format!("closed: {payload:?}"))),
                _ => {
                    let text = String::from_utf8_lossy(&payload);
                    if text.starts_with(r#"{"type":"gap""#) {
                        return Err(io::Error::other(text.into_owned()));
                    }
                    let stamp =
                        text.split(r#""body":""#).nth(1).and_then(|rest| rest.get(..20)?.parse().ok());
                    let Some(stamp) = stamp else { continue };
                    if !received.known.insert(stamp) {
                        received.twice += 1;
                        continue;
                    }
                    let due = self.origin + Duration::from_nanos(stamp);
                    let latency = now.saturating_duration_since(due);
                    received.arrivals.push(Arrival { due, latency });
                }
            }
        }
        Ok(())
    }

    /// A whole frame out of what was read: its first byte and its payload.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, length, header) = match *self.unread {
            [first, 126, high, low, ..] => (first, usize::from(u16::from_be_bytes([high, low])), 4),
            // A notification of a bystander is far shorter.
            [first, length, ..] if length < 126 => (first, usize::from(length), 2),
            _ => return None,
        };
        if self.unread.len() < header + length {
            return None;
        }
        let payload = self.unread[header..header + length].to_vec();
        self.unread.drain(..header + length);
        Some((first, payload))
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut part = [0; 4_096];
        let read = self.stream.read(&mut part)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend_from_slice(&part[..read]);
        Ok(())
    }
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    socket.set_tcp_nodelay(true)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    Ok(stream)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("centuries")
}
