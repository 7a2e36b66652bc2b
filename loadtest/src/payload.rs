//! The text a notification carries: which run, stream and number it is and when it was sent, readable by every kind of
//! server and harmless in JSON, so that no escaping can change it.
//!
//! `loadtest|<run>|<stream>|<number>|<intended>|<begun>|<bytes>|` and as many dots as make up the bytes, so that a text that
//! was cut is not taken for a whole one. Times are microseconds
//! since the run's start: sender and receiver are one process, so there is no clock to agree on.

/// What every text begins with.
const MARKER: &str = "loadtest|";

/// No text is shorter: its fields fit in.
const MIN_BYTES: usize = 120;

/// What a text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The run it belongs to.
    pub run: &'a str,
    /// The stream: a series of sends to one destination.
    pub stream: u32,
    /// Its number in the stream, from 0.
    pub number: u32,
    /// When it was due, microseconds.
    pub intended: u64,
    /// When its POST was begun, microseconds.
    pub begun: u64,
}

impl<'a> Payload<'a> {
    /// The text, filled with dots up to `size` bytes.
    #[must_use]
    pub fn to_text(&self, size: usize) -> String {
        use std::fmt::Write;
        let mut text = String::with_capacity(size.max(96));
        let size = size.max(MIN_BYTES);
        let Self { run, stream, number, intended, begun } = self;
        write!(text, "{MARKER}{run}|{stream}|{number}|{intended}|{begun}|{size}|")
            .expect("writing to a string");
        while text.len() < size {
            text.push('.');
        }
        text
    }

    /// Finds the text in whatever a server wrapped around it. `None`: it is none of ours.
    #[must_use]
    pub fn find(text: &'a str) -> Option<Self> {
        let start = text.find(MARKER)?;
        let mut fields = text[start + MARKER.len()..].splitn(7, '|');
        let payload = Self {
            run: fields.next()?,
            stream: fields.next()?.parse().ok()?,
            number: fields.next()?.parse().ok()?,
            intended: fields.next()?.parse().ok()?,
            begun: fields.next()?.parse().ok()?,
        };
        let size: usize = fields.next()?.parse().ok()?;
        let filling = fields.next()?;
        // What is left of the text behind its marks, of which a server may have wrapped more around it.
        let missing = size.checked_sub(text.len() - start - filling.len())?;
        filling.get(..missing)?.bytes().all(|byte| byte == b'.').then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: Payload<'static> =
        Payload { run: "r1", stream: 7, number: 42, intended: 1_000, begun: 1_020 };

    #[test]
    fn a_text_is_found_again_in_whatever_is_around_it() {
        let text = PAYLOAD.to_text(200);
        assert_eq!(text.len(), 200);
        assert_eq!(Payload::find(&text), Some(PAYLOAD));
        assert_eq!(Payload::find(&format!("alice: {text} \"}}")), Some(PAYLOAD));
    }

    #[test]
    fn a_size_that_is_too_small_costs_nothing_of_the_text() {
        assert_eq!(Payload::find(&PAYLOAD.to_text(1)), Some(PAYLOAD));
    }

    #[test]
    fn what_is_cut_or_foreign_is_none_of_ours() {
        for text in ["", "hello", "loadtest|", "loadtest|r1|7|42|1000|10", "loadtest|r1|seven|42|1000|1020|"]
        {
            assert_eq!(Payload::find(text), None, "{text}");
        }
        let whole = PAYLOAD.to_text(200);
        for length in 0..200 {
            assert_eq!(Payload::find(&whole[..length]), None, "{length} of 200 bytes");
        }
    }
}
