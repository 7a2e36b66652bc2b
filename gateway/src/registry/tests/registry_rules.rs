//! What the registry adds to mailboxes: sessions that come and go, users spread over shards, users that are forgotten.

use std::task::{Context, Waker};

use super::client::Client;
use super::{MAX_SESSIONS, ROOMY, UNLIMITED, arrival, holding, session};
use crate::domain::{GapReason, Outcome, RemovalReason};
use crate::registry::{
    Arrival, Attached, Bounds, Cursor, Delivered, Final, Item, Ledger, OverflowPolicy, Registry,
    RegistryStats, Scratch, SessionHandle, SessionId, StartAt, Totals, UserSummary,
};

fn deliver(registry: &Registry, users: &[&str], number: u64, bounds: &Bounds) -> Delivered {
    registry.deliver(users.iter().copied(), &arrival(number), bounds, &mut Scratch::default())
}

/// Removes what is due and returns how many pending ones that were.
fn expire(registry: &Registry, log_time_s: u32) -> usize {
    let mut scratch = Scratch::default();
    registry.expire(log_time_s, &mut scratch);
    assert!(scratch.effects.finals.iter().all(|one| one.reason == RemovalReason::Expired));
    scratch.effects.finals.len()
}

/// The sums without the books, which are checked to balance.
fn sums(registry: &Registry) -> RegistryStats {
    let stats = registry.stats();
    assert_eq!(stats.imbalance, 0, "{stats:?}");
    // Bytes have their own test.
    let totals = Totals { ledger: Ledger::default(), ..stats.totals };
    RegistryStats { totals, high_watermark_bytes: 0, ..stats }
}

fn attach(registry: &Registry, user: &str, id: u64, start: StartAt, applied: u64) -> Attached {
    registry.attach(&registry.key(user), session(id), start, applied, MAX_SESSIONS)
}

fn pull(registry: &Registry, user: &str, cursor: &mut Cursor) -> Vec<Item> {
    let mut items = Vec::new();
    registry.pull(&registry.key(user), cursor, UNLIMITED, &mut items);
    items
}

/// What a session of a moment gets that starts behind `position`.
fn pull_after(registry: &Registry, user: &str, position: u64, applied: u64) -> Vec<Item> {
    let mut attached = attach(registry, user, u64::MAX, StartAt::After(position), applied);
    let items = pull(registry, user, &mut attached.cursor);
    assert!(registry.detach(&registry.key(user), SessionId(u64::MAX)));
    items
}

fn numbers(items: &[Item]) -> Vec<u64> {
    let number = |item: &Item| match item {
        Item::Notification { number, .. } => Some(*number),
        Item::Gap { .. } => None,
    };
    items.iter().filter_map(number).collect()
}

fn was_woken(session: &SessionHandle) -> bool {
    session.poll_woken(&Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn both_sessions_of_a_user_are_woken_and_both_pull_it() {
    let registry = Registry::new();
    let handles = [session(1), session(2)];
    let mut attached = handles
        .clone()
        .map(|handle| registry.attach(&registry.key("bob"), handle, StartAt::Now, 0, MAX_SESSIONS));
    assert!(handles.iter().all(|handle| was_woken(handle)), "a session pulls once without being asked");
    assert!(!handles.iter().any(|handle| was_woken(handle)));
    let delivered = deliver(&registry, &["alice", "bob"], 1, &ROOMY);
    assert_eq!(delivered, Delivered { accepted: 2, online: 1, rejected: Vec::new() });
    for (handle, attached) in handles.iter().zip(&mut attached) {
        assert!(was_woken(handle) && !was_woken(handle));
        assert_eq!(pull(&registry, "bob", &mut attached.cursor), [Item::Notification { number: 1, prev: 0 }]);
        assert_eq!(pull(&registry, "bob", &mut attached.cursor), []);
    }
}

#[test]
fn delivering_to_many_users_equals_delivering_to_each() {
    let names: Vec<String> = (0..300).map(|index| format!("user {index}")).collect();
    for policy in [OverflowPolicy::DropOldest, OverflowPolicy::Reject] {
        let bounds = Bounds { policy, ..holding(5) };
        let (together, apart) = (Registry::new(), Registry::new());
        for (name, id) in names.iter().zip(0..).step_by(7) {
            attach(&together, name, id, StartAt::Now, 0);
            attach(&apart, name, id, StartAt::Now, 0);
        }
        for number in 1..=20 {
            let recipients: Vec<&str> = names
                .iter()
                .zip(0_u64..)
                .filter(|(_, index)| (index * number) % 3 != 1)
                .map(|(name, _)| name.as_str())
                .collect();
            let at_once = deliver(&together, &recipients, number, &bounds);
            let mut sum = Delivered::default();
            for (recipient, index) in recipients.iter().zip(0..) {
                let one = deliver(&apart, &[recipient], number, &bounds);
                sum.accepted += one.accepted;
                sum.online += one.online;
                sum.rejected.extend(one.rejected.iter().map(|_| index));
            }
            assert_eq!(at_once, sum);
        }
        for name in &names {
            assert_eq!(together.summary(name, 20), apart.summary(name, 20));
            assert_eq!(pull_after(&together, name, 0, 20), pull_after(&apart, name, 0, 20));
        }
        assert_eq!(together.stats(), apart.stats());
        assert_eq!(together.stats().imbalance, 0);
    }
}

/// Odd numbers go to bob, even ones to somebody else.
fn publish_range(registry: &Registry, range: impl Iterator<Item = u64>) {
    for number in range {
        deliver(registry, &[if number % 2 == 1 { "bob" } else { "alice" }], number, &ROOMY);
    }
}

#[test]
fn an_attach_between_two_publishes_loses_and_doubles_nothing() {
    const PUBLISHED: u64 = 9;
    for delivered_before in 0..=PUBLISHED {
        for applied in 0..=delivered_before {
            let positions = (0..=applied).map(StartAt::After);
            for start in positions.chain([StartAt::Now, StartAt::Start, StartAt::Acked]) {
                let registry = Registry::new();
                publish_range(&registry, 1..=delivered_before);
                let last = registry.summary("bob", 0).last;
                let mut attached = attach(&registry, "bob", 1, start, applied);
                assert_eq!(attached.head, applied.max(last));
                let begins = match start {
                    StartAt::Start | StartAt::Acked => 0,
                    StartAt::Now => attached.head,
                    StartAt::After(number) => number,
                };
                let mut items = Vec::new();
                // One pull may come in between, or not.
                if applied % 2 == 0 {
                    items.extend(pull(&registry, "bob", &mut attached.cursor));
                }
                publish_range(&registry, delivered_before + 1..=PUBLISHED);
                items.extend(pull(&registry, "bob", &mut attached.cursor));
                let missing: Vec<u64> = (begins + 1..=PUBLISHED).filter(|number| number % 2 == 1).collect();
                assert_eq!(numbers(&items), missing, "{start:?}, {applied} of {delivered_before} applied");
                assert_eq!(items.len(), missing.len(), "no gap where nothing is missing");
            }
        }
    }
}

#[test]
fn the_late_detach_of_an_old_session_leaves_its_successor_alone() {
    let registry = Registry::new();
    let key = registry.key("bob");
    attach(&registry, "bob", 1, StartAt::Now, 0);
    assert!(registry.detach(&key, SessionId(1)));
    attach(&registry, "bob", 2, StartAt::Now, 0);
    assert!(!registry.detach(&key, SessionId(1)));
    let third = registry.attach(&key, session(3), StartAt::Now, 0, 1);
    assert_eq!(third.displaced.map(|old| old.id()), Some(SessionId(2)));
    assert!(!registry.detach(&key, SessionId(2)), "a displaced session is not registered any more");
    let left: Vec<SessionId> = registry.sessions_of("bob").iter().map(|session| session.id()).collect();
    assert_eq!(left, [SessionId(3)]);
    let stats = registry.stats();
    assert_eq!((stats.totals.known_users, stats.totals.online_users, stats.sessions), (1, 1, 1));
    assert_eq!(deliver(&registry, &["bob"], 1, &ROOMY).online, 1);
    assert_eq!(registry.stats().high_watermark, 1);
}

#[test]
fn the_fullest_mailbox_is_remembered_until_somebody_asks() {
    let registry = Registry::new();
    for number in 1..=3 {
        deliver(&registry, &["bob"], number, &ROOMY);
    }
    deliver(&registry, &["eve"], 4, &ROOMY);
    let bytes = registry.summary("bob", 4).pending_bytes;
    assert!(bytes > 0);
    assert_eq!(expire(&registry, u32::MAX - 1), 4);
    let stats = registry.stats();
    assert_eq!((stats.pending, stats.high_watermark, stats.high_watermark_bytes), (0, 3, bytes));
    let stats = registry.stats();
    assert_eq!((stats.high_watermark, stats.high_watermark_bytes), (0, 0));
}

#[test]
fn the_seventeenth_session_displaces_the_one_that_was_silent_the_longest() {
    let registry = Registry::new();
    for id in 0..16 {
        assert!(attach(&registry, "bob", id, StartAt::Now, 0).displaced.is_none());
    }
    for handle in registry.sessions_of("bob") {
        handle.heard(if handle.id() == SessionId(11) { 5 } else { 100 - handle.id().0 });
    }
    let displaced = attach(&registry, "bob", 16, StartAt::Now, 0).displaced.expect("one had to go");
    assert_eq!(displaced.id(), SessionId(11));
    assert_eq!(registry.summary("bob", 0).sessions, 16);
    assert!(registry.sessions_of("bob").iter().any(|handle| handle.id() == SessionId(16)));
    assert_eq!((registry.stats().sessions, registry.stats().totals.online_users), (16, 1));
}

fn gap(after: u64, until: u64, reason: GapReason) -> Item {
    Item::Gap { after, until, count: None, reason }
}

#[test]
fn a_user_who_is_forgotten_gets_a_gap_only_over_what_may_be_missing() {
    let registry = Registry::new();
    for number in 1..=4 {
        deliver(&registry, &["bob"], number, &holding(2));
    }
    assert_eq!(expire(&registry, 2_000), 2);
    assert_eq!(sums(&registry), RegistryStats { high_watermark: 2, ..RegistryStats::default() });
    assert_eq!(registry.summary("bob", 0), UserSummary::default());
    for position in [0, 1] {
        assert_eq!(pull_after(&registry, "bob", position, 4), [gap(position, 4, GapReason::Overflow)]);
    }
    for position in [2, 3] {
        assert_eq!(pull_after(&registry, "bob", position, 4), [gap(position, 4, GapReason::Expired)]);
    }
    for position in [4, 5] {
        assert_eq!(pull_after(&registry, "bob", position, 5), []);
    }
    for start in [StartAt::Now, StartAt::Start] {
        let mut attached = attach(&registry, "bob", 1, start, 5);
        assert_eq!(pull(&registry, "bob", &mut attached.cursor), []);
        assert!(registry.detach(&registry.key("bob"), SessionId(1)));
    }
    assert_eq!(sums(&registry), RegistryStats::default(), "looking leaves no trace");
}

#[test]
fn what_comes_after_the_forgetting_is_received_without_a_hole() {
    let registry = Registry::new();
    deliver(&registry, &["bob"], 1, &ROOMY);
    deliver(&registry, &["bob"], 2, &ROOMY);
    expire(&registry, 1_002);
    deliver(&registry, &["bob"], 10, &ROOMY);
    for position in 0..=9 {
        let items = pull_after(&registry, "bob", position, 9);
        let mut client = Client::at(position);
        assert!(items.iter().all(|item| client.receive(item).is_ok()), "{items:?}");
        assert_eq!(numbers(&items), [10]);
        assert_eq!(items.len() == 2, position < 2, "a gap only where something may be missing: {items:?}");
    }
    // Forgotten a second time, now with a later floor.
    expire(&registry, 1_010);
    assert_eq!(registry.stats().totals.known_users, 0);
    assert_eq!(pull_after(&registry, "bob", 9, 10), [gap(9, 10, GapReason::Expired)]);
    assert_eq!(pull_after(&registry, "bob", 10, 10), []);
}

#[test]
fn a_session_that_was_attached_all_along_is_told_the_exact_count() {
    let registry = Registry::new();
    let mut attached = attach(&registry, "bob", 1, StartAt::Now, 0);
    for number in 1..=5 {
        deliver(&registry, &["bob"], number, &holding(3));
    }
    expire(&registry, 2_000);
    assert_eq!(registry.stats().totals.known_users, 1, "a session keeps its user known");
    let told = Item::Gap { after: 0, until: 5, count: Some(5), reason: GapReason::Overflow };
    assert_eq!(pull(&registry, "bob", &mut attached.cursor), [told]);
    assert!(registry.detach(&registry.key("bob"), SessionId(1)));
    assert_eq!(registry.stats().totals.known_users, 0);
}

#[test]
fn a_notification_that_was_refused_leaves_no_user_behind() {
    let registry = Registry::new();
    let bounds = Bounds { max_bytes: 99, policy: OverflowPolicy::Reject, ..ROOMY };
    assert_eq!(deliver(&registry, &["bob"], 1, &bounds).rejected, [0]);
    assert_eq!(registry.stats().totals.known_users, 0);
}

#[test]
fn a_notification_too_large_for_an_empty_mailbox_keeps_its_user_known_no_longer_than_it_lives() {
    let registry = Registry::new();
    let bounds = Bounds { max_bytes: 99, ..ROOMY };
    let mut scratch = Scratch::default();
    let delivered = registry.deliver(["bob"].into_iter(), &arrival(1), &bounds, &mut scratch);
    assert_eq!(delivered, Delivered { accepted: 1, ..Delivered::default() });
    let overflowed = Final { number: 1, recipient: 0, reason: RemovalReason::Overflow };
    assert_eq!(scratch.effects.finals, [overflowed]);
    assert_eq!(expire(&registry, 1_001), 0, "it did not wait");
    assert_eq!(sums(&registry), RegistryStats::default());
    assert_eq!(pull_after(&registry, "bob", 0, 1), [gap(0, 1, GapReason::Overflow)]);
}

#[test]
fn a_displaced_session_that_pulls_once_more_is_never_told_a_wrong_count() {
    let registry = Registry::new();
    let key = registry.key("bob");
    let mut displaced = registry.attach(&key, session(1), StartAt::Now, 0, 1);
    deliver(&registry, &["bob"], 1, &ROOMY);
    pull(&registry, "bob", &mut displaced.cursor);
    // Its successor leaves, bob is forgotten and known again while the displaced session still runs.
    registry.attach(&key, session(2), StartAt::Now, 1, 1);
    expire(&registry, 1_001);
    assert!(registry.detach(&key, SessionId(2)));
    assert_eq!(registry.stats().totals.known_users, 0);
    deliver(&registry, &["bob"], 2, &holding(1));
    deliver(&registry, &["bob"], 3, &holding(1));
    let items = pull(&registry, "bob", &mut displaced.cursor);
    assert_eq!(numbers(&items), [3]);
    let Item::Gap { after: 1, until: 2, count: None | Some(1), .. } = items[0] else {
        panic!("one notification overflowed, the session is told {:?}", items[0]);
    };
}

#[test]
fn what_is_due_first_expires_first_whatever_came_first() {
    let registry = Registry::new();
    for (number, expires_at_s) in (1..).zip([900, 300, 600, 300]) {
        let recipients = if number < 4 { "bob" } else { "alice" };
        let arrival = Arrival { expires_at_s, ..arrival(number) };
        registry.deliver([recipients].into_iter(), &arrival, &ROOMY, &mut Scratch::default());
    }
    for (due_s, gone, left) in [(300, 2, 2), (600, 1, 1), (900, 1, 0)] {
        assert_eq!(registry.next_due_s(), Some(due_s));
        assert_eq!(expire(&registry, due_s - 1), 0);
        assert_eq!(expire(&registry, due_s), gone);
        assert_eq!(registry.stats().pending, left);
    }
    assert_eq!((registry.next_due_s(), registry.stats().totals.known_users), (None, 0));
}

#[test]
fn after_many_sessions_came_and_went_nothing_is_left() {
    let registry = Registry::new();
    for cycle in 1..=5_000 {
        let user = format!("user {}", cycle % 701);
        let mut attached = attach(&registry, &user, cycle, StartAt::Now, cycle - 1);
        deliver(&registry, &[&user], cycle, &holding(3));
        assert_eq!(numbers(&pull(&registry, &user, &mut attached.cursor)), [cycle]);
        if cycle % 2 == 0 {
            expire(&registry, u32::try_from(cycle).unwrap());
        }
        assert!(registry.detach(&registry.key(&user), SessionId(cycle)));
    }
    assert_ne!(registry.stats().pending, 0, "the last ones still wait");
    expire(&registry, u32::MAX);
    assert_eq!(sums(&registry), RegistryStats::default());
    assert!(registry.all_sessions().is_empty());
    assert_eq!((registry.next_due_s(), registry.oldest_held()), (None, None));
}

#[test]
fn the_sums_equal_a_walk_over_all_users() {
    let registry = Registry::new();
    let names: Vec<String> = (0..200).map(|index| format!("user {index}")).collect();
    let mut most = 0;
    for number in 1..=2_000 {
        let name = &names[(number * number % 211 % 200) as usize];
        deliver(&registry, &[name, "everybody"], number, &holding(4 + (number % 9) as u32));
        most = most.max(registry.summary(name, 0).pending).max(registry.summary("everybody", 0).pending);
        if number % 5 == 0 {
            attach(&registry, name, number % 30, StartAt::Now, number);
        }
        if number % 7 == 0 {
            registry.detach(&registry.key(name), SessionId(number % 30));
            expire(&registry, number as u32 / 2 + 500);
        }
        if number % 50 != 0 {
            continue;
        }
        let mut sums = RegistryStats { high_watermark: u64::from(most), ..RegistryStats::default() };
        for name in names.iter().map(String::as_str).chain(["everybody"]) {
            let summary = registry.summary(name, 0);
            sums.totals.known_users += u64::from(summary != UserSummary::default());
            sums.totals.online_users += u64::from(summary.sessions > 0);
            sums.sessions += u64::from(summary.sessions);
            sums.pending += u64::from(summary.pending);
            sums.pending_bytes += summary.pending_bytes;
        }
        assert_eq!(self::sums(&registry), sums);
        assert_eq!(registry.all_sessions().len() as u64, sums.sessions);
        most = 0;
    }
}

#[test]
fn the_acked_position_is_the_last_below_which_everything_is_final() {
    let registry = Registry::new();
    for number in [2, 4, 6] {
        deliver(&registry, &["bob"], number, &ROOMY);
    }
    let acked = |applied| registry.summary("bob", applied).acked;
    assert_eq!(acked(6), 0);
    let mut scratch = Scratch::default();
    registry.ack("bob", 2, 4, &ROOMY, &mut scratch);
    assert_eq!(acked(6), 0, "2 is not final");
    registry.withdraw("bob", 2, &mut scratch);
    assert_eq!(acked(6), 4);
    assert_eq!(attach(&registry, "bob", 1, StartAt::Acked, 6).cursor.number, 4);
    registry.ack("bob", 0, 6, &ROOMY, &mut scratch);
    assert_eq!((acked(6), acked(9)), (6, 9), "nothing is pending up to what is applied");
    let ledger = registry.stats().totals.ledger;
    assert_eq!((ledger.accepted, ledger.of(Outcome::Acked), ledger.of(Outcome::Withdrawn)), (3, 2, 1));
}

#[test]
fn what_is_given_up_is_an_overflow_for_everybody_and_other_users_keep_theirs() {
    let registry = Registry::new();
    for (number, user) in (1..).zip(["bob", "alice", "bob", "alice"]) {
        deliver(&registry, &[user], number, &ROOMY);
    }
    let mut scratch = Scratch::default();
    registry.give_up(2, &mut scratch);
    assert_eq!(registry.stats().totals.ledger.of(Outcome::Overflowed), 2);
    for (user, given_up, left) in [("bob", 1, 3), ("alice", 2, 4)] {
        let count = Some(1);
        let gap = Item::Gap { after: 0, until: given_up, count, reason: GapReason::Overflow };
        let rest = Item::Notification { number: left, prev: given_up };
        assert_eq!(pull_after(&registry, user, 0, 4), [gap, rest]);
    }
    assert_eq!(registry.oldest_held(), Some(3));
    assert_eq!(sums(&registry).pending, 2);
}

#[test]
fn an_acked_one_beyond_the_history_waits_for_the_slowest_session_and_leaves_a_gap_when_that_is_gone() {
    let registry = Registry::new();
    let bounds = Bounds { history: 0, ..ROOMY };
    let slow = session(1);
    registry.attach(&registry.key("bob"), slow, StartAt::Now, 0, MAX_SESSIONS);
    let mut quick = attach(&registry, "bob", 2, StartAt::Now, 0);
    deliver(&registry, &["bob"], 1, &bounds);
    assert_eq!(numbers(&pull(&registry, "bob", &mut quick.cursor)), [1]);
    registry.ack("bob", 0, 1, &bounds, &mut Scratch::default());
    assert_eq!(numbers(&pull_after(&registry, "bob", 0, 1)), [1], "the slow one has not read it");
    for id in [1, 2] {
        assert!(registry.detach(&registry.key("bob"), SessionId(id)));
    }
    assert_eq!(sums(&registry).totals.known_users, 0);
    assert_eq!(pull_after(&registry, "bob", 0, 1), [gap(0, 1, GapReason::Acked)], "never a silent hole");
}
