//! When a connection has had enough time: a state machine of bytes and instants, without a socket or a timer in it.

use std::time::Duration;

use tokio::time::Instant;

use super::framing::{Requests, TooLarge};
use crate::metrics::{Limit, Metrics};

/// An answer that only announces another one (RFC 9110 §15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The beginning of the answer after which the connection is no HTTP any more.
const SWITCHING: &[u8] = b"HTTP/1.1 101";

/// What each connection has to keep to.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the accept to the end of the first request's head, a TLS handshake included.
    pub first_request_timeout: Duration,
    /// For the head of each later request, once it has begun.
    pub header_timeout: Duration,
    /// Without a byte in either direction.
    pub keep_alive: Duration,
    /// Without a byte that the client takes, while there are some for it.
    pub write_timeout: Duration,
    /// Bytes of one request's head.
    pub max_header: usize,
}

/// What one connection does, as far as its deadlines depend on it.
#[derive(Debug)]
pub(super) struct Watch {
    requests: Requests,
    /// Requests whose answer has not begun.
    owed: u32,
    /// Everything that was said to the client has left: what is written next begins an answer.
    between_answers: bool,
    head: HeadDeadline,
    /// When the last byte was read or written.
    active: Instant,
    /// Since when the client takes nothing.
    stalled: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum HeadDeadline {
    First(Instant),
    Later(Instant),
    /// No head has begun, or its request has to wait for the answer to the one before.
    None,
}

/// What took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    FirstRequest,
    Head,
    AnyByte,
    Write,
}

impl Watch {
    pub(super) fn new(deadlines: &Deadlines, now: Instant) -> Self {
        Self {
            requests: Requests::new(deadlines.max_header),
            owed: 0,
            between_answers: true,
            head: HeadDeadline::First(now + deadlines.first_request_timeout),
            active: now,
            stalled: None,
        }
    }

    /// Takes what was read.
    pub(super) fn read(&mut self, bytes: &[u8], deadlines: &Deadlines, now: Instant) -> Result<(), TooLarge> {
        self.active = now;
        let heads = self.requests.take(bytes)?;
        if heads > 0 {
            self.owed = if self.requests.is_http2() { 0 } else { self.owed.saturating_add(heads) };
            self.head = HeadDeadline::None;
        }
        self.begin_head(deadlines, now);
        Ok(())
    }

    /// Takes what was written, the first `written` bytes of `offered`; returns whether the connection is no HTTP any more.
    ///
    /// That is believed of the beginning of an answer only: what else is written may repeat what a client once said. And only
    /// if nothing but a request for an upgrade is owed an answer.
    pub(super) fn wrote(
        &mut self,
        offered: &[u8],
        written: usize,
        deadlines: &Deadlines,
        now: Instant,
    ) -> bool {
        if written == 0 {
            return false;
        }
        self.active = now;
        self.stalled = None;
        let begins = std::mem::take(&mut self.between_answers);
        let answer = offered.strip_prefix(CONTINUE).unwrap_or(offered);
        if self.owed == 0 || answer.is_empty() {
            return false;
        }
        let may_switch = begins && self.owed == 1 && self.requests.awaits_upgrade();
        self.owed -= 1;
        self.begin_head(deadlines, now);
        may_switch && answer.starts_with(SWITCHING)
    }

    /// The client takes no bytes although there are some for it.
    pub(super) fn stalled(&mut self, now: Instant) {
        self.stalled.get_or_insert(now);
    }

    /// There are no bytes left that the client could take; hyper flushes only what it has written to the last byte.
    pub(super) fn flushed(&mut self) {
        self.stalled = None;
        self.between_answers = true;
    }

    /// A head of which bytes are read while an earlier request is worked on has to wait, through no fault of the client.
    fn begin_head(&mut self, deadlines: &Deadlines, now: Instant) {
        if self.owed == 0 && matches!(self.head, HeadDeadline::None) && self.requests.is_within_head() {
            self.head = HeadDeadline::Later(now + deadlines.header_timeout);
        }
    }

    /// Whether an answer of one's own would be taken for the answer to this request.
    pub(super) fn owes_nothing(&self) -> bool {
        self.owed == 0
    }

    /// What ends the connection next, and when.
    pub(super) fn next(&self, deadlines: &Deadlines) -> (Instant, Overdue) {
        let head = match self.head {
            HeadDeadline::First(deadline) => (deadline, Overdue::FirstRequest),
            HeadDeadline::Later(deadline) if deadline < self.active + deadlines.keep_alive => {
                (deadline, Overdue::Head)
            }
            _ => (self.active + deadlines.keep_alive, Overdue::AnyByte),
        };
        match self.stalled {
            Some(since) if since + deadlines.write_timeout < head.0 => {
                (since + deadlines.write_timeout, Overdue::Write)
            }
            _ => head,
        }
    }
}

impl Overdue {
    pub(super) fn count(self, metrics: &Metrics) {
        let limit = match self {
            Self::FirstRequest => {
                metrics.first_request_timeouts.inc();
                Limit::HeaderTimeout
            }
            Self::Head => Limit::HeaderTimeout,
            Self::AnyByte => Limit::KeepAlive,
            Self::Write => Limit::WriteTimeout,
        };
        metrics.limited.of(limit).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        first_request_timeout: Duration::from_secs(10),
        header_timeout: Duration::from_secs(5),
        keep_alive: Duration::from_secs(75),
        write_timeout: Duration::from_secs(30),
        max_header: 1_024,
    };
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

    /// A watch, and an instant so many seconds after its beginning.
    fn begun() -> (Watch, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Watch::new(&DEADLINES, start), move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_request_has_one_deadline_however_it_drips_and_later_ones_have_theirs() {
        let (mut watch, at) = begun();
        watch.read(b"GET / HT", &DEADLINES, at(9)).unwrap();
        assert_eq!(watch.next(&DEADLINES), (at(10), Overdue::FirstRequest));
        watch.read(&[b"TP/1.1\r\n\r\n", REQUEST].concat()[..], &DEADLINES, at(9)).unwrap();
        assert_eq!(watch.next(&DEADLINES), (at(84), Overdue::AnyByte));
        assert!(!watch.wrote(ANSWER, 1, &DEADLINES, at(20)));
        assert!(!watch.wrote(ANSWER, 1, &DEADLINES, at(20)));
        watch.read(b"G", &DEADLINES, at(21)).unwrap();
        watch.read(b"E", &DEADLINES, at(25)).unwrap();
        assert_eq!(watch.next(&DEADLINES), (at(26), Overdue::Head));
    }

    #[test]
    fn a_head_that_waits_for_the_answer_before_it_is_given_its_whole_time_afterwards() {
        let (mut watch, at) = begun();
        watch.read(&[REQUEST, b"GET"].concat(), &DEADLINES, at(1)).unwrap();
        assert_eq!(watch.next(&DEADLINES), (at(76), Overdue::AnyByte), "a long handler is not cut");
        assert!(!watch.wrote(CONTINUE, CONTINUE.len(), &DEADLINES, at(2)), "no answer");
        assert_eq!(watch.next(&DEADLINES), (at(77), Overdue::AnyByte));
        assert!(!watch.wrote(ANSWER, ANSWER.len(), &DEADLINES, at(31)));
        assert_eq!(watch.next(&DEADLINES), (at(36), Overdue::Head));
    }

    #[test]
    fn a_write_without_progress_ends_sooner_than_silence() {
        let (mut watch, at) = begun();
        watch.read(REQUEST, &DEADLINES, at(0)).unwrap();
        watch.stalled(at(1));
        watch.stalled(at(9));
        assert_eq!(watch.next(&DEADLINES), (at(31), Overdue::Write));
        watch.wrote(ANSWER, 1, &DEADLINES, at(10));
        assert_eq!(watch.next(&DEADLINES), (at(85), Overdue::AnyByte));
        watch.stalled(at(11));
        watch.flushed();
        assert_eq!(watch.next(&DEADLINES), (at(85), Overdue::AnyByte));
    }

    #[test]
    fn only_an_answer_of_its_own_ends_the_watch() {
        let (mut watch, at) = begun();
        let switching = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        watch.read(UPGRADE, &DEADLINES, at(0)).unwrap();
        assert!(!watch.wrote(ANSWER, ANSWER.len(), &DEADLINES, at(0)));
        assert!(!watch.wrote(switching, switching.len(), &DEADLINES, at(0)), "it is part of a body");
        watch.read(UPGRADE, &DEADLINES, at(0)).unwrap();
        assert!(!watch.wrote(switching, switching.len(), &DEADLINES, at(0)), "it is the rest of that body");
        watch.flushed();
        watch.read(REQUEST, &DEADLINES, at(0)).unwrap();
        assert!(!watch.wrote(switching, switching.len(), &DEADLINES, at(0)), "nobody asked for it");
        watch.flushed();
        watch.read(UPGRADE, &DEADLINES, at(0)).unwrap();
        assert!(watch.wrote(switching, switching.len(), &DEADLINES, at(0)));
    }

    #[test]
    fn an_upgrade_has_no_other_request_before_or_behind_it() {
        let switching = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        for requests in [[REQUEST, UPGRADE], [UPGRADE, UPGRADE], [UPGRADE, REQUEST], [UPGRADE, b"G"]] {
            let (mut watch, at) = begun();
            watch.read(&requests.concat(), &DEADLINES, at(0)).unwrap();
            assert!(!watch.wrote(switching, switching.len(), &DEADLINES, at(0)));
        }
    }

    #[test]
    fn http2_is_given_time_as_long_as_it_says_something() {
        let (mut watch, at) = begun();
        watch.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET", &DEADLINES, at(3)).unwrap();
        watch.read(b"GET / HTTP", &DEADLINES, at(4)).unwrap();
        assert_eq!(watch.next(&DEADLINES), (at(79), Overdue::AnyByte));
        assert!(!watch.wrote(b"HTTP/1.1 101", 12, &DEADLINES, at(5)));
    }
}
