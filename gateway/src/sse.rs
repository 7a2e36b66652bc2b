//! `GET /sse/{user}`: a session as a stream of server-sent events (HTML Living Standard §9.2).
//!
//! For clients that cannot or need not open a WebSocket: a page's `EventSource`, `curl`. The frames are the same; acks go
//! over HTTP, because nothing comes back on such a stream.

mod attendance;
mod session;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use poem::Request;
use poem::http::{StatusCode, Version};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::EventStream;
use poem_openapi::{ApiResponse, OpenApi};

use crate::delivery::{After, Delivery};
use crate::domain::UserId;
use crate::edge::access::ShowsCredential;
use crate::edge::answer::{FORBIDDEN, UNAUTHORIZED};
use crate::edge::parameters::{PositionParam, Tag};
use crate::edge::{
    AckMode, AckParam, Admission, AfterParam, Answer, Problem, ReconnectAdvice, Refusals, UserParam,
};
use crate::listener::HangUps;
use crate::metrics::{Metrics, OpenResult, Transport};
use crate::protocol::CloseCode;
use session::{Session, StreamEvent};

/// What every stream shares.
pub struct Streams {
    /// Where sessions subscribe.
    pub delivery: Delivery,
    /// What counts them.
    pub metrics: Arc<Metrics>,
    /// Who may open one.
    pub admission: Admission,
    /// Where connections are watched: whoever goes away has no session any more.
    pub hang_ups: Arc<HangUps>,
    /// How often each gets a heartbeat, on average.
    pub heartbeat: Duration,
    /// For how long a client that says how much it takes of a stream may take nothing.
    pub write_timeout: Duration,
    /// When clients are told to come back.
    pub advice: Arc<ReconnectAdvice>,
    /// Random for each process: spreads heartbeats and makes session names unlike those of other processes.
    pub seed: u64,
}

/// The operation that opens a stream.
pub struct StreamApi(pub Arc<Streams>);

type Events = EventStream<BoxStream<'static, StreamEvent>>;

/// A stream of events.
#[derive(ApiResponse)]
enum StreamResponse {
    /// The stream is open and stays so; the first event is `welcome`.
    #[oai(status = 200)]
    Streaming(
        Events,
        /// `no-store`
        #[oai(header = "Cache-Control")]
        String,
        /// `no`: a proxy must not gather events.
        #[oai(header = "X-Accel-Buffering")]
        String,
    ),
}

struct Opening;

impl Refusals for Opening {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (400, "A bad user id, position or `ack`; `field` names it."),
        (401, UNAUTHORIZED),
        (403, FORBIDDEN),
        (429, "Too many sessions begin at this address; come back after `Retry-After` seconds."),
        (503, "The gateway is stopping or behind; come back after `Retry-After` seconds."),
    ];
}

#[OpenApi]
impl StreamApi {
    /// Receive as server-sent events
    ///
    /// Opens a session on the user's mailbox and keeps answering. A browser: `new EventSource("/sse/bob")`; a terminal:
    /// `curl -N http://127.0.0.1:8000/sse/bob`. (*Try it out* shows nothing: it waits for an end that does not come.)
    ///
    /// The events are the frames of the WebSocket: `event` is the frame's `type` (`welcome`, `notification`, `gap`,
    /// `heartbeat`, `drain`, `close`), `data` is the frame, one line of JSON, and `id` is the client's position after it: on a
    /// `welcome` and a `notification` its `position`, on a `gap` its `until`. A `heartbeat`, a `drain`, a `close` and a notification
    /// for everybody who is connected have no `id`. `close` is the last one of a stream that the gateway ends: its `code` and
    /// `reason` are those that a WebSocket is closed with.
    ///
    /// An `EventSource` comes back by itself after a break, with the last `id` in `Last-Event-ID`, and misses nothing that is
    /// still there. Before a `drain` comes `retry`, with when to come back. It does not come back after an answer other than
    /// 200, such as 503: then the page has to make a new one.
    ///
    /// Where keys are configured a client shows a token or an API key in `Authorization`, which a page can do with `fetch` and not
    /// with an `EventSource`. The stream ends when the token is over: there is no `refreshed` here, a client opens another one.
    ///
    /// Nothing comes back on the stream, so acks go to `POST /v1/users/{user}/acks`. Such an ack covers everything in the
    /// mailbox up to its position, what this session was not given included, unless its `after` says where the reading began. Without acks a session that names no position
    /// begins with the same notifications again.
    #[oai(path = "/sse/:user", method = "get", operation_id = "receiveEvents", tag = "Tag::Receiving")]
    async fn receive(
        &self,
        _credential: ShowsCredential,
        request: &Request,
        /// Whose mailbox; percent-encoded.
        user: Path<UserParam>,
        /// Where to start: a position from a frame, `start` (everything that is kept, acked or not) or `now` (nothing old).
        /// Without it the session starts with everything that is not acked.
        after: Query<Option<AfterParam>>,
        /// Only `client`, which is the default: a stream has no pong that could ack.
        ack: Query<Option<AckParam>>,
        /// The `id` of the last event received, as an `EventSource` sends it by itself. It wins over `after`: that one stands
        /// in the address, which is the same each time the client comes back.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<PositionParam>>,
    ) -> Answer<StreamResponse, Opening> {
        let after = match (last_event_id.0, after.0) {
            (Some(PositionParam(position)), _) => After::Position(position),
            (None, Some(AfterParam(after))) => after,
            (None, None) => After::Acked,
        };
        let opened = self.open(request, user.0.0, after, ack.0.map(|ack| ack.0)).await;
        let result = opened.as_ref().map_or_else(|(result, _)| *result, |_| OpenResult::Accepted);
        self.0.metrics.count_open(Transport::ServerSentEvents, result);
        Answer::from(opened.map(streaming).map_err(|(_, problem)| problem))
    }
}

impl StreamApi {
    async fn open(
        &self,
        request: &Request,
        user: UserId,
        after: After,
        acks: Option<AckMode>,
    ) -> Result<Session, (OpenResult, Box<Problem>)> {
        let streams = &self.0;
        let admitted = streams.admission.admit(request, &user).await;
        let admitted = admitted.map_err(|refusal| (refusal.result, refusal.problem))?;
        if acks == Some(AckMode::Auto) {
            let detail = "a stream has no pong that could ack: ack by POST /v1/users/{user}/acks";
            return Err((OpenResult::BadRequest, Box::new(Problem::invalid("ack", detail))));
        }
        // Watched before anything is waited for: whoever goes meanwhile is noticed.
        let hang_up = request.remote_addr().as_socket_addr().map(|remote| streams.hang_ups.watch(*remote));
        let subscribed = streams.delivery.subscribe(&user, after, Transport::ServerSentEvents).await;
        let subscription = subscribed.map_err(|error| {
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string());
            (OpenResult::Overloaded, Box::new(problem))
        })?;
        // It is counted as a session now.
        drop(admitted.place);
        // Stopping closes every session it finds; this one may have come a moment too late to be found.
        if streams.admission.lifecycle.is_stopping() {
            subscription.handle().close(CloseCode::Drain);
        }
        let has_windows = request.version() == Version::HTTP_2;
        let streams = Arc::clone(streams);
        Ok(Session::begin(streams, subscription, (user, admitted.authority), hang_up, has_windows))
    }
}

/// The session as an answer that does not end before it does. Whoever goes away drops the answer, and with it the session.
///
/// It runs in the task of its connection, which may carry others: a panic ends this stream only.
fn streaming(session: Session) -> StreamResponse {
    let events = stream::unfold(Box::new(session), async |mut session| {
        let event = AssertUnwindSafe(session.next()).catch_unwind().await;
        let event = event.unwrap_or_else(|_| session.fail())?;
        Some((event, session))
    });
    let events = EventStream::new(events.boxed()).to_event(StreamEvent::into_event);
    StreamResponse::Streaming(events, "no-store".to_owned(), "no".to_owned())
}
