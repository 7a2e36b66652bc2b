//! Questions to all other nodes: asked once, asked again of those who are silent, given up after half a second.
//!
//! A node that does not answer counts 0, which is counted and said: it is dead and nobody knows yet, or a message was lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::message::{Message, NodeId, Wanted};
use super::others::Others;
use super::post::Post;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::telemetry::Throttle;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// When those who are silent are asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

type Answers = mpsc::UnboundedSender<(NodeId, u32)>;

/// The questions that wait for answers.
pub(super) struct Questions {
    waiting: Mutex<HashMap<u64, Answers>>,
    next: AtomicU64,
    metrics: Arc<Metrics>,
    clock: Clock,
    throttle: Throttle,
}

/// One of them; it is forgotten when dropped.
struct Asked<'a> {
    questions: &'a Questions,
    question: u64,
}

impl Questions {
    pub(super) fn new(metrics: Arc<Metrics>, clock: Clock) -> Self {
        let (waiting, next, throttle) = (Mutex::default(), AtomicU64::new(1), Throttle::default());
        Self { waiting, next, metrics, clock, throttle }
    }

    /// Asks all others and sums what they answer.
    pub(super) async fn ask(&self, others: &Others, post: &Post, wanted: Wanted, user: &str) -> u32 {
        let mut silent = others.alive();
        // One that this node has not heard of yet shall disconnect all the same.
        if silent.is_empty() && wanted == Wanted::Sessions {
            return 0;
        }
        let (answers, mut answered) = mpsc::unbounded_channel();
        let question = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(question, answers);
        let _asked = Asked { questions: self, question };
        let asking = Message::Question { question, wanted, user: user.to_owned() };
        let began = Instant::now();
        let mut sessions = 0_u32;
        let sent = post.tell_all(&asking).await;
        for deadline in [began + ASK_AGAIN, began + PATIENCE] {
            while sent
                && !silent.is_empty()
                && let Ok(Some((node, count))) = timeout_at(deadline, answered.recv()).await
            {
                // Whoever was asked twice may answer twice.
                if let Some(place) = silent.iter().position(|one| *one == node) {
                    silent.swap_remove(place);
                    sessions = sessions.saturating_add(count);
                }
            }
            if sent && deadline < began + PATIENCE {
                for node in &silent {
                    post.tell(*node, &asking).await;
                }
            }
        }
        self.note(silent.len());
        sessions
    }

    /// Hands an answer to whoever waits for it.
    pub(super) fn answer(&self, question: u64, from: NodeId, sessions: u32) {
        if let Some(answers) = self.lock().get(&question) {
            // Whoever asked may have enough.
            let _ = answers.send((from, sessions));
        }
    }

    fn note(&self, silent: usize) {
        self.metrics.nodes_unanswered.inc_by(silent as u64);
        if silent > 0
            && let Some(held_back) = self.throttle.pass(self.clock.now_ms())
        {
            tracing::warn!(
                nodes = silent,
                held_back,
                "other nodes did not answer; their sessions are not counted"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Answers>> {
        self.waiting.lock().expect("no code panics while it holds the questions")
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.questions.lock().remove(&self.question);
    }
}
