//! What becomes of each span: the library's batches, with a bound that is counted and an exporter that is counted.
//!
//! The library says in a log line how many spans found its queue full, and of a failed export only that it failed. So both
//! ends are wrapped: [`Bounded`] is the queue's entrance, [`Counting`] its exit. The library's own queue holds as many spans
//! as the entrance lets in, so it never refuses one.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

use crate::report::number;

/// What became of the spans so far. What was begun and neither delivered, refused nor failed is still under way.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Recorded spans that were begun.
    begun: AtomicU64,
    /// Spans that found the queue full.
    refused: AtomicU64,
    /// Spans between the queue's entrance and its exit.
    waiting: AtomicUsize,
    /// Spans that the collector took.
    delivered: AtomicU64,
    /// Spans of exports that failed for good.
    failed: AtomicU64,
}

impl Books {
    /// What did not reach the collector, in words; `None`: everything did.
    pub(super) fn losses(&self) -> Option<String> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (begun, delivered) = (get(&self.begun), get(&self.delivered));
        let lost = begun.saturating_sub(delivered);
        if lost == 0 {
            return None;
        }
        let (refused, failed) = (get(&self.refused), get(&self.failed));
        let reasons = [
            (refused, "found the queue full"),
            (failed, "could not be exported"),
            (lost.saturating_sub(refused + failed), "were still on their way at the end"),
        ];
        let reasons = reasons.iter().filter(|(count, _)| *count > 0);
        let reasons: Vec<String> =
            reasons.map(|(count, what)| format!("{} {what}", number::count(*count))).collect();
        Some(format!(
            "Traces have holes: {} of {} spans did not reach the collector ({}). The verdict does not depend on it.",
            number::count(lost),
            number::count(begun),
            reasons.join(", ")
        ))
    }
}

/// The queue's entrance: lets in at most so many spans at a time.
#[derive(Debug)]
pub(super) struct Bounded<P> {
    next: P,
    capacity: usize,
    books: Arc<Books>,
}

impl<P: SpanProcessor> Bounded<P> {
    /// In front of a processor that has room for at least `capacity` spans and gives them to a [`Counting`] with the same
    /// books.
    pub(super) fn new(next: P, capacity: usize, books: Arc<Books>) -> Self {
        Self { next, capacity, books }
    }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.books.begun.fetch_add(1, Ordering::Relaxed);
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.books.waiting.fetch_add(1, Ordering::AcqRel) >= self.capacity {
            self.books.waiting.fetch_sub(1, Ordering::AcqRel);
            self.books.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.next.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// The queue's exit: counts what the collector took and what it did not.
#[derive(Debug)]
pub(super) struct Counting<E> {
    next: E,
    books: Arc<Books>,
}

impl<E: SpanExporter> Counting<E> {
    /// In front of the exporter that speaks to the collector.
    pub(super) fn new(next: E, books: Arc<Books>) -> Self {
        Self { next, books }
    }
}

impl<E: SpanExporter> SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        // They have left the queue; how many at a time are being exported is bounded by the library.
        self.books.waiting.fetch_sub(count, Ordering::AcqRel);
        let result = self.next.export(batch).await;
        let counter = if result.is_ok() { &self.books.delivered } else { &self.books.failed };
        counter.fetch_add(count as u64, Ordering::Relaxed);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}
