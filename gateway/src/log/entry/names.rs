//! Names in an entry: each behind its length in two bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{DecodeError, TOO_SHORT, checked_text};

/// Many names, as a slice of their entry; validated when it was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    count: u32,
    bytes: Bytes,
}

impl Names {
    /// The text of a single name in a decoded entry.
    #[must_use]
    pub fn text(name: &Bytes) -> &str {
        checked_text(name)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The names, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        NamesIter(&self.bytes)
    }

    /// The bytes of the names as [`Names::put`] writes them.
    pub(super) fn encoded_len(&self) -> usize {
        8 + self.bytes.len()
    }

    /// The bytes that [`Names::put_all`] writes.
    pub(super) fn encoded_len_of<'a>(names: impl Iterator<Item = &'a str>) -> usize {
        8 + names.map(|name| 2 + name.len()).sum::<usize>()
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        out.put_u32_le(self.count);
        out.put_u32_le(length(self.bytes.len()));
        out.put_slice(&self.bytes);
    }

    pub(super) fn put_all<'a>(out: &mut BytesMut, names: impl Iterator<Item = &'a str> + Clone) {
        out.put_u32_le(length(names.clone().count()));
        out.put_u32_le(length(Self::encoded_len_of(names.clone()) - 8));
        for name in names {
            put_name(out, name);
        }
    }

    pub(super) fn take(rest: &mut Bytes) -> Result<Self, DecodeError> {
        let count = rest.try_get_u32_le().map_err(|_| TOO_SHORT)?;
        let bytes = rest.try_get_u32_le().map_err(|_| TOO_SHORT)? as usize;
        if rest.len() < bytes {
            return Err(TOO_SHORT);
        }
        let names = Self { count, bytes: rest.split_to(bytes) };
        names.validate()?;
        Ok(names)
    }

    fn validate(&self) -> Result<(), DecodeError> {
        let mut rest: &[u8] = &self.bytes;
        let mut found = 0;
        while let Some((name, behind)) = split_name(rest) {
            std::str::from_utf8(name).map_err(|_| NOT_UTF8)?;
            found += 1;
            rest = behind;
        }
        if found == self.count && rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Damaged("the names do not add up"))
        }
    }
}

#[derive(Clone)]
struct NamesIter<'a>(&'a [u8]);

impl<'a> Iterator for NamesIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let name;
        (name, self.0) = split_name(self.0)?;
        Some(checked_text(name))
    }
}

/// Appends one name behind its length.
pub(super) fn put_name(out: &mut BytesMut, name: &str) {
    out.put_u16_le(u16::try_from(name.len()).expect("a name has at most 256 bytes"));
    out.put_slice(name.as_bytes());
}

/// Takes one name.
pub(super) fn take_name(rest: &mut Bytes) -> Result<Bytes, DecodeError> {
    let length = usize::from(rest.try_get_u16_le().map_err(|_| TOO_SHORT)?);
    if rest.len() < length {
        return Err(TOO_SHORT);
    }
    let name = rest.split_to(length);
    std::str::from_utf8(&name).map_err(|_| NOT_UTF8)?;
    Ok(name)
}

const NOT_UTF8: DecodeError = DecodeError::Damaged("a name is not UTF-8");

fn split_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_le_bytes(*length) as usize)
}

fn length(value: usize) -> u32 {
    u32::try_from(value).expect("less than an entry")
}
