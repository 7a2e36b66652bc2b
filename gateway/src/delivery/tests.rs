//! The delivery over logs that run full, fail, or hold what this build does not know; and what the state machine computes.
//!
//! `script` writes random logs, `machine_model` says in plain words what they mean, `machine_property` compares that with the
//! state machine step by step, `machine_faults` shows that it finds what is wrong. `replay` starts machines from what retention
//! leaves of a log, `replay_rules` holds the small cases that were found that way. `on_a_stream` writes random logs into a real
//! stream, `shared_log` shows what becomes of a log that others write to as well.

mod elsewhere;
mod machine_faults;
mod machine_model;
mod machine_property;
mod on_a_stream;
mod replay;
mod replay_rules;
mod script;
mod shared_log;
mod staged_log;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::domain::{Fingerprint, IdempotencyKey, Notification, NotificationId, Priority, Target, TopicName};
use crate::log::{AppendError, MemoryLog, NewEntry};
use staged_log::StagedLog;

const MAX_BYTES: usize = 64 * 1024;

/// An entry of a build to come.
const UNKNOWN_KIND: Bytes = Bytes::from_static(&[1, 200]);

pub(super) fn options() -> DeliveryOptions {
    DeliveryOptions {
        settings: Settings {
            mailbox_max_count: 1_000,
            mailbox_max_bytes: 1 << 20,
            reject_on_overflow: false,
            history: 100,
            max_ttl_seconds: 7 * 86_400,
            idempotency_window_seconds: 86_400,
            idempotency_max_keys: 1_000,
            outcome_retention_seconds: 3_600,
            outcome_max_recipients: 10_000,
            topic_max_subscribers: 100,
            user_max_topics: 10,
        },
        starts_over: false,
        frame_cache_bytes: 1 << 20,
        max_sessions_per_user: 16,
        retention_period: std::time::Duration::from_millis(2),
        stall_timeout: std::time::Duration::from_secs(5),
        tracing: crate::telemetry::Tracing::off(),
        elsewhere: None,
    }
}

fn memory(max_bytes: u64) -> MemoryLog {
    MemoryLog::new(Epoch::from_bits(1), Clock::system(), max_bytes)
}

async fn start(log: Arc<dyn Log>, lifecycle: &Lifecycle) -> Result<Delivery, StartError> {
    lifecycle.set_ready();
    Delivery::start(log, options(), Clock::system(), Arc::new(Metrics::new()), lifecycle).await
}

fn notification(user: &str, body: String) -> Notification {
    Notification {
        id: NotificationId::from_uuid(Uuid::now_v7()),
        accepted_at_us: Clock::system().now_us(),
        target: Target::Users(vec![UserId::parse(user).unwrap()]),
        from: None,
        title: None,
        body: Some(body),
        data: None,
        ttl_seconds: 3_600,
        collapse_key: None,
        priority: Priority::Normal,
        idempotency: None,
    }
}

#[tokio::test]
async fn a_log_that_runs_full_gives_up_its_oldest_part_and_goes_on() {
    let lifecycle = Lifecycle::new();
    let delivery = start(Arc::new(memory(2 << 20)), &lifecycle).await.unwrap();
    // Every user holds one: nothing is unreferenced, the log can only give something up.
    let mut refused = 0;
    for index in 0..400 {
        let one = notification(&format!("user-{index}"), "x".repeat(30_000));
        while let Err(error) = delivery.publish(&one, MAX_BYTES).await {
            assert!(matches!(error, PublishError::Unavailable(_)), "{error}");
            refused += 1;
            assert!(refused < 10_000, "it never recovers");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
    let user = |name: &str| delivery.user(&UserId::parse(name).unwrap());
    assert_eq!(user("user-0").pending, 0, "the oldest was given up");
    assert_eq!(user("user-399").pending, 1);
    delivery.refresh_metrics();
    assert!(delivery.shared.metrics.mailbox_dropped.of(crate::domain::DropReason::Overflow).get() > 0);
    assert!(lifecycle.end(std::time::Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_failing_append_is_told_apart_from_an_ambiguous_one_and_leaves_nothing_behind() {
    for (with, unknown) in [
        (AppendError::Unavailable("on purpose".to_owned()), false),
        (AppendError::Full, false),
        (AppendError::Ambiguous("on purpose".to_owned()), true),
    ] {
        let lifecycle = Lifecycle::new();
        let failing = Arc::new(StagedLog::failing(with));
        let delivery = start(Arc::clone(&failing) as Arc<dyn Log>, &lifecycle).await.unwrap();
        failing.fails.store(true, Ordering::SeqCst);
        let batch = [notification("bob", "a".to_owned()), notification("bob", "b".to_owned())];
        for result in delivery.publish_batch(&batch, MAX_BYTES).await {
            assert_eq!(matches!(result, Err(PublishError::Unknown(_))), unknown, "{result:?}");
            assert_eq!(matches!(result, Err(PublishError::Unavailable(_))), !unknown, "{result:?}");
        }
        assert!(delivery.shared.waiters.is_empty());
        failing.fails.store(false, Ordering::SeqCst);
        let accepted = delivery.publish(&notification("bob", "c".to_owned()), MAX_BYTES).await.unwrap();
        assert_eq!(accepted.recipients, 1);
        assert_eq!(delivery.user(&UserId::parse("bob").unwrap()).pending, 1);
        assert!(delivery.shared.waiters.is_empty());
        assert!(lifecycle.end(std::time::Duration::from_secs(5)).await);
    }
}

#[tokio::test]
async fn a_sender_that_hangs_up_leaves_no_waiter() {
    let lifecycle = Lifecycle::new();
    let log = StagedLog::failing(AppendError::Full);
    let delivery = start(Arc::new(log), &lifecycle).await.unwrap();
    let one = notification("bob", "a".to_owned());
    {
        let mut publishing = std::pin::pin!(delivery.publish(&one, MAX_BYTES));
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(publishing.as_mut().poll(context))).await;
        assert!(polled.is_pending());
        assert!(!delivery.shared.waiters.is_empty());
    }
    assert!(delivery.shared.waiters.is_empty());
    assert!(lifecycle.end(std::time::Duration::from_secs(5)).await);
}

#[tokio::test]
async fn settings_enter_the_log_only_when_they_change() {
    let log = Arc::new(memory(1 << 20));
    for _ in 0..2 {
        let lifecycle = Lifecycle::new();
        let delivery = start(Arc::clone(&log) as Arc<dyn Log>, &lifecycle).await.unwrap();
        assert_eq!(delivery.shared.state.settings(), Some((1, options().settings)));
        assert!(lifecycle.end(std::time::Duration::from_secs(5)).await);
    }
    let lifecycle = Lifecycle::new();
    let mut changed = options();
    changed.settings.mailbox_max_count += 1;
    let metrics = Arc::new(Metrics::new());
    let log: Arc<dyn Log> = log;
    let delivery = Delivery::start(log, changed.clone(), Clock::system(), metrics, &lifecycle).await.unwrap();
    assert_eq!(delivery.shared.state.settings(), Some((2, changed.settings)));
    assert!(lifecycle.end(std::time::Duration::from_secs(5)).await);
}

#[tokio::test]
async fn an_entry_of_a_later_version_is_never_skipped() {
    let log = Arc::new(memory(1 << 20));
    log.append(vec![NewEntry::ordinary(UNKNOWN_KIND)]).await;
    let lifecycle = Lifecycle::new();
    let refused = start(log, &lifecycle).await;
    assert!(matches!(refused, Err(StartError::Unusable(_))), "it must not start over such a log");

    let log = Arc::new(memory(1 << 20));
    let lifecycle = Lifecycle::new();
    let delivery = start(Arc::clone(&log) as Arc<dyn Log>, &lifecycle).await.unwrap();
    assert!(lifecycle.is_ready());
    log.append(vec![NewEntry::ordinary(UNKNOWN_KIND)]).await;
    // Nothing behind it will be applied: whoever waits for that is told at once.
    let topic = TopicName::parse("news").unwrap();
    let bob = [UserId::parse("bob").unwrap()];
    let joining = delivery.join(&topic, &bob);
    let joined = tokio::time::timeout(std::time::Duration::from_secs(5), joining).await;
    assert!(matches!(joined, Ok(Err(ChangeError::Unknown(_)))), "{joined:?}");
    assert!(!lifecycle.is_ready(), "a running gateway is not ready any more");
    assert!(!lifecycle.is_stopping(), "but its sockets stay");
}

#[tokio::test]
async fn outcomes_and_keys_are_forgotten_in_time_though_nobody_sends_again() {
    const SECOND_US: u64 = 1_000_000;
    let start_us = 1_700_000_000 * SECOND_US;
    let (clock, hand) = Clock::manual(start_us);
    let log = Arc::new(MemoryLog::new(Epoch::from_bits(1), clock.clone(), 1 << 20));
    let lifecycle = Lifecycle::new();
    let mut options = options();
    options.settings.idempotency_window_seconds = 7_200;
    let delivery = Delivery::start(log, options, clock, Arc::new(Metrics::new()), &lifecycle).await.unwrap();
    let key = IdempotencyKey {
        key: Fingerprint([1; Fingerprint::BYTES]),
        body: Fingerprint([2; Fingerprint::BYTES]),
    };
    let mut one = notification("bob", "a".to_owned());
    (one.ttl_seconds, one.idempotency) = (60, Some(key));
    delivery.publish(&one, MAX_BYTES).await.unwrap();
    let state = &delivery.shared.state;
    let remembered = || (state.outcomes().len(), state.idempotency().len());
    assert_eq!(remembered(), (1, 1));
    // It expires after a minute, its outcome is remembered for an hour, its key for two.
    for (after_s, expected) in [(3_600, (1, 1)), (3_661, (0, 1)), (7_199, (0, 1)), (7_201, (0, 0))] {
        hand.set(start_us + after_s * SECOND_US);
        let waited = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            // The log's time has come so far, or there is nothing to do that it would move for.
            while remembered() != expected {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "{:?} after {after_s} s", remembered());
    }
    assert!(lifecycle.end(std::time::Duration::from_secs(5)).await);
}
