//! How a session leaves: the rest goes out, the last acks come in, then goodbye.

use std::future::poll_fn;

use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::{Connection, End, Event};
use crate::protocol::{CloseCode, ServerFrame};
use crate::ws::goodbye::{CLOSE_TIMEOUT, answer_close, flush, linger};
use crate::ws::session::Inbound;

impl Connection<'_> {
    /// Sends what waits in the mailbox.
    async fn send_rest(&mut self) -> Result<(), End> {
        loop {
            self.pull().await?;
            flush(&mut self.stream, &mut self.outbox).await.map_err(|_| End::Network)?;
            self.count_written();
            if !std::mem::take(&mut self.more) {
                return Ok(());
            }
        }
    }

    /// Sends the rest and waits until the client has acked what is its to ack; returns how the session ended if that was not as
    /// the gateway meant it. Inputs: the socket, both ways.
    ///
    /// What comes into the mailbox meanwhile waits there for the next session.
    async fn settle(&mut self) -> Result<(), End> {
        self.send_rest().await?;
        if let Some(number) = self.session.last_question() {
            self.outbox.ping(&number.to_be_bytes());
        }
        while self.subscription.awaits_ack() {
            match poll_fn(|context| self.poll_socket(context)).await {
                Event::Inbound(Inbound::Acked { position, after, trace }) => {
                    self.acked_by_frame(position, after, trace);
                }
                Event::Inbound(Inbound::Answered(number)) => self.acked_by_pong(number),
                Event::Inbound(Inbound::Goodbye(code)) => return Err(End::Client(code)),
                Event::Inbound(Inbound::Broken) => return Err(End::Network),
                // It shall leave anyway.
                Event::Inbound(Inbound::Refused(_)) => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Leaves the registry, then says goodbye as the end demands, within [`CLOSE_TIMEOUT`].
    pub(in crate::ws) async fn finish(self: Box<Self>, end: End) {
        let sockets = self.sockets;
        tokio::select! {
            biased;
            () = sockets.lifecycle.cutting() => {}
            () = self.say_goodbye(end) => {}
        }
    }

    async fn say_goodbye(mut self: Box<Self>, mut end: End) {
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        if end == End::Server(CloseCode::Drain) {
            // What was accepted a moment ago still goes out; for a client that does not read it waits in the mailbox. Acks that
            // do not come in time only mean that the successor sends again what the client knows to drop.
            if let Ok(Err(other)) = tokio::time::timeout(CLOSE_TIMEOUT / 2, self.settle()).await
                && !matches!(other, End::Server(_))
            {
                end = other;
            }
        }
        let Self { mut stream, mut websocket, mut outbox, subscription, sockets, .. } = *self;
        drop(subscription);
        let goodbye = async {
            match end {
                End::Server(code) => {
                    if let Some(reconnect_in_ms) = sockets.advice.before(code) {
                        outbox.text(|out| out.extend(ServerFrame::Drain { reconnect_in_ms }.to_json()));
                    }
                    outbox.close(code.number(), code.reason());
                    flush(&mut stream, &mut outbox).await?;
                    stream.shutdown().await?;
                    linger(&mut stream).await
                }
                End::Client(_) => {
                    answer_close(&mut stream, &mut websocket, &mut outbox, &sockets.metrics).await;
                    flush(&mut stream, &mut outbox).await?;
                    stream.shutdown().await
                }
                End::Network => Ok(()),
            }
        };
        // Whether the other side still listens does not change how the session ended.
        let _ = tokio::time::timeout_at(deadline, goodbye).await;
    }
}
