//! Who wants to know when a client is gone.
//!
//! A stream that has nothing to say writes nothing, and a server that writes nothing learns of no end: poem goes on serving a
//! connection after hyper saw its end, until something is written. Whoever answers for a long time therefore watches the
//! connection here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The watched connections of one listener, by the client's address.
#[derive(Debug, Default)]
pub struct HangUps(Mutex<HashMap<SocketAddr, Watched>>);

#[derive(Debug, Default)]
struct Watched {
    gone: CancellationToken,
    /// An HTTP/2 connection may have several.
    watches: usize,
}

/// A watch on one connection. Dropping it ends the watch.
#[derive(Debug)]
pub struct HangUp {
    hang_ups: Arc<HangUps>,
    remote: SocketAddr,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl HangUps {
    /// Watches the open connection from `remote`. A client that is gone before this call is not noticed here.
    #[must_use]
    pub fn watch(self: &Arc<Self>, remote: SocketAddr) -> HangUp {
        let mut watched = self.lock();
        let watched = watched.entry(remote).or_default();
        watched.watches += 1;
        let gone = Box::pin(watched.gone.clone().cancelled_owned());
        HangUp { hang_ups: Arc::clone(self), remote, gone }
    }

    /// The client at `remote` sends no more.
    pub(super) fn tell(&self, remote: SocketAddr) {
        if let Some(watched) = self.lock().get(&remote) {
            watched.gone.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Watched>> {
        self.0.lock().expect("no code panics while it holds the watches")
    }
}

impl HangUp {
    /// Ready once the client is gone.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.gone.as_mut().poll(context)
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        let mut all = self.hang_ups.lock();
        if let Some(watched) = all.get_mut(&self.remote) {
            watched.watches -= 1;
            if watched.watches == 0 {
                all.remove(&self.remote);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_watch_on_the_connection_is_told_and_none_on_another_and_nothing_is_left() {
        let hang_ups = Arc::new(HangUps::default());
        let [here, there] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let (mut first, mut second) = (hang_ups.watch(here), hang_ups.watch(here));
        let mut other = hang_ups.watch(there);
        hang_ups.tell(here);
        std::future::poll_fn(|context| first.poll(context)).await;
        std::future::poll_fn(|context| second.poll(context)).await;
        let context = &mut Context::from_waker(std::task::Waker::noop());
        assert!(other.poll(context).is_pending());
        drop((first, second));
        assert!(hang_ups.watch(here).poll(context).is_pending(), "the next one from there is somebody else");
        drop(other);
        assert!(hang_ups.lock().is_empty());
    }
}
