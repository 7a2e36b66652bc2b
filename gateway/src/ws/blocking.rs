//! Between a socket that waits and a library that wants to read and write at once.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use poem::Upgraded;
use tokio::io::{AsyncRead, ReadBuf};

use super::outbox::{MAX_BUFFERED_BYTES, Outbox};
use crate::metrics::{Direction, Metrics};

/// The socket as tungstenite wants to see it: reads that would wait say so, writes go to the outbox.
pub(super) struct Blocking<'a, 'b> {
    pub(super) stream: &'a mut Upgraded,
    pub(super) outbox: &'a mut Outbox,
    pub(super) metrics: &'a Metrics,
    /// Bytes that may still be read before a message has to be complete.
    pub(super) room: &'a mut usize,
    pub(super) context: &'a mut Context<'b>,
}

impl Read for Blocking<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Fragments may be empty, and the library reads on until a message is whole: this is what ends one that never is.
        if *self.room == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.stream).poll_read(self.context, &mut buffer) {
            Poll::Ready(result) => {
                result?;
                *self.room = self.room.saturating_sub(buffer.filled().len());
                self.metrics.ws_bytes.of(Direction::In).inc_by(buffer.filled().len() as u64);
                Ok(buffer.filled().len())
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Blocking<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.outbox.len() > MAX_BUFFERED_BYTES {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.outbox.raw(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
