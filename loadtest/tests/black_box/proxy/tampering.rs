//! What the proxy does to the notifications that pass it: which fault, when, and how often it struck. No socket in here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use loadtest::payload::Payload;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// What goes wrong between the gateway and its clients. Notifications are counted over all sockets, so that it is known
/// exactly how often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Nothing: the control.
    None,
    /// Each n-th notification never arrives.
    DropEvery(u64),
    /// In place of each n-th notification a gap says that it was dropped.
    AnnounceEvery(u64),
    /// One stream loses the last of its notifications, and nothing else.
    DropOnlyTheLast,
    /// Each n-th notification arrives twice.
    DuplicateEvery(u64),
    /// The first two notifications of one stream change places.
    SwapTwo,
    /// Every notification arrives so much later.
    Delay(Duration),
    /// In place of each n-th notification the connection breaks, without a close.
    CutEvery(u64),
    /// Like `CutEvery`, and whoever comes back is given only what is new.
    CutAndLose(u64),
    /// One notification goes to another socket, too.
    Misdeliver,
    /// In place of each n-th answer to a request the connection breaks: the sender cannot know what became of it.
    LoseAnswerEvery(u64),
    /// From the n-th notification on nothing moves for so long, neither frames nor requests.
    StallEverything { from: u64, lasting: Duration },
}

/// What becomes of a notification.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// These frames go to the socket, in this order.
    Deliver(Vec<Utf8Bytes>),
    /// The frame goes to its socket and to one of somebody else.
    Misdeliver,
    /// The connection breaks.
    Cut,
}

/// A notification after which misdelivery strikes: all sockets are connected by then.
const MISDELIVERED: u64 = 20;

/// A fault and what it did so far.
#[derive(Debug)]
pub(super) struct Tampering {
    fault: Fault,
    pushes: AtomicU64,
    answers: AtomicU64,
    strikes: AtomicU64,
    /// Frames of fewer bytes are spared.
    smallest: usize,
    /// The one user and stream that suffer, where only one does: the first that is seen.
    victim: OnceLock<(String, u32)>,
    held: Mutex<Option<Utf8Bytes>>,
    stalled_until: OnceLock<Instant>,
}

impl Tampering {
    pub(super) fn new(fault: Fault, smallest: usize) -> Self {
        Self {
            fault,
            smallest,
            pushes: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            strikes: AtomicU64::new(0),
            victim: OnceLock::new(),
            held: Mutex::new(None),
            stalled_until: OnceLock::new(),
        }
    }

    /// Notifications that the gateway pushed so far, without those that are spared.
    pub(super) fn pushes(&self) -> u64 {
        self.pushes.load(Ordering::SeqCst)
    }

    /// How often the fault struck so far.
    pub(super) fn strikes(&self) -> u64 {
        self.strikes.load(Ordering::SeqCst)
    }

    /// The notification that is held back and not delivered yet.
    pub(super) fn held(&self) -> Option<String> {
        self.held.lock().unwrap().as_ref().map(ToString::to_string)
    }

    /// How much later a notification arrives.
    pub(super) fn delay(&self) -> Duration {
        if let Fault::Delay(duration) = self.fault { duration } else { Duration::ZERO }
    }

    /// Whether a client that comes back is given only what is new.
    pub(super) fn forgets_positions(&self) -> bool {
        matches!(self.fault, Fault::CutAndLose(_))
    }

    /// Resolves when nothing stalls.
    pub(super) async fn unstalled(&self) {
        if let Some(until) = self.stalled_until.get() {
            tokio::time::sleep_until(*until).await;
        }
    }

    /// Notes that the fault struck once more.
    pub(super) fn struck(&self) {
        self.strikes.fetch_add(1, Ordering::SeqCst);
    }

    /// Decides whether an answer to a request arrives.
    pub(super) fn loses_answer(&self) -> bool {
        let number = self.answers.fetch_add(1, Ordering::SeqCst) + 1;
        let lost = matches!(self.fault, Fault::LoseAnswerEvery(n) if number.is_multiple_of(n));
        if lost {
            self.struck();
        }
        lost
    }

    /// Decides about a notification for a user.
    pub(super) fn decide(&self, user: &str, frame: Utf8Bytes) -> Decision {
        if frame.len() < self.smallest {
            return Decision::Deliver(vec![frame]);
        }
        let number = self.pushes.fetch_add(1, Ordering::SeqCst) + 1;
        match self.fault {
            Fault::DropEvery(n) if number.is_multiple_of(n) => {
                self.struck();
                Decision::Deliver(vec![])
            }
            Fault::AnnounceEvery(n) if number.is_multiple_of(n) => {
                self.struck();
                Decision::Deliver(vec![gap_in_place_of(&frame)])
            }
            Fault::DuplicateEvery(n) if number.is_multiple_of(n) => {
                self.struck();
                Decision::Deliver(vec![frame.clone(), frame])
            }
            Fault::CutEvery(n) | Fault::CutAndLose(n) if number.is_multiple_of(n) => {
                self.struck();
                Decision::Cut
            }
            Fault::Misdeliver if number >= MISDELIVERED && self.strikes() == 0 => Decision::Misdeliver,
            Fault::DropOnlyTheLast => Decision::Deliver(self.hold_back(user, frame)),
            Fault::SwapTwo => Decision::Deliver(self.swap(user, frame)),
            Fault::StallEverything { from, lasting } => {
                if number >= from {
                    self.stalled_until.get_or_init(|| {
                        self.struck();
                        Instant::now() + lasting
                    });
                }
                Decision::Deliver(vec![frame])
            }
            _ => Decision::Deliver(vec![frame]),
        }
    }

    /// The victim's stream runs one step late: each notification is held until the next one comes, and after the last one
    /// none comes. So exactly one is lost, and nothing behind it in its stream could betray it.
    fn hold_back(&self, user: &str, frame: Utf8Bytes) -> Vec<Utf8Bytes> {
        if !self.is_of_victim(user, &frame) {
            return vec![frame];
        }
        self.held.lock().unwrap().replace(frame).into_iter().collect()
    }

    fn swap(&self, user: &str, frame: Utf8Bytes) -> Vec<Utf8Bytes> {
        if self.strikes() > 0 || !self.is_of_victim(user, &frame) {
            return vec![frame];
        }
        let mut held = self.held.lock().unwrap();
        match held.take() {
            None => {
                *held = Some(frame);
                vec![]
            }
            Some(earlier) => {
                self.struck();
                vec![frame, earlier]
            }
        }
    }

    fn is_of_victim(&self, user: &str, frame: &str) -> bool {
        let Some(stream) = Payload::find(frame).map(|payload| payload.stream) else { return false };
        let victim = self.victim.get_or_init(|| (user.to_owned(), stream));
        (victim.0.as_str(), victim.1) == (user, stream)
    }
}

/// What a gateway says that dropped this one notification.
fn gap_in_place_of(frame: &str) -> Utf8Bytes {
    let dropped: Value = serde_json::from_str(frame).unwrap();
    let (after, until) = (&dropped["prev"], &dropped["position"]);
    let gap = json!({"type": "gap", "after": after, "until": until, "count": 1, "reason": "overflow"});
    gap.to_string().into()
}
