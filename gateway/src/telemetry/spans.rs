//! The spans of a notification's way: request → publish → queue → deliver → ack.
//!
//! Names and attributes follow OpenTelemetry's conventions for HTTP and messaging. One that goes to few recipients is one
//! trace; to many, or to a session that came later, each recorded delivery is a trace of its own, linked to the publish span:
//! no trace has thousands of spans, and none is reopened after hours.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
    TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Span as Recording};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::Tracing;
use crate::domain::{NotificationId, Position, TraceContext, TraceParent};

/// What the spans of requests are told apart by from everything that dependencies call a span.
pub(super) const TARGET: &str = "gateway::trace";

/// Up to so many recipients, deliveries are spans of the sender's trace.
const MAX_CHILDREN: u32 = 16;

const SYSTEM: &str = "notification-gateway";
const DESTINATION: &str = "notifications";

/// A request whose trace was decided about.
#[derive(Debug)]
pub enum Requested {
    /// It is recorded, in this span.
    Recorded(Span),
    /// It is not; the context has the ids for its log lines.
    Unrecorded(Context),
}

/// What a traced notification brings along, from apply to its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The span that published it.
    pub context: TraceContext,
    /// Its name.
    pub id: NotificationId,
    /// When it was applied here, in microseconds since the Unix epoch; `None` if it was read from the log later.
    pub applied_at_us: Option<u64>,
    /// How many mailboxes or sessions it is meant for, at most.
    pub recipients: u32,
    /// Recipients of all notifications that the same span published, taking each to be as large as this one.
    pub crowd: u32,
    /// Of these, how many may be connected.
    pub deliveries: u32,
}

/// One session's share of a traced notification.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The session's name.
    pub session: u64,
    /// What carries it: `websocket` or `sse`.
    pub protocol: &'static str,
    /// The notification's place; `None` if it has none.
    pub position: Option<Position>,
    /// It came while the session was attached.
    pub live: bool,
}

/// A delivery that is being recorded. Dropped before it is written, it ends as an error.
#[derive(Debug)]
pub struct SpanRecord(Option<Box<Recording>>);

/// A delivery that was written and may be acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    context: TraceContext,
    at_us: u64,
}

impl Tracing {
    /// Decides about a request's trace and begins it; `parent` is what its `traceparent` says.
    ///
    /// One that is not recorded gets no span, which would cost more than the rest of its trace: only ids for its log lines.
    #[must_use]
    pub fn request(&self, method: &'static str, parent: Option<TraceParent>) -> Requested {
        let Some(exporting) = &self.0 else { return Requested::Unrecorded(Context::new()) };
        if exporting.decision.records(parent) {
            return Requested::Recorded(begin(method, parent));
        }
        let ids = RandomIdGenerator::default();
        let trace_id =
            parent.map_or_else(|| ids.new_trace_id(), |parent| TraceId::from_bytes(parent.context.trace_id));
        let flags = TraceFlags::default();
        let unrecorded = SpanContext::new(trace_id, ids.new_span_id(), flags, false, TraceState::default());
        Requested::Unrecorded(Context::new().with_remote_span_context(unrecorded))
    }

    /// Ends a request's span with what was answered.
    pub fn answered(&self, span: &Span, method: &'static str, route: Option<&str>, status: u16) {
        let context = span.context();
        let recording = context.span();
        if !recording.is_recording() {
            return;
        }
        recording.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if let Some(route) = route {
            recording.update_name(format!("{method} {route}"));
            recording.set_attribute(KeyValue::new("http.route", route.to_owned()));
        }
        // What a client does wrong is no error of a server.
        if status >= 500 {
            recording.set_attribute(KeyValue::new("error.type", status.to_string()));
            recording.set_status(Status::error(""));
        }
    }

    /// The span of handing one request's notifications to the log, within the request's.
    #[must_use]
    pub fn publish(&self) -> Span {
        if !self.is_on() || !Context::map_current(|context| context.span().span_context().is_sampled()) {
            return Span::none();
        }
        tracing::info_span!(target: TARGET, "publish notifications", otel.kind = "producer")
    }

    /// Records that a notification came to many mailboxes at once, if it did.
    pub fn fan_out(&self, published: &Published, online: u32, now_us: u64) {
        let (Some(tracing), Some(applied_at_us)) = (&self.0, published.applied_at_us) else { return };
        if published.recipients <= MAX_CHILDREN {
            return;
        }
        let attributes = vec![
            KeyValue::new("gateway.recipients", i64::from(published.recipients)),
            KeyValue::new("gateway.online", i64::from(online)),
        ];
        let span = builder("fan-out notifications", SpanKind::Internal, applied_at_us, attributes);
        tracing.tracer.build_with_context(span, &within(published.context)).end_with_timestamp(time(now_us));
    }

    /// Begins to record that a session was given a notification; `None` if this session's share is not recorded.
    #[must_use]
    pub fn deliver(&self, published: &Published, attempt: Attempt, now_us: u64) -> Option<SpanRecord> {
        let tracer = &self.0.as_ref()?.tracer;
        let one_of = u64::from(published.deliveries / MAX_CHILDREN);
        let share = share_of(attempt.session, published.id);
        if published.deliveries > MAX_CHILDREN && !share.is_multiple_of(one_of) {
            return None;
        }
        let mut attributes = vec![
            KeyValue::new("messaging.system", SYSTEM),
            KeyValue::new("messaging.operation.name", "deliver"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", DESTINATION),
            KeyValue::new("messaging.message.id", published.id.to_string()),
            KeyValue::new("network.protocol.name", attempt.protocol),
            KeyValue::new("gateway.session.id", format!("{:016x}", attempt.session)),
        ];
        attributes.extend(attempt.position.map(|at| KeyValue::new("gateway.position", at.to_string())));
        let applied_at_us = published.applied_at_us.filter(|_| attempt.live);
        let parent = match applied_at_us.filter(|_| published.crowd <= MAX_CHILDREN) {
            Some(applied_at_us) => {
                let parent = within(published.context);
                let queue = builder("queue notifications", SpanKind::Internal, applied_at_us, Vec::new());
                tracer.build_with_context(queue, &parent).end_with_timestamp(time(now_us.max(applied_at_us)));
                parent
            }
            None => {
                let trace_id = published.context.trace_id_hex();
                attributes.push(KeyValue::new("gateway.publish.trace_id", trace_id));
                attributes.push(KeyValue::new("gateway.stored", !attempt.live));
                Context::new()
            }
        };
        let span = builder("deliver notifications", SpanKind::Consumer, now_us, attributes)
            .with_links(vec![Link::with_context(local(published.context))]);
        Some(SpanRecord(Some(Box::new(tracer.build_with_context(span, &parent)))))
    }

    /// Records that a client acked a delivery; `client` is its own span.
    pub fn acked(&self, delivered: Delivered, client: Option<TraceContext>, now_us: u64) {
        let Some(exporting) = &self.0 else { return };
        let attributes = vec![
            KeyValue::new("messaging.system", SYSTEM),
            KeyValue::new("messaging.operation.name", "ack"),
            KeyValue::new("messaging.operation.type", "settle"),
            KeyValue::new("messaging.destination.name", DESTINATION),
        ];
        let mut span = builder("ack notifications", SpanKind::Client, delivered.at_us, attributes);
        let client = client.map(|context| remote(TraceParent { context, sampled: true }));
        span.links = client.map(|client| vec![Link::with_context(client)]);
        let mut span = exporting.tracer.build_with_context(span, &within(delivered.context));
        span.end_with_timestamp(time(now_us.max(delivered.at_us)));
    }
}

impl SpanRecord {
    /// Ends it well: the bytes are the kernel's now.
    #[must_use]
    pub fn written(mut self, now_us: u64) -> Option<Delivered> {
        let mut span = self.0.take()?;
        let context = context_of(span.span_context())?;
        span.end_with_timestamp(time(now_us));
        Some(Delivered { context, at_us: now_us })
    }
}

impl Drop for SpanRecord {
    fn drop(&mut self) {
        if let Some(mut span) = self.0.take() {
            span.set_status(Status::error("the session ended before it was written"));
        }
    }
}

/// What goes into frames and the log: the publish span, if it is recorded. Says of what it publishes.
#[must_use]
pub fn publish_context(span: &Span, attributes: impl FnOnce() -> Vec<KeyValue>) -> Option<TraceContext> {
    if span.is_none() {
        return None;
    }
    let context = span.context();
    let recording = context.span();
    let found = context_of(recording.span_context())?;
    for (name, value) in [
        ("messaging.system", SYSTEM),
        ("messaging.operation.name", "publish"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", DESTINATION),
    ] {
        recording.set_attribute(KeyValue::new(name, value));
    }
    attributes().into_iter().for_each(|attribute| recording.set_attribute(attribute));
    Some(found)
}

/// Marks a span as failed, with the kind of error.
pub fn fail(span: &Span, kind: &'static str, why: impl Into<Cow<'static, str>>) {
    span.set_attribute("error.type", kind);
    span.set_status(Status::error(why));
}

fn begin(method: &'static str, parent: Option<TraceParent>) -> Span {
    let span = tracing::info_span!(target: TARGET, parent: None, "request", otel.name = method, otel.kind = "server");
    if let Some(parent) = parent {
        // It has not started yet, and the layer is there wherever spans are recorded.
        let _ = span.set_parent(Context::new().with_remote_span_context(remote(parent)));
    }
    // No path: it names users and topics, and may be as long as somebody likes. The route comes with the answer.
    span.set_attribute("http.request.method", method);
    span
}

fn builder(name: &'static str, kind: SpanKind, start_us: u64, attributes: Vec<KeyValue>) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(kind).with_start_time(time(start_us)).with_attributes(attributes)
}

/// The context of what happens within a recorded span of this gateway.
fn within(parent: TraceContext) -> Context {
    Context::new().with_remote_span_context(local(parent))
}

fn local(context: TraceContext) -> SpanContext {
    span_context(TraceParent { context, sampled: true }, false)
}

fn remote(parent: TraceParent) -> SpanContext {
    span_context(parent, true)
}

fn span_context(TraceParent { context, sampled }: TraceParent, is_remote: bool) -> SpanContext {
    let (trace_id, span_id) = (TraceId::from_bytes(context.trace_id), SpanId::from_bytes(context.span_id));
    let flags = TraceFlags::default().with_sampled(sampled);
    SpanContext::new(trace_id, span_id, flags, is_remote, TraceState::default())
}

/// The other way round: `None` for a span that is not recorded.
fn context_of(span: &SpanContext) -> Option<TraceContext> {
    let context = TraceContext { trace_id: span.trace_id().to_bytes(), span_id: span.span_id().to_bytes() };
    (span.is_valid() && span.is_sampled()).then_some(context)
}

/// Even over sessions, whose names differ in their lowest bits, as over notifications, whose ids begin with a counter and end
/// at random: both reach the highest bits.
fn share_of(session: u64, id: NotificationId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
    (session ^ u64::from_le_bytes([a, b, c, d, e, f, g, h])).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
}

fn time(unix_us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(unix_us)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_few_of_many_are_picked_whether_sessions_or_notifications_are_many() {
        const ONE_OF: u64 = 12;
        const MANY: u64 = 1_200;
        let new_id = || NotificationId::from_uuid(Uuid::now_v7());
        let picked = |session, id| share_of(session, id).is_multiple_of(ONE_OF);
        let seed = 0x0123_4567_89ab_cdef;
        let id = new_id();
        let sessions = (0..MANY).filter(|session| picked(session ^ seed, id)).count();
        let notifications = (0..MANY).filter(|_| picked(seed, new_id())).count();
        for count in [sessions, notifications] {
            assert!((40..200).contains(&count), "{count} of {MANY}, where one of {ONE_OF} is meant");
        }
    }
}
