//! The name of a set of users.

use std::fmt;
use std::sync::Arc;

use super::name::{InvalidName, MAX_NAME_BYTES, check_name};

/// The name of a topic: any UTF-8 of 1 to [`TopicName::MAX_BYTES`] bytes without control characters, but not `*`, which
/// means everybody who is connected.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// Why a text is no [`TopicName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// It breaks a rule of all names.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// It is `*`.
    #[error("`*` means everybody who is connected: it can be sent to, but nobody subscribes to it")]
    Everybody,
}

impl TopicName {
    /// The longest name, in bytes of UTF-8.
    pub const MAX_BYTES: usize = MAX_NAME_BYTES;
    /// What a sender writes for everybody who is connected.
    pub const EVERYBODY: &str = "*";

    /// Checks the rules above.
    ///
    /// # Errors
    /// [`InvalidTopic`] names the rule that was broken.
    pub fn parse(text: &str) -> Result<Self, InvalidTopic> {
        if text == Self::EVERYBODY {
            return Err(InvalidTopic::Everybody);
        }
        check_name(text)?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TopicName({:?})", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_no_topic_and_the_rules_of_names_hold() {
        assert_eq!(TopicName::parse("news/today").unwrap().as_str(), "news/today");
        assert_eq!(TopicName::parse("*"), Err(InvalidTopic::Everybody));
        assert_eq!(TopicName::parse(".."), Err(InvalidTopic::Name(InvalidName::DotSegment)));
    }
}
