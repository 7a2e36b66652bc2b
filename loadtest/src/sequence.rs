//! Sequence accounting: was everything that the gateway accepted received, once and in order?
//!
//! A *stream* is what one sender sends to one receiver; its notifications are numbered in the order of sending. Order is
//! promised by the gateway only between sends of which the first was answered before the second began, so a stream sends
//! one at a time. Sockets, time and frames are not known here: the caller notes what happened, in any order between sender
//! and receiver, and asks for the [`Verdict`] once, after it has waited for stragglers.

use std::collections::BTreeMap;
use std::fmt;

/// Findings that a verdict names; the rest is only counted.
const MAX_FINDINGS: usize = 20;

/// Names a stream: one sender and one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// How the gateway answered a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// 202: it is owed to the receiver.
    Accepted,
    /// A refusal that promises that nothing was delivered.
    Refused,
    /// No answer, or one that cannot say: neither owed to the receiver nor wrong when it comes.
    Unknown,
}

/// What is known of every stream while a test runs.
#[derive(Debug, Default)]
pub struct Accounting {
    streams: BTreeMap<StreamId, Stream>,
    duplicates: u64,
    out_of_order: u64,
    gaps: u64,
    announced_missing: u64,
    gaps_of_unknown_size: u64,
    findings: Vec<Finding>,
}

#[derive(Debug, Default)]
struct Stream {
    notifications: BTreeMap<u64, Record>,
    /// The highest sequence number that was received.
    highest: Option<u64>,
}

#[derive(Debug, Default)]
struct Record {
    outcome: Option<SendOutcome>,
    received: bool,
}

/// Something that must not happen, with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The stream it happened in.
    pub stream: StreamId,
    /// The notification's number in its stream.
    pub sequence: u64,
}

/// The ways in which delivery can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// Accepted, and never received.
    Lost,
    /// Received again.
    Duplicate,
    /// Received after one that was sent later.
    OutOfOrder,
    /// Received although it was refused or never sent.
    Unexpected,
}

/// What came of a test. Every notification that was received again counts once for each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Notifications that were accepted.
    pub accepted: u64,
    /// Of these, the ones that arrived.
    pub received: u64,
    /// Of these, the ones that did not. Gaps excuse nothing: they are counted apart.
    pub lost: u64,
    /// Receptions of what had been received before.
    pub duplicates: u64,
    /// Receptions behind one that was sent later.
    pub out_of_order: u64,
    /// Notifications that arrived although they were refused or never sent.
    pub unexpected: u64,
    /// Sends of which nobody knows whether they were accepted.
    pub unknown: u64,
    /// Of these, the ones that arrived.
    pub unknown_received: u64,
    /// Gaps that the gateway announced.
    pub gaps: u64,
    /// Notifications that these gaps say are missing.
    pub announced_missing: u64,
    /// Gaps that do not say how many are missing.
    pub gaps_of_unknown_size: u64,
    /// The first findings: at most 20.
    pub findings: Vec<Finding>,
}

impl Accounting {
    /// Notes how the gateway answered the send of a notification.
    pub fn sent(&mut self, stream: StreamId, sequence: u64, outcome: SendOutcome) {
        let record = self.streams.entry(stream).or_default().notifications.entry(sequence).or_default();
        record.outcome = Some(outcome);
    }

    /// Notes that a notification arrived. May be called before [`Accounting::sent`]: a push can be faster than its 202.
    pub fn received(&mut self, stream: StreamId, sequence: u64) {
        let known = self.streams.entry(stream).or_default();
        let record = known.notifications.entry(sequence).or_default();
        let kind = if std::mem::replace(&mut record.received, true) {
            self.duplicates += 1;
            FindingKind::Duplicate
        } else if known.highest.is_some_and(|highest| sequence < highest) {
            self.out_of_order += 1;
            FindingKind::OutOfOrder
        } else {
            known.highest = Some(sequence);
            return;
        };
        note(&mut self.findings, kind, stream, sequence);
    }

    /// Notes a gap that the gateway announced to a receiver, with the number of missing notifications if it told.
    pub fn gap(&mut self, count: Option<u64>) {
        self.gaps += 1;
        match count {
            Some(count) => self.announced_missing += count,
            None => self.gaps_of_unknown_size += 1,
        }
    }

    /// Judges. Only now is an accepted notification that did not arrive lost, so wait for stragglers before.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        let mut verdict = Verdict {
            accepted: 0,
            received: 0,
            lost: 0,
            duplicates: self.duplicates,
            out_of_order: self.out_of_order,
            unexpected: 0,
            unknown: 0,
            unknown_received: 0,
            gaps: self.gaps,
            announced_missing: self.announced_missing,
            gaps_of_unknown_size: self.gaps_of_unknown_size,
            findings: self.findings,
        };
        for (stream, known) in self.streams {
            for (sequence, record) in known.notifications {
                verdict.count(stream, sequence, &record);
            }
        }
        verdict
    }
}

impl Verdict {
    /// Whether everything accepted arrived, once and in order, without a gap.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicates + self.out_of_order + self.unexpected + self.gaps == 0
    }

    fn count(&mut self, stream: StreamId, sequence: u64, record: &Record) {
        let kind = match (record.outcome, record.received) {
            (Some(SendOutcome::Accepted), received) => {
                self.accepted += 1;
                if received {
                    self.received += 1;
                    return;
                }
                self.lost += 1;
                FindingKind::Lost
            }
            (Some(SendOutcome::Unknown), received) => {
                self.unknown += 1;
                self.unknown_received += u64::from(received);
                return;
            }
            (Some(SendOutcome::Refused) | None, true) => {
                self.unexpected += 1;
                FindingKind::Unexpected
            }
            (Some(SendOutcome::Refused) | None, false) => return,
        };
        note(&mut self.findings, kind, stream, sequence);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "accepted {}, received {}, lost {}, duplicates {}, out of order {}, unexpected {}; \
             unknown {} (received {}); gaps {} (missing {}, {} of unknown size)",
            self.accepted,
            self.received,
            self.lost,
            self.duplicates,
            self.out_of_order,
            self.unexpected,
            self.unknown,
            self.unknown_received,
            self.gaps,
            self.announced_missing,
            self.gaps_of_unknown_size
        )
    }
}

fn note(findings: &mut Vec<Finding>, kind: FindingKind, stream: StreamId, sequence: u64) {
    if findings.len() < MAX_FINDINGS {
        findings.push(Finding { kind, stream, sequence });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: StreamId = StreamId(1);
    const CAROL: StreamId = StreamId(2);

    /// Everything in `accepted` was accepted in `stream`, and `received` arrived there in this order.
    fn account(accounting: &mut Accounting, stream: StreamId, accepted: u64, received: &[u64]) {
        for sequence in 1..=accepted {
            accounting.sent(stream, sequence, SendOutcome::Accepted);
        }
        for sequence in received {
            accounting.received(stream, *sequence);
        }
    }

    fn judged(accepted: u64, received: &[u64]) -> Verdict {
        let mut accounting = Accounting::default();
        account(&mut accounting, BOB, accepted, received);
        accounting.verdict()
    }

    fn finding(kind: FindingKind, sequence: u64) -> Finding {
        Finding { kind, stream: BOB, sequence }
    }

    #[test]
    fn everything_once_and_in_order_is_clean() {
        let verdict = judged(3, &[1, 2, 3]);
        assert!(verdict.is_clean());
        assert_eq!((verdict.accepted, verdict.received), (3, 3));
        assert_eq!(verdict.findings, []);
        assert!(Accounting::default().verdict().is_clean());
    }

    #[test]
    fn a_lost_notification_is_lost_and_nothing_else() {
        let verdict = judged(4, &[1, 2, 4]);
        assert!(!verdict.is_clean());
        assert_eq!((verdict.received, verdict.lost), (3, 1));
        assert_eq!(verdict.findings, [finding(FindingKind::Lost, 3)]);
    }

    #[test]
    fn a_lost_tail_is_lost_although_nothing_arrives_behind_it() {
        let verdict = judged(5, &[1, 2, 3]);
        assert_eq!(verdict.lost, 2);
        assert_eq!(verdict.findings, [finding(FindingKind::Lost, 4), finding(FindingKind::Lost, 5)]);
    }

    #[test]
    fn a_stream_of_which_nothing_arrives_is_lost_whole() {
        assert_eq!(judged(7, &[]).lost, 7);
    }

    #[test]
    fn a_doubled_notification_is_a_duplicate_and_no_breach_of_order() {
        let verdict = judged(3, &[1, 2, 2, 3, 1]);
        assert_eq!((verdict.duplicates, verdict.out_of_order, verdict.lost), (2, 0, 0));
        assert_eq!(
            verdict.findings,
            [finding(FindingKind::Duplicate, 2), finding(FindingKind::Duplicate, 1)]
        );
        assert!(!verdict.is_clean());
    }

    #[test]
    fn swapped_notifications_breach_the_order_and_nothing_is_lost() {
        let verdict = judged(3, &[1, 3, 2]);
        assert_eq!((verdict.out_of_order, verdict.duplicates, verdict.lost), (1, 0, 0));
        assert_eq!(verdict.findings, [finding(FindingKind::OutOfOrder, 2)]);
        assert!(!verdict.is_clean());
    }

    #[test]
    fn each_latecomer_counts() {
        assert_eq!(judged(4, &[4, 1, 2, 3]).out_of_order, 3);
    }

    #[test]
    fn streams_are_judged_apart() {
        let mut accounting = Accounting::default();
        account(&mut accounting, BOB, 2, &[1]);
        account(&mut accounting, CAROL, 2, &[2, 1, 1]);
        let verdict = accounting.verdict();
        assert_eq!((verdict.lost, verdict.out_of_order, verdict.duplicates), (1, 1, 1));
        assert_eq!(verdict.findings.last(), Some(&finding(FindingKind::Lost, 2)));
    }

    #[test]
    fn a_push_may_be_faster_than_its_answer() {
        let mut accounting = Accounting::default();
        accounting.received(BOB, 1);
        accounting.sent(BOB, 1, SendOutcome::Accepted);
        assert!(accounting.verdict().is_clean());
    }

    #[test]
    fn a_send_of_unknown_outcome_is_neither_lost_nor_expected() {
        let mut accounting = Accounting::default();
        accounting.sent(BOB, 1, SendOutcome::Unknown);
        accounting.sent(BOB, 2, SendOutcome::Unknown);
        accounting.received(BOB, 2);
        let verdict = accounting.verdict();
        assert!(verdict.is_clean());
        assert_eq!((verdict.accepted, verdict.received), (0, 0));
        assert_eq!((verdict.unknown, verdict.unknown_received), (2, 1));
    }

    #[test]
    fn a_notification_of_unknown_outcome_that_comes_twice_or_late_is_a_finding() {
        let mut accounting = Accounting::default();
        accounting.sent(BOB, 1, SendOutcome::Unknown);
        accounting.sent(BOB, 2, SendOutcome::Accepted);
        for sequence in [2, 1, 1] {
            accounting.received(BOB, sequence);
        }
        let verdict = accounting.verdict();
        assert_eq!((verdict.out_of_order, verdict.duplicates, verdict.lost), (1, 1, 0));
    }

    #[test]
    fn what_was_refused_or_never_sent_must_not_arrive() {
        let mut accounting = Accounting::default();
        accounting.sent(BOB, 1, SendOutcome::Refused);
        accounting.sent(BOB, 2, SendOutcome::Refused);
        accounting.received(BOB, 2);
        accounting.received(BOB, 9);
        let verdict = accounting.verdict();
        assert_eq!((verdict.unexpected, verdict.lost), (2, 0));
        assert_eq!(
            verdict.findings,
            [finding(FindingKind::Unexpected, 2), finding(FindingKind::Unexpected, 9)]
        );
        assert!(!verdict.is_clean());
    }

    #[test]
    fn gaps_are_counted_apart_and_excuse_nothing() {
        let mut accounting = Accounting::default();
        account(&mut accounting, BOB, 5, &[1, 5]);
        accounting.gap(Some(3));
        accounting.gap(None);
        let verdict = accounting.verdict();
        assert_eq!((verdict.gaps, verdict.announced_missing, verdict.gaps_of_unknown_size), (2, 3, 1));
        assert_eq!(verdict.lost, 3);
    }

    #[test]
    fn a_gap_alone_is_not_clean() {
        let mut accounting = Accounting::default();
        accounting.gap(None);
        assert!(!accounting.verdict().is_clean());
    }

    #[test]
    fn findings_are_bounded_and_counts_are_not() {
        let verdict = judged(1_000, &[]);
        assert_eq!(verdict.lost, 1_000);
        assert_eq!(verdict.findings.len(), MAX_FINDINGS);
    }

    #[test]
    fn a_verdict_reads_as_one_line() {
        assert_eq!(
            judged(3, &[1, 3, 3]).to_string(),
            "accepted 3, received 2, lost 1, duplicates 1, out of order 0, unexpected 0; \
             unknown 0 (received 0); gaps 0 (missing 0, 0 of unknown size)"
        );
    }
}
