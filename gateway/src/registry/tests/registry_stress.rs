//! Real threads: sessions come, pull and go while notifications are delivered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::client::Client;
use super::{MAX_SESSIONS, arrival, holding, session};
use crate::domain::{GapReason, Outcome};
use crate::registry::{Arrival, Attached, Item, PullLimits, Registry, Scratch, SessionId, StartAt};

const THREADS: u64 = 4;
const USERS: u64 = 50;
const NOTIFICATIONS: u64 = 20_000;
/// A notification goes to every user whose index leaves the same remainder as its number.
const GROUPS: u64 = 10;

/// Checks what a session may know: the order, the predecessor and how many notifications a gap covers.
fn check_against_the_plan(user: u64, client: &mut Client, items: &[Item]) {
    for item in items {
        client.receive(item).unwrap();
        match *item {
            Item::Notification { number, prev } => {
                assert_eq!(number % GROUPS, user % GROUPS, "somebody else's");
                assert_eq!(prev, number.saturating_sub(GROUPS));
            }
            Item::Gap { after, until, count, reason } => {
                assert_eq!(reason, GapReason::Overflow);
                let covered = (after + 1..=until).filter(|number| number % GROUPS == user % GROUPS);
                assert!(count.is_none_or(|count| count as usize == covered.count()), "{item:?}");
            }
        }
    }
}

#[test]
fn sessions_that_come_and_go_while_others_publish_never_miss_a_hole() {
    let registry = Registry::new();
    let names: Vec<String> = (0..USERS).map(|index| format!("user {index}")).collect();
    let (applied, finished) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (registry, names, applied, finished) = (&registry, &names, &applied, &finished);
            scope.spawn(move || {
                let mut clients = vec![Client::at(0); names.len()];
                let mut id = thread;
                let mut sweep_after_the_end = names.len();
                while sweep_after_the_end > 0 {
                    sweep_after_the_end -= usize::from(finished.load(Ordering::Acquire));
                    id += THREADS;
                    let user = id / THREADS * 7 % USERS;
                    let (key, client) = (registry.key(&names[user as usize]), &mut clients[user as usize]);
                    let head = applied.load(Ordering::Acquire);
                    let start = StartAt::After(client.position);
                    let Attached { mut cursor, .. } =
                        registry.attach(&key, session(id), start, head, MAX_SESSIONS);
                    let limits = PullLimits { frames: 1 + (id % 5) as usize, bytes: u64::MAX };
                    let pulls = if finished.load(Ordering::Acquire) { usize::MAX } else { 3 };
                    for _ in 0..pulls {
                        let mut items = Vec::new();
                        registry.pull(&key, &mut cursor, limits, &mut items);
                        if items.is_empty() {
                            break;
                        }
                        check_against_the_plan(user, client, &items);
                        assert_eq!(cursor.number, client.position);
                    }
                    assert!(registry.detach(&key, SessionId(id)));
                }
                for (client, name) in clients.iter().zip(names) {
                    assert_eq!(
                        client.position,
                        registry.summary(name, 0).last,
                        "all was received or announced"
                    );
                }
            });
        }
        let mut scratch = Scratch::default();
        for number in 1..=NOTIFICATIONS {
            let group = names.iter().skip((number % GROUPS) as usize).step_by(GROUPS as usize);
            let forever = Arrival { expires_at_s: u32::MAX, ..arrival(number) };
            let delivered = registry.deliver(group.map(String::as_str), &forever, &holding(20), &mut scratch);
            assert_eq!(delivered.accepted, 5);
            applied.store(number, Ordering::Release);
        }
        finished.store(true, Ordering::Release);
    });
    let stats = registry.stats();
    assert_eq!((stats.sessions, stats.totals.online_users), (0, 0));
    assert_eq!((stats.totals.known_users, stats.pending), (USERS, 20 * USERS));
    assert_eq!((stats.totals.ledger.accepted, stats.imbalance), (5 * NOTIFICATIONS, 0));
    assert_eq!(stats.totals.ledger.of(Outcome::Overflowed), 5 * NOTIFICATIONS - 20 * USERS);
}
