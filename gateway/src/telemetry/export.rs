//! From ended spans to the collector: the SDK's batches, bounded and counted.
//!
//! A collector that is slow or gone costs nobody anything: spans wait in a bounded queue, and what does not fit or is not
//! taken is dropped and counted. The SDK by itself would only log the drops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};

/// The longest a batch waits to be full, unless `OTEL_BSP_SCHEDULE_DELAY` says otherwise.
const SCHEDULED_DELAY: Duration = Duration::from_secs(1);

/// What became of ended spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    waiting: AtomicUsize,
    exported: AtomicU64,
    queue_full: AtomicU64,
    export_failed: AtomicU64,
    failing: AtomicBool,
}

impl SpanCounts {
    /// Spans that the collector took.
    #[must_use]
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Spans for which there was no room.
    #[must_use]
    pub fn queue_full(&self) -> u64 {
        self.queue_full.load(Ordering::Relaxed)
    }

    /// Spans that the collector did not take.
    #[must_use]
    pub fn export_failed(&self) -> u64 {
        self.export_failed.load(Ordering::Relaxed)
    }

    /// Spans that wait for the collector.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Hands ended spans to the batches as long as there is room.
#[derive(Debug)]
pub(super) struct Bounded<P> {
    batches: P,
    max_waiting: usize,
    counts: Arc<SpanCounts>,
}

/// Counts what the collector takes.
#[derive(Debug)]
struct Counting<E> {
    exporter: E,
    counts: Arc<SpanCounts>,
}

/// Batches for the collector, of which at most `max_waiting` spans wait.
pub(super) fn bounded(
    exporter: Otlp,
    max_waiting: usize,
    counts: &Arc<SpanCounts>,
) -> Bounded<BatchSpanProcessor> {
    let counting = Counting { exporter, counts: Arc::clone(counts) };
    let mut settings = BatchConfigBuilder::default();
    if std::env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none() {
        settings = settings.with_scheduled_delay(SCHEDULED_DELAY);
    }
    // As large as ours: the SDK's own queue never overflows, so no drop goes uncounted.
    let settings = settings.with_max_queue_size(max_waiting).build();
    let batches = BatchSpanProcessor::builder(counting).with_batch_config(settings).build();
    Bounded { batches, max_waiting, counts: Arc::clone(counts) }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) < self.max_waiting {
            self.batches.on_end(span);
        } else {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

impl<E: SpanExporter> SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        self.counts.waiting.fetch_sub(count, Ordering::Relaxed);
        let counter = if result.is_ok() { &self.counts.exported } else { &self.counts.export_failed };
        counter.fetch_add(count as u64, Ordering::Relaxed);
        // Said when it changes, not for each batch.
        let failed_before = self.counts.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "the collector does not take spans; they are dropped and counted");
            }
            Ok(()) if failed_before => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
