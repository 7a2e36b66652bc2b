//! The delivery over a log that other nodes write to as well: it may hold what only their build knows, or become another one.

use std::sync::Arc;

use super::*;
use crate::domain::GapReason;

/// The numbers that came.
#[derive(Default)]
struct Received(Vec<u64>);

impl FrameSink for Received {
    fn notification(&mut self, number: u64, _prev: u64, _frame: &Frame, _live: bool) {
        self.0.push(number);
    }

    fn broadcast(&mut self, _frame: &Frame) {}

    fn gap(&mut self, _after: Position, _until: Position, _count: Option<u32>, _reason: GapReason) {}
}

fn bob() -> UserId {
    UserId::parse("bob").unwrap()
}

#[tokio::test]
async fn a_node_that_starts_over_what_another_build_wrote_waits_to_be_replaced() {
    let log = Arc::new(StagedLog::shared());
    let lifecycle = Lifecycle::new();
    let delivery = start(Arc::clone(&log) as Arc<dyn Log>, &lifecycle).await.unwrap();
    delivery.publish(&notification("bob", "a".to_owned()), MAX_BYTES).await.unwrap();
    assert!(lifecycle.end(std::time::Duration::from_secs(5)).await);
    log.append(vec![NewEntry::ordinary(UNKNOWN_KIND)]).await;
    let head = log.state().await.unwrap().head;

    let lifecycle = Lifecycle::new();
    let mut others = options();
    others.settings.mailbox_max_count += 1;
    let (shared, metrics) = (Arc::clone(&log) as Arc<dyn Log>, Arc::new(Metrics::new()));
    lifecycle.set_ready();
    let delivery = Delivery::start(shared, others, Clock::system(), metrics, &lifecycle).await.unwrap();
    assert!(!lifecycle.is_ready(), "nothing new is welcome");
    assert!(!lifecycle.is_stopping(), "but whoever looks after it is not made to restart it for ever");
    assert_eq!(delivery.user(&bob()).pending, 1, "what was before is known");
    assert_eq!(log.state().await.unwrap().head, head, "it has no say in what another build decides");
    assert!(lifecycle.end(std::time::Duration::from_secs(5)).await);
}

#[tokio::test]
async fn of_a_log_that_became_another_one_nothing_is_pushed_any_more() {
    let log = Arc::new(StagedLog::shared());
    let lifecycle = Lifecycle::new();
    let delivery = start(Arc::clone(&log) as Arc<dyn Log>, &lifecycle).await.unwrap();
    let transport = crate::metrics::Transport::WebSocket;
    let mut session = delivery.subscribe(&bob(), After::Acked, transport).await.unwrap();
    delivery.publish(&notification("bob", "read".to_owned()), MAX_BYTES).await.unwrap();
    let mut received = Received::default();
    assert_eq!(session.pull(&mut received), Pull::Drained);
    assert_eq!(received.0.len(), 1);
    delivery.publish(&notification("bob", "not read yet".to_owned()), MAX_BYTES).await.unwrap();
    log.changed.cancel();
    lifecycle.stopping().await;
    assert!(lifecycle.starts_over());
    let mut received = Received::default();
    assert_eq!(session.pull(&mut received), Pull::Drained);
    assert!(received.0.is_empty(), "who comes back gets what holds then");
    assert!(!session.awaits_ack(), "its positions mean nothing any more");
    let page = delivery.read(&bob(), After::Acked, 10, &mut received).await;
    assert!(matches!(page, Err(SubscribeError::Behind)), "{page:?}");
    assert!(lifecycle.end(std::time::Duration::from_secs(5)).await);
}
