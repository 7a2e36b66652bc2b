//! What the client says, and how much of it is listened to.

use std::io;
use std::task::{Context, Poll};

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::Connection;
use crate::metrics::Limit;
use crate::protocol::CloseCode;
use crate::ws::Sockets;
use crate::ws::allowance::Allowance;
use crate::ws::blocking::Blocking;
use crate::ws::session::Inbound;

/// Bytes read from a client at once; tungstenite keeps such a buffer for each socket.
pub(in crate::ws) const READ_BUFFER_BYTES: usize = 1024;

/// What one message may take on its way, as a multiple of its largest size: each byte alone in a fragment takes seven.
const MAX_FRAMING: usize = 8;

/// What a client may still say.
pub(super) struct Bounds {
    allowance: Allowance,
    /// Bytes that may still come before a message is complete.
    room: usize,
}

impl Bounds {
    pub(super) fn new(sockets: &Sockets) -> Self {
        Self { allowance: Allowance::default(), room: room_for_a_message(sockets) }
    }
}

impl Connection<'_> {
    pub(super) fn poll_inbound(&mut self, context: &mut Context<'_>) -> Poll<Inbound> {
        let mut stream = Blocking {
            stream: &mut self.stream,
            outbox: &mut self.outbox,
            metrics: &self.sockets.metrics,
            room: &mut self.bounds.room,
            context,
        };
        match self.websocket.read(&mut stream) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
                Poll::Ready(Inbound::Refused(CloseCode::TooLarge))
            }
            result => {
                self.bounds.room = room_for_a_message(self.sockets);
                let inbound = self.session.inbound(result);
                Poll::Ready(if self.is_too_much(&inbound) {
                    self.sockets.metrics.limited.of(Limit::InboundFrames).inc();
                    Inbound::Refused(CloseCode::PolicyViolation)
                } else {
                    inbound
                })
            }
        }
    }

    /// Whether the client talks too much. What answers the gateway is free: an ack of what came since the last one, a pong.
    fn is_too_much(&mut self, inbound: &Inbound) -> bool {
        let Some(rate) = self.sockets.inbound_frames else { return false };
        let is_charged = match inbound {
            Inbound::Acked { position, .. } => !self.subscription.is_news(*position),
            Inbound::Alive | Inbound::Refresh(_) => true,
            Inbound::Answered(_) | Inbound::Goodbye(_) | Inbound::Refused(_) | Inbound::Broken => false,
        };
        is_charged && !self.bounds.allowance.take(rate, Instant::now())
    }
}

/// Bytes in which a message has to be complete, framing and what is read with it included.
fn room_for_a_message(sockets: &Sockets) -> usize {
    MAX_FRAMING * sockets.max_inbound_frame + READ_BUFFER_BYTES
}

/// How a socket is read: small buffers, and no message of a client larger than `max_inbound_frame`, in bytes.
#[must_use]
pub fn websocket_config(max_inbound_frame: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        // Only pongs and the answer to a close pass through tungstenite's own buffer.
        .write_buffer_size(0)
        .max_write_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(max_inbound_frame))
        .max_frame_size(Some(max_inbound_frame))
}
