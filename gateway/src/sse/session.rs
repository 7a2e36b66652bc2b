//! One stream: what the mailbox has becomes events, one after the other, as fast as the client takes them.
//!
//! There is no queue of its own: the HTTP server asks for the next event when the last one has gone into its buffer, and asks no
//! more while that is full. A reader that is slow therefore lags behind in its mailbox. A session that nobody asks is ended by its
//! attendant.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use poem::web::sse::Event;
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::{ToJSON, Type};
use serde_json::Value;
use tokio::time::{Instant, Sleep};

use super::Streams;
use super::attendance::{Attendance, Means};
use crate::auth::Authority;
use crate::delivery::{Frame, FrameSink, Pull, Subscription};
use crate::domain::{Epoch, GapReason, Position, UserId};
use crate::edge::frame::Frame as DescribedFrame;
use crate::edge::{Pace, Progress, Standing};
use crate::listener::HangUp;
use crate::protocol::{CloseCode, Initiator, ServerFrame, write_broadcast_head, write_notification_head};
use crate::telemetry::Attempt;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamEvent {
    /// A frame.
    Frame {
        /// Its `type`.
        kind: &'static str,
        /// The client's position after it, if it moves that.
        id: Option<String>,
        /// Its JSON text, one line.
        data: String,
    },
    /// When to come back, in milliseconds.
    Retry(u64),
}

/// A stream and its place in the mailbox.
pub(super) struct Session {
    streams: Arc<Streams>,
    user: UserId,
    subscription: Subscription,
    hang_up: Option<HangUp>,
    attendance: Arc<Attendance>,
    pace: Pace,
    timer: Pin<Box<Sleep>>,
    next_beat: Instant,
    standing: Standing,
    /// Events that the client has not been given yet: those of one pull.
    ready: VecDeque<StreamEvent>,
    state: State,
    /// The pull was cut short by its limits: pull again once these events are gone.
    more: bool,
    progress: Progress,
    started: Instant,
}

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The client went away.
    Abandoned,
    /// The client shall come back later: what the mailbox has goes out if the gateway stops, then the advice when.
    Leaving(CloseCode),
    /// After the last event; with the code that a socket would have been closed with.
    Over(CloseCode),
}

/// What a session woke up for.
enum Input {
    /// Somebody asks it to end.
    CloseRequested(CloseCode),
    /// The mailbox may have more.
    Woken,
    /// The client is gone.
    HungUp,
    /// What it stands on is gone.
    Lapsed(CloseCode),
    /// It is time for a heartbeat.
    Timer,
}

impl Session {
    /// A session, with its attendant on the way. A client that says how much it takes of each stream `has_windows`.
    pub(super) fn begin(
        streams: Arc<Streams>,
        subscription: Subscription,
        (user, authority): (UserId, Authority),
        hang_up: Option<HangUp>,
        has_windows: bool,
    ) -> Self {
        let now = Instant::now();
        let attendance = Attendance::of(subscription.handle());
        // What closes the session before anybody asks it is seen, too.
        drop(attendance.listen(subscription.handle(), Waker::noop()));
        let means = Means {
            streams: Arc::clone(&streams),
            handle: Arc::clone(subscription.handle()),
            standing: Standing::new(authority.clone(), streams.delivery.clock().now_ms(), now),
            break_off: hang_up.as_ref().map(HangUp::break_off),
            has_windows,
        };
        streams.admission.lifecycle.spawn(Arc::clone(&attendance).attend(means));
        let name = subscription.handle().id().0 ^ streams.seed;
        let mut pace = Pace::new(streams.heartbeat, name);
        let next_beat = now + pace.pause();
        let standing = Standing::new(authority, streams.delivery.clock().now_ms(), now);
        let timer = Box::pin(tokio::time::sleep_until(standing.earlier(next_beat)));
        let welcome = ServerFrame::Welcome {
            session: format!("{name:016x}"),
            user: user.as_str(),
            position: subscription.position(),
            head: subscription.head(),
            heartbeat_ms: u64::try_from(streams.heartbeat.as_millis()).unwrap_or(u64::MAX),
        };
        let welcome = frame("welcome", Some(subscription.position()), welcome.to_json());
        Self {
            streams,
            user,
            subscription,
            hang_up,
            attendance,
            pace,
            timer,
            next_beat,
            standing,
            ready: VecDeque::from([welcome]),
            state: State::Open,
            more: false,
            progress: Progress::default(),
            started: now,
        }
    }

    /// The next event; `None` after the last one.
    pub(super) async fn next(&mut self) -> Option<StreamEvent> {
        self.attendance.asked();
        let event = self.find_next().await;
        self.attendance.gave();
        event
    }

    async fn find_next(&mut self) -> Option<StreamEvent> {
        loop {
            self.forget_if_lapsed();
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            // Whoever asks for more has taken what came before: the only sign of life there is.
            self.subscription.handle().heard(self.streams.delivery.clock().now_ms());
            self.progress.written(&self.streams.metrics, &self.streams.delivery);
            match self.state {
                State::Over(_) | State::Abandoned => return None,
                State::Leaving(code) if !self.more => self.leave(code),
                _ => self.wait().await,
            }
        }
    }

    /// Waits for one input and deals with it.
    async fn wait(&mut self) {
        match poll_fn(|context| self.poll_input(context)).await {
            Input::CloseRequested(code) => {
                self.state = State::Leaving(code);
                self.more = false;
                if code == CloseCode::Drain {
                    // What was accepted a moment ago still goes out.
                    self.pull().await;
                }
            }
            Input::Woken => self.pull().await,
            Input::HungUp => self.state = State::Abandoned,
            Input::Lapsed(code) => self.end(code),
            Input::Timer => self.beat(),
        }
    }

    /// What was read while the session stood on something is not given when it does no more.
    fn forget_if_lapsed(&mut self) {
        let close = self.subscription.handle().close_requested();
        if self.state == State::Open
            && matches!(close, Some(CloseCode::TokenExpired | CloseCode::InvalidToken))
        {
            self.ready.clear();
            self.progress = Progress::default();
        }
    }

    /// Sends a heartbeat if it is time for one.
    fn beat(&mut self) {
        let now = Instant::now();
        if now >= self.next_beat {
            self.ready.push_back(frame("heartbeat", None, ServerFrame::Heartbeat.to_json()));
            self.next_beat = now + self.pace.pause();
        }
        self.timer.as_mut().reset(self.standing.earlier(self.next_beat));
    }

    /// Waits for the first of:
    /// * somebody closes the session (its handle: administrator, a seventeenth session, shutdown, its attendant),
    /// * the client is gone (its connection, which read the end),
    /// * the authority it stands on is over, looked at each time,
    /// * the rest of a pull that was cut short (at once),
    /// * a notification came (its handle, woken by apply),
    /// * the timer (heartbeat, or a look at the authority).
    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        let handle = self.subscription.handle();
        let waker = self.attendance.listen(handle, context.waker());
        if let Some(code) = handle.close_requested()
            && self.state == State::Open
        {
            return Poll::Ready(Input::CloseRequested(code));
        }
        if let Some(hang_up) = &mut self.hang_up
            && hang_up.poll(context).is_ready()
        {
            return Poll::Ready(Input::HungUp);
        }
        if let Some(code) = self.standing.look(self.streams.delivery.clock().now_ms(), Instant::now()) {
            return Poll::Ready(Input::Lapsed(code));
        }
        if self.more || handle.poll_woken(&Context::from_waker(&waker)).is_ready() {
            return Poll::Ready(Input::Woken);
        }
        self.timer.as_mut().poll(context).map(|()| Input::Timer)
    }

    /// Reads from the mailbox; frames that are not in memory are loaded from the log first.
    async fn pull(&mut self) {
        loop {
            let mut sink = Sink {
                ready: &mut self.ready,
                progress: &mut self.progress,
                streams: &self.streams,
                session: self.subscription.handle().id().0 ^ self.streams.seed,
                epoch: self.subscription.epoch(),
            };
            match self.subscription.pull(&mut sink) {
                pulled @ (Pull::Drained | Pull::More) => {
                    self.more = pulled == Pull::More;
                    return;
                }
                Pull::Missing(numbers) => {
                    if let Err(error) = Box::pin(self.subscription.load(numbers)).await {
                        tracing::warn!(%error, "a session ends because its old frames cannot be read");
                        (self.more, self.state) = (false, State::Leaving(CloseCode::Overloaded));
                        return;
                    }
                }
            }
        }
    }

    /// Says when to come back, if the client shall.
    fn leave(&mut self, code: CloseCode) {
        if let Some(reconnect_in_ms) = self.streams.advice.before(code) {
            // First what an `EventSource` heeds by itself: it may be gone once its page has seen the other.
            self.ready.push_back(StreamEvent::Retry(reconnect_in_ms));
            self.ready.push_back(frame("drain", None, ServerFrame::Drain { reconnect_in_ms }.to_json()));
        }
        self.end(code);
    }

    /// Ends, after what is ready. The last event says what a socket's close frame says.
    fn end(&mut self, code: CloseCode) {
        self.ready.push_back(frame("close", None, ServerFrame::close(code).to_json()));
        self.state = State::Over(code);
    }

    /// Ends after a panic, with nothing more to say.
    pub(super) fn fail(&mut self) -> Option<StreamEvent> {
        self.streams.admission.lifecycle.count_panic();
        self.ready.clear();
        self.state = State::Over(CloseCode::InternalError);
        None
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (code, initiator) = match self.state {
            State::Over(code) => (Some(code), Initiator::Server),
            // A client says no goodbye on such a stream: to go is all that it can do.
            // By its own attendant or that of another stream on the connection.
            _ if self.hang_up.as_ref().is_some_and(HangUp::is_broken_off) => {
                (self.subscription.handle().close_requested(), Initiator::Server)
            }
            State::Open | State::Leaving(_) | State::Abandoned => (None, Initiator::Client),
        };
        self.attendance.end();
        let metrics = &self.streams.metrics;
        metrics.count_close(code, initiator);
        metrics.session_duration.observe(self.started.elapsed().as_secs_f64());
        tracing::debug!(user = self.user.as_str(), state = ?self.state, "a session ended");
    }
}

/// Makes events of what a subscription reads.
struct Sink<'a> {
    ready: &'a mut VecDeque<StreamEvent>,
    progress: &'a mut Progress,
    streams: &'a Streams,
    session: u64,
    epoch: Epoch,
}

impl Sink<'_> {
    fn note(&mut self, frame: &Frame, position: Option<Position>, live: bool) {
        let attempt = Attempt { session: self.session, protocol: "sse", position, live };
        // Acks come by requests of their own.
        self.progress.composed(frame, attempt, false, &self.streams.delivery);
    }
}

impl FrameSink for Sink<'_> {
    fn notification(&mut self, number: u64, prev: u64, body: &Frame, live: bool) {
        self.note(body, Some(Position::new(self.epoch, number)), live);
        let mut json = Vec::new();
        write_notification_head(&mut json, self.epoch, number, prev);
        json.extend_from_slice(&body.body);
        self.ready.push_back(frame("notification", Some(Position::new(self.epoch, number)), json));
    }

    fn broadcast(&mut self, body: &Frame) {
        self.note(body, None, true);
        let mut json = Vec::new();
        write_broadcast_head(&mut json);
        json.extend_from_slice(&body.body);
        self.ready.push_back(frame("notification", None, json));
    }

    fn gap(&mut self, after: Position, until: Position, count: Option<u32>, reason: GapReason) {
        self.streams.metrics.gaps.of(reason).inc();
        let gap = ServerFrame::Gap { after, until, count, reason };
        self.ready.push_back(frame("gap", Some(until), gap.to_json()));
    }
}

fn frame(kind: &'static str, moves_to: Option<Position>, json: Vec<u8>) -> StreamEvent {
    let data = String::from_utf8(json).expect("JSON is UTF-8");
    StreamEvent::Frame { kind, id: moves_to.map(|position| position.to_string()), data }
}

impl StreamEvent {
    pub(super) fn into_event(self) -> Event {
        match self {
            Self::Frame { kind, id, data } => {
                let event = Event::message(data).event_type(kind);
                match id {
                    Some(id) => event.id(id),
                    None => event,
                }
            }
            Self::Retry(milliseconds) => Event::retry(milliseconds),
        }
    }
}

/// For the manual, an event is the frame it carries.
impl Type for StreamEvent {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        DescribedFrame::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        DescribedFrame::schema_ref()
    }

    fn register(registry: &mut Registry) {
        DescribedFrame::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ToJSON for StreamEvent {
    fn to_json(&self) -> Option<Value> {
        match self {
            Self::Frame { data, .. } => serde_json::from_str(data).ok(),
            Self::Retry(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_frame_and_only_one_that_moves_the_position_has_an_id() {
        let position = Position::new(Epoch::from_bits(7), 9);
        let event = frame("gap", Some(position), br#"{"type":"gap"}"#.to_vec()).into_event();
        assert_eq!(event.to_string(), format!("id: {position}\nevent: gap\ndata: {{\"type\":\"gap\"}}\n\n"));
        let beat = frame("heartbeat", None, ServerFrame::Heartbeat.to_json()).into_event();
        assert_eq!(beat.to_string(), "event: heartbeat\ndata: {\"type\":\"heartbeat\"}\n\n");
        assert_eq!(StreamEvent::Retry(7_340).into_event().to_string(), "retry: 7340\n\n");
    }
}
