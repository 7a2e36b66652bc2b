//! The name of a receiver, parsed once at the edge.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The name a sender addresses and a socket is opened for.
///
/// Any UTF-8 of 1 to [`UserId::MAX_BYTES`] bytes without control characters. The gateway keeps no directory of users: a
/// name exists as soon as somebody uses it. `.` and `..` are refused, because URL parsers remove them from a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

/// Why a string is no [`UserId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUserId {
    /// The empty string.
    #[error("a user id must not be empty")]
    Empty,
    /// More than [`UserId::MAX_BYTES`] bytes.
    #[error("a user id has at most 256 bytes, this one has {0}")]
    TooLong(usize),
    /// A character of Unicode's category Cc, named by its code point.
    #[error("a user id must not contain control characters, this one has U+{0:04X}")]
    ControlCharacter(u32),
    /// `.` or `..`.
    #[error("`.` and `..` cannot be user ids, because URL parsers remove them from a path")]
    DotSegment,
}

impl UserId {
    /// The longest user id, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 256;

    /// Checks the rules above.
    ///
    /// # Errors
    /// [`InvalidUserId`] names the rule that was broken.
    pub fn parse(text: &str) -> Result<Self, InvalidUserId> {
        if text.is_empty() {
            return Err(InvalidUserId::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidUserId::TooLong(text.len()));
        }
        if text == "." || text == ".." {
            return Err(InvalidUserId::DotSegment);
        }
        match text.chars().find(|character| character.is_control()) {
            Some(character) => Err(InvalidUserId::ControlCharacter(character.into())),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "UserId({:?})", &*self.0)
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_of_any_script_are_users() {
        for name in ["bob", "a/b", "ü", "*", "a b", "%2e", "...", "日本", "x".repeat(256).as_str()] {
            assert_eq!(UserId::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_name_that_breaks_a_rule_is_refused_with_that_rule() {
        assert_eq!(UserId::parse(""), Err(InvalidUserId::Empty));
        assert_eq!(UserId::parse("."), Err(InvalidUserId::DotSegment));
        assert_eq!(UserId::parse(".."), Err(InvalidUserId::DotSegment));
        assert_eq!(UserId::parse("a\nb"), Err(InvalidUserId::ControlCharacter(10)));
        assert_eq!(UserId::parse("a\u{85}"), Err(InvalidUserId::ControlCharacter(0x85)));
        assert_eq!(UserId::parse(&"ü".repeat(129)), Err(InvalidUserId::TooLong(258)));
    }
}
