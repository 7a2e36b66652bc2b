//! The two outer ends of each trace: the POST that a sender begins, and the notification that a receiver takes.
//!
//! There are traces only when the environment names a collector (see [`Settings`]). Then each POST is a root span and carries
//! its `traceparent`, whether it is recorded or not, so that the target's trace is the sender's. A frame that carries a
//! `traceparent` is continued by a span that ends when the notification is acked. Spans leave by a thread and a bounded
//! queue of their own; what the queue or the collector does not take is counted and told (see [`Traces::end`]).
//!
//! There is no tracer of the whole process: whoever makes spans is handed [`Traces`].

mod export;
mod settings;
mod traceparent;
mod unacked;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, InstrumentationScope, KeyValue, StringValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span};
use reqwest::StatusCode;
use reqwest::header::HeaderValue;

use crate::set_up::SetUpError;
use crate::target::{Answer, Request, Traced};
use export::{Books, Bounded, Counting};

pub use settings::Settings;
pub use unacked::Unacked;

/// The header of the W3C's trace context.
pub const TRACEPARENT: &str = "traceparent";

/// How long the last spans may take to reach the collector when a run is over.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Of what more receivers get, about so many receivers have a span: a trace of thousands of spans shows nobody anything.
const MAX_RECEIVERS: usize = 16;

/// Makes spans and brings them to the collector.
#[derive(Debug)]
pub struct Traces {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    books: Arc<Books>,
    /// What every span says of the run.
    run: [KeyValue; 2],
    /// What every sender's span says of the target.
    server: Vec<KeyValue>,
}

/// A POST that is recorded.
#[derive(Debug)]
pub struct Sending {
    // A span is half a kilobyte, which every sender would carry through a run without traces.
    span: Box<Span>,
}

impl Traces {
    /// Begins to make spans. Nothing is connected yet: a collector that is not there is found out by the first export.
    ///
    /// Must be called within a runtime, which brings the spans to the collector.
    ///
    /// # Errors
    /// [`SetUpError`]: no exporter can be made of what the environment says, in its words.
    pub fn start(
        settings: &Settings,
        run: &str,
        scenario: &'static str,
        target: &reqwest::Url,
    ) -> Result<Self, SetUpError> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(settings.endpoint.as_str());
        let exporter = exporter.build().map_err(|error| SetUpError(format!("traces: {error}")))?;
        let books = Arc::new(Books::default());
        let batch = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue_spans)
            .with_scheduled_delay(settings.export_every)
            .build();
        let exporter = Counting::new(exporter, Arc::clone(&books));
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batch).build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(settings.sampler.clone())
            .with_resource(settings.resource())
            .with_span_processor(Bounded::new(processor, settings.queue_spans, Arc::clone(&books)))
            .build();
        let scope = InstrumentationScope::builder("loadtest").with_version(env!("CARGO_PKG_VERSION"));
        let run: StringValue = Arc::<str>::from(run).into();
        let run = [KeyValue::new("loadtest.run", run), KeyValue::new("loadtest.scenario", scenario)];
        let host: StringValue = Arc::<str>::from(target.host_str().unwrap_or_default()).into();
        let mut server = vec![KeyValue::new("server.address", host)];
        server
            .extend(target.port_or_known_default().map(|port| KeyValue::new("server.port", i64::from(port))));
        Ok(Self { tracer: provider.tracer_with_scope(scope.build()), provider, books, run, server })
    }

    /// Begins the span of a POST that repeats an earlier one so many times: the `traceparent` to send with it, and the span
    /// if it is recorded.
    ///
    /// Its kind is CLIENT: this is the caller of a synchronous HTTP request. PRODUCER is for the span whose context becomes
    /// that of the message, and that is the target's own publish span.
    #[must_use]
    pub fn send(&self, request: &Request, repetitions: u32) -> (HeaderValue, Option<Sending>) {
        let builder = self.tracer.span_builder("send notifications").with_kind(SpanKind::Client);
        let mut span = self.tracer.build_with_context(builder, &Context::new());
        let header = HeaderValue::try_from(traceparent::write(span.span_context()));
        let header = header.expect("digits and hyphens");
        if !span.is_recording() {
            return (header, None);
        }
        span.set_attribute(KeyValue::new("http.request.method", request.method.to_string()));
        if repetitions > 0 {
            span.set_attribute(KeyValue::new("http.request.resend_count", i64::from(repetitions)));
        }
        span.set_attributes(self.server.iter().chain(&self.run).cloned());
        (header, Some(Sending { span: Box::new(span) }))
    }

    /// Begins the span of a notification that arrived; `None`: the frame continues no trace, or one that is not recorded.
    #[must_use]
    pub fn process(&self, traced: &Traced<'_>) -> Option<Span> {
        let parent = Context::new().with_remote_span_context(traceparent::parse(traced.parent)?);
        let builder = self.tracer.span_builder("process notifications").with_kind(SpanKind::Consumer);
        let mut span = self.tracer.build_with_context(builder, &parent);
        if !span.is_recording() {
            return None;
        }
        span.set_attributes([
            KeyValue::new("messaging.system", "notification-gateway"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", "notifications"),
            KeyValue::new("messaging.message.id", traced.message.to_owned()),
        ]);
        span.set_attributes(self.run.iter().cloned());
        Some(span)
    }

    /// Brings what is left to the collector, for at most two seconds, and ends. `Some`: spans were lost, in words.
    ///
    /// What a span of this run does after that is lost too, and was not counted.
    pub async fn end(&self) -> Option<String> {
        let provider = self.provider.clone();
        // It waits for a thread. That it fails is known from the books.
        let _ = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(END_PATIENCE)).await;
        self.books.losses()
    }
}

impl Sending {
    /// Ends it with what came of it; without a status there was no answer.
    pub fn end(mut self, status: Option<StatusCode>, answer: &Answer) {
        if let Some(status) = status {
            self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        }
        if let Answer::Refused(why) | Answer::NotNow(why) | Answer::Unknown(why) = answer {
            let kind = match status {
                Some(status) if status.is_client_error() || status.is_server_error() => {
                    status.as_u16().to_string()
                }
                // An acceptance that is none; the words are those of the target.
                Some(_) => "_OTHER".to_owned(),
                None => why.clone(),
            };
            self.span.set_attribute(KeyValue::new("error.type", kind));
            self.span.set_status(Status::error(why.clone()));
        }
        self.span.end();
    }
}

/// Whether a receiver is one of those that have spans: all of few, and of many some, evenly spread.
#[must_use]
pub fn is_followed(receiver: usize, receivers_of_its_stream: usize) -> bool {
    receiver.is_multiple_of(receivers_of_its_stream.div_ceil(MAX_RECEIVERS).max(1))
}

#[cfg(test)]
mod tests;
