//! A session stands on another token.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{Connection, End};
use crate::auth::Authority;
use crate::domain::Secret;
use crate::edge::Standing;
use crate::protocol::ServerFrame;

impl Connection<'_> {
    /// Stands on the client's new token from now on, if that is right and the same user's.
    ///
    /// Boxed: it is rare, and every idle socket would pay for it.
    pub(super) fn refresh(&mut self, token: Secret) -> BoxFuture<'_, Option<End>> {
        Box::pin(async move { self.stand_on(&token).await })
    }

    async fn stand_on(&mut self, token: &Secret) -> Option<End> {
        let admission = &self.sockets.admission;
        if admission.authenticator.is_open() {
            return self.heard();
        }
        let (handle, user) = (Arc::clone(self.subscription.handle()), Arc::clone(self.subscription.user()));
        let closed = poll_fn(|context| {
            handle.listen(context.waker());
            if handle.close_requested().is_some() { Poll::Ready(()) } else { Poll::Pending }
        });
        let judged = tokio::select! {
            judged = admission.refreshed(token, &user) => judged,
            // Keys may have to be fetched: who closes the session meanwhile does not wait for that.
            () = closed => return None,
        };
        match judged {
            Ok(Some(token)) => {
                let now_ms = self.sockets.delivery.clock().now_ms();
                let authority = Authority::Token { until_ms: token.holds_until_ms() };
                self.standing = Standing::new(authority, now_ms, Instant::now());
                self.set_timer();
                let refreshed = ServerFrame::refreshed(token.expires_at_ms);
                self.outbox.text(|out| out.extend(refreshed.to_json()));
                self.heard()
            }
            // Nobody can tell now: the session stands on what it stood on.
            Ok(None) => self.heard(),
            Err(code) => Some(End::Server(code)),
        }
    }
}
