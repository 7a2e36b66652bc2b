//! The outside of a session: what the registry and the administrator hold of it.
//!
//! The inside, the task that owns the socket, waits on the handle and pulls when it is woken. A handle has no queue: a wake
//! says only *look again*.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;

use crate::protocol::CloseCode;

/// A session's name, unique within the life of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Reaches a session from anywhere.
#[derive(Debug)]
pub struct SessionHandle {
    id: SessionId,
    woken: AtomicBool,
    /// A [`CloseCode`] number, 0 while nobody asked.
    close: AtomicU16,
    last_heard_ms: AtomicU64,
    /// Everything up to this number was handed to the session.
    read_up_to: AtomicU64,
    waker: AtomicWaker,
}

impl SessionHandle {
    /// A handle for a session that was last heard from at `now_ms`.
    #[must_use]
    pub fn new(id: SessionId, now_ms: u64) -> Self {
        Self {
            id,
            // The first poll pulls without being asked.
            woken: AtomicBool::new(true),
            close: AtomicU16::new(0),
            last_heard_ms: AtomicU64::new(now_ms),
            read_up_to: AtomicU64::new(0),
            waker: AtomicWaker::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Tells the session to look at its mailbox. Cheap when it was told already.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Asks the session to end with `code`; the first request wins.
    pub fn close(&self, code: CloseCode) {
        let first = self.close.compare_exchange(0, code.number(), Ordering::AcqRel, Ordering::Relaxed);
        if first.is_ok() {
            self.waker.wake();
        }
    }

    /// The code it was asked to end with.
    #[must_use]
    pub fn close_requested(&self) -> Option<CloseCode> {
        CloseCode::from_number(self.close.load(Ordering::Acquire))
    }

    /// Notes that the client showed a sign of life.
    pub fn heard(&self, now_ms: u64) {
        self.last_heard_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When the client last showed a sign of life, in wall-clock milliseconds.
    #[must_use]
    pub fn last_heard_ms(&self) -> u64 {
        self.last_heard_ms.load(Ordering::Relaxed)
    }

    /// Notes that everything up to `number` was handed to the session.
    pub fn has_read(&self, number: u64) {
        self.read_up_to.store(number, Ordering::Relaxed);
    }

    /// Everything up to this number was handed to the session.
    #[must_use]
    pub fn read_up_to(&self) -> u64 {
        self.read_up_to.load(Ordering::Relaxed)
    }

    /// Ready once after each wake; the session then pulls until its mailbox has no more for it.
    pub fn poll_woken(&self, context: &Context<'_>) -> Poll<()> {
        if self.woken.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        self.listen(context.waker());
        // A wake between the look and the registration would otherwise be lost.
        if self.woken.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Makes wakes and close requests reach this task, without consuming a wake.
    pub fn listen(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
