//! Accepting connections, the way poem's own listener does not.
//!
//! Backlog 4096 (a storm of connects is not answered with one-second SYN retransmits), `TCP_NODELAY` (a push is not held
//! back by Nagle), little that is unsent in the kernel (a slow reader's backlog stays in its mailbox), a pause after a
//! failed accept instead of a busy loop, a cap below the limit of open files, and a deadline for the first request's
//! headers, so that half-sent requests do not hold descriptors for ever.

mod hang_up;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use poem::http::uri::Scheme;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::metrics::Metrics;

pub use hang_up::{HangUp, HangUps};

/// Connections the kernel completes before they are accepted; `net.core.somaxconn` may allow fewer.
pub const BACKLOG: i32 = 4_096;

/// Bytes of one connection that wait in the kernel although the client takes no more. Linux would keep up to 4 MiB: then a
/// reader that has stopped would cost that much beside its mailbox, and be noticed minutes later.
const MAX_UNSENT_BYTES: u32 = 64 * 1024;

/// How long accepting rests after an error, out of descriptors for example.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// Descriptors kept free for the log, the operator's listener and whatever libraries open.
const RESERVED_DESCRIPTORS: usize = 256;

/// The end of an HTTP/1 header block; the HTTP/2 preface contains it too.
const END_OF_HEADERS: &[u8; 4] = b"\r\n\r\n";

/// What the listener allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at the same time.
    pub max_connections: usize,
    /// Time for the first request's headers.
    pub first_request_timeout: Duration,
}

/// Accepts connections for one poem server.
pub struct BoundListener {
    listener: TcpListener,
    address: SocketAddr,
    permits: Arc<Semaphore>,
    limits: Limits,
    metrics: Arc<Metrics>,
    hang_ups: Arc<HangUps>,
}

/// A connection, counted until it is closed, upgraded sockets included.
pub struct Connection {
    stream: TcpStream,
    /// Gone once the first request's headers are complete.
    deadline: Option<Box<HeaderDeadline>>,
    metrics: Arc<Metrics>,
    remote: SocketAddr,
    hang_ups: Arc<HangUps>,
    _permit: OwnedSemaphorePermit,
}

struct HeaderDeadline {
    sleep: Pin<Box<Sleep>>,
    /// The request line has begun: blank lines before it (RFC 9112 §2.2) are no headers.
    begun: bool,
    /// How many bytes of [`END_OF_HEADERS`] the last bytes matched.
    matched: usize,
}

/// The number of connections that fits the limit of open files.
#[must_use]
pub fn connections_for(open_files: u64) -> usize {
    let open_files = usize::try_from(open_files).unwrap_or(usize::MAX);
    open_files.saturating_sub(RESERVED_DESCRIPTORS).max(16)
}

impl BoundListener {
    /// Binds the address.
    ///
    /// # Errors
    /// Whatever the operating system says, an address in use above all.
    pub fn bind(address: SocketAddr, limits: Limits, metrics: Arc<Metrics>) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Accepted connections inherit it.
        socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let address = listener.local_addr()?;
        let permits = Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS)));
        Ok(Self { listener, address, permits, limits, metrics, hang_ups: Arc::default() })
    }

    /// Where to watch its connections.
    #[must_use]
    pub fn hang_ups(&self) -> &Arc<HangUps> {
        &self.hang_ups
    }

    /// The address it listens on, with the port the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Acceptor for BoundListener {
    type Io = Connection;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![LocalAddr(self.address.into())]
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        // Beyond the cap nobody is accepted: the kernel's queue holds them until a descriptor is free.
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, remote) = loop {
            match self.listener.accept().await {
                Ok(accepted) => break accepted,
                Err(error) => {
                    self.metrics.accept_errors.inc();
                    tracing::debug!(%error, "could not accept a connection; pausing");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        };
        // Fails only for a connection that is gone already; its first read will say so.
        let _ = stream.set_nodelay(true);
        self.metrics.connections.inc();
        let sleep = Box::pin(tokio::time::sleep(self.limits.first_request_timeout));
        let connection = Connection {
            stream,
            deadline: Some(Box::new(HeaderDeadline { sleep, begun: false, matched: 0 })),
            metrics: Arc::clone(&self.metrics),
            remote,
            hang_ups: Arc::clone(&self.hang_ups),
            _permit: permit,
        };
        Ok((connection, LocalAddr(self.address.into()), RemoteAddr(remote.into()), Scheme::HTTP))
    }
}

impl HeaderDeadline {
    /// Whether the header block ends within these bytes.
    fn ends_in(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            self.begun |= !matches!(byte, b'\r' | b'\n');
            if !self.begun {
                continue;
            }
            self.matched = if *byte == END_OF_HEADERS[self.matched] {
                self.matched + 1
            } else {
                usize::from(*byte == END_OF_HEADERS[0])
            };
            if self.matched == END_OF_HEADERS.len() {
                return true;
            }
        }
        false
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(deadline) = &mut this.deadline else {
            let before = buffer.filled().len();
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, buffer));
            let at_end = buffer.filled().len() == before && buffer.remaining() > 0;
            if at_end || read.is_err() {
                this.hang_ups.tell(this.remote);
            }
            return Poll::Ready(read);
        };
        if deadline.sleep.as_mut().poll(context).is_ready() {
            this.metrics.first_request_timeouts.inc();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        if deadline.ends_in(&buffer.filled()[before..]) {
            this.deadline = None;
        }
        Poll::Ready(Ok(()))
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
        self.metrics.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline() -> HeaderDeadline {
        HeaderDeadline {
            sleep: Box::pin(tokio::time::sleep(Duration::from_secs(60))),
            begun: false,
            matched: 0,
        }
    }

    #[tokio::test]
    async fn the_end_of_the_headers_is_found_however_the_bytes_arrive() {
        let request = b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n";
        for cut in 0..request.len() {
            let mut deadline = deadline();
            let early = deadline.ends_in(&request[..cut]);
            assert!(!early, "cut at {cut}");
            assert!(deadline.ends_in(&request[cut..]), "cut at {cut}");
        }
        assert!(!deadline().ends_in(b"GET / HTTP/1.1\r\nHost: x\r\n"));
    }

    #[test]
    fn the_cap_leaves_descriptors_free() {
        assert_eq!(connections_for(20_000), 19_744);
        assert_eq!(connections_for(100), 16);
    }
}
