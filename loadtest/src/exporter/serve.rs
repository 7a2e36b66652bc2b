//! The server of `/metrics`, and its end: a scraper comes by every few seconds, a run ends in between, and its last numbers
//! are the ones that matter. So the server waits for one more scrape, if there is a scraper at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use poem::http::header;
use poem::listener::TcpAcceptor;
use poem::web::Data;
use poem::{EndpointExt, Response, Route, Server, get, handler};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Exporter;
use crate::set_up::SetUpError;

/// How long an answer that is under way may take when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A server of `/metrics`; stopped when dropped.
#[derive(Debug)]
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    audience: Arc<Audience>,
    stop: DropGuard,
    task: JoinHandle<std::io::Result<()>>,
}

/// Who has come by.
#[derive(Debug)]
struct Audience {
    exporter: Arc<Exporter>,
    /// Somebody has scraped.
    scraped: AtomicBool,
    /// The numbers will not change any more.
    complete: AtomicBool,
    /// Somebody has scraped the complete numbers.
    seen: Notify,
}

impl Exporter {
    /// Serves `http://<listen>/metrics` until [`Served`] is lingered or dropped. Port 0: any.
    ///
    /// # Errors
    /// [`SetUpError`]: the address cannot be listened on.
    pub async fn serve(self: &Arc<Self>, listen: SocketAddr) -> Result<Served, SetUpError> {
        let failed = |error: std::io::Error| SetUpError(format!("cannot listen on {listen}: {error}"));
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let acceptor = TcpAcceptor::from_tokio(listener).map_err(failed)?;
        let audience = Arc::new(Audience {
            exporter: Arc::clone(self),
            scraped: AtomicBool::new(false),
            complete: AtomicBool::new(false),
            seen: Notify::new(),
        });
        let routes = Route::new().at("/metrics", get(metrics)).data(Arc::clone(&audience));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = Server::new_with_acceptor(acceptor);
        let task = tokio::spawn(server.run_with_graceful_shutdown(routes, stopped, Some(STOP_PATIENCE)));
        Ok(Served { address, audience, stop: stop.drop_guard(), task })
    }
}

impl Served {
    /// Stops when nobody ever scraped; else after one more scrape that began after this call, or when the time is over.
    ///
    /// To be called when the numbers are final.
    pub async fn linger(self, at_most: Duration) {
        let Self { audience, stop, task, .. } = self;
        audience.complete.store(true, Ordering::SeqCst);
        if audience.scraped.load(Ordering::SeqCst) {
            // Nobody came in time: then these numbers are in the report only.
            let _ = tokio::time::timeout(at_most, audience.seen.notified()).await;
        }
        drop(stop);
        // The answer under way is finished; whether the server's task ended well changes nothing any more.
        let _ = tokio::time::timeout(2 * STOP_PATIENCE, task).await;
    }
}

#[handler]
fn metrics(audience: Data<&Arc<Audience>>) -> Response {
    // Asked before the numbers are read: only then they are known to be the last ones.
    let complete = audience.complete.load(Ordering::SeqCst);
    audience.scraped.store(true, Ordering::SeqCst);
    let text = audience.exporter.encode();
    if complete {
        audience.seen.notify_one();
    }
    Response::builder().header(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8").body(text)
}
