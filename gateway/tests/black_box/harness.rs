//! A running gateway and what a test does with it: send, listen, look at metrics, stop.
//!
//! The harness knows the public protocol only. Every wait has a limit and says what it waited for; [`Gateway::stop`] ends a
//! test by checking that nothing leaked.

mod api;
mod collector;
mod dial;
mod event_source;
mod raw;
mod receiver;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use gateway::app::{App, RunError};
use gateway::clock::Clock;
use gateway::config::Config;
use gateway::telemetry::Tracing;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) use collector::{Collector, CollectorPort, Span, reporting_to};
pub(crate) use dial::Dial;
pub(crate) use event_source::EventSource;
pub(crate) use receiver::{Place, Receiver};

/// How long any single thing may take before a test gives up waiting for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// When tests begin that own the time, in microseconds since the Unix epoch.
pub(crate) const SOME_TIME_US: u64 = 1_700_000_000_000_000;

/// How often a condition is looked at while a test waits for it.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A gateway on free ports of loopback, and a sender's connection to it.
pub(crate) struct Gateway {
    sender: Sender,
    http: SocketAddr,
    ops: SocketAddr,
    operator: reqwest::Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), RunError>>,
}

/// A sender; each clone shares its connections.
#[derive(Clone)]
pub(crate) struct Sender {
    base: String,
    client: reqwest::Client,
}

/// What the gateway answered to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// JSON, or the text as a JSON string if it is no JSON.
    pub(crate) body: Value,
}

/// Waits for `future`, but not for ever.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("waited {} s in vain for {what}", PATIENCE.as_secs()))
}

/// A user id or a parameter as it stands in a path or query.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Gateway {
    /// Starts a gateway with the defaults.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a gateway whose configuration was changed by `configure`.
    pub(crate) async fn start_with(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_with_clock(Clock::system(), configure).await
    }

    /// Starts a gateway that reads the time from `clock`.
    pub(crate) async fn start_with_clock(clock: Clock, configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::for_tests();
        configure(&mut config);
        let app = App::bind_with(config, clock, Tracing::off()).await.expect("free ports on loopback");
        let addresses = app.addresses();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(app.run_until(async {
            // A test that panics drops its end: then the gateway stops too.
            let _ = stopped.await;
        }));
        Self {
            sender: Sender {
                base: format!("http://{}", addresses.http),
                client: reqwest::Client::builder().build().expect("a client without options"),
            },
            http: addresses.http,
            ops: addresses.ops,
            operator: reqwest::Client::builder().build().expect("a client without options"),
            stop,
            running,
        }
    }

    /// The public listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.http
    }

    /// The operator's listener.
    pub(crate) fn operators_address(&self) -> SocketAddr {
        self.ops
    }

    /// A sender for another task.
    pub(crate) fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Posts one notification.
    pub(crate) async fn send(&self, notification: Value) -> Answer {
        self.sender.send(notification).await
    }

    /// Posts a text for one user, which has to be accepted.
    pub(crate) async fn send_text(&self, user: &str, text: &str) -> Answer {
        self.send(json!({"to": [user], "body": text})).await.accepted()
    }

    /// A request to the public listener, to be completed and then given to [`Answer::of`].
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.sender.client.request(method, format!("{}{path}", self.sender.base))
    }

    /// What a browser is told that asks whether a page of `origin` may post with these headers.
    pub(crate) async fn preflight(&self, origin: &str, headers: &str) -> Answer {
        let request = self
            .request(Method::OPTIONS, "/v1/notifications")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", headers);
        Answer::of(request).await
    }

    /// Gets a path of the public listener.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// What the gateway says about a user.
    pub(crate) async fn user(&self, user: &str) -> Answer {
        self.get(&format!("/v1/users/{}", segment(user))).await
    }

    /// Prepares a socket for `user`.
    pub(crate) fn dial(&self, user: &str) -> Dial {
        Dial::new(self.http, user)
    }

    /// Opens a socket for `user` without saying where to start, and reads its welcome.
    pub(crate) async fn listen(&self, user: &str) -> Receiver {
        self.dial(user).open().await
    }

    /// Opens a socket for `user` that starts at `position`: a position, `start` or `now`.
    pub(crate) async fn listen_after(&self, user: &str, position: &str) -> Receiver {
        self.dial(user).after(position).open().await
    }

    /// The value of one series of the operator's metrics, as in `gateway_sessions{transport="websocket"}`.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics_text().await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("there is no series {series} in:\n{text}"));
        value.parse().expect("a metric's value is a number")
    }

    /// Everything that `/metrics` says.
    pub(crate) async fn metrics_text(&self) -> String {
        let request = self.operator.get(format!("http://{}/metrics", self.ops)).send();
        let response = within("the metrics", request).await.expect("the operator's listener answers");
        within("the metrics' text", response.text()).await.expect("metrics are text")
    }

    /// What the operator's listener answers to a request for `host`.
    pub(crate) async fn operators_answer_to(&self, host: &str) -> u16 {
        let request = self.operator.get(format!("http://{}/metrics", self.ops)).header("host", host).send();
        within("the operator's answer", request)
            .await
            .expect("the operator's listener answers")
            .status()
            .as_u16()
    }

    /// Waits until a series has this value.
    pub(crate) async fn until_metric(&self, series: &str, value: f64) {
        let reached = async {
            while self.metric(series).await != value {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        within(&format!("{series} to become {value}"), reached).await;
    }

    /// Waits until `user` has so many sessions.
    pub(crate) async fn until_sessions(&self, user: &str, sessions: u64) {
        let reached = async {
            while self.user(user).await.body["sessions"] != sessions {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        within(&format!("{user} to have {sessions} sessions"), reached).await;
    }

    /// Stops the gateway after a test that has closed (or dropped) its sockets: nothing of it may be left.
    pub(crate) async fn stop(mut self) {
        // Idle connections of the sender end with it.
        self.sender.client = self.operator.clone();
        for series in [
            r#"gateway_sessions{transport="websocket"}"#,
            "gateway_connections",
            "http_server_active_requests",
        ] {
            self.until_metric(series, 0.0).await;
        }
        assert_eq!(self.metric("gateway_ledger_imbalance").await, 0.0, "what was accepted is accounted for");
        let ended = self.shut_down().await;
        assert_eq!(ended, Ok(()), "everything ended in order");
    }

    /// Stops the gateway whatever is still open, and says how its run ended.
    pub(crate) async fn shut_down(self) -> Result<(), RunError> {
        let Self { stop, running, .. } = self;
        stop.send(()).expect("the gateway still runs");
        within("the gateway to stop", running).await.expect("the gateway does not panic")
    }
}

impl Sender {
    /// Posts one notification.
    pub(crate) async fn send(&self, notification: Value) -> Answer {
        self.post("/v1/notifications", &notification).await
    }

    /// Posts JSON to a path.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.client.post(format!("{}{path}", self.base)).json(body)).await
    }
}

impl Answer {
    /// Sends the request and reads the whole answer.
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = within("an answer", request.send()).await.expect("the gateway answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = within("the body of an answer", response.bytes()).await.expect("the body arrives whole");
        Self::new(status, headers, &bytes)
    }

    pub(crate) fn new(status: u16, headers: HeaderMap, bytes: &[u8]) -> Self {
        let text = || Value::String(String::from_utf8_lossy(bytes).into_owned());
        Self { status, headers, body: serde_json::from_slice(bytes).unwrap_or_else(|_| text()) }
    }

    /// Fails unless the notification was accepted.
    #[track_caller]
    pub(crate) fn accepted(self) -> Self {
        assert_eq!(self.status, 202, "the notification should be accepted: {}", self.body);
        self
    }

    /// The place of an accepted notification.
    #[track_caller]
    pub(crate) fn position(&self) -> String {
        self.body["position"].as_str().expect("an accepted notification has a position").to_owned()
    }

    /// A header's text, empty without the header.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers here are ASCII"))
    }

    /// Fails unless this is a problem of that status; with a `field`, it has to name that one.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, field: Option<&str>) {
        assert_eq!(self.status, status, "another status was expected: {}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.body);
        assert_eq!(self.body["status"], status, "the problem repeats its status");
        assert!(self.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{}", self.body);
        assert_eq!(self.body.get("field").and_then(Value::as_str), field, "{}", self.body);
    }
}
