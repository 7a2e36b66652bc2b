//! Where requests begin and end in the bytes of a connection.
//!
//! Followed only as far as deadlines need it: hyper decides what a request is and refuses what is ambiguous. A head ends at an
//! empty line, a body as its head announces it (RFC 9112 §6).

/// Of each header line so much is kept: `content-length:` with any length of 64 bits fits.
const KEPT_BYTES: usize = 40;

/// Blank lines that may precede a request at any time (RFC 9112 §2.2), in bytes; more of them count as its beginning.
const BLANK_BYTES: usize = 2;

/// The first line of the preface of HTTP/2 (RFC 9113 §3.4), as lines are kept here.
const PREFACE: &[u8] = b"pri*http/2.0";

/// Follows the requests of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    part: Part,
    /// The last byte ended a head that asks for an upgrade and announces no body.
    awaits_upgrade: bool,
    max_header: usize,
}

/// A head is larger than it may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

#[derive(Debug)]
enum Part {
    Head(Head),
    /// So many bytes of a body are still to come, at least one.
    Body(u64),
    Chunks(Chunk),
    /// Frames, which nobody follows here.
    Http2,
}

#[derive(Debug, Default)]
struct Head {
    size: usize,
    /// Lines that were not empty.
    lines: usize,
    line: Line,
    is_preface: bool,
    is_chunked: bool,
    asks_for_upgrade: bool,
    content_length: u64,
}

/// The beginning of a line in lower case, without white space.
#[derive(Debug)]
struct Line {
    kept: [u8; KEPT_BYTES],
    length: usize,
    is_empty: bool,
}

/// A part of a chunked body (RFC 9112 §7.1).
#[derive(Debug)]
enum Chunk {
    Size { value: u64, complete: bool },
    Data(u64),
    DataEnd,
    Trailer { line_is_empty: bool },
}

impl Requests {
    pub(super) fn new(max_header: usize) -> Self {
        Self { part: Part::Head(Head::default()), awaits_upgrade: false, max_header }
    }

    /// Takes what the client sent; returns how many heads ended in it.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<u32, TooLarge> {
        let mut heads = 0;
        self.awaits_upgrade &= bytes.is_empty();
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.part {
                Part::Head(head) => {
                    head.size += 1;
                    if head.size > self.max_header {
                        return Err(TooLarge);
                    }
                    if head.ends_with(*first) {
                        heads += 1;
                        let asks_for_upgrade = head.asks_for_upgrade;
                        self.part = head.followed_by();
                        self.awaits_upgrade =
                            asks_for_upgrade && rest.is_empty() && matches!(self.part, Part::Head(_));
                    }
                    bytes = rest;
                }
                Part::Body(left) => {
                    bytes = skip(bytes, left);
                    if *left == 0 {
                        self.part = Part::Head(Head::default());
                    }
                }
                Part::Chunks(Chunk::Data(left)) => {
                    bytes = skip(bytes, left);
                    if *left == 0 {
                        self.part = Part::Chunks(Chunk::DataEnd);
                    }
                }
                Part::Chunks(chunk) => {
                    if chunk.is_last_with(*first) {
                        self.part = Part::Head(Head::default());
                    }
                    bytes = rest;
                }
                Part::Http2 => break,
            }
        }
        Ok(heads)
    }

    /// Whether a head has begun and not ended.
    pub(super) fn is_within_head(&self) -> bool {
        matches!(&self.part, Part::Head(head) if head.lines > 0 || !head.line.is_empty || head.size > BLANK_BYTES)
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.part, Part::Http2)
    }

    /// Whether the last request asks for an upgrade and nothing follows it: its client waits until it may speak otherwise
    /// (RFC 6455 §4.1).
    pub(super) fn awaits_upgrade(&self) -> bool {
        self.awaits_upgrade
    }
}

/// Leaves out what belongs to a body.
fn skip<'a>(bytes: &'a [u8], left: &mut u64) -> &'a [u8] {
    let skipped = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= skipped as u64;
    &bytes[skipped..]
}

impl Head {
    /// Whether it ends with this byte.
    fn ends_with(&mut self, byte: u8) -> bool {
        if byte != b'\n' {
            self.line.push(byte);
            return false;
        }
        if self.line.is_empty {
            return self.lines > 0;
        }
        self.lines += 1;
        let line = self.line.text();
        self.is_preface = self.lines == 1 && line == PREFACE;
        if let Some(length) = line.strip_prefix(b"content-length:") {
            // What is no number is refused above: then nothing follows.
            self.content_length =
                std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        }
        self.is_chunked |= line.starts_with(b"transfer-encoding:");
        self.asks_for_upgrade |= line.starts_with(b"upgrade:");
        self.line = Line::default();
        false
    }

    fn followed_by(&self) -> Part {
        match self {
            Self { is_preface: true, .. } => Part::Http2,
            Self { is_chunked: true, .. } => Part::Chunks(Chunk::START),
            Self { content_length: 0, .. } => Part::Head(Self::default()),
            Self { content_length, .. } => Part::Body(*content_length),
        }
    }
}

impl Line {
    fn push(&mut self, byte: u8) {
        if byte == b'\r' {
            return;
        }
        self.is_empty = false;
        if !matches!(byte, b' ' | b'\t')
            && let Some(place) = self.kept.get_mut(self.length)
        {
            *place = byte.to_ascii_lowercase();
            self.length += 1;
        }
    }

    fn text(&self) -> &[u8] {
        &self.kept[..self.length]
    }
}

impl Default for Line {
    fn default() -> Self {
        Self { kept: [0; KEPT_BYTES], length: 0, is_empty: true }
    }
}

impl Chunk {
    const START: Self = Self::Size { value: 0, complete: false };

    /// Whether the whole body ends with this byte, which is none of the data.
    fn is_last_with(&mut self, byte: u8) -> bool {
        match self {
            Self::Size { value, .. } if byte == b'\n' => {
                *self = if *value == 0 { Self::Trailer { line_is_empty: true } } else { Self::Data(*value) };
            }
            Self::Size { value, complete } => match char::from(byte).to_digit(16) {
                Some(digit) if !*complete => *value = value.saturating_mul(16).saturating_add(digit.into()),
                // What follows a semicolon is no part of the number.
                _ => *complete = true,
            },
            Self::DataEnd if byte == b'\n' => *self = Self::START,
            Self::Trailer { line_is_empty: true } if byte == b'\n' => return true,
            Self::Trailer { line_is_empty } => {
                *line_is_empty = byte == b'\n' || (*line_is_empty && byte == b'\r');
            }
            Self::DataEnd | Self::Data(_) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1_024;

    /// How many heads end in each of two parts of the bytes, for every cut.
    fn each_cut(bytes: &[u8]) -> impl Iterator<Item = (u32, u32, Requests)> {
        (0..bytes.len()).map(|cut| {
            let mut requests = Requests::new(LIMIT);
            let early = requests.take(&bytes[..cut]).unwrap();
            let late = requests.take(&bytes[cut..]).unwrap();
            (early, late, requests)
        })
    }

    #[test]
    fn the_end_of_a_head_is_found_however_the_bytes_arrive() {
        for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\nGET / HTTP/1.1\nHost: x\n\n"] {
            for (early, late, requests) in each_cut(request.as_bytes()) {
                assert_eq!((early, late), (0, 1), "{request:?}");
                assert!(!requests.is_within_head());
            }
        }
        let mut requests = Requests::new(LIMIT);
        assert_eq!(requests.take(b"GET / HTTP/1.1\r\nHost: x\r\n"), Ok(0));
        assert!(requests.is_within_head());
    }

    #[test]
    fn a_body_is_no_head_whatever_it_looks_like() {
        let bodies = [
            "POST / HTTP/1.1\r\nContent-Length: \t 4\r\n\r\n\r\n\r\n",
            "POST / HTTP/1.1\r\nCONTENT-LENGTH:4\r\nX: y\r\n\r\nGET ",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
             00a;x=5\r\n\r\n\r\n56\r\n\r\n\r\n1\r\nx\r\n0\r\nTrailer: x\r\n\r\n",
        ];
        for body in bodies {
            for (early, late, requests) in each_cut(body.as_bytes()) {
                assert_eq!(early + late, 1, "{body:?}");
                assert!(!requests.is_within_head(), "{body:?}");
                assert!(
                    matches!(&requests.part, Part::Head(head) if head.size == 0),
                    "{body:?}: {requests:?}"
                );
            }
            let twice = body.repeat(2);
            for (early, late, _) in each_cut(twice.as_bytes()) {
                assert_eq!(early + late, 2, "{twice:?}");
            }
        }
    }

    #[test]
    fn an_unfinished_body_is_within_no_head() {
        for beginning in [
            "POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\n{\"to\":",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n6\r\n{\"to\":\r\n0\r\nX: y\r\n",
        ] {
            let mut requests = Requests::new(LIMIT);
            assert_eq!(requests.take(beginning.as_bytes()), Ok(1));
            assert!(!requests.is_within_head(), "{beginning:?}");
            assert!(!matches!(requests.part, Part::Head(_)), "{beginning:?}");
        }
    }

    #[test]
    fn a_head_may_have_so_many_bytes_and_not_one_more() {
        let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(LIMIT - 23));
        assert_eq!(head.len(), LIMIT);
        assert_eq!(Requests::new(LIMIT).take(head.repeat(3).as_bytes()), Ok(3));
        assert_eq!(Requests::new(LIMIT).take(format!("\n{head}").as_bytes()), Err(TooLarge));
        assert_eq!(
            Requests::new(LIMIT).take("\r\n".repeat(LIMIT).as_bytes()),
            Err(TooLarge),
            "blank lines too"
        );
    }

    #[test]
    fn only_many_blank_lines_begin_a_request() {
        let mut requests = Requests::new(LIMIT);
        requests.take(b"\r\n").unwrap();
        assert!(!requests.is_within_head());
        requests.take(b"\r").unwrap();
        assert!(requests.is_within_head());
    }

    #[test]
    fn an_upgrade_is_awaited_until_something_else_is_said() {
        let upgrade = b"GET / HTTP/1.1\r\nUPGRADE : websocket\r\nHost: x\r\n\r\n";
        for (_, _, mut requests) in each_cut(upgrade) {
            assert!(requests.awaits_upgrade());
            requests.take(b"").unwrap();
            assert!(requests.awaits_upgrade());
            requests.take(b"\r").unwrap();
            assert!(!requests.awaits_upgrade());
        }
        for other in [
            &b"GET / HTTP/1.1\r\nX-Upgrade: websocket\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nX: Upgrade: websocket\r\n\r\n",
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\nG",
        ] {
            for (_, _, requests) in each_cut(other) {
                assert!(!requests.awaits_upgrade(), "{:?}", other.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn the_preface_of_http2_ends_the_following() {
        let mut requests = Requests::new(LIMIT);
        assert_eq!(requests.take(b"PRI * HTTP/2.0\r\n"), Ok(0));
        assert!(requests.is_within_head() && !requests.is_http2());
        assert_eq!(requests.take(b"\r\nSM\r\n\r\n"), Ok(1));
        assert!(requests.is_http2() && !requests.is_within_head());
        assert_eq!(requests.take(&[b'x'; 2 * LIMIT]), Ok(0));
        let mut requests = Requests::new(LIMIT);
        requests.take(b"PRI * HTTP/2.0\r\nHost: x\r\n\r\n").unwrap();
        assert!(!requests.is_http2());
    }
}
