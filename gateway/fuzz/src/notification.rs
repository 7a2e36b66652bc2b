//! What senders POST: one notification, or a batch.

use bytes::Bytes;
use gateway::delivery::{PublishError, encode};
use gateway::domain::{Epoch, Notification, Target, TopicName, TraceContext, UserId};
use gateway::edge::Problem;
use gateway::http::SendLimits;
use gateway::log::MAX_ENTRY_BYTES;
use gateway::log::entry::{self, Entry, PublishTrace, Recipients};
use gateway::protocol::{encode_body, write_notification_head};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Small, so that inputs come to them.
const LIMITS: SendLimits = SendLimits {
    max_recipients: 8,
    max_batch: 8,
    max_bytes: 1_024,
    default_ttl_seconds: 86_400,
    max_ttl_seconds: 604_800,
};

/// When all of them are accepted, in microseconds since the Unix epoch.
const NOW_US: u64 = 1_700_000_000_123_456;

const TRACE: TraceContext = TraceContext { trace_id: [0xab; 16], span_id: [0xcd; 8] };

/// What is accepted means what stands there, and reads back from the log and from the frame; what is refused is the
/// sender's fault.
pub fn notification(input: &[u8]) {
    match LIMITS.read(Bytes::copy_from_slice(input), NOW_US) {
        Ok(notification) => {
            let Ok(Value::Object(request)) = serde_json::from_slice(input) else {
                panic!("only a JSON object is a notification");
            };
            check_meaning(&notification, &request);
            check_encoding(&notification, &request);
        }
        Err(problem) => check_problem(&problem),
    }
}

/// A batch is an array, and each item is judged as if it stood alone.
pub fn batch(input: &[u8]) {
    let items = match LIMITS.read_batch(Bytes::copy_from_slice(input), NOW_US) {
        Ok(items) => items,
        Err(problem) => return check_problem(&problem),
    };
    let texts: Vec<Box<RawValue>> = serde_json::from_slice(input).expect("a batch is an array");
    assert_eq!(items.len(), texts.len());
    for (item, text) in items.into_iter().zip(texts) {
        let text = text.get().as_bytes();
        let alone = LIMITS.read(Bytes::copy_from_slice(text), NOW_US);
        // Each gets a name of its own.
        let unnamed = |notification: Notification| {
            let body = encode_body(&notification, None);
            let id_and_comma = r#""id":"00000000-0000-0000-0000-000000000000","#.len();
            (
                notification.target,
                notification.ttl_seconds,
                notification.priority,
                body[id_and_comma..].to_vec(),
            )
        };
        assert_eq!(item.map(unnamed), alone.map(unnamed));
        notification(text);
    }
}

fn check_problem(problem: &Problem) {
    assert_eq!(problem.status().as_u16(), 400, "{problem:?}");
    let Ok(Value::Object(told)) = serde_json::to_value(problem) else { panic!("a problem is an object") };
    assert!(!told["detail"].as_str().unwrap().is_empty());
}

fn check_meaning(notification: &Notification, request: &Map<String, Value>) {
    const FIELDS: [&str; 9] =
        ["to", "topic", "from", "title", "body", "data", "ttl_seconds", "collapse_key", "priority"];
    for field in request.keys() {
        assert!(FIELDS.contains(&field.as_str()), "an unknown field is no field: {field}");
    }
    let text = |field: &str| request.get(field).and_then(Value::as_str);
    match &notification.target {
        Target::Users(users) => {
            let mut asked: Vec<&str> = Vec::new();
            for name in request["to"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
                if !asked.contains(&name) {
                    asked.push(name);
                }
            }
            assert!((1..=LIMITS.max_recipients).contains(&users.len()));
            assert!(users.iter().map(UserId::as_str).eq(asked), "each once, in the sender's order");
        }
        Target::Topic(topic) => assert_eq!(Some(topic.as_str()), text("topic")),
        Target::Everybody => assert_eq!(text("topic"), Some(TopicName::EVERYBODY)),
    }
    assert_eq!(notification.from.as_deref(), text("from"));
    assert_eq!(notification.title.as_deref(), text("title"));
    assert_eq!(notification.body.as_deref(), text("body"));
    assert_eq!(notification.collapse_key.is_some(), text("collapse_key").is_some());
    assert_eq!(notification.priority.as_str(), text("priority").unwrap_or("normal"));
    let ttl_seconds = request.get("ttl_seconds").and_then(Value::as_u64).unwrap_or(86_400);
    assert_eq!(u64::from(notification.ttl_seconds), ttl_seconds);
    assert!(notification.ttl_seconds <= LIMITS.max_ttl_seconds);
}

fn check_encoding(notification: &Notification, request: &Map<String, Value>) {
    let trace = PublishTrace { context: TRACE, notifications: 1 };
    let plain = encode(notification, None, LIMITS.max_bytes);
    let recorded = encode(notification, Some(trace), LIMITS.max_bytes);
    assert_eq!(plain.is_ok(), recorded.is_ok(), "whether it fits does not depend on whether it is recorded");
    for (encoded, trace) in [(plain, None), (recorded, Some(trace))] {
        let body = encode_body(notification, trace.map(|trace| trace.context));
        let entry = match encoded {
            Ok(entry) => entry,
            Err(PublishError::NotificationTooLarge { size, limit }) => {
                assert!(size > limit && limit == LIMITS.max_bytes && size <= body.len());
                continue;
            }
            Err(error) => panic!("eight recipients and a kilobyte fit an entry: {error}"),
        };
        assert!(trace.is_some() || body.len() <= LIMITS.max_bytes);
        assert!(entry.len() <= MAX_ENTRY_BYTES);
        check_entry(notification, trace, &body, &entry);
        check_frame(&body, request);
    }
}

fn check_entry(notification: &Notification, trace: Option<PublishTrace>, body: &[u8], entry: &Bytes) {
    let Ok(Entry::Publish(publish)) = entry::decode(entry) else { panic!("what was encoded reads back") };
    assert_eq!(publish.id, notification.id);
    assert_eq!(publish.accepted_at_us, NOW_US);
    assert_eq!(publish.ttl_seconds, notification.ttl_seconds);
    assert_eq!(publish.priority, notification.priority);
    assert_eq!(publish.collapse_key, notification.collapse_key);
    assert_eq!(publish.idempotency, notification.idempotency);
    assert_eq!(publish.trace, trace);
    assert_eq!(publish.body, body);
    match (&notification.target, &publish.recipients) {
        (Target::Users(users), Recipients::Users(names)) => {
            assert_eq!(names.count() as usize, users.len());
            assert!(names.iter().eq(users.iter().map(UserId::as_str)));
        }
        (Target::Topic(topic), recipients) => assert_eq!(recipients.topic(), Some(topic.as_str())),
        (target, recipients) => {
            assert_eq!((target, recipients), (&Target::Everybody, &Recipients::Everybody));
        }
    }
}

/// The receiver reads what the sender wrote.
fn check_frame(body: &[u8], request: &Map<String, Value>) {
    let mut frame = Vec::new();
    write_notification_head(&mut frame, Epoch::from_bits(7), 9, 8);
    frame.extend_from_slice(body);
    let frame: Map<String, Value> = serde_json::from_slice(&frame).expect("a frame is a JSON object");
    assert_eq!(frame["type"], "notification");
    for field in ["from", "title", "body", "topic"] {
        assert_eq!(frame.get(field), request.get(field).filter(|value| !value.is_null()), "{field}");
    }
    let sent = request.get("data").filter(|data| !data.is_null());
    match (frame.get("data"), sent) {
        (Some(received), Some(sent)) => assert!(same(received, sent), "{received} for {sent}"),
        (received, sent) => assert_eq!(received, sent),
    }
}

/// Whether two values are the same, fractions as nearly as the library reads them: its last digit is not exact.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|((name, left), (other, right))| name == other && same(left, right))
        }
        (Value::Number(left), Value::Number(right)) if left.is_f64() && right.is_f64() => {
            let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            (left - right).abs() <= right.abs() * 1e-14
        }
        (left, right) => left == right,
    }
}
