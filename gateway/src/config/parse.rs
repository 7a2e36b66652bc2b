//! How the text of a setting becomes its type.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::{LogFormat, LogStore};
use crate::domain::OverflowPolicy;

/// A size in bytes, written as `4096`, `4KiB` or `1MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The size for indexing into memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0)
    }
}

/// A type that a setting can have.
pub(super) trait FromSetting: Sized {
    /// Parses the text; the error completes the sentence "… is not valid: ".
    fn from_setting(text: &str) -> Result<Self, String>;
}

impl FromSetting for SocketAddr {
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected ADDRESS:PORT, for example 127.0.0.1:8000".to_owned())
    }
}

impl FromSetting for bool {
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected true or false".to_owned())
    }
}

impl FromSetting for u32 {
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected a whole number".to_owned())
    }
}

impl FromSetting for usize {
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected a whole number".to_owned())
    }
}

impl FromSetting for Option<usize> {
    fn from_setting(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| "expected a whole number, or auto".to_owned())
    }
}

impl FromSetting for String {
    fn from_setting(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FromSetting for Vec<String> {
    fn from_setting(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }
}

impl FromSetting for Duration {
    fn from_setting(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map_err(|_| "expected a duration with its unit, for example 25s or 24h".to_owned())
    }
}

impl FromSetting for Bytes {
    fn from_setting(text: &str) -> Result<Self, String> {
        let size = bytesize::ByteSize::from_str(text);
        size.map(|size| Self(size.as_u64()))
            .map_err(|_| "expected a size, for example 4096, 32KiB or 8MiB".to_owned())
    }
}

impl FromSetting for LogStore {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            _ => match text.strip_prefix("disk:") {
                Some(directory) if !directory.is_empty() => Ok(Self::Disk(directory.into())),
                _ => Err("expected disk:DIRECTORY, for example disk:./data, or memory".to_owned()),
            },
        }
    }
}

impl FromSetting for OverflowPolicy {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "drop-oldest" => Ok(Self::DropOldest),
            "reject" => Ok(Self::Reject),
            _ => Err("expected drop-oldest or reject".to_owned()),
        }
    }
}

impl FromSetting for LogFormat {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("expected auto, human or json".to_owned()),
        }
    }
}
