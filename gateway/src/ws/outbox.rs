//! The bytes a socket still has to send: whole WebSocket frames (RFC 6455 §5.2, unmasked as from a server).
//!
//! Everything a session sends goes through here, tungstenite's own pongs included, so that frames never interleave and one
//! flush is one write. A frame is composed in place: no copy for the library, no buffer that stays large after a burst.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Beyond this, tungstenite has to wait with its pongs: a peer that pings and never reads must not grow the buffer.
pub(super) const MAX_BUFFERED_BYTES: usize = 64 * 1024;

const FINAL: u8 = 0x80;
const TEXT: u8 = FINAL | 0x1;
const CLOSE: u8 = FINAL | 0x8;
const PING: u8 = FINAL | 0x9;

/// The header of a frame of 126 to 65,535 bytes: what nearly every notification has.
const USUAL_HEADER_BYTES: usize = 4;

/// Frames on their way to the socket.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Appends bytes that are frames already.
    pub(super) fn raw(&mut self, frames: &[u8]) {
        self.bytes.extend_from_slice(frames);
    }

    /// Appends a text frame whose payload `write` appends.
    pub(super) fn text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; USUAL_HEADER_BYTES]);
        let payload = self.bytes.len();
        write(&mut self.bytes);
        let length = self.bytes.len() - payload;
        if let Ok(short) = u16::try_from(length)
            && short >= 126
        {
            let [high, low] = short.to_be_bytes();
            self.bytes[start..payload].copy_from_slice(&[TEXT, 126, high, low]);
        } else {
            self.bytes.splice(start..payload, header(TEXT, length));
        }
    }

    /// Appends a ping; `payload` has at most 125 bytes.
    pub(super) fn ping(&mut self, payload: &[u8]) {
        self.bytes.extend(header(PING, payload.len()));
        self.bytes.extend_from_slice(payload);
    }

    /// Appends a close frame.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        self.bytes.extend(header(CLOSE, 2 + reason.len()));
        self.bytes.extend_from_slice(&code.to_be_bytes());
        self.bytes.extend_from_slice(reason.as_bytes());
    }

    /// Writes until everything is sent; then the buffer is given back. Returns how many bytes this call wrote.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> (usize, Poll<io::Result<()>>) {
        let before = self.sent;
        while self.sent < self.bytes.len() {
            match Pin::new(&mut *stream).poll_write(context, &self.bytes[self.sent..]) {
                Poll::Ready(Ok(0)) => {
                    return (self.sent - before, Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(count)) => self.sent += count,
                Poll::Ready(Err(error)) => return (self.sent - before, Poll::Ready(Err(error))),
                Poll::Pending => return (self.sent - before, Poll::Pending),
            }
        }
        let written = self.sent - before;
        *self = Self::default();
        (written, Poll::Ready(Ok(())))
    }
}

fn header(first: u8, length: usize) -> impl Iterator<Item = u8> {
    let (second, extended): (u8, &'static [usize]) = match length {
        0..=125 => (u8::try_from(length).expect("in range"), &[]),
        126..=0xffff => (126, &[1, 0]),
        _ => (127, &[7, 6, 5, 4, 3, 2, 1, 0]),
    };
    let extended = extended.iter().map(move |place| (length >> (8 * place)) as u8);
    [first, second].into_iter().chain(extended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketContext};
    use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

    /// What a client reads from these bytes.
    fn read(bytes: Vec<u8>) -> Vec<Message> {
        let mut stream = std::io::Cursor::new(bytes);
        let mut context = WebSocketContext::new(Role::Client, None);
        std::iter::from_fn(|| context.read(&mut stream).ok()).collect()
    }

    #[test]
    fn a_text_frame_of_any_size_is_read_as_it_was_written() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let mut outbox = Outbox::default();
            let text = "x".repeat(length);
            outbox.ping(b"before");
            outbox.text(|out| out.extend_from_slice(text.as_bytes()));
            assert_eq!(
                read(outbox.bytes),
                [Message::Ping("before".into()), Message::Text(text.into())],
                "{length}"
            );
        }
    }

    #[test]
    fn a_close_frame_carries_code_and_reason() {
        let mut outbox = Outbox::default();
        outbox.close(4009, "too_many_sessions");
        let messages = read(outbox.bytes);
        let Some(Message::Close(Some(frame))) = messages.first() else { panic!("no close frame") };
        assert_eq!((u16::from(frame.code), &frame.reason), (4009, &Utf8Bytes::from("too_many_sessions")));
    }
}
