//! The state machine alone: apply, fan-out, pull. In process, without sockets or HTTP.
//!
//! `cargo bench --bench state`; what the figures mean and which budgets they meet stands in BENCHMARKS.md.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gateway::delivery::StateMachine;
use gateway::domain::{Notification, NotificationId, OverflowPolicy, Priority, UserId};
use gateway::log::entry::{self, Entry};
use gateway::registry::mailbox::{Arrival, Mailbox, PullLimits};
use gateway::registry::{Bounds, Item, Registry, SessionHandle, SessionId, StartAt};

const BOUNDS: Bounds = Bounds { max_count: 1_000, max_bytes: 1 << 20, policy: OverflowPolicy::DropOldest };
const NOW_MS: u64 = 1_700_000_000_000;
const FRAME_BYTES: usize = 200;

/// A decoded publish entry to these users.
fn publish(users: &[UserId]) -> Entry {
    let notification = Notification {
        id: NotificationId::from_bytes([7; 16]),
        accepted_at_us: NOW_MS * 1_000,
        recipients: users.to_vec(),
        from: None,
        title: None,
        body: None,
        data: None,
        ttl_seconds: 86_400,
        priority: Priority::Normal,
    };
    let payload: Bytes =
        entry::encode_publish(&notification, &[b'x'; FRAME_BYTES]).expect("it fits an entry");
    entry::decode(&payload).expect("what was encoded decodes")
}

fn users(count: usize) -> Vec<UserId> {
    (0..count).map(|index| UserId::parse(&format!("user-{index}")).expect("a valid name")).collect()
}

/// A registry in which every user holds `depth` notifications, and the next number.
fn filled(everybody: &Entry, depth: u64) -> (Registry, StateMachine, u64) {
    let registry = Registry::new();
    let mut machine = StateMachine::new(BOUNDS);
    for number in 1..=depth {
        machine.apply(&registry, number, NOW_MS, everybody);
    }
    (registry, machine, depth + 1)
}

/// One entry to one user, and to 10,000 of 100,000 users, into mailboxes with room and into full ones.
fn apply(criterion: &mut Criterion) {
    let all = users(100_000);
    // An entry names at most 10,000 users: ten entries reach everybody.
    let entries: Vec<Entry> = all.chunks(10_000).map(publish).collect();
    let one = publish(&all[..1]);
    let mut group = criterion.benchmark_group("apply");

    for (name, depth) in [("empty", 1), ("full", 1_000)] {
        let (registry, mut machine, mut number) = filled(&one, depth);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("to_1_user_{name}"), |bencher| {
            bencher.iter(|| {
                black_box(machine.apply(&registry, number, NOW_MS, &one));
                number += 1;
            });
        });
    }

    group.sample_size(10).throughput(Throughput::Elements(100_000));
    group.bench_function("to_100000_users_empty", |bencher| {
        bencher.iter_batched(
            || (Registry::new(), StateMachine::new(BOUNDS)),
            |(registry, mut machine)| {
                for (number, entry) in (1..).zip(&entries) {
                    black_box(machine.apply(&registry, number, NOW_MS, entry));
                }
                (registry, machine)
            },
            BatchSize::PerIteration,
        );
    });
    // 100,000 mailboxes of 1,000 entries need 8 GB; a bound of 100 makes them as full and as fast.
    let small = Bounds { max_count: 100, ..BOUNDS };
    let registry = Registry::new();
    let mut machine = StateMachine::new(small);
    let mut number = 1;
    for _ in 0..100 {
        for entry in &entries {
            machine.apply(&registry, number, NOW_MS, entry);
            number += 1;
        }
    }
    group.bench_function("to_100000_users_full", |bencher| {
        bencher.iter(|| {
            for entry in &entries {
                black_box(machine.apply(&registry, number, NOW_MS, entry));
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
    let registry = Registry::new();
    let sessions: Vec<Arc<SessionHandle>> = online
        .iter()
        .zip(1..)
        .map(|(user, id)| {
            let session = Arc::new(SessionHandle::new(SessionId(id), 0));
            registry.attach(&registry.key(user.as_str()), Arc::clone(&session), StartAt::Now, 0, 16);
            session
        })
        .collect();
    let mut machine = StateMachine::new(BOUNDS);
    let mut number = 1;
    let context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut group = criterion.benchmark_group("fan_out");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("to_1000_sessions", |bencher| {
        bencher.iter(|| {
            black_box(machine.apply(&registry, number, NOW_MS, &entry));
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
        let arrival = Arrival { number, expires_at_ms: u64::MAX, bytes: 200, priority: Priority::Normal };
        mailbox.put(&arrival, &BOUNDS);
    }
    let mut group = criterion.benchmark_group("mailbox_pull");
    for (name, after, frames) in [("newest", 999, 64), ("64_from_the_middle", 500, 64)] {
        let start = mailbox.cursor_after(after);
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
