//! Which trace something belongs to, as it travels: in a header, a frame, the log (W3C Trace Context, level 1).

use std::fmt;

/// A span of a trace that is recorded: whoever carries one on is recorded as well.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, never all zeros.
    pub trace_id: [u8; 16],
    /// The span, never all zeros.
    pub span_id: [u8; 8],
}

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The sender's trace and span.
    pub context: TraceContext,
    /// Whether the sender records it.
    pub sampled: bool,
}

/// Bytes of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

impl TraceContext {
    /// Bytes of [`TraceContext::to_bytes`].
    pub const BYTES: usize = 24;

    /// Both ids, the trace's first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..].copy_from_slice(&self.span_id);
        bytes
    }

    /// The inverse of [`TraceContext::to_bytes`]; `None` if an id is all zeros.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let [trace_id @ .., _, _, _, _, _, _, _, _] = bytes;
        let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, span_id @ ..] = bytes;
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id })
    }

    /// The `traceparent` of whatever continues it.
    #[must_use]
    pub fn traceparent(self) -> String {
        let mut text = String::with_capacity(TRACEPARENT_BYTES);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id);
        text.push('-');
        push_hex(&mut text, &self.span_id);
        text.push_str("-01");
        text
    }

    /// The trace's id, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id_hex(self) -> String {
        hex(&self.trace_id)
    }

    /// The span's id, 16 hexadecimal digits.
    #[must_use]
    pub fn span_id_hex(self) -> String {
        hex(&self.span_id)
    }
}

impl TraceParent {
    /// Reads a `traceparent` (§3.2); `None` for whatever breaks its rules, which is to be treated as if it were not there.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let version = digits::<1>(bytes.get(..2)?)?;
        let whole = match version[0] {
            0 => bytes.len() == TRACEPARENT_BYTES,
            0xff => false,
            // A later version may say more behind what this one says.
            _ => bytes.len() == TRACEPARENT_BYTES || bytes.get(TRACEPARENT_BYTES) == Some(&b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        if !whole || !dashes {
            return None;
        }
        let mut ids = [0; TraceContext::BYTES];
        ids[..16].copy_from_slice(&digits::<16>(&bytes[3..35])?);
        ids[16..].copy_from_slice(&digits::<8>(&bytes[36..52])?);
        let flags = digits::<1>(&bytes[53..55])?;
        Some(Self { context: TraceContext::from_bytes(ids)?, sampled: flags[0] & 1 == 1 })
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.traceparent())
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).expect("four bits are one digit"));
        }
    }
}

/// So many bytes from lower-case digits, two for each.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        let parent = TraceParent::parse(TEXT).unwrap();
        assert!(parent.sampled);
        assert_eq!(parent.context.traceparent(), TEXT);
        assert_eq!(parent.context.trace_id_hex(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.context.span_id_hex(), "b7ad6b7169203331");
        assert_eq!(TraceContext::from_bytes(parent.context.to_bytes()), Some(parent.context));
        assert!(!TraceParent::parse(&TEXT.replace("-01", "-00")).unwrap().sampled);
        assert!(
            TraceParent::parse(&TEXT.replace("-01", "-ff")).unwrap().sampled,
            "other flags are for others"
        );
    }

    #[test]
    fn a_later_version_may_say_more_and_this_one_may_not() {
        assert!(TraceParent::parse(&TEXT.replacen("00", "42", 1)).is_some());
        assert!(TraceParent::parse(&format!("{}-more", TEXT.replacen("00", "42", 1))).is_some());
        assert!(TraceParent::parse(&format!("{}more", TEXT.replacen("00", "42", 1))).is_none());
        assert!(TraceParent::parse(&format!("{TEXT}-more")).is_none());
    }

    #[test]
    fn what_breaks_a_rule_is_none() {
        for text in [
            "",
            "00",
            &TEXT[..54],
            &TEXT.replacen("00", "ff", 1),
            &TEXT.to_uppercase(),
            &TEXT.replace('-', "_"),
            &TEXT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &TEXT.replace("b7ad6b7169203331", &"0".repeat(16)),
            &TEXT.replace("0af7", "xaf7"),
            &TEXT.replace("0af7", "+af7"),
            &TEXT.replace("0af7", "ü7"),
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }
}
