//! Who ends a stream that is not asked for more.
//!
//! A session runs only while its client takes what it has: the HTTP server asks for the next event, or nobody does. Its token ends
//! all the same, administrators disconnect its user, the gateway stops. A task beside it attends to that: it asks the session to
//! end, and breaks the connection off if the session has not ended a little later.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Streams;
use crate::delivery::SessionHandle;
use crate::edge::Standing;
use crate::listener::BreakOff;
use crate::metrics::Limit;
use crate::protocol::CloseCode;

/// How long a session that shall end may take until its client has what is left for it; sockets have as much.
const GRACE: Duration = Duration::from_secs(2);

/// Instead of the time when an event was given: the next one is asked for.
const ASKED: u64 = u64::MAX;

/// What a session and its attendant know of each other. It is what the session's handle wakes.
pub(super) struct Attendance {
    /// Not the handle itself, which holds this.
    handle: Weak<SessionHandle>,
    session: AtomicWaker,
    attendant: AtomicWaker,
    began: Instant,
    /// When the session last gave an event, in milliseconds since then; [`ASKED`] while it is asked for one.
    gave_ms: AtomicU64,
    over: CancellationToken,
}

/// What an attendant needs beside that.
pub(super) struct Means {
    pub(super) streams: Arc<Streams>,
    pub(super) handle: Arc<SessionHandle>,
    pub(super) standing: Standing,
    /// Nothing to break off if the client has no address.
    pub(super) break_off: Option<BreakOff>,
    /// The client says how much it takes of each stream: then no write of the connection waits for it.
    pub(super) has_windows: bool,
}

impl Attendance {
    pub(super) fn of(handle: &Arc<SessionHandle>) -> Arc<Self> {
        Arc::new(Self {
            handle: Arc::downgrade(handle),
            session: AtomicWaker::new(),
            attendant: AtomicWaker::new(),
            began: Instant::now(),
            gave_ms: AtomicU64::new(0),
            over: CancellationToken::new(),
        })
    }

    /// Somebody asks the session for an event.
    pub(super) fn asked(&self) {
        self.gave_ms.store(ASKED, Ordering::Relaxed);
    }

    /// The session has given one, and knows nothing until it is asked again.
    pub(super) fn gave(&self) {
        let milliseconds = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(ASKED);
        self.gave_ms.store(milliseconds, Ordering::Relaxed);
    }

    /// Makes wakes and close requests reach this task of the session; returns by whom.
    pub(super) fn listen(self: &Arc<Self>, handle: &SessionHandle, session: &Waker) -> Waker {
        self.session.register(session);
        let waker = Waker::from(Arc::clone(self));
        handle.listen(&waker);
        waker
    }

    /// The session is gone: its attendant may go, too.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Sees to it that the session ends when it shall; ends with it.
    pub(super) async fn attend(self: Arc<Self>, means: Means) {
        let over = self.over.clone();
        tokio::select! {
            biased;
            () = over.cancelled() => {}
            () = self.see_to_the_end(means) => over.cancelled().await,
        }
    }

    async fn see_to_the_end(&self, mut means: Means) {
        if self.until_it_shall_end(&mut means).await != CloseCode::NoWriteProgress {
            tokio::time::sleep(GRACE).await;
        }
        if let Some(break_off) = means.break_off {
            break_off.now();
        }
    }

    /// Waits for the first of:
    /// * somebody closes the session (its handle: administrator, a seventeenth session, shutdown),
    /// * what it stands on is gone (looked at when a token is over, and at each heartbeat),
    /// * nobody has asked for more for too long although a heartbeat waits.
    ///
    /// Then the session is asked to end, if it is not yet.
    async fn until_it_shall_end(&self, means: &mut Means) -> CloseCode {
        let Means { streams, handle, standing, has_windows, .. } = means;
        // Two heartbeats are never further apart.
        let patience = streams.heartbeat * 5 / 4 + streams.write_timeout;
        loop {
            let now = Instant::now();
            if let Some(code) = standing.look(streams.delivery.clock().now_ms(), now) {
                handle.close(code);
            }
            let mut look_at = standing.earlier(now + streams.heartbeat);
            if *has_windows && let Some(gave) = self.last_gave() {
                let stuck = gave + patience;
                if stuck <= now && handle.close_requested().is_none() {
                    streams.metrics.limited.of(Limit::WriteTimeout).inc();
                    handle.close(CloseCode::NoWriteProgress);
                }
                look_at = look_at.min(stuck);
            }
            let close = poll_fn(|context| self.poll_close(handle, context));
            if let Ok(code) = tokio::time::timeout_at(look_at, close).await {
                return code;
            }
        }
    }

    /// When the session last gave an event, unless the next one is asked for.
    fn last_gave(&self) -> Option<Instant> {
        let milliseconds = self.gave_ms.load(Ordering::Relaxed);
        (milliseconds != ASKED).then(|| self.began + Duration::from_millis(milliseconds))
    }

    fn poll_close(&self, handle: &SessionHandle, context: &Context<'_>) -> Poll<CloseCode> {
        self.attendant.register(context.waker());
        handle.close_requested().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Wakes the session, and its attendant if the session shall end.
impl Wake for Attendance {
    fn wake(self: Arc<Self>) {
        self.session.wake();
        let Some(handle) = self.handle.upgrade() else { return };
        // A handle forgets whom it woke, and nobody may ask the session to listen again.
        handle.listen(&Waker::from(Arc::clone(&self)));
        if handle.close_requested().is_some() {
            self.attendant.wake();
        }
    }
}
