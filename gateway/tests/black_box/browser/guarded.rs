//! A gateway that asks for credentials, behind a proxy, and a page that it allows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::clock::Clock;
use gateway::config::Config;
use serde_json::json;

use super::page::{Page, PageServer};
use super::proxy::Proxy;
use crate::security::credentials::{Issuer, now};
use crate::security::secured::Secured;

/// What ends a session must be noticed at a heartbeat at the latest.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// By how much the gateway's clock is ahead of the browser's, in seconds.
#[derive(Clone, Default)]
pub(crate) struct Ahead(Arc<AtomicU64>);

impl Ahead {
    /// A clock that is as far ahead as this says.
    pub(crate) fn clock(&self) -> Clock {
        let ahead = Arc::clone(&self.0);
        Clock::told_by(move || Clock::system().now_us() + ahead.load(Ordering::SeqCst) * 1_000_000)
    }

    /// Lets so much time pass at the gateway, and none in the browser.
    pub(crate) fn leap(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// A gateway with keys behind a proxy, and a page that it allows.
pub(crate) struct Guarded {
    pub(crate) secured: Secured,
    pub(crate) proxy: Proxy,
    pub(crate) page: Page,
    pub(crate) ahead: Ahead,
}

impl Guarded {
    pub(crate) async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        // The page's policy names the proxy, and the gateway's configuration the page.
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], 1)));
        let server = PageServer::start(&[proxy.address()]).await;
        let ahead = Ahead::default();
        let secured = Secured::start_with_clock(ahead.clock(), Issuer::hs256(), |config, _| {
            config.http.allowed_origins = vec![server.origin()];
            config.sessions.heartbeat = HEARTBEAT;
            configure(config);
        })
        .await;
        proxy.retarget(secured.address());
        let page = Page::open_on(server, &[proxy.address()]).await;
        Self { secured, proxy, page, ahead }
    }

    /// A token of this user that is over in so many seconds.
    pub(crate) fn token(&self, user: &str, seconds: u64) -> String {
        self.secured.issuer.token(&json!({"sub": user, "exp": now() + seconds}))
    }

    /// Ends it all. No address may have shown a credential.
    pub(crate) async fn stop(self, expected: &[&str]) {
        for url in self.page.browser.sights().await.requests {
            assert!(!url.contains("eyJ") && !url.contains("gwk_") && !url.contains("earer"), "{url}");
        }
        self.page.close(expected).await;
        drop(self.proxy);
        self.secured.stop().await;
    }
}
