//! Sequence accounting: was everything that the target accepted received, once and in order, by everybody it was for?
//!
//! A *stream* is a series of sends to one destination, numbered from 0 in the order of sending. Order is promised only
//! between sends of which the first was answered before the second began, so a stream has one send in flight. A *receiver*
//! is one socket (over all its connections) and listens to one stream. Sockets, time and frames are not known here: what
//! happened is noted in any order between senders and receivers, and [`judge`] is asked once, after stragglers were waited
//! for.

mod ranges;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::summary::{Deliveries, Gaps};

pub use ranges::Ranges;

/// Reasons of gaps that tell of something that was accepted and will not come. What was acked, withdrawn or collapsed is over
/// in another way, and a load test does none of these to what it has not received.
const LOSSES: [&str; 3] = ["overflow", "epoch", "expired"];

/// Findings that are named; the rest is only counted.
const MAX_FINDINGS: usize = 20;

/// What of one stream was sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    accepted: Ranges,
    unknown: Ranges,
    refused: Ranges,
}

/// What came of a send in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// It is owed to every receiver of the stream.
    Accepted,
    /// It was refused with the promise that nothing was delivered.
    Refused,
    /// No answer, or one that cannot say: neither owed nor wrong when it comes.
    Unknown,
}

impl Sent {
    /// Notes how the send of a number was answered.
    pub fn note(&mut self, number: u32, outcome: SendOutcome) {
        match outcome {
            SendOutcome::Accepted => self.accepted.insert(number),
            SendOutcome::Refused => self.refused.insert(number),
            SendOutcome::Unknown => self.unknown.insert(number),
        };
    }
}

/// What one receiver received.
#[derive(Debug, Clone, Default)]
pub struct Received {
    numbers: Ranges,
    /// The highest number so far.
    highest: Option<u32>,
    duplicates: u64,
    out_of_order: u64,
    misdirected: u64,
    gaps: BTreeMap<String, Gaps>,
    /// The newest gap, if nothing arrived since: where it begins, and how many it says are missing.
    open_gap: Option<(u32, Option<u64>)>,
    /// Gaps between what came before them and what came after, with how many they say are missing.
    holes: Vec<(Range<u32>, Option<u64>)>,
    findings: Vec<String>,
}

impl Received {
    /// Notes that a number of its stream arrived. `true`: for the first time.
    pub fn note(&mut self, number: u32) -> bool {
        self.close_gap(number);
        if !self.numbers.insert(number) {
            self.duplicates += 1;
            self.find(|| format!("number {number} again"));
            return false;
        }
        match self.highest {
            Some(highest) if number < highest => {
                self.out_of_order += 1;
                self.find(|| format!("number {number} behind number {highest}"));
            }
            _ => self.highest = Some(number),
        }
        true
    }

    /// Notes that something arrived that belongs to another stream or another run.
    pub fn note_misdirected(&mut self, what: &str) {
        self.misdirected += 1;
        self.find(|| format!("what was sent to somebody else: {what}"));
    }

    /// Notes a gap that the target announced.
    pub fn note_gap(&mut self, reason: &str, count: Option<u64>) {
        let gaps = self.gaps.entry(reason.to_owned()).or_default();
        gaps.gaps += 1;
        gaps.missing += count.unwrap_or(0);
        if !LOSSES.contains(&reason) {
            return;
        }
        let begin = self.highest.map_or(0, |highest| highest + 1);
        self.open_gap = Some(match self.open_gap {
            Some((from, said)) => (from, said.zip(count).map(|(said, count)| said + count)),
            None => (begin, count),
        });
    }

    /// A gap ends where something arrives again.
    fn close_gap(&mut self, until: u32) {
        if let Some((from, said)) = self.open_gap.take() {
            self.holes.push((from..until, said));
        }
    }

    fn find(&mut self, what: impl FnOnce() -> String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(what());
        }
    }

    /// Of what is missing, how much gaps have told: what lies where they are, and of each no more than it says.
    fn announced_of(&self, missing: &[Range<u32>]) -> u64 {
        let within = |hole: &Range<u32>| -> u64 {
            let overlap =
                |range: &Range<u32>| hole.end.min(range.end).saturating_sub(hole.start.max(range.start));
            missing.iter().map(|range| u64::from(overlap(range))).sum()
        };
        self.holes.iter().map(|(hole, said)| within(hole).min(said.unwrap_or(u64::MAX))).sum()
    }

    /// Whether it was told of anything missing.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    fn has_gap_at(&self, number: u32) -> bool {
        self.holes.iter().any(|(hole, _)| hole.contains(&number))
    }
}

/// Somebody who receives a stream.
#[derive(Debug, Clone, Copy)]
pub struct Listener<'a> {
    /// What findings call it.
    pub name: &'a str,
    /// The number of its stream.
    pub stream: usize,
    /// What it received.
    pub received: &'a Received,
    /// Whether it is owed everything: not so a socket that never came, or was told not to come back.
    pub owed: bool,
}

/// Judges: what everybody should have received and has.
///
/// Offered, sent and retried are left at 0. Only now is an accepted notification that did not arrive lost.
#[must_use]
pub fn judge<'a>(streams: &[Sent], listeners: impl IntoIterator<Item = Listener<'a>>) -> Deliveries {
    let mut judged = Deliveries::default();
    for sent in streams {
        judged.accepted += sent.accepted.count();
        judged.refused += sent.refused.count();
        judged.unknown += sent.unknown.count();
    }
    for listener in listeners {
        judge_listener(&mut judged, &streams[listener.stream], &listener);
    }
    judged
}

fn judge_listener(judged: &mut Deliveries, sent: &Sent, listener: &Listener<'_>) {
    let mut received = listener.received.clone();
    received.close_gap(sent.accepted.iter().last().map_or(0, |last| last + 1));
    let mut findings = received.findings.clone();
    let accepted = sent.accepted.count();
    let missing: Vec<Range<u32>> = sent.accepted.without(&received.numbers).collect();
    let not_received: u64 = missing.iter().map(|range| range.len() as u64).sum();
    let lost = if listener.owed { not_received } else { 0 };
    for range in missing.iter().filter(|_| listener.owed) {
        let announced = if received.has_gap_at(range.start) { ", as a gap said" } else { "" };
        findings.push(match range.len() {
            1 => format!("number {} lost{announced}", range.start),
            _ => format!("numbers {} to {} lost{announced}", range.start, range.end - 1),
        });
    }
    let mut known = sent.accepted.clone();
    for number in sent.unknown.iter() {
        known.insert(number);
    }
    let mut unexpected = received.misdirected;
    for wrong in received.numbers.without(&known) {
        unexpected += u64::from(wrong.end - wrong.start);
        let why = if sent.refused.contains(wrong.start) { "refused" } else { "never sent" };
        findings.push(format!("number {} arrived although it was {why}", wrong.start));
    }
    judged.expected += accepted - not_received + lost;
    judged.received += accepted - not_received;
    judged.lost += lost;
    judged.announced += received.announced_of(&missing).min(lost);
    judged.duplicates += received.duplicates;
    judged.out_of_order += received.out_of_order;
    judged.unexpected += unexpected;
    for (reason, gaps) in &received.gaps {
        let all = judged.gaps.entry(reason.clone()).or_default();
        all.gaps += gaps.gaps;
        all.missing += gaps.missing;
    }
    let room = MAX_FINDINGS.saturating_sub(judged.findings.len());
    judged.findings.extend(findings.into_iter().take(room).map(|what| format!("{}: {what}", listener.name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first `accepted` numbers were accepted.
    fn sent(accepted: u32) -> Sent {
        let mut sent = Sent::default();
        for number in 0..accepted {
            sent.note(number, SendOutcome::Accepted);
        }
        sent
    }

    fn received(numbers: &[u32]) -> Received {
        let mut received = Received::default();
        for number in numbers {
            received.note(*number);
        }
        received
    }

    fn listener<'a>(name: &'a str, stream: usize, received: &'a Received) -> Listener<'a> {
        Listener { name, stream, received, owed: true }
    }

    fn judged(sent: Sent, received: &Received) -> Deliveries {
        judge(&[sent], [listener("bob", 0, received)])
    }

    fn is_clean(judged: &Deliveries) -> bool {
        judged.lost + judged.duplicates + judged.out_of_order + judged.unexpected == 0
            && judged.findings.is_empty()
    }

    #[test]
    fn everything_once_and_in_order_is_clean() {
        let verdict = judged(sent(3), &received(&[0, 1, 2]));
        assert!(is_clean(&verdict));
        assert_eq!((verdict.accepted, verdict.expected, verdict.received), (3, 3, 3));
        assert!(is_clean(&judge(&[], [])));
    }

    #[test]
    fn a_lost_notification_is_lost_and_nothing_else() {
        let verdict = judged(sent(4), &received(&[0, 1, 3]));
        assert_eq!((verdict.received, verdict.lost, verdict.out_of_order), (3, 1, 0));
        assert_eq!(verdict.findings, ["bob: number 2 lost"]);
    }

    #[test]
    fn a_lost_tail_is_lost_although_nothing_arrives_behind_it() {
        let verdict = judged(sent(5), &received(&[0, 1, 2]));
        assert_eq!(verdict.lost, 2);
        assert_eq!(verdict.findings, ["bob: numbers 3 to 4 lost"]);
    }

    #[test]
    fn a_stream_of_which_nothing_arrives_is_lost_whole() {
        assert_eq!(judged(sent(7), &received(&[])).lost, 7);
    }

    #[test]
    fn a_doubled_notification_is_a_duplicate_and_no_breach_of_order() {
        let verdict = judged(sent(3), &received(&[0, 1, 1, 2, 0]));
        assert_eq!((verdict.duplicates, verdict.out_of_order, verdict.lost), (2, 0, 0));
        assert_eq!(verdict.findings, ["bob: number 1 again", "bob: number 0 again"]);
    }

    #[test]
    fn swapped_notifications_breach_the_order_and_nothing_is_lost() {
        let verdict = judged(sent(3), &received(&[0, 2, 1]));
        assert_eq!((verdict.out_of_order, verdict.duplicates, verdict.lost), (1, 0, 0));
        assert_eq!(verdict.findings, ["bob: number 1 behind number 2"]);
    }

    #[test]
    fn each_latecomer_counts() {
        assert_eq!(judged(sent(4), &received(&[3, 0, 1, 2])).out_of_order, 3);
    }

    #[test]
    fn every_receiver_of_a_stream_is_owed_everything() {
        let (bob, carol) = (received(&[0, 1]), received(&[1]));
        let verdict = judge(&[sent(2)], [listener("bob", 0, &bob), listener("carol", 0, &carol)]);
        assert_eq!((verdict.accepted, verdict.expected, verdict.received, verdict.lost), (2, 4, 3, 1));
        assert_eq!(verdict.findings, ["carol: number 0 lost"]);
    }

    #[test]
    fn streams_are_judged_apart() {
        let (bob, carol) = (received(&[0]), received(&[1, 0, 0]));
        let verdict = judge(&[sent(2), sent(2)], [listener("bob", 0, &bob), listener("carol", 1, &carol)]);
        assert_eq!((verdict.lost, verdict.out_of_order, verdict.duplicates), (1, 1, 1));
    }

    #[test]
    fn a_send_of_unknown_outcome_is_neither_lost_nor_unexpected() {
        let mut sent = Sent::default();
        sent.note(0, SendOutcome::Unknown);
        sent.note(1, SendOutcome::Unknown);
        let verdict = judged(sent, &received(&[1]));
        assert!(is_clean(&verdict));
        assert_eq!((verdict.accepted, verdict.unknown, verdict.expected, verdict.received), (0, 2, 0, 0));
    }

    #[test]
    fn a_notification_of_unknown_outcome_that_comes_twice_or_late_is_a_finding() {
        let mut sent = Sent::default();
        sent.note(0, SendOutcome::Unknown);
        sent.note(1, SendOutcome::Accepted);
        let verdict = judged(sent, &received(&[1, 0, 0]));
        assert_eq!((verdict.out_of_order, verdict.duplicates, verdict.lost), (1, 1, 0));
    }

    #[test]
    fn what_was_refused_never_sent_or_meant_for_another_must_not_arrive() {
        let mut sent = Sent::default();
        sent.note(0, SendOutcome::Refused);
        sent.note(1, SendOutcome::Refused);
        let mut received = received(&[1, 9]);
        received.note_misdirected("loadtest|other");
        let verdict = judged(sent, &received);
        assert_eq!((verdict.unexpected, verdict.lost, verdict.refused), (3, 0, 2));
        assert_eq!(verdict.findings.len(), 3);
    }

    #[test]
    fn gaps_excuse_no_loss_and_say_how_much_of_it_was_announced() {
        let mut received = received(&[0]);
        received.note_gap("overflow", Some(2));
        received.note(4);
        let verdict = judged(sent(5), &received);
        assert_eq!((verdict.lost, verdict.announced), (3, 2));
        assert_eq!(verdict.gaps["overflow"], Gaps { gaps: 1, missing: 2 });
        assert_eq!(verdict.findings, ["bob: numbers 1 to 3 lost, as a gap said"]);
    }

    #[test]
    fn a_gap_announces_nothing_that_is_missing_elsewhere() {
        let mut received = received(&[0, 2]);
        received.note_gap("overflow", None);
        received.note(5);
        received.note(7);
        let verdict = judged(sent(9), &received);
        assert_eq!(
            (verdict.lost, verdict.announced),
            (5, 2),
            "1, 6 and 8 are missing without a gap, 3 and 4 with one"
        );
    }

    #[test]
    fn what_one_receiver_was_told_excuses_nothing_at_another() {
        let (mut bob, carol) = (received(&[]), received(&[]));
        bob.note_gap("overflow", Some(9));
        let verdict = judge(&[sent(2)], [listener("bob", 0, &bob), listener("carol", 0, &carol)]);
        assert_eq!((verdict.lost, verdict.announced), (4, 2));
    }

    #[test]
    fn a_gap_that_does_not_say_how_many_announces_all_that_is_missing() {
        let mut received = received(&[0]);
        received.note_gap("epoch", None);
        let verdict = judged(sent(5), &received);
        assert_eq!((verdict.lost, verdict.announced), (4, 4));
    }

    #[test]
    fn a_gap_that_calls_it_no_loss_announces_none() {
        let mut received = received(&[0]);
        received.note_gap("acked", Some(2));
        received.note(3);
        assert_eq!(judged(sent(4), &received).announced, 0);
    }

    #[test]
    fn a_gap_that_overstates_excuses_nothing_elsewhere() {
        let mut received = received(&[0]);
        received.note_gap("overflow", Some(100));
        received.note(2);
        received.note_gap("overflow", Some(1));
        received.note(6);
        let verdict = judged(sent(7), &received);
        assert_eq!((verdict.lost, verdict.announced), (4, 2), "the second gap says 1 of 3");
    }

    #[test]
    fn who_went_for_good_is_owed_nothing_more() {
        let received = received(&[0, 0]);
        let gone = Listener { owed: false, ..listener("bob", 0, &received) };
        let verdict = judge(&[sent(3)], [gone]);
        assert_eq!((verdict.expected, verdict.received, verdict.lost, verdict.duplicates), (1, 1, 0, 1));
    }

    #[test]
    fn findings_are_bounded_and_counts_are_not() {
        let numbers: Vec<u32> = (0..1_000).map(|number| number * 2).collect();
        let verdict = judged(sent(2_000), &received(&numbers));
        assert_eq!(verdict.lost, 1_000);
        assert_eq!(verdict.findings.len(), MAX_FINDINGS);
    }
}
