//! The property of the state machine meets machines with a fault built in, one at a time: a property that does not find those
//! would prove nothing.

use super::machine_property::{Subject, compare, scenarios};
use crate::delivery::{Effect, State, StateMachine};
use crate::log::entry::Entry;
use crate::registry::Scratch;
use crate::registry::tests::property::fixed_runner;

/// What a faulty machine does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    LostAckEntry,
    SkippedEntry,
    ChangedPublish,
    UncountedEviction,
    ClockOfItsOwn,
    LateExpiry,
    AckOfAnotherRange,
    ForgottenKeys,
}

struct Faulty {
    machine: StateMachine,
    fault: Fault,
}

impl Subject for Faulty {
    fn apply(&mut self, state: &State, number: u64, timestamp_ms: u64, entry: &Entry) -> Effect {
        let mut wrong = entry.clone();
        let mut timestamp_ms = timestamp_ms;
        match (self.fault, &mut wrong) {
            (Fault::LostAckEntry, Entry::Acks(_)) if number.is_multiple_of(3) => wrong = Entry::Tick,
            (Fault::SkippedEntry, Entry::Publish(_) | Entry::Acks(_) | Entry::Settings(_)) => {}
            (Fault::SkippedEntry, _) if number.is_multiple_of(5) => return Effect::None,
            (Fault::ChangedPublish, Entry::Publish(publish)) if number.is_multiple_of(7) => {
                publish.body.clear();
            }
            (Fault::ClockOfItsOwn, _) => timestamp_ms += 1,
            (Fault::LateExpiry, _) if timestamp_ms > state.log_time_ms() => {
                // As if the entry had been stamped, but nothing had been due before it.
                let effect = self.machine.apply(state, number, state.log_time_ms(), entry);
                state.set_log_time(timestamp_ms);
                return effect;
            }
            (Fault::AckOfAnotherRange, Entry::Acks(acks)) => {
                for ack in acks {
                    ack.until = ack.until.saturating_sub(1);
                }
            }
            (Fault::ForgottenKeys, Entry::Publish(publish)) if number.is_multiple_of(4) => {
                publish.idempotency = None;
            }
            _ => {}
        }
        let effect = self.machine.apply(state, number, timestamp_ms, &wrong);
        if self.fault == Fault::UncountedEviction
            && number.is_multiple_of(16)
            && let Some(oldest) = state.registry.oldest_held()
        {
            // The oldest is evicted, and nobody books it.
            state.registry.give_up(oldest, &mut Scratch::default());
        }
        effect
    }
}

fn the_property_holds_with(fault: Fault) -> bool {
    let outcome = fixed_runner(40).run(&scenarios(), |scenario| {
        compare(Faulty { machine: StateMachine::new(), fault }, &scenario).map(drop)
    });
    outcome.is_ok()
}

#[test]
fn the_wrapper_alone_breaks_nothing() {
    assert!(the_property_holds_with(Fault::None));
}

#[test]
fn the_property_finds_a_lost_entry_of_acks() {
    assert!(!the_property_holds_with(Fault::LostAckEntry));
}

#[test]
fn the_property_finds_an_entry_that_was_skipped() {
    assert!(!the_property_holds_with(Fault::SkippedEntry));
}

#[test]
fn the_property_finds_a_notification_that_is_not_the_one_in_the_log() {
    assert!(!the_property_holds_with(Fault::ChangedPublish));
}

#[test]
fn the_property_finds_an_eviction_that_nobody_booked() {
    assert!(!the_property_holds_with(Fault::UncountedEviction));
}

#[test]
fn the_property_finds_a_machine_with_a_clock_of_its_own() {
    assert!(!the_property_holds_with(Fault::ClockOfItsOwn));
}

#[test]
fn the_property_finds_an_expiry_that_comes_one_entry_too_late() {
    assert!(!the_property_holds_with(Fault::LateExpiry));
}

#[test]
fn the_property_finds_an_ack_that_covers_less_than_it_says() {
    assert!(!the_property_holds_with(Fault::AckOfAnotherRange));
}

#[test]
fn the_property_finds_a_request_whose_key_was_not_looked_at() {
    assert!(!the_property_holds_with(Fault::ForgottenKeys));
}
