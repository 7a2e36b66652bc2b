//! What the publish span says: of what is offered, and of what became of it.

use opentelemetry::KeyValue;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::publish::{Accepted, PublishError};
use crate::domain::{Notification, Target};
use crate::telemetry::fail;

/// What is known before it is handed to the log.
pub(super) fn offered(notifications: &[Notification]) -> Vec<KeyValue> {
    let text = |notification: &Notification| {
        let lengths =
            [&notification.title, &notification.body].map(|text| text.as_ref().map_or(0, String::len));
        let data = notification.data.as_ref().map_or(0, |data| data.to_string().len());
        lengths.iter().sum::<usize>() + data
    };
    let bytes: usize = notifications.iter().map(text).sum();
    let size = KeyValue::new("messaging.message.body.size", integer(bytes));
    match notifications {
        [notification] => {
            let target = match &notification.target {
                Target::Users(users) if users.len() == 1 => "user",
                Target::Users(_) => "users",
                Target::Topic(_) => "topic",
                Target::Everybody => "everybody",
            };
            vec![size, KeyValue::new("gateway.target", target)]
        }
        several => vec![size, KeyValue::new("messaging.batch.message_count", integer(several.len()))],
    }
}

/// What became of it. A span fails with its first failure; of a batch it tells how many there were.
pub(super) fn told(span: &Span, results: &[Result<Accepted, PublishError>]) {
    if let [Ok(accepted)] = results {
        // Of a repetition it is the first one's.
        span.set_attribute("messaging.message.id", accepted.id.to_string());
        if accepted.repeated {
            span.set_attribute("gateway.repeated", true);
        }
        span.set_attribute("gateway.recipients", i64::from(accepted.recipients));
        span.set_attribute("gateway.online", i64::from(accepted.online));
        span.set_attribute("gateway.position", accepted.position.to_string());
    }
    let failures = results.iter().filter_map(|result| result.as_ref().err());
    if let Some(first) = failures.clone().next() {
        fail(span, kind(first), first.to_string());
        if results.len() > 1 {
            span.set_attribute("gateway.failed", integer(failures.count()));
        }
    }
}

fn kind(error: &PublishError) -> &'static str {
    match error {
        PublishError::NotificationTooLarge { .. } | PublishError::EntryTooLarge(_) => "too_large",
        PublishError::AllRejected(_) => "rejected",
        PublishError::KeyReused | PublishError::KeyInFlight => "conflict",
        PublishError::Unavailable(_) => "unavailable",
        PublishError::Unknown(_) => "unknown",
    }
}

fn integer(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
