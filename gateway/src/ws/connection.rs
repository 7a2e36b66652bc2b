//! The inside of a session: the one task that touches the socket.
//!
//! No second task, no channel, no split: the task waits for five inputs, pulls from the mailbox when it is woken and only
//! while nothing waits to be sent, and flushes once a pull. A reader that is slow therefore lags behind in its mailbox and
//! costs nobody anything.

mod inbound;
mod leave;
mod refresh;
mod sink;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use poem::Upgraded;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};

use super::Sockets;
use super::outbox::Outbox;
use super::session::{Ask, Beat, Inbound, Session};
use crate::auth::Authority;
use crate::delivery::{Pull, Subscription};
use crate::domain::{Position, TraceContext};
use crate::edge::{AckMode, Progress, Standing};
use crate::metrics::{AckSource, Direction};
use crate::protocol::{CloseCode, Initiator, ServerFrame};
use inbound::Bounds;
pub(super) use inbound::READ_BUFFER_BYTES;
pub use inbound::websocket_config;
use sink::Sink;

/// A socket and its session.
pub(super) struct Connection<'a> {
    stream: Upgraded,
    websocket: WebSocketContext,
    outbox: Outbox,
    session: Session,
    subscription: Subscription,
    timer: Pin<Box<Sleep>>,
    /// The pull was cut short by its limits: pull again once this is flushed.
    more: bool,
    progress: Progress,
    /// What the client may still say.
    bounds: Bounds,
    standing: Standing,
    sockets: &'a Sockets,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The gateway closes with this code.
    Server(CloseCode),
    /// The client closed, with this code if it gave one.
    Client(Option<u16>),
    /// The connection broke.
    Network,
}

/// What the task woke up for.
enum Event {
    /// Everything in the outbox was sent.
    Flushed,
    /// The client sent something, or the connection is gone.
    Inbound(Inbound),
    /// Somebody asks the session to end.
    CloseRequested(CloseCode),
    /// The mailbox may have more.
    Woken,
    /// It is time for a heartbeat, or to give up.
    Timer,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        stream: Upgraded,
        subscription: Subscription,
        (acks, authority): (AckMode, Authority),
        sockets: &'a Sockets,
    ) -> Self {
        let now = Instant::now();
        let standing = Standing::new(authority, sockets.delivery.clock().now_ms(), now);
        let session = Session::new(
            sockets.heartbeat,
            sockets.write_timeout,
            acks,
            subscription.position().number,
            now,
            subscription.handle().id().0 ^ sockets.seed,
        );
        let timer = Box::pin(tokio::time::sleep_until(standing.earlier(session.deadline())));
        Self {
            stream,
            websocket: WebSocketContext::new(Role::Server, Some(websocket_config(sockets.max_inbound_frame))),
            outbox: Outbox::default(),
            session,
            subscription,
            timer,
            more: false,
            progress: Progress::default(),
            bounds: Bounds::new(sockets),
            standing,
            sockets,
        }
    }

    /// Serves the socket until either side ends it; [`Connection::finish`] then says goodbye.
    pub(super) async fn serve(&mut self) -> End {
        self.welcome();
        // In the same flush: a break must not separate the welcome from a gap that only the attach knows of.
        if let Err(end) = self.pull().await {
            return end;
        }
        loop {
            if let Some(end) = self.step().await {
                return end;
            }
            // A client that floods must not keep this thread: a single read may hold a hundred frames.
            consume_budget().await;
        }
    }

    /// Whose session it is.
    pub(super) fn user(&self) -> &str {
        self.subscription.user()
    }

    fn welcome(&mut self) {
        let heartbeat_ms = u64::try_from(self.sockets.heartbeat.as_millis()).unwrap_or(u64::MAX);
        let welcome = ServerFrame::Welcome {
            session: format!("{:016x}", self.subscription.handle().id().0 ^ self.sockets.seed),
            user: self.subscription.user(),
            position: self.subscription.position(),
            head: self.subscription.head(),
            heartbeat_ms,
        };
        self.outbox.text(|out| out.extend(welcome.to_json()));
    }

    /// Waits for one event and deals with it.
    async fn step(&mut self) -> Option<End> {
        match poll_fn(|context| self.poll_event(context)).await {
            Event::Flushed => {
                self.count_written();
                if std::mem::take(&mut self.more) { self.pull().await.err() } else { None }
            }
            Event::Woken => self.pull().await.err(),
            Event::Inbound(Inbound::Alive) => self.heard(),
            Event::Inbound(Inbound::Acked { position, after, trace }) => {
                self.acked_by_frame(position, after, trace);
                self.heard()
            }
            Event::Inbound(Inbound::Answered(number)) => {
                if let Some(round_trip) = self.session.round_trip(Instant::now()) {
                    self.sockets.metrics.ping_round_trip.observe(round_trip.as_secs_f64());
                }
                self.acked_by_pong(number);
                self.ask_for_ack();
                self.heard()
            }
            Event::Inbound(Inbound::Refresh(token)) => self.refresh(token).await,
            Event::Inbound(Inbound::Goodbye(code)) => Some(End::Client(code)),
            Event::Inbound(Inbound::Refused(code)) | Event::CloseRequested(code) => Some(End::Server(code)),
            Event::Inbound(Inbound::Broken) => Some(End::Network),
            Event::Timer => self.beat(),
        }
    }

    fn heard(&self) -> Option<End> {
        self.subscription.handle().heard(self.sockets.delivery.clock().now_ms());
        None
    }

    fn acked_by_frame(&mut self, position: Position, after: Option<Position>, trace: Option<TraceContext>) {
        self.sockets.metrics.acks.of(AckSource::Frame).inc();
        self.subscription.ack(position, after);
        if position.epoch == self.subscription.epoch() {
            self.count_acked(position.number, trace);
        }
    }

    fn acked_by_pong(&mut self, number: u64) {
        self.sockets.metrics.acks.of(AckSource::Pong).inc();
        self.subscription.ack(Position::new(self.subscription.epoch(), number), None);
        self.count_acked(number, None);
    }

    /// Puts a ping behind what was just written, if it is time to ask whether the client has it.
    fn ask_for_ack(&mut self) {
        match self.session.ask(self.subscription.read_up_to().number, Instant::now()) {
            Ask::Now(number) => self.outbox.ping(&number.to_be_bytes()),
            Ask::Later => self.set_timer(),
            Ask::Nothing => {}
        }
    }

    fn beat(&mut self) -> Option<End> {
        let (now, now_ms) = (Instant::now(), self.sockets.delivery.clock().now_ms());
        if let Some(code) = self.standing.look(now_ms, now) {
            return Some(End::Server(code));
        }
        self.ask_for_ack();
        match self.session.beat(now) {
            Beat::Wait => {}
            Beat::Send => {
                self.outbox.text(|out| out.extend(ServerFrame::Heartbeat.to_json()));
                match self.session.heartbeat_payload() {
                    Some(number) => self.outbox.ping(&number.to_be_bytes()),
                    None => self.outbox.ping(b""),
                }
            }
            Beat::Close(code) => return Some(End::Server(code)),
        }
        self.set_timer();
        None
    }

    /// Waits for the first of:
    /// * the socket takes bytes again (the kernel, while the outbox is not empty),
    /// * the client sent a frame or hung up (the kernel),
    /// * somebody closes the session (its handle: administrator, a seventeenth session, shutdown),
    /// * a notification came (its handle, woken by apply; only while the outbox is empty),
    /// * the timer (heartbeat, or a write that makes no progress).
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(event) = self.poll_socket(context) {
            return Poll::Ready(event);
        }
        self.subscription.handle().listen(context.waker());
        if let Some(code) = self.subscription.handle().close_requested() {
            return Poll::Ready(Event::CloseRequested(code));
        }
        if self.outbox.is_empty() && self.subscription.handle().poll_woken(context).is_ready() {
            return Poll::Ready(Event::Woken);
        }
        self.timer.as_mut().poll(context).map(|()| Event::Timer)
    }

    /// The first two of them.
    fn poll_socket(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if !self.outbox.is_empty()
            && let Poll::Ready(event) = self.poll_flush(context)
        {
            return Poll::Ready(event);
        }
        let blocked = !self.outbox.is_empty();
        if let Poll::Ready(inbound) = self.poll_inbound(context) {
            return Poll::Ready(Event::Inbound(inbound));
        }
        // Reading may have answered a ping.
        if !blocked
            && !self.outbox.is_empty()
            && let Poll::Ready(event) = self.poll_flush(context)
        {
            return Poll::Ready(event);
        }
        Poll::Pending
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let (written, result) = self.outbox.poll_flush(&mut self.stream, context);
        self.sockets.metrics.ws_bytes.of(Direction::Out).inc_by(written as u64);
        match result {
            Poll::Ready(Ok(())) => {
                self.session.wrote(written, true, Instant::now);
                Poll::Ready(Event::Flushed)
            }
            Poll::Ready(Err(_)) => Poll::Ready(Event::Inbound(Inbound::Broken)),
            Poll::Pending => {
                if !self.session.is_stalled() {
                    self.sockets.metrics.ws_write_stalls.inc();
                }
                if self.session.wrote(written, false, Instant::now) {
                    self.set_timer();
                }
                Poll::Pending
            }
        }
    }

    /// Reads from the mailbox into the outbox; frames that are not in memory are loaded from the log first.
    async fn pull(&mut self) -> Result<(), End> {
        loop {
            let mut sink = Sink {
                outbox: &mut self.outbox,
                progress: &mut self.progress,
                sockets: self.sockets,
                session: self.subscription.handle().id().0 ^ self.sockets.seed,
                epoch: self.subscription.epoch(),
            };
            match self.subscription.pull(&mut sink) {
                pulled @ (Pull::Drained | Pull::More) => {
                    self.more = pulled == Pull::More;
                    self.ask_for_ack();
                    return Ok(());
                }
                Pull::Missing(numbers) => {
                    if let Err(error) = Box::pin(self.subscription.load(numbers)).await {
                        tracing::warn!(%error, "a session ends because its old frames cannot be read");
                        return Err(End::Server(CloseCode::Overloaded));
                    }
                }
            }
        }
    }

    fn count_written(&mut self) {
        let Sockets { metrics, delivery, .. } = self.sockets;
        let count = self.progress.written(metrics, delivery);
        if count > 0 {
            metrics.ws_write_batch.observe(count as f64);
        }
    }

    fn count_acked(&mut self, number: u64, client: Option<TraceContext>) {
        self.progress.acked(number, client, &self.sockets.metrics, &self.sockets.delivery);
    }

    fn set_timer(&mut self) {
        let deadline = self.standing.earlier(self.session.deadline());
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
    }
}

impl End {
    /// The labels of the metric.
    pub(super) fn labels(self) -> (Option<CloseCode>, Initiator) {
        match self {
            Self::Server(code) => (Some(code), Initiator::Server),
            Self::Client(code) => (code.and_then(CloseCode::from_number), Initiator::Client),
            Self::Network => (None, Initiator::Network),
        }
    }
}
