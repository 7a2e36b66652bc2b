//! A frame as the manual describes it. The frames themselves are composed in `protocol`, as text.

use poem_openapi::Object;
use serde_json::Value;

/// One frame: a JSON object whose first field is `type`. Which other fields it has depends on that; unknown ones are to be
/// ignored.
#[derive(Debug, Clone, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Frame {
    /// `notification` or `gap`; in a stream also `welcome`, `heartbeat`, `drain` and `close`.
    #[oai(rename = "type")]
    kind: String,
    /// Of a notification: its place in the log. Of a welcome: where the session starts.
    position: Option<String>,
    /// Of a notification: the position of the one before it in this mailbox.
    prev: Option<String>,
    /// Of a notification: its name.
    id: Option<String>,
    /// Of a notification: when the gateway accepted it (RFC 3339, UTC).
    sent_at: Option<String>,
    /// Of a notification: who says it.
    from: Option<String>,
    /// Of a notification: one line.
    title: Option<String>,
    /// Of a notification: the text.
    body: Option<String>,
    /// Of a notification: any JSON value for the receiver's program.
    data: Option<Value>,
    /// Of a notification: the topic it was sent to, if it was.
    topic: Option<String>,
    /// Of a notification whose trace is recorded: where to continue it (W3C Trace Context).
    traceparent: Option<String>,
    /// Of a gap: the hole begins behind this position.
    after: Option<String>,
    /// Of a gap: the last position of the hole.
    until: Option<String>,
    /// Of a gap: how many notifications are missing, if known.
    count: Option<u32>,
    /// Of a gap: the gravest reason, one of `epoch`, `overflow`, `expired`, `withdrawn`, `collapsed`, `acked`. Of a close: its
    /// code in a word.
    reason: Option<String>,
    /// Of a close: the code that a WebSocket would be closed with.
    code: Option<u16>,
    /// Of a welcome: the session's name.
    session: Option<String>,
    /// Of a welcome: whose mailbox it is.
    user: Option<String>,
    /// Of a welcome: the mailbox's last position.
    head: Option<String>,
    /// Of a welcome: how often a heartbeat comes, on average, in milliseconds.
    heartbeat_ms: Option<u64>,
    /// Of a drain: when to come back, in milliseconds from now.
    reconnect_in_ms: Option<u64>,
}

impl Frame {
    /// A notification for the manual.
    #[must_use]
    pub fn example() -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self {
            kind: "notification".to_owned(),
            position: text("3k9q2m7w1x5ze-1048"),
            prev: text("3k9q2m7w1x5ze-1047"),
            id: text("019abcde-f012-7345-8678-9abcdef01234"),
            sent_at: text("2026-11-23T00:49:59.708059Z"),
            from: text("alice"),
            title: text("Hello"),
            body: text("Your parcel is at the door."),
            data: None,
            topic: None,
            traceparent: None,
            after: None,
            until: None,
            count: None,
            reason: None,
            code: None,
            session: None,
            user: None,
            head: None,
            heartbeat_ms: None,
            reconnect_in_ms: None,
        }
    }
}
