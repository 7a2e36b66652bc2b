//! The delivery over a log that other nodes write to as well: it may hold what only their build knows, or become another one.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::GapReason;
use crate::log::ReadError;

/// A log that somebody else may write to, too, and that ends when told to.
struct SharedLog {
    inner: MemoryLog,
    changed: CancellationToken,
}

struct SharedTail {
    inner: Box<dyn Tail>,
    changed: CancellationToken,
}

impl SharedLog {
    fn new() -> Arc<Self> {
        Arc::new(Self { inner: memory(1 << 20), changed: CancellationToken::new() })
    }
}

impl Log for SharedLog {
    fn append(&self, batch: Vec<NewEntry>) -> BoxFuture<'_, Vec<Result<u64, AppendError>>> {
        self.inner.append(batch)
    }

    fn tail(&self, after: u64) -> Result<Box<dyn Tail>, TailError> {
        Ok(Box::new(SharedTail { inner: self.inner.tail(after)?, changed: self.changed.clone() }))
    }

    fn read(&self, numbers: Vec<u64>) -> BoxFuture<'_, Result<Vec<Option<LogEntry>>, ReadError>> {
        self.inner.read(numbers)
    }

    fn state(&self) -> BoxFuture<'_, Result<LogState, ReadError>> {
        self.inner.state()
    }

    fn trim(&self, through: u64) -> BoxFuture<'_, ()> {
        self.inner.trim(through)
    }

    fn durability(&self) -> Durability {
        Durability::Replicated { servers: 1 }
    }
}

impl Tail for SharedTail {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<LogEntry>, TailError>> {
        Box::pin(async {
            tokio::select! {
                biased;
                () = self.changed.cancelled() => Err(TailError::Changed("on purpose".to_owned())),
                entries = self.inner.next() => entries,
            }
        })
    }
}

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
    let log = SharedLog::new();
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
    let log = SharedLog::new();
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
