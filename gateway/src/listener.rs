//! Accepting connections, the way poem's own listener does not.
//!
//! Backlog 4096 (a storm of connects is not answered with one-second SYN retransmits), `TCP_NODELAY` (a push is not held
//! back by Nagle), little that is unsent in the kernel (a slow reader's backlog stays in its mailbox), a pause after a
//! failed accept instead of a busy loop, a cap below the limit of open files, and bounds on what one address may open.
//! [`Watching`] keeps the deadlines of whatever is accepted, so that nobody holds a descriptor for ever without using it.

mod addresses;
mod framing;
mod hang_up;
mod tls;
mod watch;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use poem::http::uri::Scheme;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;

pub use addresses::{AddressRules, ClientAddresses};
pub use hang_up::{BreakOff, HangUp, HangUps};
pub use tls::{Tls, TlsError};
pub use watch::Deadlines;
pub use watched::{Watched, Watching};

/// Connections the kernel completes before they are accepted; `net.core.somaxconn` may allow fewer.
pub const BACKLOG: i32 = 4_096;

/// Bytes of one connection that wait in the kernel although the client takes no more. Linux would keep up to 4 MiB: then a
/// reader that has stopped would cost that much beside its mailbox, and be noticed minutes later.
const MAX_UNSENT_BYTES: u32 = 64 * 1024;

/// How long accepting rests after an error, out of descriptors for example.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// Descriptors kept free for the log, the operator's listener and whatever libraries open.
const RESERVED_DESCRIPTORS: usize = 256;

/// Accepts connections for one poem server.
pub struct BoundListener {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A connection, counted until it is closed, upgraded sockets included.
pub struct Connection {
    stream: TcpStream,
    remote: SocketAddr,
    shared: Arc<Shared>,
}

/// What the connections of one listener have in common.
struct Shared {
    /// One for each connection that may still be accepted.
    permits: Semaphore,
    clients: Arc<ClientAddresses>,
    metrics: Arc<Metrics>,
}

/// The number of connections that fits the limit of open files.
#[must_use]
pub fn connections_for(open_files: u64) -> usize {
    let open_files = usize::try_from(open_files).unwrap_or(usize::MAX);
    open_files.saturating_sub(RESERVED_DESCRIPTORS).max(16)
}

impl BoundListener {
    /// Binds the address, for at most `max_connections` at the same time.
    ///
    /// # Errors
    /// Whatever the operating system says, an address in use above all.
    pub fn bind(
        address: SocketAddr,
        max_connections: usize,
        clients: Arc<ClientAddresses>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Accepted connections inherit it.
        socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let address = listener.local_addr()?;
        let permits = Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS));
        let shared = Shared { permits, clients, metrics };
        Ok(Self { listener, address, shared: Arc::new(shared) })
    }

    /// The address it listens on, with the port the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection of somebody who may have one.
    async fn accept_allowed(&self) -> (TcpStream, SocketAddr) {
        let Shared { clients, metrics, .. } = &*self.shared;
        loop {
            let (stream, remote) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    metrics.accept_errors.inc();
                    tracing::debug!(%error, "could not accept a connection; pausing");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                    continue;
                }
            };
            match clients.enter(remote.ip()) {
                Ok(()) => return (stream, remote),
                Err(limit) => {
                    metrics.limited.of(limit).inc();
                    // A reset costs one packet and leaves no TIME_WAIT. Without it the connection is closed all the same.
                    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
            }
        }
    }
}

impl Acceptor for BoundListener {
    type Io = Connection;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![LocalAddr(self.address.into())]
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        // Beyond the cap nobody is accepted: the kernel's queue holds them until a descriptor is free.
        let permit = self.shared.permits.acquire().await.map_err(io::Error::other)?;
        let (stream, remote) = self.accept_allowed().await;
        // Fails only for a connection that is gone already; its first read will say so.
        let _ = stream.set_nodelay(true);
        // The connection gives it back.
        permit.forget();
        self.shared.metrics.connections.inc();
        let connection = Connection { stream, remote, shared: Arc::clone(&self.shared) };
        Ok((connection, LocalAddr(self.address.into()), RemoteAddr(remote.into()), Scheme::HTTP))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.metrics.connections.dec();
        self.shared.clients.leave(self.remote.ip());
        self.shared.permits.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_leaves_descriptors_free() {
        assert_eq!(connections_for(20_000), 19_744);
        assert_eq!(connections_for(100), 16);
    }
}
