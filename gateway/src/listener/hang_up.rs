//! Who wants to know when a client is gone, and who may break its connection off.
//!
//! A stream that has nothing to say writes nothing, and a server that writes nothing learns of no end: poem goes on serving a
//! connection after hyper saw its end, until something is written. A stream whose client takes nothing is not even asked for
//! more. Whoever answers for a long time therefore watches the connection here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

type Cancelled = Pin<Box<WaitForCancellationFutureOwned>>;

/// The connections of one listener, by the client's address. Two from one address and port, to different addresses of this
/// machine, count as one: then both are told, and both are broken off.
#[derive(Debug, Default)]
pub struct HangUps {
    lines: Mutex<HashMap<SocketAddr, Entry>>,
    /// Nobody waits any more for clients that take no bytes.
    cut: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    line: Arc<Line>,
    /// The connection itself and those who watch it: an HTTP/2 connection may have several.
    holders: usize,
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Line {
    gone: CancellationToken,
    broken: CancellationToken,
    /// Somebody watches it, or did.
    is_watched: AtomicBool,
    /// Its client takes no bytes.
    is_stalled: AtomicBool,
}

/// A holder of a line. The last one to go forgets it.
#[derive(Debug)]
struct Hold {
    hang_ups: Arc<HangUps>,
    remote: SocketAddr,
    line: Arc<Line>,
}

/// A connection's own place here. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Connected {
    hold: Hold,
    broken: Cancelled,
}

/// A watch on one connection. Dropping it ends the watch.
#[derive(Debug)]
pub struct HangUp {
    hold: Hold,
    gone: Cancelled,
}

/// Breaks one connection off.
#[derive(Debug, Clone)]
pub struct BreakOff(Arc<Line>);

impl HangUps {
    /// Watches the open connection from `remote`. A client that is gone before this call is not noticed here.
    #[must_use]
    pub fn watch(self: &Arc<Self>, remote: SocketAddr) -> HangUp {
        let hold = self.hold(remote, |_| true);
        hold.line.is_watched.store(true, Ordering::SeqCst);
        let gone = Box::pin(hold.line.gone.clone().cancelled_owned());
        HangUp { hold, gone }
    }

    /// A place for a connection that was accepted from `remote`.
    pub(super) fn enter(self: &Arc<Self>, remote: SocketAddr) -> Connected {
        // Whoever still watches the connection before this one from there has nothing to do with it.
        let hold = self.hold(remote, |line| !line.gone.is_cancelled() && !line.broken.is_cancelled());
        let broken = Box::pin(hold.line.broken.clone().cancelled_owned());
        Connected { hold, broken }
    }

    /// Breaks off the watched connections whose clients take no bytes, now and later: a stop waits for them no longer.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        for entry in self.lock().values() {
            entry.line.break_if_cut_off();
        }
    }

    /// Takes part in the line to `remote` if `fits`, and in a new one otherwise.
    fn hold(self: &Arc<Self>, remote: SocketAddr, fits: impl Fn(&Line) -> bool) -> Hold {
        let mut lines = self.lock();
        let entry = lines.entry(remote).or_insert_with(Entry::new);
        if !fits(&entry.line) {
            *entry = Entry::new();
        }
        entry.holders += 1;
        Hold { hang_ups: Arc::clone(self), remote, line: Arc::clone(&entry.line) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Entry>> {
        self.lines.lock().expect("no code panics while it holds the lines")
    }
}

impl Entry {
    fn new() -> Self {
        Self { line: Arc::default(), holders: 0 }
    }
}

impl Line {
    /// What [`HangUps::cut`] does to each line.
    fn break_if_cut_off(&self) {
        if self.is_watched.load(Ordering::SeqCst) && self.is_stalled.load(Ordering::SeqCst) {
            self.broken.cancel();
        }
    }
}

impl Connected {
    /// The client sends no more.
    pub(super) fn tell(&self) {
        self.hold.line.gone.cancel();
    }

    /// Whether the connection is to be broken off; if not yet, this task is woken when it is.
    pub(super) fn is_broken(&mut self, context: &mut Context<'_>) -> bool {
        self.broken.as_mut().poll(context).is_ready()
    }

    /// The client takes no bytes, or does again.
    pub(super) fn set_stalled(&self, is_stalled: bool) {
        let line = &self.hold.line;
        line.is_stalled.store(is_stalled, Ordering::SeqCst);
        // A cut looks at every line after it is announced: one of the two sees the other.
        if is_stalled && self.hold.hang_ups.cut.load(Ordering::SeqCst) {
            line.break_if_cut_off();
        }
    }
}

impl HangUp {
    /// Ready once the client is gone.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.gone.as_mut().poll(context)
    }

    /// Whether somebody here broke the connection off.
    #[must_use]
    pub fn is_broken_off(&self) -> bool {
        self.hold.line.broken.is_cancelled()
    }

    /// What breaks this connection off, with everything that it carries.
    #[must_use]
    pub fn break_off(&self) -> BreakOff {
        BreakOff(Arc::clone(&self.hold.line))
    }
}

impl BreakOff {
    /// Breaks the connection off, whatever its client takes.
    pub fn now(&self) {
        self.0.broken.cancel();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut lines = self.hang_ups.lock();
        if let Some(entry) = lines.get_mut(&self.remote)
            && Arc::ptr_eq(&entry.line, &self.line)
        {
            entry.holders -= 1;
            if entry.holders == 0 {
                lines.remove(&self.remote);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn hang_ups() -> (Arc<HangUps>, [SocketAddr; 2]) {
        (Arc::default(), [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port))))
    }

    #[tokio::test]
    async fn every_watch_on_the_connection_is_told_and_none_on_another_and_nothing_is_left() {
        let (hang_ups, [here, there]) = hang_ups();
        let connected = hang_ups.enter(here);
        let (mut first, mut second) = (hang_ups.watch(here), hang_ups.watch(here));
        let mut other = hang_ups.watch(there);
        connected.tell();
        std::future::poll_fn(|context| first.poll(context)).await;
        std::future::poll_fn(|context| second.poll(context)).await;
        let context = &mut Context::from_waker(Waker::noop());
        assert!(other.poll(context).is_pending());
        drop(connected);
        let next = hang_ups.enter(here);
        assert!(hang_ups.watch(here).poll(context).is_pending(), "the next one from there is somebody else");
        drop((first, second, next, other));
        assert!(hang_ups.lock().is_empty());
    }

    #[test]
    fn a_connection_is_broken_off_and_no_other_is() {
        let (hang_ups, [here, there]) = hang_ups();
        let (mut one, mut other) = (hang_ups.enter(here), hang_ups.enter(there));
        let context = &mut Context::from_waker(Waker::noop());
        let watch = hang_ups.watch(here);
        assert!(!one.is_broken(context));
        watch.break_off().now();
        assert!(one.is_broken(context) && !other.is_broken(context));
        assert!(watch.is_broken_off() && !hang_ups.watch(there).is_broken_off());
        assert!(!hang_ups.enter(here).is_broken(context), "the next one from there is somebody else");
    }

    #[test]
    fn a_cut_breaks_off_who_is_watched_and_takes_nothing_then_or_later() {
        let (hang_ups, [here, there]) = hang_ups();
        let context = &mut Context::from_waker(Waker::noop());
        let (mut one, mut other) = (hang_ups.enter(here), hang_ups.enter(there));
        // Its answer may still be on its way when nobody watches any more.
        drop(hang_ups.watch(here));
        one.set_stalled(true);
        other.set_stalled(true);
        hang_ups.cut();
        assert!(one.is_broken(context) && !other.is_broken(context), "one of them was never watched");
        let watch = hang_ups.watch(there);
        other.set_stalled(false);
        assert!(!other.is_broken(context));
        other.set_stalled(true);
        assert!(other.is_broken(context));
        drop(watch);
    }
}
