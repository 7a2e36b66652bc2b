//! What every request passes before its handler: host, origin, size of the body, and the count of it.

use std::sync::Arc;
use std::time::Duration;

use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Body, Endpoint, IntoResponse, Middleware, PathPattern, Request, Response};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::Http;
use crate::auth::{HostPolicy, OriginPolicy, host};
use crate::edge::Problem;
use crate::metrics::{Metrics, SendResult, Target};

/// How long a browser may remember the answer to a preflight, in seconds.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Bytes of a refused body that are read on, so that the sender reads the answer instead of a broken connection.
const MAX_LINGER_BYTES: u64 = 32 << 20;

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
    max_body: usize,
    body_timeout: Duration,
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
            hosts: http.hosts,
            origins: http.origins.clone(),
            max_body: http.max_body,
            body_timeout: http.body_timeout,
        }
    }

    /// Refuses what must not reach a handler.
    fn refusal(&self, request: &Request, origin: Option<&HeaderValue>) -> Option<Problem> {
        let host = host(request);
        if !self.hosts.allows(host) {
            let detail =
                format!("this gateway answers only names of its own machine, not `{host}` (open mode)");
            return Some(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        // Sessions judge the origin themselves: a browser cannot read a refused upgrade, and attempts are counted.
        if SESSIONS.iter().any(|path| request.uri().path().starts_with(path)) {
            return None;
        }
        let allowed = origin.is_none_or(|origin| self.allows(origin, host));
        let detail = "pages of this origin may not use the gateway; see http.allowed_origins";
        (!allowed).then(|| Problem::new(StatusCode::FORBIDDEN, detail))
    }

    fn allows(&self, origin: &HeaderValue, host: &str) -> bool {
        origin.to_str().is_ok_and(|origin| self.origins.allows(origin, host))
    }

    /// Reads the body before the handler does, within its limits of size and time.
    async fn take_body(&self, request: &mut Request) -> Result<(), Problem> {
        let too_large = || {
            let detail = format!("the body may have at most {} bytes", self.max_body);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        };
        let announced = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if announced.is_some_and(|length| length > self.max_body as u64) {
            self.linger(request.take_body()).await;
            return Err(too_large());
        }
        let body = request.take_body();
        let reading = async {
            match announced {
                // The server reads no more than was announced: one copy less than counting along.
                Some(_) => body.into_bytes().await,
                None => body.into_bytes_limit(self.max_body).await,
            }
        };
        match tokio::time::timeout(self.body_timeout, reading).await {
            Ok(Ok(bytes)) => {
                request.set_body(Body::from_bytes(bytes));
                Ok(())
            }
            Ok(Err(poem::error::ReadBodyError::PayloadTooLarge)) => Err(too_large()),
            Ok(Err(error)) => Err(Problem::new(StatusCode::BAD_REQUEST, error.to_string())),
            Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive")),
        }
    }

    /// Reads on for a while what is refused anyway: closing with unread bytes would reset the connection under the answer.
    async fn linger(&self, body: Body) {
        let mut reader = body.into_async_read().take(MAX_LINGER_BYTES);
        // Whether the rest came whole changes nothing.
        let _ = tokio::time::timeout(self.body_timeout, tokio::io::copy(&mut reader, &mut tokio::io::sink()))
            .await;
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
        if is_operation && route.starts_with("/v1/") {
            let seconds = started.elapsed().as_secs_f64();
            metrics.http_request_duration.with_label_values(&[method, route]).observe(seconds);
        }
    }

    /// Sends that fail before their handler runs are counted here.
    fn count_unreadable_send(&self, is_send: bool, problem: &Problem) {
        let result = match problem.status() {
            StatusCode::PAYLOAD_TOO_LARGE => SendResult::TooLarge,
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

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let guard = &self.guard;
        let started = Instant::now();
        let _active = ActiveRequest::count(&guard.metrics);
        let method = request.method().clone();
        let is_send = method == Method::POST && request.uri().path().starts_with("/v1/notifications");
        let origin = request.headers().get(header::ORIGIN).cloned();

        let reflected = origin.clone().filter(|origin| guard.allows(origin, host(&request)));
        let mut response = match guard.refusal(&request, origin.as_ref()) {
            Some(problem) => problem.into_response(),
            None if is_preflight(&request) => preflight(),
            None => match guard.take_body(&mut request).await {
                Err(problem) => {
                    guard.count_unreadable_send(is_send, &problem);
                    problem.into_response()
                }
                Ok(()) => match self.inner.call(request).await {
                    Ok(response) => response.into_response(),
                    Err(error) => {
                        let pattern = error.data::<PathPattern>().cloned();
                        let problem = Problem::from_error(&error);
                        guard.count_unreadable_send(is_send, &problem);
                        let mut response = problem.into_response();
                        if let Some(pattern) = pattern {
                            response.set_data(pattern);
                        }
                        response
                    }
                },
            },
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
        guard.observe(&method, &response, started);
        Ok(response)
    }
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
