//! SIGTERM and SIGINT: the first asks the gateway to stop, the second to stop at once.
//!
//! They are caught on a thread of their own: a gateway whose threads are all busy has to end, too. That thread writes no log
//! lines, because whoever reads them may be what everybody waits for.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long a gateway in a hurry may take to close its log. What was accepted is safe before that.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// What the operator has asked for so far.
pub(crate) struct Signals {
    /// Cancelled by the first signal.
    pub(crate) stop: CancellationToken,
    /// Cancelled by the second. Soon after it, or at the third, the process ends, whatever still runs.
    pub(crate) cut: CancellationToken,
}

/// The two signals that ask a process to end.
struct Caught {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on signals do not end the process by themselves.
    ///
    /// # Errors
    /// When the operating system allows neither the thread nor the handlers.
    pub(crate) fn listen() -> io::Result<Self> {
        let signals = Self { stop: CancellationToken::new(), cut: CancellationToken::new() };
        let (stop, cut) = (signals.stop.clone(), signals.cut.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let caught = {
            let _within = runtime.enter();
            Caught {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(caught.wait(&stop, &cut));
            // Nobody wants a supervisor to restart what was told to stop.
            std::process::exit(0);
        })?;
        Ok(signals)
    }
}

impl Caught {
    /// Passes signals on; returns when the process has to end now.
    async fn wait(mut self, stop: &CancellationToken, cut: &CancellationToken) {
        self.next().await;
        stop.cancel();
        self.next().await;
        cut.cancel();
        // Unless the gateway is stuck, it has ended the process by then.
        let _ = tokio::time::timeout(CUT_TIMEOUT, self.next()).await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
