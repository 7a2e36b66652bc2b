//! A receiving socket over all its connections: it connects, reads, acks, is cut, and comes back where it was.
//!
//! One task a socket. It does what the protocol asks of a client: it keeps one position, comes back behind it, acks what it
//! received, heeds `drain` and the close codes. But what arrives twice it does not drop, and holes it does not find by
//! `prev`: it notes the numbers that senders gave, and those tell of both.

mod connect;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::{oneshot, watch};
use tokio_tungstenite::tungstenite::Message;

use crate::collector::{Series, locked, seconds};
use crate::context::{Context, Orders, Receiver};
use crate::payload::Payload;
use crate::target::{Incoming, Traced};
use crate::trace::{self, Unacked};

pub use connect::{Connector, Refused, Socket};

/// Acks of one socket are at least so far apart.
const ACK_EVERY: Duration = Duration::from_millis(250);

/// The first pause before another attempt; doubled up to [`MAX_BACK_OFF`].
const MIN_BACK_OFF: Duration = Duration::from_millis(100);
const MAX_BACK_OFF: Duration = Duration::from_secs(5);

/// The code of a connection that ends without a close frame (RFC 6455, section 7.1.5).
const CLOSED_ABNORMALLY: u16 = 1006;
/// The code of a close frame without a code.
const CLOSED_WITHOUT_CODE: u16 = 1005;

/// Runs a receiver until the run is over. `ready` is told whether the first connect succeeded; if not, it ends.
pub async fn run(
    index: usize,
    context: Arc<Context>,
    connector: Arc<Connector>,
    ready: oneshot::Sender<bool>,
) {
    let orders = context.orders.subscribe();
    let mut client = Client {
        index,
        node: index % connector.nodes(),
        context,
        connector,
        orders,
        position: None,
        catching_up: None,
        cut: 0,
        advised: None,
        began: 0,
        unacked: Unacked::default(),
    };
    let collector = client.context.collector.clone();
    let Some(socket) = client.first_connect().await else {
        collector.counters.connects_failed.fetch_add(1, Ordering::Relaxed);
        client.context.note_gone(index);
        // Nobody waits any more when the run was given up.
        let _ = ready.send(false);
        return;
    };
    collector.counters.connected.fetch_add(1, Ordering::Relaxed);
    let _ = ready.send(true);
    client.stay(socket).await;
}

struct Client {
    index: usize,
    /// Where it connects: after each connection that ended or was refused, the next one.
    node: usize,
    context: Arc<Context>,
    connector: Arc<Connector>,
    orders: watch::Receiver<Orders>,
    /// The one thing to remember from connection to connection.
    position: Option<String>,
    /// What was missed may still be on its way.
    catching_up: Option<CatchingUp>,
    /// The newest order to cut that was obeyed or did not concern it.
    cut: u64,
    /// When to come back, if the target said so.
    advised: Option<Duration>,
    /// When the newest connect was begun.
    began: u64,
    /// Spans of notifications that were received and not acked; without traces there are none.
    unacked: Unacked,
}

/// A client that came back and receives what it missed. `welcome.head` does not say when it has: it may be a place where
/// nothing is for this user. What was sent before the welcome was missed, so the last of that ends it.
#[derive(Debug, Clone, Copy)]
struct CatchingUp {
    /// When the client wanted to be back, microseconds: its first attempt after the break.
    wanted: u64,
    /// When the welcome came.
    welcomed: u64,
    /// When the last of what was missed arrived; at first the welcome.
    last: u64,
}

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The run is over.
    Finished,
    /// It was cut by order; stay away so long.
    Cut(Duration),
    /// The target closed it, or it broke.
    Closed(u16),
}

impl Client {
    fn next_node(&mut self) {
        self.node = (self.node + 1) % self.connector.nodes();
    }

    fn receiver(&self) -> &Receiver {
        &self.context.receivers[self.index]
    }

    /// Tries each node once.
    async fn first_connect(&mut self) -> Option<Socket> {
        for _ in 0..self.connector.nodes() {
            match self.connect().await {
                Ok((socket, welcomed)) => {
                    self.context.collector.note_connect(self.index, self.began, welcomed);
                    return Some(socket);
                }
                Err(refused) => {
                    self.context.collector.note_error(&format!("connect: {}", refused.why));
                    self.next_node();
                }
            }
        }
        None
    }

    /// Reads, and comes back whenever the connection ends, until the run is over.
    async fn stay(&mut self, mut socket: Socket) {
        let collector = self.context.collector.clone();
        let open = &collector.counters.sockets;
        loop {
            open.fetch_add(1, Ordering::Relaxed);
            self.context.exporter.users.inc();
            let ended = self.read(&mut socket).await;
            open.fetch_sub(1, Ordering::Relaxed);
            self.context.exporter.users.dec();
            drop(socket);
            self.unacked.cut_off();
            self.note_caught_up();
            let pause = match ended {
                Ended::Finished => return,
                Ended::Cut(away) => away,
                Ended::Closed(code) => {
                    collector.note_close(code);
                    if self.receiver().slow {
                        collector.counters.expected_closes.fetch_add(1, Ordering::Relaxed);
                    }
                    if (4_000..4_100).contains(&code) {
                        collector.note_error(&format!("closed with {code}: not to come back"));
                        self.context.note_gone(self.index);
                        return;
                    }
                    let back_off = if (4_200..4_300).contains(&code) { Duration::ZERO } else { MIN_BACK_OFF };
                    self.advised.take().unwrap_or(back_off)
                }
            };
            match self.come_back(pause).await {
                Some(again) => socket = again,
                None => return,
            }
        }
    }

    /// Connects again after a pause, again and again; `None` when the run ends meanwhile.
    async fn come_back(&mut self, mut pause: Duration) -> Option<Socket> {
        let mut back_off = MIN_BACK_OFF;
        let clock = self.context.collector.clock();
        let mut wanted = None;
        loop {
            self.next_node();
            if self.rest(pause).await {
                return None;
            }
            // What every further attempt takes is part of how long the client waits.
            let wanted = *wanted.get_or_insert(clock.now());
            let collector = self.context.collector.clone();
            match self.connect().await {
                Ok((socket, welcomed)) => {
                    self.catching_up = Some(CatchingUp { wanted, welcomed, last: welcomed });
                    collector.counters.reconnected.fetch_add(1, Ordering::Relaxed);
                    return Some(socket);
                }
                Err(refused) => {
                    collector.counters.reconnects_failed.fetch_add(1, Ordering::Relaxed);
                    collector.note_error(&format!("reconnect: {}", refused.why));
                    pause = refused.come_back_in.unwrap_or(back_off + jitter(self.index, back_off));
                    back_off = (back_off * 2).min(MAX_BACK_OFF);
                }
            }
        }
    }

    /// Waits; `true` when the run ended meanwhile.
    async fn rest(&mut self, pause: Duration) -> bool {
        let finished = self.orders.wait_for(|orders| orders.finish);
        tokio::time::timeout(pause, finished).await.is_ok()
    }

    /// Connects behind the position; gives the socket and when its welcome came, microseconds.
    async fn connect(&mut self) -> Result<(Socket, u64), Refused> {
        let clock = self.context.collector.clock();
        let receiver = &self.context.receivers[self.index];
        let attempt = self.connector.connect(
            self.index,
            self.node,
            &receiver.user,
            self.position.as_deref(),
            receiver.slow,
            clock,
        );
        let connected = Box::pin(attempt).await?;
        self.began = connected.began;
        if connected.position.is_some() {
            self.position = connected.position;
        }
        Ok((connected.socket, clock.now()))
    }

    /// Reads frames until the connection ends or an order comes.
    ///
    /// Inputs: frames from the target; orders from the run; the timer of the next ack.
    async fn read(&mut self, socket: &mut Socket) -> Ended {
        let mut ack_at: Option<tokio::time::Instant> = None;
        loop {
            if let Some(ended) = self.obey(socket, ack_at.is_some()).await {
                return ended;
            }
            tokio::select! {
                biased;
                _ = self.orders.changed() => {}
                () = sleep_until(ack_at) => {
                    ack_at = None;
                    self.ack(socket).await;
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if self.take(text.as_str()) && ack_at.is_none() {
                            ack_at = Some(tokio::time::Instant::now() + ACK_EVERY);
                        }
                    }
                    Some(Ok(Message::Close(frame))) => {
                        return Ended::Closed(frame.map_or(CLOSED_WITHOUT_CODE, |frame| frame.code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Ended::Closed(CLOSED_ABNORMALLY),
                },
            }
        }
    }

    /// Does what the orders say. `Some`: the connection is over.
    async fn obey(&mut self, socket: &mut Socket, ack_is_due: bool) -> Option<Ended> {
        let orders = self.orders.borrow_and_update().clone();
        if orders.finish {
            if ack_is_due {
                self.ack(socket).await;
            }
            // It is over on this side, whatever the other side says.
            let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(None)).await;
            return Some(Ended::Finished);
        }
        if orders.cut.number > self.cut {
            self.cut = orders.cut.number;
            if orders.cut.means(self.index) {
                connect::break_off(socket);
                return Some(Ended::Cut(jitter(self.index, Duration::from_millis(orders.cut.away_ms))));
            }
        }
        if orders.slow_ones_rest && self.receiver().slow {
            // Nothing is read, so not even a close is noticed: that is what a hanging client is like.
            let _ = self.orders.wait_for(|orders| !orders.slow_ones_rest || orders.finish).await;
        }
        None
    }

    async fn ack(&mut self, socket: &mut Socket) {
        let Some(position) = &self.position else { return };
        let traceparent = self.unacked.traceparent();
        let Some(frame) = self.context.adapter.ack(position, traceparent.as_deref()) else { return };
        // A broken connection shows at the next read.
        if socket.send(Message::text(frame)).await.is_ok() {
            self.unacked.acked();
        }
    }

    /// Takes a text frame. `true`: there is something to ack.
    fn take(&mut self, text: &str) -> bool {
        let now = self.context.collector.clock().now();
        let adapter = self.context.adapter.clone();
        match adapter.decode(text) {
            Incoming::Notification { payload, position, trace } => {
                self.note(&payload, now);
                if let Some(position) = position {
                    self.follow(trace);
                    self.move_to(position);
                }
                position.is_some()
            }
            Incoming::Gap { count, reason, until } => {
                locked(&self.receiver().received).note_gap(reason, count);
                self.move_to(until);
                true
            }
            Incoming::Drain { reconnect_in_ms } => {
                self.context.collector.counters.drains.fetch_add(1, Ordering::Relaxed);
                self.advised = Some(Duration::from_millis(reconnect_in_ms));
                false
            }
            Incoming::Welcome { .. } | Incoming::Other => false,
        }
    }

    /// Continues a notification's trace until its ack.
    fn follow(&mut self, traced: Option<Traced<'_>>) {
        let (Some(traces), Some(traced)) = (&self.context.traces, traced) else { return };
        let together = if self.context.spread.is_some() { self.context.receivers.len() } else { 1 };
        if trace::is_followed(self.index, together)
            && let Some(span) = traces.process(&traced)
        {
            self.unacked.push(span);
        }
    }

    fn note(&mut self, text: &str, now: u64) {
        let context = self.context.clone();
        let Receiver { stream, received, slow, .. } = &context.receivers[self.index];
        context.collector.counters.arrived.fetch_add(1, Ordering::Relaxed);
        let payload = match Payload::find(text) {
            Some(payload) if payload.run == context.marker && payload.stream as usize == *stream => payload,
            _ => {
                let text: String = text.chars().take(64).collect();
                return locked(received).note_misdirected(&text);
            }
        };
        if !locked(received).note(payload.number) {
            context.exporter.duplicates.inc();
            return;
        }
        context.collector.counters.received.fetch_add(1, Ordering::Relaxed);
        context.exporter.received.inc();
        self.catch_up(payload.begun, now);
        if *slow {
            // It is late because it did not read.
            return;
        }
        let (push, service) = (now.saturating_sub(payload.intended), now.saturating_sub(payload.begun));
        let durations = [(Series::Push, push), (Series::Service, service)];
        context.collector.note_due(self.index, payload.intended, &durations);
        context.exporter.push_latency.intended.observe(seconds(push));
        context.exporter.push_latency.service.observe(seconds(service));
        context.note_spread(self.index, *stream, payload.number, payload.intended, now);
    }

    fn move_to(&mut self, position: &str) {
        match &mut self.position {
            Some(known) => {
                if self.context.adapter.reached(position, known) {
                    known.clear();
                    known.push_str(position);
                }
            }
            None => self.position = Some(position.to_owned()),
        }
    }

    /// Tells a client that catches up when this was sent.
    fn catch_up(&mut self, begun: u64, now: u64) {
        if let Some(catching_up) = &mut self.catching_up {
            if begun < catching_up.welcomed {
                catching_up.last = now;
            } else {
                self.note_caught_up();
            }
        }
    }

    /// Whatever was missed is there, or does not come on this connection.
    fn note_caught_up(&mut self) {
        if let Some(CatchingUp { wanted, last, .. }) = self.catching_up.take() {
            self.context.collector.note(self.index, Series::Resume, last - wanted);
        }
    }
}

/// A time between 0 and `most` that differs from socket to socket and is the same in each run.
fn jitter(index: usize, most: Duration) -> Duration {
    // Fibonacci hashing: neighbours are spread over the whole range.
    let hash = u32::try_from(index & 0xffff_ffff).expect("masked").wrapping_mul(2_654_435_769);
    most.mul_f64(f64::from(hash) / f64::from(u32::MAX))
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
