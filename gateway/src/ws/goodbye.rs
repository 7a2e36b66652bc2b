//! How a socket ends: the last frames go out, the close frame is not lost in a reset.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use poem::Upgraded;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::protocol::WebSocketContext;

use super::blocking::Blocking;
use super::connection::READ_BUFFER_BYTES;
use super::outbox::Outbox;
use crate::metrics::Metrics;
use crate::protocol::{CloseCode, ServerFrame};

/// How long a close frame may take to be sent and answered.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of an unfinished conversation that are read after a close frame, so that it is not lost in a reset.
const MAX_LINGER_BYTES: usize = 256 * 1024;

/// Ends a socket that was upgraded only to tell why it is refused.
pub(super) async fn refuse(mut stream: Upgraded, code: CloseCode, reconnect_in_ms: Option<u64>) {
    let mut outbox = Outbox::default();
    if let Some(reconnect_in_ms) = reconnect_in_ms {
        outbox.text(|out| out.extend(ServerFrame::Drain { reconnect_in_ms }.to_json()));
    }
    outbox.close(code.number(), code.reason());
    let goodbye = async {
        flush(&mut stream, &mut outbox).await?;
        stream.shutdown().await?;
        linger(&mut stream).await
    };
    // Whether the other side still listens changes nothing.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
}

pub(super) async fn flush(stream: &mut Upgraded, outbox: &mut Outbox) -> io::Result<()> {
    poll_fn(|context| outbox.poll_flush(stream, context).1).await
}

/// Puts the answer to the client's close frame, which tungstenite holds, into the outbox.
pub(super) async fn answer_close(
    stream: &mut Upgraded,
    websocket: &mut WebSocketContext,
    outbox: &mut Outbox,
    metrics: &Metrics,
) {
    poll_fn(|context| {
        // Ends with `ConnectionClosed` once the answer is handed over; there is nothing else to learn from it.
        let room = &mut 0;
        let _ = websocket.flush(&mut Blocking { stream, outbox, metrics, room, context });
        Poll::Ready(())
    })
    .await;
}

/// Reads what the client had already sent: closing with unread bytes would reset the connection under the close frame.
pub(super) async fn linger(stream: &mut Upgraded) -> io::Result<()> {
    let mut scratch = vec![0; READ_BUFFER_BYTES];
    let mut read = 0;
    while read < MAX_LINGER_BYTES {
        match stream.read(&mut scratch).await? {
            0 => break,
            count => read += count,
        }
    }
    Ok(())
}
