//! A bad network in front of a gateway: a TCP proxy that forwards, until the test has it cut, delay, fall silent or refuse.
//!
//! A connection that fell silent stays so for ever, as behind a router that forgot it; later ones are forwarded again once the
//! test says so. `line` is one connection, `tests` tries each kind of trouble with plain sockets.

mod line;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::within;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Both sides are told that the connection was reset; what was under way is lost.
    Reset,
    /// Both sides see an orderly end.
    End,
    /// It stays open, and nothing gets through any more in either direction.
    Silence,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the gateway.
    Up,
    /// To the browser.
    Down,
}

/// How new connections fare, and old ones from now on.
#[derive(Debug, Clone, Copy)]
struct Weather {
    target: SocketAddr,
    /// New connections are accepted, and that is all.
    silent: bool,
    /// A connection that asks for an upgrade is reset.
    upgrades_blocked: bool,
    /// How long everything that is forwarded waits before.
    delay: Duration,
    /// How often the test has struck all connections, and how the last time; a connection that is older than that is struck.
    strikes: u64,
    trouble: Trouble,
}

/// A trap for the connection that carries its last byte.
#[derive(Debug)]
struct Trap {
    direction: Direction,
    bytes_left: usize,
    trouble: Trouble,
}

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    /// Connections whose first request asked for a WebSocket, blocked ones included.
    pub(crate) upgrades: usize,
    /// Traps that closed.
    pub(crate) sprung: usize,
    /// The head of each connection's first request.
    pub(crate) heads: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    weather: watch::Sender<Weather>,
    seen: watch::Sender<Seen>,
    trap: Mutex<Option<Trap>>,
}

/// The proxy; its connections end with it.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// `None` while connections are refused.
    accepting: Mutex<Option<JoinHandle<()>>>,
    /// Keeps the port while nobody listens.
    place: Mutex<Option<Socket>>,
}

impl Proxy {
    /// A proxy that forwards to `target`.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let weather = Weather {
            target,
            silent: false,
            upgrades_blocked: false,
            delay: Duration::ZERO,
            strikes: 0,
            trouble: Trouble::End,
        };
        let place = bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = place.local_addr().unwrap().as_socket().expect("an address of IPv4");
        let shared = Shared {
            weather: watch::Sender::new(weather),
            seen: watch::Sender::default(),
            trap: Mutex::default(),
        };
        let proxy = Self {
            address,
            shared: Arc::new(shared),
            accepting: Mutex::default(),
            place: Mutex::new(Some(place)),
        };
        proxy.accept();
        proxy
    }

    /// Where browsers connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Waits until this holds of what was seen.
    pub(crate) async fn until(&self, what: &str, holds: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.shared.seen.subscribe();
        within(what, seen.wait_for(holds)).await.expect("the proxy is there").clone()
    }

    /// New connections lead to this gateway.
    pub(crate) fn retarget(&self, target: SocketAddr) {
        self.shared.weather.send_modify(|weather| weather.target = target);
    }

    /// Strikes every connection that is open now.
    pub(crate) fn strike(&self, trouble: Trouble) {
        self.shared.weather.send_modify(|weather| {
            weather.strikes += 1;
            weather.trouble = trouble;
        });
    }

    /// Strikes the connection that carries the last of so many bytes, from now on, that go this way.
    pub(crate) fn strike_after(&self, direction: Direction, bytes: usize, trouble: Trouble) {
        *self.shared.trap() = Some(Trap { direction, bytes_left: bytes, trouble });
    }

    /// Everything that is open falls silent, and so does everything that comes.
    pub(crate) fn fall_silent(&self) {
        self.shared.weather.send_modify(|weather| weather.silent = true);
        self.strike(Trouble::Silence);
    }

    /// What is forwarded waits so long before.
    pub(crate) fn delay(&self, delay: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Resets whoever asks for a WebSocket.
    pub(crate) fn block_upgrades(&self, blocked: bool) {
        self.shared.weather.send_modify(|weather| weather.upgrades_blocked = blocked);
    }

    /// Refuses new connections; those that are open stay.
    pub(crate) async fn refuse(&self) {
        let accepting = self.accepting.lock().unwrap().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // Once it has ended nobody listens.
            let _ = accepting.await;
            *self.place.lock().unwrap() = Some(bound(self.address));
        }
    }

    /// New connections are accepted and forwarded again.
    pub(crate) fn forward(&self) {
        self.shared.weather.send_modify(|weather| weather.silent = false);
        self.accept();
    }

    fn accept(&self) {
        let Some(place) = self.place.lock().unwrap().take() else { return };
        place.listen(BACKLOG).expect("the port is ours");
        let listener = TcpListener::from_std(place.into()).expect("a socket that does not block");
        let shared = Arc::clone(&self.shared);
        let lines = tokio::spawn(accept_all(listener, shared));
        *self.accepting.lock().unwrap() = Some(lines);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.strike(Trouble::End);
        if let Some(accepting) = self.accepting.get_mut().unwrap() {
            accepting.abort();
        }
    }
}

impl Shared {
    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap()
    }

    fn saw(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(change);
    }

    /// So many bytes go this way: how many of them still get through, and what happens behind them.
    fn carry(&self, direction: Direction, bytes: usize) -> (usize, Option<Trouble>) {
        let mut trap = self.trap();
        let Some(armed) = trap.as_mut().filter(|trap| trap.direction == direction) else {
            return (bytes, None);
        };
        if bytes < armed.bytes_left {
            armed.bytes_left -= bytes;
            return (bytes, None);
        }
        let (last, trouble) = (armed.bytes_left, armed.trouble);
        *trap = None;
        drop(trap);
        (last, Some(trouble))
    }
}

/// A socket that has the port, and on which nobody listens yet.
fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).expect("the port is free");
    socket
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.saw(|seen| seen.connections += 1);
        // By itself: refusing new connections cuts none, and what is left is struck at the end.
        tokio::spawn(line::serve(client, Arc::clone(&shared)));
    }
}
