//! Text frames of clients.

use gateway::domain::{Position, TraceParent};
use gateway::protocol::{ClientFrame, InvalidClientFrame};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A frame that is understood is a JSON object and says just that; one that is not is refused for the right reason.
pub fn client_frame(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let parsed = ClientFrame::parse(text);
    // Not the gateway's types: a second opinion about what stands there.
    let fields = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return assert_eq!(parsed, Err(InvalidClientFrame::NotAFrame), "only an object is a frame"),
        // A field that the gateway ignores may hold what no tree of values does: a number too large, a hundred brackets.
        Err(_) => {
            let object =
                text.trim_ascii().starts_with('{') && serde_json::from_str::<&RawValue>(text).is_ok();
            assert!(object || parsed == Err(InvalidClientFrame::NotAFrame), "only JSON is a frame");
            return;
        }
    };
    let kind = fields.get("type").and_then(Value::as_str);
    let position = |name: &str| fields.get(name).and_then(Value::as_str)?.parse::<Position>().ok();
    if let Ok(ClientFrame::Ack { position: acked, after, trace }) = &parsed {
        assert_eq!(kind, Some("ack"));
        assert_eq!(Some(*acked), position("position"));
        assert_eq!(*after, position("after"));
        assert!(after.is_some() || fields.get("after").is_none_or(Value::is_null));
        let parent = fields.get("traceparent").and_then(Value::as_str).and_then(TraceParent::parse);
        assert_eq!(*trace, parent.filter(|parent| parent.sampled).map(|parent| parent.context));
        let again = json!({
            "type": "ack",
            "position": acked,
            "after": after,
            "traceparent": trace.map(|trace| trace.traceparent()),
        });
        assert_eq!(ClientFrame::parse(&again.to_string()), parsed);
    }
    if let Ok(ClientFrame::Refresh { token }) = &parsed {
        assert_eq!(kind, Some("refresh"));
        assert_eq!(Some(token.expose()), fields.get("token").and_then(Value::as_str));
        assert!(
            token.expose().len() < 4 || !format!("{parsed:?}").contains(token.expose()),
            "it is a secret"
        );
    }
    if parsed == Err(InvalidClientFrame::UnknownType) {
        assert!(!["ack", "refresh"].contains(&kind.expect("a type that is text")));
    }
    // Nothing but a type and a position: no field stands there twice, which would mean nothing.
    if text.matches(':').count() == 2 && kind == Some("ack") && position("position").is_some() {
        assert!(parsed.is_ok(), "an ack with a position is a frame");
    }
}
