//! Topics and who is subscribed to them.

use std::borrow::Cow;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{Example, Type};
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::delivery::{CannotJoin, Membership};

/// Users one request may subscribe or unsubscribe.
pub(in crate::http) const MAX_USERS: usize = 10_000;

/// User ids, as a plain JSON array.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(in crate::http) struct UserNames(pub(in crate::http) Vec<String>);

/// A topic and how many users are subscribed to it.
#[derive(Debug, Clone, Object, Serialize)]
#[oai(rename = "Topic", example, skip_serializing_if_is_none)]
pub(in crate::http) struct TopicAnswer {
    /// Its name.
    topic: String,
    /// How many subscribers it has now; 0 for a topic never named.
    subscribers: u64,
    /// Users of the request who could not be subscribed; left out if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Vec<RefusedUser>>,
}

/// A user who could not be subscribed.
#[derive(Debug, Clone, Object, Serialize)]
pub(in crate::http) struct RefusedUser {
    /// Who.
    user: String,
    /// Why.
    reason: RefusedReason,
}

/// Why a user could not be subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum RefusedReason {
    /// The topic has as many subscribers as it may: `topics.max_subscribers`.
    TopicFull,
    /// The user has as many topics as one may: `topics.max_per_user`.
    UserFull,
}

impl TopicAnswer {
    pub(in crate::http) fn new(topic: &str, subscribers: usize) -> Self {
        Self { topic: topic.to_owned(), subscribers: subscribers as u64, refused: None }
    }

    pub(in crate::http) fn joined(topic: &str, membership: &Membership) -> Self {
        let refused = membership.refused.iter().map(|(user, why)| RefusedUser {
            user: user.to_string(),
            reason: match why {
                CannotJoin::TopicFull => RefusedReason::TopicFull,
                CannotJoin::UserFull => RefusedReason::UserFull,
            },
        });
        let refused: Vec<_> = refused.collect();
        Self { refused: (!refused.is_empty()).then_some(refused), ..Self::new(topic, membership.subscribers) }
    }
}

impl Type for UserNames {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "users".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            items: Some(Box::new(String::schema_ref())),
            min_items: Some(1),
            max_items: Some(MAX_USERS),
            example: Some(json!(["bob", "carol"])),
            ..MetaSchema::new("array")
        }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl Example for TopicAnswer {
    fn example() -> Self {
        Self::new("news", 2)
    }
}
