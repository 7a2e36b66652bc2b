//! What a session decides, without a socket: how it answers what the client sends, when its heart beats, and what it acks for
//! a client that does not ack itself.

use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};

use crate::domain::{Position, Secret, TraceContext};
use crate::edge::{AckMode, Pace};
use crate::protocol::{ClientFrame, CloseCode, InvalidClientFrame};

/// The least time between two pings that ask for an ack.
const ACK_PERIOD: Duration = Duration::from_millis(250);

/// A session's decisions.
pub(super) struct Session {
    pace: Pace,
    write_timeout: Duration,
    next_beat: Instant,
    /// A ping went out and nothing came since.
    unanswered: bool,
    /// Since when the socket takes no bytes although some wait.
    stalled_since: Option<Instant>,
    /// `None` if the client acks itself.
    auto_ack: Option<AutoAck>,
}

/// Acking for a client that does not: a ping goes out behind what was written and carries the number up to which that is;
/// its pong says that the client has read so far. A write alone says nothing, it only fills a buffer of the kernel.
struct AutoAck {
    /// What was written up to.
    written: u64,
    /// What was asked for last.
    asked: u64,
    /// The question is not answered yet.
    outstanding: bool,
    /// The next question comes no sooner.
    not_before: Instant,
}

/// Whether a ping shall ask for an ack now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// With this number.
    Now(u64),
    /// The deadline moved nearer.
    Later,
    /// There is nothing to ask.
    Nothing,
}

/// What time asks of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing yet.
    Wait,
    /// Send a heartbeat frame and a ping.
    Send,
    /// End the session.
    Close(CloseCode),
}

/// What became of an attempt to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    /// The client is alive and asks nothing.
    Alive,
    /// The client has everything up to this position.
    Acked { position: Position, after: Option<Position>, trace: Option<TraceContext> },
    /// The client has read everything up to this number.
    Answered(u64),
    /// The client has a new token.
    Refresh(Secret),
    /// The client said goodbye with this code.
    Goodbye(Option<u16>),
    /// The client broke a rule.
    Refused(CloseCode),
    /// The connection is gone.
    Broken,
}

impl Session {
    pub(super) fn new(
        period: Duration,
        write_timeout: Duration,
        acks: AckMode,
        start: u64,
        now: Instant,
        seed: u64,
    ) -> Self {
        let mut session = Self {
            pace: Pace::new(period, seed),
            write_timeout,
            next_beat: now,
            unanswered: false,
            stalled_since: None,
            auto_ack: (acks == AckMode::Auto).then_some(AutoAck {
                written: start,
                asked: start,
                outstanding: false,
                not_before: now,
            }),
        };
        session.schedule_beat(now);
        session
    }

    /// When [`Session::beat`] wants to be asked.
    pub(super) fn deadline(&self) -> Instant {
        let stall = self.stalled_since.map(|since| since + self.write_timeout);
        let question = self.auto_ack.as_ref().filter(|acks| acks.has_question()).map(|acks| acks.not_before);
        [stall, question].into_iter().flatten().fold(self.next_beat, Instant::min)
    }

    /// Notes that everything up to `number` is about to be written; says whether to ask for an ack behind it.
    pub(super) fn ask(&mut self, number: u64, now: Instant) -> Ask {
        let Some(acks) = &mut self.auto_ack else { return Ask::Nothing };
        acks.written = acks.written.max(number);
        if !acks.has_question() {
            return Ask::Nothing;
        }
        if now < acks.not_before {
            return Ask::Later;
        }
        acks.asked = acks.written;
        acks.outstanding = true;
        acks.not_before = now + ACK_PERIOD;
        Ask::Now(acks.asked)
    }

    /// The question behind the last frame of a session that ends: `None` if one that covers everything is out already, or nothing
    /// is left to ask. Nobody waits for an earlier answer any more.
    pub(super) fn last_question(&mut self) -> Option<u64> {
        let acks = self.auto_ack.as_mut().filter(|acks| acks.written > acks.asked)?;
        acks.asked = acks.written;
        acks.outstanding = true;
        Some(acks.asked)
    }

    /// How long the answer that has just come took.
    pub(super) fn round_trip(&self, now: Instant) -> Option<Duration> {
        let asked = self.auto_ack.as_ref()?.not_before - ACK_PERIOD;
        Some(now.saturating_duration_since(asked))
    }

    /// What a heartbeat's ping carries: the question that is out, if one is. A client may answer only the latest ping (RFC 6455
    /// §5.5.3), and whoever answers this one has read all that went before.
    pub(super) fn heartbeat_payload(&self) -> Option<u64> {
        self.auto_ack.as_ref().filter(|acks| acks.outstanding).map(|acks| acks.asked)
    }

    /// What the time `now` asks for.
    pub(super) fn beat(&mut self, now: Instant) -> Beat {
        if self.stalled_since.is_some_and(|since| now >= since + self.write_timeout) {
            return Beat::Close(CloseCode::NoWriteProgress);
        }
        if now < self.next_beat {
            return Beat::Wait;
        }
        if self.unanswered {
            return Beat::Close(CloseCode::NoHeartbeatAnswer);
        }
        self.unanswered = true;
        self.schedule_beat(now);
        Beat::Send
    }

    /// Notes how a write went; returns whether the deadline may have moved nearer.
    pub(super) fn wrote(&mut self, bytes: usize, all: bool, now: impl FnOnce() -> Instant) -> bool {
        if bytes > 0 && self.stalled_since.is_some() {
            // The kernel's buffer was full and has room again: the client reads, however slowly. Its answer to a ping may
            // still lie behind megabytes.
            self.unanswered = false;
        }
        if all {
            self.stalled_since = None;
            return false;
        }
        if bytes > 0 || self.stalled_since.is_none() {
            self.stalled_since = Some(now());
            return true;
        }
        false
    }

    /// Whether the last flush could not write everything.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled_since.is_some()
    }

    /// Judges what came from the client.
    pub(super) fn inbound(&mut self, message: Result<Message, Error>) -> Inbound {
        let message = match message {
            Ok(message) => message,
            Err(error) => return refusal(&error),
        };
        self.unanswered = false;
        match message {
            Message::Text(text) => match ClientFrame::parse(text.as_str()) {
                Ok(ClientFrame::Ack { position, after, trace }) => Inbound::Acked { position, after, trace },
                Ok(ClientFrame::Refresh { token }) => Inbound::Refresh(token),
                Err(InvalidClientFrame::NotAFrame) => Inbound::Refused(CloseCode::InvalidData),
                Err(InvalidClientFrame::UnknownType) => Inbound::Refused(CloseCode::UnsupportedData),
            },
            Message::Binary(_) => Inbound::Refused(CloseCode::UnsupportedData),
            Message::Pong(payload) => self.answered(&payload),
            Message::Ping(_) | Message::Frame(_) => Inbound::Alive,
            Message::Close(frame) => Inbound::Goodbye(frame.map(|frame| frame.code.into())),
        }
    }

    /// Only the answer to the question that is out counts: a client may send pongs of its own.
    fn answered(&mut self, payload: &[u8]) -> Inbound {
        match &mut self.auto_ack {
            Some(acks) if acks.outstanding && payload == acks.asked.to_be_bytes() => {
                acks.outstanding = false;
                Inbound::Answered(acks.asked)
            }
            _ => Inbound::Alive,
        }
    }

    fn schedule_beat(&mut self, now: Instant) {
        self.next_beat = now + self.pace.pause();
    }
}

impl AutoAck {
    fn has_question(&self) -> bool {
        !self.outstanding && self.written > self.asked
    }
}

fn refusal(error: &Error) -> Inbound {
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => Inbound::Broken,
        Error::ConnectionClosed | Error::AlreadyClosed => Inbound::Goodbye(None),
        Error::Capacity(_) => Inbound::Refused(CloseCode::TooLarge),
        Error::Utf8(_) => Inbound::Refused(CloseCode::InvalidData),
        Error::Protocol(_) => Inbound::Refused(CloseCode::ProtocolError),
        _ => Inbound::Refused(CloseCode::InternalError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(25);
    const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

    fn session() -> (Session, Instant) {
        let now = Instant::now();
        (Session::new(PERIOD, WRITE_TIMEOUT, AckMode::Auto, 5, now, 7), now)
    }

    #[test]
    fn a_client_that_answers_lives_and_one_that_does_not_is_closed() {
        let (mut session, start) = session();
        assert_eq!(session.beat(start), Beat::Wait);
        let first = session.deadline();
        assert_eq!(session.beat(first), Beat::Send);
        assert_eq!(session.inbound(Ok(Message::Pong("".into()))), Inbound::Alive);
        let second = session.deadline();
        assert_eq!(session.beat(second), Beat::Send);
        let third = session.deadline();
        assert_eq!(session.beat(third), Beat::Close(CloseCode::NoHeartbeatAnswer));
    }

    #[test]
    fn a_socket_that_takes_no_bytes_is_closed_and_any_progress_grants_more_time() {
        let (mut session, start) = session();
        assert!(session.wrote(0, false, || start));
        assert_eq!(session.deadline(), start + WRITE_TIMEOUT);
        let later = start + Duration::from_secs(9);
        assert!(session.wrote(1, false, || later));
        assert_eq!(session.beat(start + WRITE_TIMEOUT), Beat::Wait);
        assert_eq!(session.beat(later + WRITE_TIMEOUT), Beat::Close(CloseCode::NoWriteProgress));
        session.wrote(5, true, || later);
        assert_eq!(session.beat(later + WRITE_TIMEOUT), Beat::Wait);
    }

    #[test]
    fn a_client_that_reads_slowly_is_alive_although_its_answer_is_late() {
        let (mut session, start) = session();
        assert!(session.wrote(10, false, || start));
        assert_eq!(
            session.beat(session.deadline().max(start + PERIOD * 12 / 10)),
            Beat::Close(CloseCode::NoWriteProgress)
        );
        let (mut session, start) = self::session();
        let first = session.deadline();
        assert_eq!(session.beat(first), Beat::Send);
        session.wrote(10, false, || start);
        session.wrote(10, true, || start);
        let second = session.deadline();
        assert_eq!(session.beat(second), Beat::Send, "it took bytes although its buffer was full");
        session.wrote(10, true, || start);
        let third = session.deadline();
        assert_eq!(
            session.beat(third),
            Beat::Close(CloseCode::NoHeartbeatAnswer),
            "a write alone is no sign of life"
        );
    }

    #[test]
    fn a_pong_acks_what_was_written_before_its_ping_and_questions_are_rare() {
        let (mut session, start) = session();
        let pong = |number: u64| Ok(Message::Pong(number.to_be_bytes().to_vec().into()));
        assert_eq!(session.ask(5, start), Ask::Nothing, "nothing was written behind the start");
        assert_eq!(session.inbound(pong(5)), Inbound::Alive, "nobody asked");
        assert_eq!(session.ask(7, start), Ask::Now(7));
        assert_eq!(session.ask(8, start + ACK_PERIOD * 2), Ask::Nothing, "one question at a time");
        assert_eq!(session.inbound(pong(8)), Inbound::Alive, "that was not asked yet");
        assert_eq!(session.inbound(pong(7)), Inbound::Answered(7));
        assert_eq!(session.inbound(pong(7)), Inbound::Alive, "an answer counts once");
        assert_eq!(session.ask(8, start), Ask::Later);
        assert_eq!(session.deadline(), start + ACK_PERIOD);
        assert_eq!(session.ask(8, start + ACK_PERIOD), Ask::Now(8));
        assert_eq!(session.heartbeat_payload(), Some(8), "the latest ping asks what the one before it asked");
        assert_eq!(session.inbound(pong(8)), Inbound::Answered(8));
        assert_eq!(session.heartbeat_payload(), None);
        let mut own = Session::new(PERIOD, WRITE_TIMEOUT, AckMode::Client, 0, start, 7);
        assert_eq!(own.ask(7, start), Ask::Nothing, "this client acks itself");
        let position = Position::new(crate::domain::Epoch::from_bits(7), 9);
        let frame = format!(r#"{{"type":"ack","position":"{position}"}}"#);
        assert_eq!(
            own.inbound(Ok(Message::Text(frame.into()))),
            Inbound::Acked { position, after: None, trace: None }
        );
    }

    #[test]
    fn whoever_leaves_is_asked_once_more_unless_that_question_is_out() {
        let (mut session, start) = session();
        let pong = |number: u64| Ok(Message::Pong(number.to_be_bytes().to_vec().into()));
        assert_eq!(session.last_question(), None, "nothing was written behind the start");
        assert_eq!(session.ask(7, start), Ask::Now(7));
        assert_eq!(session.last_question(), None, "that one covers everything");
        assert_eq!(session.ask(8, start), Ask::Nothing);
        assert_eq!(session.last_question(), Some(8), "although one is out, and at once");
        assert_eq!(session.inbound(pong(8)), Inbound::Answered(8));
        assert_eq!(session.last_question(), None);
        let mut own = Session::new(PERIOD, WRITE_TIMEOUT, AckMode::Client, 0, start, 7);
        assert_eq!(own.ask(7, start), Ask::Nothing);
        assert_eq!(own.last_question(), None, "this client acks itself");
    }

    #[test]
    fn rubbish_is_answered_with_the_code_of_its_kind() {
        let (mut session, _) = session();
        let mut answer = |message| session.inbound(message);
        assert_eq!(answer(Ok(Message::Text("hello".into()))), Inbound::Refused(CloseCode::InvalidData));
        assert_eq!(
            answer(Ok(Message::Text(r#"{"type":"x"}"#.into()))),
            Inbound::Refused(CloseCode::UnsupportedData)
        );
        assert_eq!(answer(Ok(Message::Binary("x".into()))), Inbound::Refused(CloseCode::UnsupportedData));
        assert_eq!(answer(Err(Error::Utf8(String::new()))), Inbound::Refused(CloseCode::InvalidData));
        assert_eq!(
            answer(Err(Error::Protocol(ProtocolError::UnmaskedFrameFromClient))),
            Inbound::Refused(CloseCode::ProtocolError)
        );
        assert_eq!(
            answer(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))),
            Inbound::Broken
        );
        assert_eq!(answer(Ok(Message::Close(None))), Inbound::Goodbye(None));
    }
}
