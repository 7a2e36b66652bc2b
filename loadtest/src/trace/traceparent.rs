//! The W3C's `traceparent`: `00-<trace id>-<span id>-<flags>`, written and strictly read.
//!
//! By hand, because what the SDK has for it wants a map of headers and takes versions and digits that the gateway never
//! writes.

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The length of every `traceparent` of version 00, bytes.
const LENGTH: usize = 55;

/// The header's or the field's value for a span.
pub(super) fn write(context: &SpanContext) -> String {
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags.to_u8())
}

/// The span that a `traceparent` names, as a remote one; `None`: anything but version 00 in lower case with both ids.
pub(super) fn parse(text: &str) -> Option<SpanContext> {
    let digits = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // Past this, every part has its length: three hyphens in these places leave no other.
    if text.len() != LENGTH {
        return None;
    }
    let rest = text.strip_prefix("00-")?;
    let (trace, rest) = rest.split_at_checked(32)?;
    let (span, flags) = rest.strip_prefix('-')?.split_at_checked(16)?;
    let flags = flags.strip_prefix('-')?;
    if ![trace, span, flags].into_iter().all(digits) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_read_again() {
        let context = parse(TEXT).unwrap();
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert_eq!(write(&context), TEXT);
        let unsampled = TEXT.replace("-01", "-00");
        assert!(!parse(&unsampled).unwrap().is_sampled());
        assert_eq!(write(&parse(&unsampled).unwrap()), unsampled);
    }

    #[test]
    fn flags_that_mean_nothing_here_are_not_handed_on() {
        assert_eq!(write(&parse(&TEXT.replace("-01", "-03")).unwrap()), TEXT);
        assert_eq!(write(&parse(&TEXT.replace("-01", "-fe")).unwrap()), TEXT.replace("-01", "-00"));
    }

    #[test]
    fn anything_else_is_none() {
        for wrong in [
            String::new(),
            "00".to_owned(),
            TEXT.to_uppercase(),
            TEXT.replacen("00-", "01-", 1),
            TEXT.replacen("00-", "ff-", 1),
            TEXT.replacen('-', "_", 1),
            TEXT.replace("-01", "-0g"),
            TEXT.replace("-01", "-+1"),
            TEXT.replace("-01", "_01"),
            format!("{TEXT}-"),
            format!(" {TEXT}"),
            TEXT[1..].to_owned(),
            TEXT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            TEXT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            TEXT.replace("4bf92f35", "4bf92fü5"),
            TEXT.replace("4bf92f35", "4bf92fü"),
            TEXT.replace("4736-00f0", "47-3600f0"),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }
}
