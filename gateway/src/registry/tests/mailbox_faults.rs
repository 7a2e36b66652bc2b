//! The property of a mailbox meets mailboxes with a fault built in, one at a time: a property that does not find those would
//! prove nothing.

use super::mailbox_property::{Subject, an_empty_mailbox, compare, recipient_of, scenarios};
use super::property::fixed_runner;
use crate::domain::{GapReason, Priority, RemovalReason};
use crate::registry::mailbox::{Mailbox, Put, Readers};
use crate::registry::{Arrival, Bounds, Cursor, Effects, Item, OverflowPolicy, PullLimits};

/// What a faulty mailbox does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    LostAck,
    AckOfOneMore,
    UncountedEviction,
    LostNotification,
    SkippedArrival,
    LyingCount,
    MilderReason,
    DroppedNewest,
    PendingBeforeAcked,
    WrongPriority,
    GreedyNewcomer,
    LateExpiry,
    HastyCollapse,
    LongHistory,
    LastingVolatile,
    LeftToSessions,
}

struct Faulty {
    mailbox: Mailbox,
    fault: Fault,
    /// The last one that was kept with each collapse key.
    kept: Vec<(u64, u64)>,
}

impl Faulty {
    /// What the faulty mailbox takes the arrival for.
    fn misread(&self, arrival: &Arrival) -> Arrival {
        match self.fault {
            Fault::WrongPriority => {
                let priority = match arrival.priority {
                    Priority::Low => Priority::High,
                    Priority::Normal => Priority::Normal,
                    Priority::High => Priority::Low,
                };
                Arrival { priority, ..*arrival }
            }
            Fault::GreedyNewcomer => Arrival { priority: Priority::High, ..*arrival },
            _ => *arrival,
        }
    }
}

impl Subject for Faulty {
    fn mailbox(&mut self) -> &mut Mailbox {
        &mut self.mailbox
    }

    fn put(&mut self, arrival: &Arrival, bounds: &Bounds, readers: Readers, effects: &mut Effects) -> Put {
        let recipient = recipient_of(arrival);
        let full = self.mailbox.pending() == bounds.max_count && bounds.policy == OverflowPolicy::DropOldest;
        if self.fault == Fault::SkippedArrival && arrival.number % 16 == 3 {
            return Put::Kept;
        }
        if self.fault == Fault::DroppedNewest && full {
            // Too large to make room for, so it goes itself; the answer pretends otherwise.
            self.mailbox.put(&Arrival { bytes: u32::MAX, ..*arrival }, recipient, bounds, readers, effects);
            return Put::Kept;
        }
        if self.fault == Fault::PendingBeforeAcked {
            let mut described = Vec::new();
            self.mailbox.describe(&mut described);
            let held = described.len() / 27;
            let pending = self.mailbox.pending() as usize;
            if held > pending && held >= bounds.max_count as usize && pending > 1 {
                let oldest = self.mailbox.cursor_at_acked(0).map(|cursor| cursor.number + 1);
                // The oldest pending one goes for the newcomer although an acked one is there.
                self.mailbox.give_up(oldest.unwrap_or(0), effects);
            }
        }
        let put = self.mailbox.put(&self.misread(arrival), recipient, bounds, readers, effects);
        match put {
            Put::Kept if arrival.collapse_key != 0 => {
                self.kept.retain(|(key, _)| *key != arrival.collapse_key);
                self.kept.push((arrival.collapse_key, arrival.number));
            }
            Put::Dropped | Put::Rejected if self.fault == Fault::HastyCollapse => {
                let collapsed = self.kept.iter().find(|(key, _)| *key == arrival.collapse_key);
                let before = effects.finals.len();
                self.mailbox.withdraw(collapsed.map_or(0, |(_, number)| *number), effects);
                for one in &mut effects.finals[before..] {
                    one.reason = RemovalReason::Collapsed;
                }
            }
            _ => {}
        }
        if self.fault == Fault::UncountedEviction {
            effects
                .finals
                .retain(|one| one.reason != RemovalReason::Overflow || one.number == arrival.number);
        }
        if self.fault == Fault::LeftToSessions && readers != Readers::NONE {
            self.mailbox.ack(0, readers.slowest / 2, bounds, readers, effects);
        }
        put
    }

    fn ack(&mut self, (after, until): (u64, u64), bounds: &Bounds, readers: Readers, effects: &mut Effects) {
        let bounds = match self.fault {
            Fault::LostAck if until % 8 == 1 => return,
            Fault::LongHistory => &Bounds { history: bounds.history + 1, ..*bounds },
            _ => bounds,
        };
        let after = if self.fault == Fault::AckOfOneMore { after.saturating_sub(1) } else { after };
        self.mailbox.ack(after, until, bounds, readers, effects);
    }

    fn expire(&mut self, log_time_s: u32, effects: &mut Effects) {
        let late = u32::from(self.fault == Fault::LateExpiry);
        self.mailbox.expire(log_time_s.saturating_sub(late), effects);
    }

    fn pull(&mut self, cursor: &mut Cursor, limits: PullLimits) -> Vec<Item> {
        if self.fault == Fault::LastingVolatile {
            // As if the session had been there from the start.
            *cursor = self.mailbox.cursor_after(cursor.number, 0);
        }
        let mut items = Vec::new();
        self.mailbox.pull(cursor, limits, &mut items);
        if self.fault == Fault::LostNotification && items.len() > 2 {
            items.remove(1);
        }
        for item in &mut items {
            match item {
                Item::Gap { count: Some(count @ 2..), .. } if self.fault == Fault::LyingCount => *count -= 1,
                Item::Gap { reason, .. } if self.fault == Fault::MilderReason => *reason = GapReason::Acked,
                _ => {}
            }
        }
        items
    }
}

fn the_property_holds_with(fault: Fault) -> bool {
    let outcome = fixed_runner(60).run(&scenarios(), |scenario| {
        let faulty = Faulty { mailbox: an_empty_mailbox(), fault, kept: Vec::new() };
        compare(faulty, &scenario).map(drop)
    });
    outcome.is_ok()
}

#[test]
fn the_wrapper_alone_breaks_nothing() {
    assert!(the_property_holds_with(Fault::None));
}

#[test]
fn the_property_finds_a_lost_ack() {
    assert!(!the_property_holds_with(Fault::LostAck));
}

#[test]
fn the_property_finds_an_ack_that_covers_one_more_than_it_says() {
    assert!(!the_property_holds_with(Fault::AckOfOneMore));
}

#[test]
fn the_property_finds_an_eviction_that_nobody_counted() {
    assert!(!the_property_holds_with(Fault::UncountedEviction));
}

#[test]
fn the_property_finds_a_notification_that_a_pull_lost() {
    assert!(!the_property_holds_with(Fault::LostNotification));
}

#[test]
fn the_property_finds_a_notification_that_never_arrived() {
    assert!(!the_property_holds_with(Fault::SkippedArrival));
}

#[test]
fn the_property_finds_a_gap_that_lies_about_its_count() {
    assert!(!the_property_holds_with(Fault::LyingCount));
}

#[test]
fn the_property_finds_a_gap_with_a_milder_reason_than_the_true_one() {
    assert!(!the_property_holds_with(Fault::MilderReason));
}

#[test]
fn the_property_finds_a_mailbox_that_drops_the_newest_instead() {
    assert!(!the_property_holds_with(Fault::DroppedNewest));
}

#[test]
fn the_property_finds_a_pending_one_evicted_before_an_acked_one() {
    assert!(!the_property_holds_with(Fault::PendingBeforeAcked));
}

#[test]
fn the_property_finds_that_the_highest_priority_goes_first() {
    assert!(!the_property_holds_with(Fault::WrongPriority));
}

#[test]
fn the_property_finds_a_newcomer_that_evicts_what_matters_more() {
    assert!(!the_property_holds_with(Fault::GreedyNewcomer));
}

#[test]
fn the_property_finds_an_expiry_that_comes_too_late() {
    assert!(!the_property_holds_with(Fault::LateExpiry));
}

#[test]
fn the_property_finds_a_collapse_for_a_newcomer_that_was_not_kept() {
    assert!(!the_property_holds_with(Fault::HastyCollapse));
}

#[test]
fn the_property_finds_a_history_longer_than_its_bound() {
    assert!(!the_property_holds_with(Fault::LongHistory));
}

#[test]
fn the_property_finds_a_volatile_one_shown_to_a_session_that_came_later() {
    assert!(!the_property_holds_with(Fault::LastingVolatile));
}

#[test]
fn the_property_finds_a_mailbox_that_lets_its_sessions_decide() {
    assert!(!the_property_holds_with(Fault::LeftToSessions));
}
