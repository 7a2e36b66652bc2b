//! Short texts that come in paths, parameters and headers: users, topics, positions, ids, keys, traces.

use gateway::domain::{
    Epoch, InvalidTopic, NotificationId, Position, TopicName, TraceContext, TraceParent, UserId,
};
use gateway::edge::parameters::{AckParam, AfterParam, KeyParam, MAX_KEY_BYTES, WaitParam};
use poem_openapi::types::ParseFromParameter;

/// What parses keeps the rules of its kind and prints as it stood there.
pub fn names(input: &[u8]) {
    written_by_us(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    users_and_topics(text);
    positions(text);
    traces(text);
    if let Ok(id) = text.parse::<NotificationId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(NotificationId::from_bytes(*id.as_bytes()), id);
        assert!(id.made_at_ms().is_none_or(|made_at_ms| made_at_ms < 1 << 48));
    }
    let visible =
        (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let key = KeyParam::parse_from_parameter(text).ok().map(|KeyParam(key)| key);
    assert_eq!(key.as_deref(), visible.then_some(text));
    assert_eq!(AckParam::parse_from_parameter(text).is_ok(), ["auto", "client"].contains(&text));
    assert_eq!(WaitParam::parse_from_parameter(text).is_ok(), text == "acked");
}

fn users_and_topics(text: &str) {
    let sound = (1..=256).contains(&text.len())
        && ![".", ".."].contains(&text)
        && !text.chars().any(char::is_control);
    let user = UserId::parse(text);
    assert_eq!(user.is_ok(), sound, "{text:?}");
    let topic = TopicName::parse(text);
    match (user, topic) {
        (Ok(user), Ok(topic)) => assert_eq!((user.as_str(), topic.as_str()), (text, text)),
        (Ok(_), Err(error)) => assert_eq!((error, text), (InvalidTopic::Everybody, "*")),
        (Err(error), topic) => {
            assert_eq!(topic, Err(InvalidTopic::Name(error)));
            assert!(!error.to_string().contains(char::is_control), "a reason is one clean line");
        }
    }
}

fn positions(text: &str) {
    let position = text.parse::<Position>();
    let start = AfterParam::parse_from_parameter(text).is_ok();
    assert_eq!(start, position.is_ok() || ["start", "now"].contains(&text));
    if let Ok(position) = position {
        assert_eq!(position.to_string(), text);
        assert_eq!(serde_json::to_string(&position).unwrap(), format!("\"{text}\""));
    }
}

fn traces(text: &str) {
    let Some(TraceParent { context, sampled }) = TraceParent::parse(text) else { return };
    let ours = context.traceparent();
    // Between the version, which is ours, and the flags, of which we keep one.
    assert_eq!(ours[2..53], text[2..53]);
    assert_eq!(sampled, u8::from_str_radix(&text[53..55], 16).unwrap() & 1 == 1);
    assert_eq!(TraceParent::parse(&ours), Some(TraceParent { context, sampled: true }));
    assert_eq!(ours, format!("00-{}-{}-01", context.trace_id_hex(), context.span_id_hex()));
}

/// The other direction: whatever the gateway can mean, it can write and read back.
fn written_by_us(input: &[u8]) {
    if let Some((bits, rest)) = input.split_first_chunk::<8>()
        && let Some(number) = rest.first_chunk::<8>()
    {
        let position =
            Position::new(Epoch::from_bits(u64::from_le_bytes(*bits)), u64::from_le_bytes(*number));
        assert_eq!(position.to_string().parse(), Ok(position));
    }
    if let Some(bytes) = input.first_chunk::<{ TraceContext::BYTES }>() {
        let valid = bytes[..16] != [0; 16] && bytes[16..] != [0; 8];
        let context = TraceContext::from_bytes(*bytes);
        assert_eq!(context.map(TraceContext::to_bytes), valid.then_some(*bytes));
    }
}
