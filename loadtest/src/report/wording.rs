//! The words that the page and the terminal share.

use crate::gate::{Class, GateResult};
use crate::report::number;
use crate::summary::{Run, Summary, Verdict};

/// The verdict in one word.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "PASSED",
        Verdict::TooSlow | Verdict::DeliveryFailed => "FAILED",
        Verdict::Invalid => "INVALID",
        Verdict::Skipped => "SKIPPED",
    }
}

/// What the verdict means.
pub(crate) fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "Every criterion holds.",
        Verdict::TooSlow => "The target is too slow or too dear.",
        Verdict::DeliveryFailed => {
            "Something was lost, came twice, in the wrong order or to the wrong receiver."
        }
        Verdict::Invalid => "The run says nothing about the target.",
        Verdict::Skipped => "The target cannot do what the scenario asks.",
    }
}

/// What was run, in a line: `steady: 5,000 sockets, 2,000/s for 30 s`.
pub(crate) fn headline(run: &Run) -> String {
    let sockets = number::count(run.sockets as u64);
    let noun = if run.sockets == 1 { "socket" } else { "sockets" };
    let (rate, duration) = (number::rate(run.rate), number::seconds(run.duration_seconds));
    let part = run.shard.map(|(part, parts)| format!(", part {part} of {parts}")).unwrap_or_default();
    let nodes = match run.further_urls.len() {
        0 => String::new(),
        further => format!(" on {} nodes", further + 1),
    };
    format!("{}: {sockets} {noun}{nodes}, {rate} for {duration}{part}", run.scenario)
}

/// Why the verdict is what it is: the criteria that do not hold, or else what the verdict means and the first note.
pub(crate) fn reasons(summary: &Summary) -> Vec<String> {
    let failed = gates(summary).into_iter().filter(|gate| !gate.passed);
    let failed = failed.map(|gate| format!("{} does not hold: {}", gate.text, gate.measured));
    let interrupted = summary.interrupted.then(|| "it was interrupted".to_owned());
    let mut reasons: Vec<String> = interrupted.into_iter().chain(failed).collect();
    if reasons.is_empty() && matches!(summary.verdict, Verdict::Invalid | Verdict::Skipped) {
        reasons.extend(summary.notes.first().cloned());
    }
    reasons
}

/// The criteria, those that do not hold first and the worst of them on top.
pub(crate) fn gates(summary: &Summary) -> Vec<&GateResult> {
    let mut gates: Vec<&GateResult> = summary.gates.iter().collect();
    gates.sort_by_key(|gate| {
        (gate.passed, if gate.passed { None } else { Some(std::cmp::Reverse(gate.class)) })
    });
    gates
}

/// What a criterion is about.
pub(crate) fn about(gate: &GateResult) -> &'static str {
    match gate.class {
        Class::Latency => "latency or cost",
        Class::Validity => "validity of the run",
        Class::Delivery => "delivery",
    }
}

/// Who set a criterion.
pub(crate) fn origin(gate: &GateResult) -> &'static str {
    if gate.default { "default" } else { "asked for" }
}

/// How to run it again.
pub(crate) fn command(run: &Run) -> String {
    let arguments: Vec<String> = run.arguments.iter().map(|argument| quoted(argument)).collect();
    format!("cargo run --release -p loadtest -- {}", arguments.join(" ")).trim_end().to_owned()
}

/// What a close code means; the names are those of the gateway.
pub(crate) fn close_code(code: u16) -> &'static str {
    match code {
        1000 => "normal: done",
        1001 => "going away",
        1002 => "protocol error",
        1003 => "unsupported data",
        1005 => "closed without a code",
        1006 => "cut off without a close frame",
        1007 => "invalid data",
        1008 => "policy violation",
        1009 => "too large",
        1011 => "internal error",
        1012 => "drain: the server restarts",
        1013 => "overloaded: come back later",
        4001 => "invalid token",
        4003 => "forbidden",
        4009 => "too many sessions",
        4010 => "disconnected by an administrator",
        4108 => "no write progress: it did not read",
        4112 => "no answer to a ping",
        4205 => "the token expired",
        _ => "",
    }
}

/// An argument as a shell takes it.
fn quoted(argument: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_=./:,@%+".contains(character);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let mut run = fixture::passed(3).run;
        run.arguments = ["steady", "--gate", "push_p99<50ms", "--note", "it's", ""].map(str::to_owned).into();
        let expected =
            r"cargo run --release -p loadtest -- steady --gate 'push_p99<50ms' --note 'it'\''s' ''";
        assert_eq!(command(&run), expected);
        run.arguments.clear();
        assert_eq!(command(&run), "cargo run --release -p loadtest --");
    }

    #[test]
    fn what_failed_stands_first_and_delivery_before_latency() {
        let summary = fixture::failed(3);
        let gates = gates(&summary);
        let failed: Vec<Class> = gates.iter().filter(|gate| !gate.passed).map(|gate| gate.class).collect();
        assert_eq!(failed, [Class::Delivery, Class::Latency]);
        assert!(gates.iter().skip(failed.len()).all(|gate| gate.passed));
        assert_eq!(reasons(&summary).len(), 2);
    }

    #[test]
    fn a_skipped_run_says_why() {
        let summary = fixture::skipped();
        assert_eq!(reasons(&summary), ["fastapi cannot resume"]);
        assert_eq!(headline(&summary.run), "resume: 1 socket, 2,000/s for 30 s");
    }
}
