//! Path and query parameters, parsed once into the domain's types.

use std::borrow::Cow;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult, Type};

use crate::delivery::After;
use crate::domain::{NotificationId, Position, TopicName, UserId};

/// A user id in a path, percent-encoded there.
#[derive(Debug, Clone)]
pub struct UserParam(pub UserId);

/// The name of a topic in a path, percent-encoded there.
#[derive(Debug, Clone)]
pub struct TopicParam(pub TopicName);

/// A notification's name: a UUID.
#[derive(Debug, Clone, Copy)]
pub struct NotificationParam(pub NotificationId);

/// A position from a frame.
#[derive(Debug, Clone, Copy)]
pub struct PositionParam(pub Position);

/// A sender's `Idempotency-Key`.
#[derive(Debug, Clone)]
pub struct KeyParam(pub String);

/// What a sender waits for beyond acceptance. There is one thing so far: every recipient's ack.
#[derive(Debug, Clone, Copy)]
pub struct WaitParam;

/// The longest `Idempotency-Key`, in bytes.
pub const MAX_KEY_BYTES: usize = 255;

/// Where a receiver wants to start: `start`, `now` or a position.
#[derive(Debug, Clone, Copy)]
pub struct AfterParam(pub After);

/// Who acks what a session was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckMode {
    /// The gateway, when the client's WebSocket library answers a ping that went out behind the notifications.
    Auto,
    /// The client, by `ack` frames or over HTTP.
    Client,
}

/// `auto` or `client`.
#[derive(Debug, Clone, Copy)]
pub struct AckParam(pub AckMode);

macro_rules! text_parameter {
    ($type:ty, $name:literal, $schema:expr) => {
        impl Type for $type {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                $name.into()
            }

            fn schema_ref() -> MetaSchemaRef {
                let schema: fn(MetaSchema) -> MetaSchema = $schema;
                MetaSchemaRef::Inline(Box::new(schema(MetaSchema::new("string"))))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }
    };
}

text_parameter!(UserParam, "user", |schema| MetaSchema {
    min_length: Some(1),
    max_length: Some(UserId::MAX_BYTES),
    example: Some("bob".into()),
    ..schema
});

text_parameter!(TopicParam, "topic", |schema| MetaSchema {
    min_length: Some(1),
    max_length: Some(TopicName::MAX_BYTES),
    example: Some("news".into()),
    ..schema
});

text_parameter!(NotificationParam, "id", |schema| MetaSchema {
    format: Some("uuid"),
    example: Some("019abcde-f012-7345-8678-9abcdef01234".into()),
    ..schema
});

text_parameter!(PositionParam, "position", |schema| MetaSchema { ..schema });

text_parameter!(KeyParam, "Idempotency-Key", |schema| MetaSchema {
    min_length: Some(1),
    max_length: Some(MAX_KEY_BYTES),
    pattern: Some("^[!-~]+$".to_owned()),
    ..schema
});

text_parameter!(WaitParam, "wait", |schema| MetaSchema { enum_items: vec!["acked".into()], ..schema });

text_parameter!(AfterParam, "after", |schema| MetaSchema { ..schema });

text_parameter!(AckParam, "ack", |schema| MetaSchema {
    enum_items: vec!["auto".into(), "client".into()],
    ..schema
});

impl ParseFromParameter for AckParam {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        match value {
            "auto" => Ok(Self(AckMode::Auto)),
            "client" => Ok(Self(AckMode::Client)),
            _ => Err(ParseError::custom("expected `auto` or `client`")),
        }
    }
}

impl ParseFromParameter for UserParam {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        UserId::parse(value).map(Self).map_err(ParseError::custom)
    }
}

impl ParseFromParameter for TopicParam {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        TopicName::parse(value).map(Self).map_err(ParseError::custom)
    }
}

impl ParseFromParameter for NotificationParam {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        value.parse().map(Self).map_err(|_| ParseError::custom("expected a notification's id, a UUID"))
    }
}

impl ParseFromParameter for PositionParam {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        value.parse().map(Self).map_err(ParseError::custom)
    }
}

impl ParseFromParameter for KeyParam {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        let visible = value.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=MAX_KEY_BYTES).contains(&value.len()) {
            Ok(Self(value.to_owned()))
        } else {
            Err(ParseError::custom(format_args!("expected 1 to {MAX_KEY_BYTES} visible ASCII characters")))
        }
    }
}

impl ParseFromParameter for WaitParam {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        if value == "acked" { Ok(Self) } else { Err(ParseError::custom("expected `acked`")) }
    }
}

impl ParseFromParameter for AfterParam {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        let after = match value {
            "start" => After::Start,
            "now" => After::Now,
            position => After::Position(position.parse().map_err(|_| {
                ParseError::<Self>::custom("expected `start`, `now` or a position such as one from a frame")
            })?),
        };
        Ok(Self(after))
    }
}

/// The chapters of the API's manual.
#[derive(poem_openapi::Tags)]
pub enum Tag {
    /// For back ends that tell somebody something.
    Sending,
    /// For whoever wants to be told.
    Receiving,
    /// For whoever looks after users.
    Users,
    /// Named sets of users: send once, reach every subscriber.
    Topics,
    /// How the gateway does. For dashboards there are metrics, on the operator's listener.
    Gateway,
}
