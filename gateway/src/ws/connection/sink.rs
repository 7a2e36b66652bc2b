//! What a subscription reads becomes frames in the outbox.

use crate::delivery::{Frame, FrameSink};
use crate::domain::{Epoch, GapReason, Position};
use crate::edge::Progress;
use crate::protocol::{ServerFrame, write_broadcast_head, write_notification_head};
use crate::telemetry::Attempt;
use crate::ws::Sockets;
use crate::ws::outbox::Outbox;

/// Composes what a subscription reads into frames.
pub(super) struct Sink<'a> {
    pub(super) outbox: &'a mut Outbox,
    pub(super) progress: &'a mut Progress,
    pub(super) sockets: &'a Sockets,
    pub(super) session: u64,
    pub(super) epoch: Epoch,
}

impl Sink<'_> {
    fn note(&mut self, frame: &Frame, position: Option<Position>, live: bool) {
        let delivery = &self.sockets.delivery;
        let attempt = Attempt { session: self.session, protocol: "websocket", position, live };
        self.progress.composed(frame, attempt, true, delivery);
    }
}

impl FrameSink for Sink<'_> {
    fn notification(&mut self, number: u64, prev: u64, frame: &Frame, live: bool) {
        self.outbox.text(|out| {
            write_notification_head(out, self.epoch, number, prev);
            out.extend_from_slice(&frame.body);
        });
        self.note(frame, Some(Position::new(self.epoch, number)), live);
    }

    fn broadcast(&mut self, frame: &Frame) {
        self.outbox.text(|out| {
            write_broadcast_head(out);
            out.extend_from_slice(&frame.body);
        });
        self.note(frame, None, true);
    }

    fn gap(&mut self, after: Position, until: Position, count: Option<u32>, reason: GapReason) {
        self.sockets.metrics.gaps.of(reason).inc();
        let gap = ServerFrame::Gap { after, until, count, reason };
        self.outbox.text(|out| out.extend(gap.to_json()));
    }
}
