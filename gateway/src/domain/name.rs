//! The rules that names from outside keep: of users and of topics.

/// The longest name, in bytes of UTF-8.
pub(super) const MAX_NAME_BYTES: usize = 256;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The empty string.
    #[error("a name must not be empty")]
    Empty,
    /// More than 256 bytes.
    #[error("a name has at most {MAX_NAME_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// A character of Unicode's category Cc, named by its code point.
    #[error("a name must not contain control characters, this one has U+{0:04X}")]
    ControlCharacter(u32),
    /// `.` or `..`.
    #[error("`.` and `..` cannot be names, because URL parsers remove them from a path")]
    DotSegment,
}

/// Checks the rules.
pub(super) fn check_name(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(InvalidName::TooLong(text.len()));
    }
    if text == "." || text == ".." {
        return Err(InvalidName::DotSegment);
    }
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(InvalidName::ControlCharacter(character.into())),
        None => Ok(()),
    }
}
