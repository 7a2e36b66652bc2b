//! What every request passes before its handler: host, origin, size of the body, and the count of it.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Body, Endpoint, IntoResponse, Middleware, PathPattern, Request, Response};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Http;
use super::identity::{Identity, SENDS};
use super::intake::Intake;
use crate::auth::{Caller, HostPolicy, OriginPolicy, Permission, host};
use crate::edge::Problem;
use crate::edge::access::{ANYTHING, NotAllowed, SENDING, refused};
use crate::lifecycle::Lifecycle;
use crate::limits::MemoryAdmission;
use crate::metrics::{AuthRefusal, Limit, Metrics, SendResult, Target};

/// How long a browser may remember the answer to a preflight, in seconds.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// An answer is what it says it is.
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");

/// What an answer says may be somebody's own.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Below these paths sessions are opened; they are counted as such, not as requests.
pub(super) const SESSIONS: [&str; 2] = ["/ws/", "/sse/"];

/// The label of requests that match no route: paths from outside never become labels.
const NO_ROUTE: &str = "none";
const OTHER_METHOD: &str = "_OTHER";

/// The middleware around all routes.
#[derive(Clone)]
pub struct Guard {
    metrics: Arc<Metrics>,
    hosts: HostPolicy,
    origins: OriginPolicy,
    lifecycle: Lifecycle,
    identity: Identity,
    intake: Intake,
    memory: MemoryAdmission,
}

/// A guarded endpoint.
pub struct Guarded<E> {
    guard: Guard,
    inner: E,
}

impl Guard {
    pub(super) fn new(http: &Http) -> Self {
        Self {
            metrics: Arc::clone(&http.metrics),
            hosts: http.hosts.clone(),
            origins: http.origins.clone(),
            lifecycle: http.lifecycle.clone(),
            identity: Identity::new(http),
            intake: Intake::new(http.max_body, http.body_timeout, Arc::clone(&http.metrics)),
            memory: http.memory.clone(),
        }
    }

    /// Refuses what must not reach a handler.
    fn refusal(&self, request: &Request, origin: Option<&HeaderValue>) -> Option<Problem> {
        let host = host(request);
        if !self.hosts.allows(host) {
            // What the client wrote is not repeated: it may be anything.
            let detail = "this gateway is not reached by that name; see http.allowed_hosts";
            return Some(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        // Sessions judge the origin themselves: a browser cannot read a refused upgrade, and attempts are counted.
        if is_session(request) {
            return None;
        }
        let allowed = origin.is_none_or(|origin| self.allows(origin, host));
        let detail = "pages of this origin may not use the gateway; see http.allowed_origins";
        (!allowed).then(|| Problem::new(StatusCode::FORBIDDEN, detail))
    }

    fn allows(&self, origin: &HeaderValue, host: &str) -> bool {
        origin.to_str().is_ok_and(|origin| self.origins.allows(origin, host))
    }

    fn observe(&self, method: &Method, response: &Response, started: Instant) {
        let route = route_of(response.data()).unwrap_or(NO_ROUTE);
        if SESSIONS.iter().any(|path| route.starts_with(path)) {
            return;
        }
        let status = response.status();
        // Where there is no such operation, a method is no more than noise from outside. HEAD is answered wherever GET is.
        let is_operation =
            route != NO_ROUTE && status != StatusCode::METHOD_NOT_ALLOWED && *method != Method::HEAD;
        let method = if is_operation { method_label(method) } else { OTHER_METHOD };
        let metrics = &self.metrics;
        metrics.http_requests.with_label_values(&[method, route, status.as_str()]).inc();
        if is_operation && is_timed(route) {
            let seconds = started.elapsed().as_secs_f64();
            metrics.http_request_duration.with_label_values(&[method, route]).observe(seconds);
        }
    }

    /// Sends that fail before their handler runs are counted here.
    fn count_unreadable_send(&self, is_send: bool, problem: &Problem) {
        let result = match problem.status() {
            StatusCode::PAYLOAD_TOO_LARGE => SendResult::TooLarge,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => SendResult::Unauthorized,
            StatusCode::SERVICE_UNAVAILABLE => SendResult::Overloaded,
            status if status.is_client_error() => SendResult::Invalid,
            _ => return,
        };
        if is_send {
            self.metrics.count_send(Target::Unknown, result);
        }
    }
}

impl<E: Endpoint> Middleware<E> for Guard {
    type Output = Guarded<E>;

    fn transform(&self, inner: E) -> Self::Output {
        Guarded { guard: self.clone(), inner }
    }
}

impl<E: Endpoint> Endpoint for Guarded<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let guard = &self.guard;
        let started = Instant::now();
        let _active = ActiveRequest::count(&guard.metrics);
        let method = request.method().clone();
        let is_send = method == Method::POST && request.uri().path().starts_with(SENDS);
        let origin = request.headers().get(header::ORIGIN).cloned();

        let reflected = origin.clone().filter(|origin| guard.allows(origin, host(&request)));
        let mut response = match guard.refusal(&request, origin.as_ref()) {
            Some(problem) => problem.into_response(),
            None if is_preflight(&request) => preflight(),
            None => {
                // Polled where it lies: as an argument of something that catches panics it would be copied, kilobytes of it.
                let mut answering = pin!(self.answer(request, is_send));
                poll_fn(|context| {
                    let polled = catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(context)));
                    polled.unwrap_or_else(|_| Poll::Ready(guard.failed()))
                })
                .await
            }
        };
        if let Some(origin) = reflected {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
            headers.insert(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static("Retry-After, Idempotent-Replayed"),
            );
        }
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let headers = response.headers_mut();
            // Pages say it better where they mean something else.
            headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(NO_SNIFFING);
            headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
        }
        guard.observe(&method, &response, started);
        Ok(response)
    }
}

impl<E: Endpoint> Guarded<E> {
    /// Lets the handler answer, if somebody is known to ask and the body arrives; says what became of it otherwise.
    async fn answer(&self, mut request: Request, is_send: bool) -> Response {
        let guard = &self.guard;
        let audit = match guard.identity.identify(&mut request).await {
            Ok(audit) => audit,
            Err(refusal) => return guard.refuse(request, is_send, (refusal, ANYTHING)).await,
        };
        if is_session(&request) {
            guard.identity.take_out_of_address(&mut request);
        }
        let _room = match guard.let_in(&mut request, is_send).await {
            Ok(room) => room,
            Err(response) => return response,
        };
        let client = guard.identity.client(&request);
        let response = match self.inner.call(request).await {
            Ok(response) => response.into_response(),
            Err(error) => {
                if let Some(NotAllowed { refusal, .. }) = error.downcast_ref::<NotAllowed>() {
                    guard.identity.refused(*refusal, client);
                }
                let pattern = error.data::<PathPattern>().cloned();
                let problem = Problem::from_error(&error);
                guard.count_unreadable_send(is_send, &problem);
                let mut response = problem.into_response();
                if let Some(pattern) = pattern {
                    response.set_data(pattern);
                }
                response
            }
        };
        if let Some(audit) = audit {
            audit.done(&response);
        }
        response
    }
}

impl Guard {
    /// Reads the body, if this is an operation and its caller may have it read; nobody else has one.
    async fn let_in(
        &self,
        request: &mut Request,
        is_send: bool,
    ) -> Result<Option<OwnedSemaphorePermit>, Response> {
        let Some(caller) = request.data::<Caller>() else {
            request.set_body(Body::empty());
            return Ok(None);
        };
        // Before eight megabytes are read; the operation itself asks again.
        if is_send && let Err(refusal) = caller.check(Permission::Send) {
            let taken = std::mem::take(request);
            return Err(self.refuse(taken, is_send, (refusal, SENDING)).await);
        }
        if is_send && self.memory.is_exceeded() {
            self.metrics.limited.of(Limit::Memory).inc();
            let detail = "the gateway is out of memory to spare";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
            self.count_unreadable_send(is_send, &problem);
            self.intake.refuse(request.take_body()).await;
            return Err(problem.into_response());
        }
        self.intake.take(request).await.map(Some).map_err(|problem| {
            self.count_unreadable_send(is_send, &problem);
            problem.into_response()
        })
    }

    /// Counts and says why somebody is not let in.
    async fn refuse(
        &self,
        mut request: Request,
        is_send: bool,
        (refusal, needs): (AuthRefusal, &str),
    ) -> Response {
        self.identity.refused(refusal, self.identity.client(&request));
        let problem = refused(refusal, needs);
        self.count_unreadable_send(is_send, &problem);
        self.intake.refuse(request.take_body()).await;
        problem.into_response()
    }

    /// A panic has said where; it costs this request only.
    fn failed(&self) -> Response {
        self.lifecycle.count_panic();
        let detail = "the gateway failed to answer this request";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
    }
}

/// Whether the request is for a session.
fn is_session(request: &Request) -> bool {
    SESSIONS.iter().any(|path| request.uri().path().starts_with(path))
}

/// What notifications take on their way; looking after users and topics is counted, not timed: each histogram is ten series.
fn is_timed(route: &str) -> bool {
    route.starts_with("/v1/notifications") || route.ends_with("/notifications") || route.ends_with("/acks")
}

/// A method's label: those from outside that nobody knows are one.
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => OTHER_METHOD,
    }
}

/// The route that answered, for a label; poem-openapi numbers a path's parameters, people and dashboards want their names.
pub(super) fn route_of(pattern: Option<&PathPattern>) -> Option<&str> {
    let pattern = &*pattern?.0;
    Some(match pattern {
        // Below them, but nowhere.
        "/v1" | "/ws" | "/sse" => return None,
        "/console/:file" => "/console/{file}",
        "/ws/:param0" => "/ws/{user}",
        "/sse/:param0" => "/sse/{user}",
        "/v1/notifications/:param0" => "/v1/notifications/{id}",
        "/v1/users/:param0" => "/v1/users/{user}",
        "/v1/users/:param0/acks" => "/v1/users/{user}/acks",
        "/v1/users/:param0/notifications" => "/v1/users/{user}/notifications",
        "/v1/users/:param0/sessions" => "/v1/users/{user}/sessions",
        "/v1/users/:param0/topics" => "/v1/users/{user}/topics",
        "/v1/topics/:param0" => "/v1/topics/{topic}",
        "/v1/topics/:param0/subscribers" => "/v1/topics/{topic}/subscribers",
        "/v1/topics/:param0/subscribers/:param1" => "/v1/topics/{topic}/subscribers/{user}",
        other => other,
    })
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE")
        .header(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Content-Type, Authorization, Idempotency-Key, Last-Event-ID, traceparent, tracestate",
        )
        .header(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE)
        .finish()
}

/// Counts a request as active until it is dropped, however it ends.
struct ActiveRequest<'a>(&'a Metrics);

impl<'a> ActiveRequest<'a> {
    fn count(metrics: &'a Metrics) -> Self {
        metrics.http_active_requests.inc();
        Self(metrics)
    }
}

impl Drop for ActiveRequest<'_> {
    fn drop(&mut self) {
        self.0.http_active_requests.dec();
    }
}
