//! The state machine alone: apply, fan-out, pull. In process, without sockets or HTTP.
//!
//! `cargo bench --bench state`; what the figures mean and which budgets they meet stands in BENCHMARKS.md.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gateway::delivery::{State, StateMachine};
use gateway::domain::{Notification, NotificationId, OverflowPolicy, Priority, Target, UserId};
use gateway::log::entry::{self, Entry, Publish, Settings};
use gateway::registry::mailbox::{Arrival, Effects, Mailbox, PullLimits, Readers};
use gateway::registry::{Bounds, Item, SessionHandle, SessionId, StartAt};

const BOUNDS: Bounds =
    Bounds { max_count: 1_000, max_bytes: 1 << 20, policy: OverflowPolicy::DropOldest, history: 100 };
const NOW_MS: u64 = 1_700_000_000_000;
const FRAME_BYTES: usize = 200;

/// A decoded publish entry to these users.
fn publish(users: &[UserId]) -> Entry {
    let notification = Notification {
        id: NotificationId::from_bytes([7; 16]),
        accepted_at_us: NOW_MS * 1_000,
        target: Target::Users(users.to_vec()),
        from: None,
        title: None,
        body: None,
        data: None,
        ttl_seconds: 86_400,
        collapse_key: None,
        priority: Priority::Normal,
        idempotency: None,
    };
    let payload: Bytes =
        entry::encode_publish(&notification, None, &[b'x'; FRAME_BYTES]).expect("it fits an entry");
    entry::decode(&payload).expect("what was encoded decodes")
}

fn users(count: usize) -> Vec<UserId> {
    (0..count).map(|index| UserId::parse(&format!("user-{index}")).expect("a valid name")).collect()
}

/// The same notification under a name of its own, as every one has.
fn named(entry: &Entry, number: u64) -> Entry {
    let Entry::Publish(publish) = entry else { unreachable!("only notifications have names") };
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = (u128::from(number) << 64 | u128::from(scattered)).to_be_bytes();
    Entry::Publish(Publish { id: NotificationId::from_bytes(id), ..publish.clone() })
}

/// The defaults, but for the size of a mailbox.
fn settings(mailbox_max_count: u32) -> Entry {
    Entry::Settings(Settings {
        mailbox_max_count,
        mailbox_max_bytes: 1 << 20,
        reject_on_overflow: false,
        history: 100,
        max_ttl_seconds: 7 * 86_400,
        idempotency_window_seconds: 86_400,
        idempotency_max_keys: 1_000_000,
        outcome_retention_seconds: 3_600,
        outcome_max_recipients: 2_000_000,
        topic_max_subscribers: 100_000,
        user_max_topics: 1_000,
    })
}

/// A state machine behind its settings entry, and the next number.
fn fresh(mailbox_max_count: u32) -> (State, StateMachine, u64) {
    let (state, mut machine) = (State::new(), StateMachine::new());
    machine.apply(&state, 1, NOW_MS, &settings(mailbox_max_count));
    (state, machine, 2)
}

/// A state in which every user holds `depth` notifications, and the next number.
fn filled(everybody: &Entry, depth: u64) -> (State, StateMachine, u64) {
    let (state, mut machine, first) = fresh(1_000);
    for number in first..first + depth {
        machine.apply(&state, number, NOW_MS, &named(everybody, number));
    }
    (state, machine, first + depth)
}

/// One entry to one user, and to 10,000 of 100,000 users, into mailboxes with room and into full ones.
fn apply(criterion: &mut Criterion) {
    let all = users(100_000);
    // An entry names at most 10,000 users: ten entries reach everybody.
    let entries: Vec<Entry> = all.chunks(10_000).map(publish).collect();
    let one = publish(&all[..1]);
    let mut group = criterion.benchmark_group("apply");

    for (name, depth) in [("empty", 1), ("full", 1_000)] {
        let (state, mut machine, mut number) = filled(&one, depth);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("to_1_user_{name}"), |bencher| {
            bencher.iter(|| {
                black_box(machine.apply(&state, number, NOW_MS, &named(&one, number)));
                number += 1;
            });
        });
    }

    group.sample_size(10).throughput(Throughput::Elements(100_000));
    group.bench_function("to_100000_users_empty", |bencher| {
        bencher.iter_batched(
            || fresh(1_000),
            |(state, mut machine, first)| {
                for (number, entry) in (first..).zip(&entries) {
                    black_box(machine.apply(&state, number, NOW_MS, &named(entry, number)));
                }
                (state, machine)
            },
            BatchSize::PerIteration,
        );
    });
    // 100,000 mailboxes of 1,000 entries need 8 GB; a bound of 100 makes them as full and as fast.
    let (state, mut machine, mut number) = fresh(100);
    for _ in 0..100 {
        for entry in &entries {
            machine.apply(&state, number, NOW_MS, &named(entry, number));
            number += 1;
        }
    }
    group.bench_function("to_100000_users_full", |bencher| {
        bencher.iter(|| {
            for entry in &entries {
                black_box(machine.apply(&state, number, NOW_MS, &named(entry, number)));
                number += 1;
            }
        });
    });
    group.finish();
}

/// One notification to 1,000 users who each hold a session: what apply pays for waking them.
fn fan_out(criterion: &mut Criterion) {
    let online = users(1_000);
    let entry = publish(&online);
    let (state, mut machine, mut number) = fresh(1_000);
    let registry = &state.registry;
    let sessions: Vec<Arc<SessionHandle>> = online
        .iter()
        .zip(1..)
        .map(|(user, id)| {
            let session = Arc::new(SessionHandle::new(SessionId(id), 0));
            registry.attach(&registry.key(user.as_str()), Arc::clone(&session), StartAt::Now, 0, 16);
            session
        })
        .collect();
    let context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut group = criterion.benchmark_group("fan_out");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("to_1000_sessions", |bencher| {
        bencher.iter(|| {
            black_box(machine.apply(&state, number, NOW_MS, &named(&entry, number)));
            number += 1;
            // Every session looks, as its task would: otherwise the next wake finds it awake already.
            for session in &sessions {
                black_box(session.poll_woken(&context).is_ready());
                session.listen(context.waker());
            }
        });
    });
    group.finish();
}

/// A session's pull from a full mailbox: the newest entry, and 64 behind a cursor in the middle.
fn pull(criterion: &mut Criterion) {
    let mut mailbox = Mailbox::new(Default::default());
    for number in 1..=1_000 {
        let arrival = Arrival {
            number,
            expires_at_s: u32::MAX,
            bytes: 200,
            priority: Priority::Normal,
            collapse_key: 0,
            volatile: false,
        };
        mailbox.put(&arrival, 0, &BOUNDS, Readers::NONE, &mut Effects::default());
    }
    let mut group = criterion.benchmark_group("mailbox_pull");
    for (name, after, frames) in [("newest", 999, 64), ("64_from_the_middle", 500, 64)] {
        let start = mailbox.cursor_after(after, 0);
        let limits = PullLimits { frames, bytes: u64::MAX };
        let mut items: Vec<Item> = Vec::with_capacity(64);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                items.clear();
                let mut cursor = start;
                mailbox.pull(&mut cursor, limits, &mut items);
                black_box(items.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, apply, fan_out, pull);
criterion_main!(benches);
