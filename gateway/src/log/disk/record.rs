//! How one entry stands in the database: its number is the key, big-endian so that keys sort as numbers do; the value is
//! timestamp and checksum (little-endian) in front of the payload.
//!
//! The database has checksums of its own for its blocks. Ours covers number and timestamp too, so that an entry which
//! turns up in the wrong place is noticed as well.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::log::LogEntry;

/// What an entry takes beside its payload: key, timestamp, checksum, and what the journal writes around them.
pub(super) const OVERHEAD_BYTES: u64 = 48;

const HEADER_BYTES: usize = 8 + 4;

/// An entry that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {number} of the log on disk {what}")]
pub struct Damage {
    /// Which entry.
    pub number: u64,
    /// What is wrong, as the end of a sentence.
    pub what: String,
}

impl Damage {
    pub(super) fn new(number: u64, what: impl Into<String>) -> Self {
        Self { number, what: what.into() }
    }

    pub(super) fn missing(number: u64) -> Self {
        Self::new(number, "is missing")
    }

    pub(super) fn unreadable(number: u64, error: &dyn std::fmt::Display) -> Self {
        Self::new(number, format!("cannot be read: {error}"))
    }
}

pub(super) fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The number in a key; `None` when it is no key of ours.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// The value of an entry.
#[must_use]
pub fn encode(number: u64, timestamp_ms: u64, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    out.put_u64_le(timestamp_ms);
    out.put_u32_le(checksum(number, timestamp_ms, payload));
    out.put_slice(payload);
    out.freeze()
}

/// The entry in a value. It is copied out: whoever keeps it would otherwise keep the whole block of entries around it.
///
/// # Errors
/// [`Damage`] unless the value was made for this very number.
pub fn decode(number: u64, mut value: Bytes) -> Result<LogEntry, Damage> {
    if value.len() < HEADER_BYTES {
        return Err(Damage::new(number, "is shorter than its header"));
    }
    let timestamp_ms = value.get_u64_le();
    if value.get_u32_le() != checksum(number, timestamp_ms, &value) {
        return Err(Damage::new(number, "is damaged: its checksum does not fit"));
    }
    Ok(LogEntry { number, timestamp_ms, payload: Bytes::copy_from_slice(&value) })
}

fn checksum(number: u64, timestamp_ms: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&key(number));
    hasher.update(&timestamp_ms.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_as_written_and_only_in_its_own_place() {
        let value = encode(7, 1_000, b"payload");
        let entry = decode(7, value.clone()).unwrap();
        assert_eq!(entry, LogEntry { number: 7, timestamp_ms: 1_000, payload: "payload".into() });
        assert_eq!(decode(8, value.clone()).unwrap_err().number, 8);
        for position in 0..value.len() {
            let mut flipped = value.to_vec();
            flipped[position] ^= 0x10;
            assert!(decode(7, flipped.into()).is_err(), "byte {position}");
        }
        assert!(decode(7, value.slice(..5)).is_err());
    }
}
