//! Bodies in JSON, read and written straight from and to their bytes.
//!
//! poem-openapi's own `Json` names no field when a value has the wrong type, and builds a tree of values first. These
//! keep its schema and go through serde: an error names the field and the place in the text.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use poem::error::ResponseError;
use poem::http::{StatusCode, header};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::error::ContentTypeError;
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::{self, DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// A JSON body of type `T`, an object: its schema from [`Type`], its parsing from serde.
pub struct JsonBody<T> {
    /// What it says.
    pub value: T,
    /// What stood there, byte for byte.
    pub text: Bytes,
}

/// A JSON body of type `T`, an array.
pub struct ListBody<T>(pub T);

/// A JSON array whose items are parsed one by one, so that a bad one fails alone.
pub struct BatchBody<T> {
    items: Vec<Box<RawValue>>,
    _item: PhantomData<T>,
}

/// Items a batch may have before it is not even taken apart: each one costs memory, and eight megabytes hold millions of
/// tiny ones. What a request may really carry is a setting below this.
pub const MAX_BATCH_ITEMS: usize = 100_000;

/// An answer in JSON, written straight from its type: poem-openapi's own `Json` builds a tree of values first.
pub struct JsonAnswer<T>(pub T);

/// An answer whose JSON was composed by hand, from parts that were JSON already; `T` is its schema.
pub struct JsonText<T> {
    json: Vec<u8>,
    _schema: PhantomData<T>,
}

/// One item of a batch.
pub struct BatchItem<T> {
    /// What it says.
    pub value: Result<T, InvalidBody>,
    /// What stood there, byte for byte.
    pub text: Box<RawValue>,
}

/// The body is not what the schema asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidBody {
    /// The field that is wrong, when it can be named.
    pub field: Option<String>,
    /// What is wrong, and where in the text.
    pub message: String,
}

impl InvalidBody {
    fn unreadable(error: impl std::fmt::Display) -> Self {
        Self { field: None, message: error.to_string() }
    }
}

impl ResponseError for InvalidBody {
    fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}

impl<T: DeserializeOwned> BatchBody<T> {
    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Parses each item.
    pub fn into_items(self) -> impl Iterator<Item = BatchItem<T>> {
        self.items.into_iter().map(|text| BatchItem { value: parse_object(text.get().as_bytes()), text })
    }
}

impl<T> JsonText<T> {
    /// An answer of this text, which is JSON of the schema `T`.
    #[must_use]
    pub fn new(json: Vec<u8>) -> Self {
        Self { json, _schema: PhantomData }
    }
}

/// serde also reads a struct from an array of its fields in order; the schema knows objects only.
fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, InvalidBody> {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') | None => parse(bytes),
        Some(_) => {
            // Text that is no JSON at all is named as such, with its place.
            parse::<serde::de::IgnoredAny>(bytes)?;
            Err(InvalidBody { field: None, message: "expected a JSON object".to_owned() })
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, InvalidBody> {
    // Keeping track of the path costs as much as parsing: only what does not parse is read a second time, with it.
    serde_json::from_slice(bytes).or_else(|_| parse_keeping_track(bytes))
}

fn parse_keeping_track<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, InvalidBody> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let field = (error.inner().is_data() && path != ".").then_some(path);
        let inner = error.into_inner();
        let field = field.or_else(|| missing_field(&inner.to_string()));
        let kind = if inner.is_data() { "" } else { "invalid JSON: " };
        InvalidBody { field, message: format!("{kind}{inner}") }
    })?;
    let behind = deserializer.end();
    behind.map_err(|error| InvalidBody { field: None, message: format!("invalid JSON: {error}") })?;
    Ok(value)
}

/// The path leads to the object in which a field is missing, not to the field.
fn missing_field(message: &str) -> Option<String> {
    let (field, _) = message.strip_prefix("missing field `")?.split_once('`')?;
    Some(field.to_owned())
}

/// The items of an array, not parsed yet.
struct RawItems(Vec<Box<RawValue>>);

impl<'de> Deserialize<'de> for RawItems {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RawItemsVisitor)
    }
}

struct RawItemsVisitor;

impl<'de> Visitor<'de> for RawItemsVisitor {
    type Value = RawItems;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of notifications")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<RawItems, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = array.next_element()? {
            if items.len() == MAX_BATCH_ITEMS {
                return Err(de::Error::custom(format_args!("more than {MAX_BATCH_ITEMS} items")));
            }
            items.push(item);
        }
        Ok(RawItems(items))
    }
}

/// Makes the types payloads whose schema is that of `$schema`.
macro_rules! json_payload {
    ($($type:ident => $schema:ty),* $(,)?) => {$(
        impl<T: Type> Payload for $type<T> {
            const CONTENT_TYPE: &'static str = "application/json";

            fn check_content_type(content_type: &str) -> bool {
                Json::<T>::check_content_type(content_type)
            }

            fn schema_ref() -> MetaSchemaRef {
                <$schema>::schema_ref()
            }

            fn register(registry: &mut Registry) {
                T::register(registry);
            }
        }
    )*};
}

json_payload!(JsonBody => T, ListBody => T, BatchBody => Vec<T>, JsonAnswer => T, JsonText => T);

impl<T: Serialize + Send> IntoResponse for JsonAnswer<T> {
    fn into_response(self) -> Response {
        let json = serde_json::to_vec(&self.0).expect("answers are text, numbers and lists");
        Response::builder().header(header::CONTENT_TYPE, "application/json").body(json)
    }
}

impl<T: Send> IntoResponse for JsonText<T> {
    fn into_response(self) -> Response {
        Response::builder().header(header::CONTENT_TYPE, "application/json").body(self.json)
    }
}

/// Lets poem-openapi take the type as an operation's request body; `$read` makes it from the body's bytes.
macro_rules! request_body {
    ($type:ident, $read:expr) => {
        impl<T: Type + DeserializeOwned> $type<T> {
            /// What these bytes say.
            ///
            /// # Errors
            /// [`InvalidBody`] when they are not what the schema asks for.
            pub fn read(bytes: Bytes) -> Result<Self, InvalidBody> {
                let read: fn(Bytes) -> Result<Self, InvalidBody> = $read;
                read(bytes)
            }
        }

        impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for $type<T> {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                <Self as Payload>::register(registry);
            }

            fn request_meta() -> Option<MetaRequest> {
                let media = MetaMediaType {
                    content_type: Self::CONTENT_TYPE,
                    schema: <Self as Payload>::schema_ref(),
                };
                Some(MetaRequest { description: None, content: vec![media], required: true })
            }

            async fn from_request(
                request: &'a Request,
                body: &mut RequestBody,
                _options: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                match request.content_type() {
                    Some(content_type) if Self::check_content_type(content_type) => {
                        let bytes = body.take()?.into_bytes().await.map_err(InvalidBody::unreadable)?;
                        Ok(Self::read(bytes)?)
                    }
                    Some(content_type) => {
                        Err(ContentTypeError::NotSupported { content_type: content_type.to_owned() }.into())
                    }
                    None => Err(ContentTypeError::ExpectContentType.into()),
                }
            }
        }
    };
}

request_body!(JsonBody, |bytes| Ok(Self { value: parse_object(&bytes)?, text: bytes }));
request_body!(ListBody, |bytes| Ok(Self(parse(&bytes)?)));
request_body!(BatchBody, |bytes| Ok(Self { items: parse::<RawItems>(&bytes)?.0, _item: PhantomData }));

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Item {
        to: Vec<String>,
    }

    fn error(text: &str) -> InvalidBody {
        parse::<Item>(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_wrong_value_is_named_by_its_path_and_place() {
        let wrong = error(r#"{"to": ["a", 7]}"#);
        assert_eq!(wrong.field.as_deref(), Some("to[1]"));
        assert_eq!(wrong.message, "invalid type: integer `7`, expected a string at line 1 column 14");
    }

    #[test]
    fn millions_of_tiny_items_are_not_taken_apart() {
        let body = format!("[{}0]", "0,".repeat(MAX_BATCH_ITEMS));
        let refused = parse::<RawItems>(body.as_bytes()).map(|items| items.0.len()).unwrap_err();
        assert!(refused.message.starts_with("more than 100000 items"), "{refused}");
        assert_eq!(parse::<RawItems>(b"[0, {}]").unwrap().0.len(), 2);
    }

    #[test]
    fn an_unknown_field_is_named() {
        assert!(error(r#"{"to": [], "too": 1}"#).message.starts_with("unknown field `too`, expected `to`"));
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(error("{}").field.as_deref(), Some("to"));
    }

    #[test]
    fn text_that_is_no_json_is_refused_with_its_place() {
        assert_eq!(
            error("{\"to\": [\n]").message,
            "invalid JSON: EOF while parsing an object at line 2 column 1"
        );
        assert_eq!(error(r#"{"to": []} x"#).message, "invalid JSON: trailing characters at line 1 column 12");
        assert!(error("").message.starts_with("invalid JSON: EOF"));
    }
}
