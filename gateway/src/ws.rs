//! `GET /ws/{user}`: from an HTTP request to a session.
//!
//! The handshake is judged here (RFC 6455 §4.2); what runs behind it is in `connection`. A browser cannot read a refused
//! upgrade, so a client that offers the subprotocol `notify.v1` is upgraded and then closed with the code that says why.

mod allowance;
mod blocking;
mod connection;
mod goodbye;
mod outbox;
mod session;

use std::sync::Arc;
use std::time::Duration;

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{OnUpgrade, Request, Upgraded};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::auth::Authority;
use crate::config::Rate;
use crate::delivery::{After, Delivery, SubscribeError};
use crate::domain::UserId;
use crate::edge::access::ShowsCredential;
use crate::edge::parameters::Tag;
use crate::edge::problem::BEARER;
use crate::edge::{
    AckMode, AckParam, Admission, AfterParam, NotAdmitted, Place, Problem, ReconnectAdvice, UserParam,
};
use crate::lifecycle::Lifecycle;
use crate::metrics::{Metrics, OpenResult, Transport};
use crate::protocol::{CloseCode, SUBPROTOCOL};
use connection::{Connection, End};

pub use connection::websocket_config;

/// What every socket shares.
pub struct Sockets {
    /// Where sessions subscribe.
    pub delivery: Delivery,
    /// What counts them.
    pub metrics: Arc<Metrics>,
    /// Whose tracker holds their tasks.
    pub lifecycle: Lifecycle,
    /// Who may open one.
    pub admission: Admission,
    /// How often each gets a heartbeat, on average.
    pub heartbeat: Duration,
    /// How long one may take no bytes.
    pub write_timeout: Duration,
    /// The largest frame a client may send, in bytes.
    pub max_inbound_frame: usize,
    /// How many frames a client may send; `None`: any number.
    pub inbound_frames: Option<Rate>,
    /// Random for each process: spreads heartbeats and makes session names unlike those of other processes.
    pub seed: u64,
    /// When clients are told to come back.
    pub advice: Arc<ReconnectAdvice>,
}

/// The operation that opens a socket.
pub struct SocketApi(pub Arc<Sockets>);

/// The answer to the upgrade request.
#[derive(ApiResponse)]
pub enum UpgradeResponse {
    /// The socket is open; the first frame is `welcome`.
    #[oai(status = 101)]
    SwitchingProtocols(
        /// `websocket`
        #[oai(header = "Upgrade")]
        String,
        /// `Upgrade`
        #[oai(header = "Connection")]
        String,
        /// The proof that the handshake was understood (RFC 6455 §4.2.2).
        #[oai(header = "Sec-WebSocket-Accept")]
        String,
        /// `notify.v1`, if the client offered it.
        #[oai(header = "Sec-WebSocket-Protocol")]
        Option<String>,
    ),
    /// Not a WebSocket handshake of version 13, a bad user id, or a bad `after`.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// The credential is missing, wrong, over, or stood in the address.
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(
        Json<Problem>,
        /// `Bearer`
        #[oai(header = "WWW-Authenticate")]
        String,
    ),
    /// The page's origin is not allowed to open sockets here, or the token is another user's.
    #[oai(status = 403, content_type = "application/problem+json")]
    Forbidden(Json<Problem>),
    /// An ordinary request: use a WebSocket client, or `gateway listen USER`.
    #[oai(status = 426, content_type = "application/problem+json")]
    UpgradeRequired(
        Json<Problem>,
        /// `websocket`
        #[oai(header = "Upgrade")]
        String,
        /// `13`
        #[oai(header = "Sec-WebSocket-Version")]
        String,
    ),
    /// Too many sessions begin at this address; come back after `Retry-After` seconds.
    #[oai(status = 429, content_type = "application/problem+json")]
    TooMany(
        Json<Problem>,
        /// Seconds.
        #[oai(header = "Retry-After")]
        u32,
    ),
    /// The gateway is stopping, behind, full or out of memory; come back after `Retry-After` seconds.
    #[oai(status = 503, content_type = "application/problem+json")]
    Unavailable(
        Json<Problem>,
        /// Seconds.
        #[oai(header = "Retry-After")]
        u32,
    ),
}

#[OpenApi]
impl SocketApi {
    /// Receive over a WebSocket
    ///
    /// Opens a session on the user's mailbox. A browser: `new WebSocket("ws://127.0.0.1:8000/ws/bob", "notify.v1")`;
    /// a terminal: `gateway listen bob`. (*Try it out* cannot open a socket: it is answered with 426.)
    ///
    /// Every frame is one JSON text with `type` first; unknown fields and types are to be ignored. The gateway sends:
    ///
    /// * `welcome`: first. `position` is where the session starts, `head` is the mailbox's last position.
    /// * `notification`: `position`, `prev` (the position of the one before it in this mailbox), `id`, `sent_at` and
    ///   what the sender gave: `from`, `title`, `body`, `data`; `topic` if it was sent to one. What is sent to the topic
    ///   `*`, everybody who is connected, has neither `position` nor `prev`: it is kept for nobody and never acked.
    /// * `gap`: notifications in `(after, until]` will not come; `count` of them if known; `reason` is the gravest that
    ///   applies: `epoch` or `overflow` (loss), `expired`, `withdrawn`, `collapsed` or `acked` (nothing is lost).
    /// * `heartbeat`: every 25 seconds or so, beside a ping.
    /// * `drain`: the gateway restarts; come back after `reconnect_in_ms`. A close with 1012 follows.
    /// * `close` ends a stream of server-sent events; a socket has its close frame instead.
    ///
    /// A client keeps one position: that of `welcome`, then that of each notification and the `until` of each gap.
    /// A notification whose `prev` is not beyond it leaves no hole. After a break it reconnects with `after=<position>`
    /// and misses nothing that is still there.
    ///
    /// What was delivered waits in the mailbox until it is acked; an ack is the user's, on whichever device. With
    /// `ack=client` the client sends `{"type":"ack","position":"…"}`: it has everything that this session was given up to
    /// there. With `ack=auto` the gateway sends a ping behind what it wrote, and the pong that every WebSocket library
    /// answers by itself is the ack. The frames are described in full in `/asyncapi.yaml`.
    ///
    /// Where keys are configured a client shows a token or an API key: in `Authorization`, or, since a page cannot set headers
    /// here, as a second subprotocol, `bearer.` and the credential. Never in the address. A client that offers `notify.v1` is
    /// always upgraded, and then closed with the code that says why: a page cannot read a refused upgrade. A token that will be
    /// over soon is replaced by `{"type":"refresh","token":"…"}`, which is answered with `refreshed`.
    ///
    /// Close codes: 4000–4099 do not come back, 4100–4199 come back later, 4200–4299 come back at once.
    #[oai(path = "/ws/:user", method = "get", operation_id = "receive", tag = "Tag::Receiving")]
    async fn receive(
        &self,
        _credential: ShowsCredential,
        request: &Request,
        /// Whose mailbox; percent-encoded.
        user: Path<UserParam>,
        /// Where to start: a position from a frame, `start` (everything that is kept, acked or not) or `now` (nothing old).
        /// Without it the session starts with everything that is not acked.
        after: Query<Option<AfterParam>>,
        /// Who acks: `auto` (the default), by the client's WebSocket library answering pings, or `client`, by `ack` frames.
        ack: Query<Option<AckParam>>,
    ) -> UpgradeResponse {
        let wish = Wish {
            user: user.0.0,
            after: after.0.map_or(After::Acked, |after| after.0),
            acks: ack.0.map_or(AckMode::Auto, |ack| ack.0),
        };
        let (result, response) = self.upgrade(request, wish).await;
        self.0.metrics.count_open(Transport::WebSocket, result);
        response
    }
}

/// What a client asks for.
struct Wish {
    user: UserId,
    after: After,
    acks: AckMode,
}

/// A session that may begin.
struct Opening {
    wish: Wish,
    authority: Authority,
    place: Place,
}

impl SocketApi {
    async fn upgrade(&self, request: &Request, wish: Wish) -> (OpenResult, UpgradeResponse) {
        let handshake = match Handshake::read(request) {
            Ok(handshake) => handshake,
            Err(response) => return (OpenResult::BadRequest, *response),
        };
        let admitted = self.0.admission.admit(request, &wish.user).await;
        if let Err(refusal) = &admitted
            && !handshake.offers_subprotocol
        {
            return (refusal.result, refused(refusal));
        }
        let Ok(upgrade) = request.take_upgrade() else {
            return (
                OpenResult::BadRequest,
                upgrade_required("this connection cannot be upgraded; use HTTP/1.1"),
            );
        };
        let sockets = Arc::clone(&self.0);
        let result = match admitted {
            Ok(admitted) => {
                self.0.lifecycle.spawn(serve(
                    sockets,
                    upgrade,
                    Box::new(Opening { wish, authority: admitted.authority, place: admitted.place }),
                ));
                OpenResult::Accepted
            }
            Err(refusal) => {
                self.0.lifecycle.spawn(refuse(sockets, upgrade, refusal.code));
                refusal.result
            }
        };
        (result, handshake.accept())
    }
}

fn refused(refusal: &NotAdmitted) -> UpgradeResponse {
    let problem = (*refusal.problem).clone();
    let seconds = problem.retry_after_seconds();
    match problem.status() {
        StatusCode::UNAUTHORIZED => UpgradeResponse::Unauthorized(Json(problem), BEARER.to_owned()),
        StatusCode::FORBIDDEN => UpgradeResponse::Forbidden(Json(problem)),
        StatusCode::TOO_MANY_REQUESTS => UpgradeResponse::TooMany(Json(problem), seconds),
        _ => UpgradeResponse::Unavailable(Json(problem), seconds),
    }
}

/// What the request's headers say about the upgrade.
struct Handshake {
    accept_key: String,
    offers_subprotocol: bool,
}

impl Handshake {
    fn read(request: &Request) -> Result<Self, Box<UpgradeResponse>> {
        let headers = request.headers();
        if request.method() != Method::GET {
            return Err(Box::new(bad_request("a WebSocket is opened by GET")));
        }
        if !lists_token(headers, header::UPGRADE, "websocket") {
            return Err(Box::new(upgrade_required(
                "this is a WebSocket: send `Upgrade: websocket`, or use `gateway listen`",
            )));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
            return Err(Box::new(upgrade_required(
                "only WebSocket version 13 is spoken here: send `Sec-WebSocket-Version: 13`",
            )));
        }
        if !lists_token(headers, header::CONNECTION, "upgrade") {
            return Err(Box::new(bad_request("the header `Connection: Upgrade` is missing")));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
        // Sixteen bytes in base64.
        if key.len() != 24 {
            return Err(Box::new(bad_request("the header `Sec-WebSocket-Key` must be 16 bytes in base64")));
        }
        Ok(Self {
            accept_key: derive_accept_key(key),
            offers_subprotocol: lists_token(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL),
        })
    }

    fn accept(self) -> UpgradeResponse {
        UpgradeResponse::SwitchingProtocols(
            "websocket".to_owned(),
            "Upgrade".to_owned(),
            self.accept_key,
            self.offers_subprotocol.then(|| SUBPROTOCOL.to_owned()),
        )
    }
}

/// Whether a comma-separated header lists the token, in any case.
fn lists_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

fn bad_request(detail: &str) -> UpgradeResponse {
    UpgradeResponse::BadRequest(Json(Problem::new(StatusCode::BAD_REQUEST, detail)))
}

fn upgrade_required(detail: &str) -> UpgradeResponse {
    let problem = Problem::new(StatusCode::UPGRADE_REQUIRED, detail);
    UpgradeResponse::UpgradeRequired(Json(problem), "websocket".to_owned(), "13".to_owned())
}

/// Waits for the socket, then serves it in a task of its own: what the upgrade needed is freed.
async fn serve(sockets: Arc<Sockets>, upgrade: OnUpgrade, opening: Box<Opening>) {
    let Ok(stream) = upgrade.await else { return };
    let lifecycle = sockets.lifecycle.clone();
    lifecycle.spawn(session(sockets, stream, opening));
}

/// A session from attach to goodbye. What its future holds, every idle socket pays for: rare parts are boxed.
#[expect(
    clippy::manual_async_fn,
    reason = "the arguments of an `async fn` would be held twice, by every idle socket"
)]
fn session(
    sockets: Arc<Sockets>,
    stream: Upgraded,
    opening: Box<Opening>,
) -> impl Future<Output = ()> + Send {
    async move {
        let started = Instant::now();
        let end = match Box::pin(begin(&sockets, stream, *opening)).await {
            Ok(mut connection) => {
                let end = connection.serve().await;
                tracing::debug!(user = connection.user(), ?end, "a session ends");
                Box::pin(connection.finish(end)).await;
                end
            }
            Err(end) => end,
        };
        let (code, initiator) = end.labels();
        sockets.metrics.count_close(code, initiator);
        sockets.metrics.session_duration.observe(started.elapsed().as_secs_f64());
    }
}

/// Attaches to the mailbox; a socket for which that fails is told so and ends.
async fn begin<'a>(
    sockets: &'a Sockets,
    stream: Upgraded,
    Opening { wish, authority, place }: Opening,
) -> Result<Box<Connection<'a>>, End> {
    match sockets.delivery.subscribe(&wish.user, wish.after, Transport::WebSocket).await {
        Ok(subscription) => {
            // It is counted as a session now.
            drop(place);
            // Stopping closes every session it finds; this one may have come a moment too late to be found.
            if sockets.lifecycle.is_stopping() {
                subscription.handle().close(CloseCode::Drain);
            }
            Ok(Box::new(Connection::new(stream, subscription, (wish.acks, authority), sockets)))
        }
        Err(error) => {
            let code = match error {
                SubscribeError::Behind | SubscribeError::Log(_) => CloseCode::Overloaded,
            };
            tracing::warn!(user = wish.user.as_str(), %error, "a session could not begin");
            goodbye::refuse(stream, code, sockets.advice.before(code)).await;
            Err(End::Server(code))
        }
    }
}

async fn refuse(sockets: Arc<Sockets>, upgrade: OnUpgrade, code: CloseCode) {
    let Ok(stream) = upgrade.await else { return };
    goodbye::refuse(stream, code, sockets.advice.before(code)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_future_of_a_session_stays_small() {
        fn size<F: Future>(_: impl Fn(Arc<Sockets>, Upgraded, Box<Opening>) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(session) + size_of::<Connection<'static>>();
        assert!(bytes <= 1_088, "every idle socket pays for {bytes} bytes");
    }
}
