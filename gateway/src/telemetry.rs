//! Log lines and traces.
//!
//! Lines go to standard error: human on a terminal, JSON elsewhere; those of a request carry its trace. Spans go to a
//! collector, once `OTEL_EXPORTER_OTLP_ENDPOINT` names one. Requests are `tracing` spans, so that lines and spans agree; what
//! happens to a notification later is recorded span by span through [`Tracing`], and only if it is sampled: an unsampled
//! push pays for one branch.

mod environment;
mod export;
mod lines;
mod sampler;
mod spans;
mod throttle;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Config, ConfigError, LogFormat, Telemetry};
use environment::Export;
use lines::{JsonLines, TracedFields};
use sampler::Decision;

pub use export::SpanCounts;
pub use spans::{Attempt, Delivered, Published, Requested, SpanRecord, fail, publish_context};
pub use throttle::Throttle;

/// How long the end of the process waits for the collector.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// What the export itself says is no news of the gateway, and would feed itself: our own lines tell when a collector fails.
const SILENCED: [&str; 10] = [
    // Its events come as lines of ours, not more than somebody reads.
    "async_nats=off",
    "poem=warn",
    "opentelemetry=off",
    // It warns of one thing that nobody else tells: a collector that answers well and refuses spans one by one.
    "opentelemetry-otlp=warn",
    "tonic=off",
    "h2=warn",
    "hyper=warn",
    "hyper_util=warn",
    "tower=warn",
    "mio=warn",
];

/// The handle through which spans are recorded; cheap to clone. Without a collector it does nothing.
#[derive(Debug, Clone, Default)]
pub struct Tracing(Option<Arc<Exporting>>);

#[derive(Debug)]
struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    decision: Decision,
    counts: Arc<SpanCounts>,
}

impl Tracing {
    /// Records nothing.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// Whether spans are recorded at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What became of the spans that ended so far; `None` when nothing is exported.
    #[must_use]
    pub fn counts(&self) -> Option<&SpanCounts> {
        self.0.as_ref().map(|exporting| &*exporting.counts)
    }

    /// Hands what waits to the collector, for at most two seconds. Spans that end later are lost.
    pub async fn shut_down(self) {
        let Some(exporting) = self.0 else { return };
        let counts = Arc::clone(&exporting.counts);
        // It blocks, and the export needs this runtime.
        let shut_down =
            tokio::task::spawn_blocking(move || exporting.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        let result = shut_down.await.expect("shutting the exporter down does not panic");
        if let Err(error) = result {
            tracing::warn!(%error, lost = counts.waiting(), "the collector did not take the last spans in time");
        }
    }

    fn start(export: Export, trust_remote_sampling: bool) -> Result<Self, ConfigError> {
        let exporter = SpanExporter::builder().with_tonic().build();
        let exporter = exporter.map_err(|error| {
            ConfigError(format!("OTEL_EXPORTER_OTLP_ENDPOINT: spans cannot be exported: {error}"))
        })?;
        let counts = Arc::new(SpanCounts::default());
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", crate::VERSION));
        if let Some(name) = export.service_name {
            resource = resource.with_service_name(name);
        }
        let trust_remote = trust_remote_sampling && export.parent_based;
        let decision = Decision::new(export.sampler, trust_remote);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            // What is not recorded has no span.
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(export::bounded(exporter, export.queue_spans, &counts))
            .build();
        let tracer = provider.tracer("gateway");
        Ok(Self(Some(Arc::new(Exporting { provider, tracer, decision, counts }))))
    }
}

/// Whether [`install`] would take these settings and variables.
///
/// # Errors
/// When the filter does not parse, or a variable asks for what cannot be done.
pub fn check(telemetry: &Telemetry) -> Result<(), ConfigError> {
    Export::read(variable)?;
    filter(telemetry).map(drop)
}

/// Installs the process's log lines and traces. Called once, by `main`, within the runtime that the export shall use.
///
/// # Errors
/// Those of [`check`].
pub fn install(config: &Config) -> Result<Tracing, ConfigError> {
    let tracing = match Export::read(variable)? {
        Some(export) => Tracing::start(export, config.trace.trust_remote_sampling)?,
        None => Tracing::off(),
    };
    let to_terminal = std::io::stderr().is_terminal();
    let json = match config.telemetry.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !to_terminal,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // Spans are for the collector; lines only need to know where they are.
    let events = filter_fn(|metadata| metadata.is_event()).with_max_level_hint(LevelFilter::TRACE);
    let events = filter(&config.telemetry)?.and(events);
    let lines = if json {
        lines.event_format(JsonLines).with_filter(events).boxed()
    } else {
        lines.fmt_fields(TracedFields::new()).with_ansi(to_terminal).with_filter(events).boxed()
    };
    // The hints keep what is below both levels from being asked for at all.
    let requests = filter_fn(|metadata| metadata.is_span() && metadata.target() == spans::TARGET)
        .with_max_level_hint(LevelFilter::INFO);
    let requests = tracing.0.as_ref().map(|exporting| {
        tracing_opentelemetry::layer()
            .with_tracer(exporting.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            // Lines are lines: a span's events would carry them to the collector as well.
            .with_filter(requests)
    });
    tracing_subscriber::registry().with(requests).with(lines).init();
    Ok(tracing)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn filter(telemetry: &Telemetry) -> Result<EnvFilter, ConfigError> {
    let filter = EnvFilter::try_new(&telemetry.filter).map_err(|error| {
        ConfigError(format!("telemetry.filter = \"{}\" is not valid: {error}", telemetry.filter))
    })?;
    let silence = |filter: EnvFilter, directive: &&str| {
        filter.add_directive(directive.parse().expect("a fixed directive parses"))
    };
    Ok(SILENCED.iter().fold(filter, silence))
}
