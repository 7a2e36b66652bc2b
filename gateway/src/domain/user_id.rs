//! The name of a receiver, parsed once at the edge.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::name::{InvalidName, MAX_NAME_BYTES, check_name};

/// The name a sender addresses and a socket is opened for.
///
/// Any UTF-8 of 1 to [`UserId::MAX_BYTES`] bytes without control characters. The gateway keeps no directory of users: a
/// name exists as soon as somebody uses it. `.` and `..` are refused, because URL parsers remove them from a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The longest user id, in bytes of UTF-8.
    pub const MAX_BYTES: usize = MAX_NAME_BYTES;

    /// Checks the rules above.
    ///
    /// # Errors
    /// [`InvalidName`] names the rule that was broken.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        check_name(text).map(|()| Self(text.into()))
    }

    /// The name as text, to be shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
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
        assert_eq!(UserId::parse(""), Err(InvalidName::Empty));
        assert_eq!(UserId::parse("."), Err(InvalidName::DotSegment));
        assert_eq!(UserId::parse(".."), Err(InvalidName::DotSegment));
        assert_eq!(UserId::parse("a\nb"), Err(InvalidName::ControlCharacter(10)));
        assert_eq!(UserId::parse("a\u{85}"), Err(InvalidName::ControlCharacter(0x85)));
        assert_eq!(UserId::parse(&"ü".repeat(129)), Err(InvalidName::TooLong(258)));
    }
}
