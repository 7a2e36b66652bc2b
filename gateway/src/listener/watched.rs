//! Streams whose deadlines are kept: around a connection, or around the TLS on it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use poem::http::uri::Scheme;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::hang_up::{Connected, HangUps};
use super::watch::{Deadlines, Watch};
use crate::metrics::{Limit, Metrics};

/// What a request with too large a head is told; hyper knows nothing of our limit.
const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// How long such a client is listened to: closing at once would reset the connection before it has read its answer.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Accepts what another one accepts, and keeps the deadlines of each connection.
pub struct Watching<A> {
    inner: A,
    rules: Arc<Rules>,
}

/// A stream of bytes whose deadlines are kept until it is upgraded; then it costs one empty pointer.
pub struct Watched<S> {
    stream: S,
    guard: Option<Box<Guard>>,
}

struct Rules {
    deadlines: Deadlines,
    hang_ups: Arc<HangUps>,
    metrics: Arc<Metrics>,
}

struct Guard {
    rules: Arc<Rules>,
    /// Where others reach this connection, if its client has an address.
    connected: Option<Connected>,
    watch: Watch,
    /// Rings no later than the next deadline; that it rings too early is found out then.
    sleep: Pin<Box<Sleep>>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Open,
    /// So many bytes of [`TOO_LARGE`] are written.
    Refusing(usize),
    /// They are written; the client is listened to.
    Refused,
    /// poem asks again after an error: it gets the same answer.
    Ended(io::ErrorKind),
}

impl<A> Watching<A> {
    /// Keeps these deadlines for what `inner` accepts, and tells whose client sends no more.
    pub fn new(inner: A, deadlines: Deadlines, hang_ups: Arc<HangUps>, metrics: Arc<Metrics>) -> Self {
        Self { inner, rules: Arc::new(Rules { deadlines, hang_ups, metrics }) }
    }
}

impl<A: Acceptor> Acceptor for Watching<A> {
    type Io = Watched<A::Io>;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.inner.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        let (stream, local, remote, scheme) = self.inner.accept().await?;
        let watch = Watch::new(&self.rules.deadlines, Instant::now());
        let sleep = Box::pin(tokio::time::sleep_until(watch.next(&self.rules.deadlines).0));
        let connected = remote.as_socket_addr().map(|remote| self.rules.hang_ups.enter(*remote));
        let guard = Guard { rules: Arc::clone(&self.rules), connected, watch, sleep, state: State::Open };
        Ok((Watched { stream, guard: Some(Box::new(guard)) }, local, remote, scheme))
    }
}

impl Guard {
    /// Fails once a deadline has passed or somebody has broken the connection off; otherwise the task is woken then.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.state {
            State::Open => {}
            // Reading keeps the deadline of a refusal.
            State::Refusing(_) | State::Refused => return Ok(()),
            State::Ended(kind) => return Err(kind.into()),
        }
        if self.connected.as_mut().is_some_and(|connected| connected.is_broken(context)) {
            return Err(self.end(io::ErrorKind::ConnectionAborted));
        }
        loop {
            let (deadline, overdue) = self.watch.next(&self.rules.deadlines);
            if deadline < self.sleep.deadline() {
                self.sleep.as_mut().reset(deadline);
            }
            if self.sleep.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            if deadline <= self.sleep.deadline() {
                overdue.count(&self.rules.metrics);
                return Err(self.end(io::ErrorKind::TimedOut));
            }
            self.sleep.as_mut().reset(deadline);
        }
    }

    /// Like [`Guard::check`]; whatever else is written would mix with a refusal.
    fn check_write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.check(context)?;
        if matches!(self.state, State::Open) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// TLS has an end of its own before that of the connection below: both are seen here.
    fn hung_up(&self) {
        if let Some(connected) = &self.connected {
            connected.tell();
        }
    }

    fn end(&mut self, kind: io::ErrorKind) -> io::Error {
        self.state = State::Ended(kind);
        kind.into()
    }

    /// Begins to tell the client that its head is too large, if nothing else is being said to it.
    fn refuse(&mut self) {
        self.rules.metrics.limited.of(Limit::HeaderSize).inc();
        if self.watch.owes_nothing() {
            self.state = State::Refusing(0);
            self.sleep.as_mut().reset(Instant::now() + REFUSAL_TIMEOUT);
        } else {
            self.end(io::ErrorKind::InvalidData);
        }
    }

    /// Says so and waits for the client to hang up; never succeeds.
    fn poll_refusal<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        mut stream: Pin<&mut S>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Error> {
        if self.sleep.as_mut().poll(context).is_ready() {
            return Poll::Ready(self.end(io::ErrorKind::InvalidData));
        }
        while let State::Refusing(written) = self.state {
            if written == TOO_LARGE.len() {
                // Whether that works shows when the client is listened to.
                let _ = ready!(stream.as_mut().poll_shutdown(context));
                self.state = State::Refused;
                break;
            }
            match ready!(stream.as_mut().poll_write(context, &TOO_LARGE[written..])) {
                Ok(more) if more > 0 => self.state = State::Refusing(written + more),
                _ => return Poll::Ready(self.end(io::ErrorKind::InvalidData)),
            }
        }
        let before = buffer.filled().len();
        loop {
            let read = ready!(stream.as_mut().poll_read(context, buffer));
            let at_end = buffer.filled().len() == before;
            // Nobody above is to see the rest.
            buffer.set_filled(before);
            if at_end || read.is_err() {
                return Poll::Ready(self.end(io::ErrorKind::InvalidData));
            }
        }
    }

    /// Notes how a write went; returns whether the connection is upgraded by it.
    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        offered: &[u8],
        result: &Poll<io::Result<usize>>,
    ) -> io::Result<bool> {
        match result {
            Poll::Ready(Ok(written)) => {
                self.set_stalled(false);
                Ok(self.watch.wrote(offered, *written, &self.rules.deadlines, Instant::now()))
            }
            Poll::Ready(Err(_)) => Ok(false),
            Poll::Pending => self.waits(context).map(|()| false),
        }
    }

    /// Notes whether what was written has left.
    fn flushed(&mut self, context: &mut Context<'_>, result: &Poll<io::Result<()>>) -> io::Result<()> {
        if result.is_ready() {
            self.watch.flushed();
            self.set_stalled(false);
            return Ok(());
        }
        self.waits(context)
    }

    /// The client takes no bytes: fails once it has not for too long, or nobody waits for it any more.
    fn waits(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.watch.stalled(Instant::now());
        self.set_stalled(true);
        self.check(context)
    }

    fn set_stalled(&self, is_stalled: bool) {
        if let Some(connected) = &self.connected {
            connected.set_stalled(is_stalled);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, guard } = &mut *self;
        let Some(guard) = guard else { return Pin::new(stream).poll_read(context, buffer) };
        if matches!(guard.state, State::Open) {
            guard.check(context)?;
            let before = buffer.filled().len();
            let result = ready!(Pin::new(&mut *stream).poll_read(context, buffer));
            let read = &buffer.filled()[before..];
            if read.is_empty() && buffer.remaining() > 0 || result.is_err() {
                guard.hung_up();
                return Poll::Ready(result);
            }
            if guard.watch.read(read, &guard.rules.deadlines, Instant::now()).is_ok() {
                return Poll::Ready(Ok(()));
            }
            buffer.set_filled(before);
            guard.refuse();
        }
        if let State::Ended(kind) = guard.state {
            return Poll::Ready(Err(kind.into()));
        }
        guard.poll_refusal(Pin::new(stream), context, buffer).map(Err)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, guard: place } = &mut *self;
        let Some(guard) = place else { return Pin::new(stream).poll_write(context, bytes) };
        guard.check_write(context)?;
        let result = Pin::new(stream).poll_write(context, bytes);
        if guard.wrote(context, bytes, &result)? {
            *place = None;
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, guard: place } = &mut *self;
        let Some(guard) = place else { return Pin::new(stream).poll_write_vectored(context, slices) };
        guard.check_write(context)?;
        let result = Pin::new(stream).poll_write_vectored(context, slices);
        // An answer's head comes in one piece.
        let offered = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        if guard.wrote(context, offered, &result)? {
            *place = None;
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, guard } = &mut *self;
        let Some(guard) = guard else { return Pin::new(stream).poll_flush(context) };
        guard.check(context)?;
        let result = Pin::new(stream).poll_flush(context);
        guard.flushed(context, &result)?;
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, guard } = &mut *self;
        let Some(guard) = guard else { return Pin::new(stream).poll_shutdown(context) };
        guard.check(context)?;
        let result = Pin::new(stream).poll_shutdown(context);
        guard.flushed(context, &result)?;
        result
    }
}
