//! The notifications of one socket between their arrival and their ack.
//!
//! Acks are cumulative and some time apart, so one ack ends many spans. It has room for one `traceparent`: that of the
//! newest that is recorded, at the acked position or before it.

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, Status};
use opentelemetry_sdk::trace::Span;

use super::traceparent;

/// Spans of notifications that wait for their ack, in the order in which they arrived.
#[derive(Debug, Default)]
pub struct Unacked {
    spans: Vec<Span>,
}

impl Unacked {
    /// One more has arrived.
    pub fn push(&mut self, span: Span) {
        self.spans.push(span);
    }

    /// The newest one's `traceparent`, for the ack that will end it.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        self.spans.last().map(|span| traceparent::write(span.span_context()))
    }

    /// The ack was sent.
    pub fn acked(&mut self) {
        for mut span in self.spans.drain(..) {
            span.set_status(Status::Ok);
            span.end();
        }
    }

    /// The connection is over before the ack was sent: the next one's ack says it instead, as far as the target can tell.
    pub fn cut_off(&mut self) {
        for mut span in self.spans.drain(..) {
            span.set_attribute(KeyValue::new("error.type", "connection_ended"));
            span.set_status(Status::error("the connection ended before the ack"));
            span.end();
        }
    }
}
