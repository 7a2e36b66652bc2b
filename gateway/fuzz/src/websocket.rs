//! What a client's WebSocket sends, byte for byte: the library behind the gateway's socket, with the gateway's bounds.

use std::io::{self, Read, Write};

use gateway::ws::websocket_config;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

/// The default of `sessions.max_inbound_frame`.
const MAX_FRAME_BYTES: usize = 4_096;

/// What the library says to a client that closes with a code of its own making.
const VIOLATION: &str = "Protocol violation";

/// How a client's bytes end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More has to come.
    Waiting,
    /// The client closed.
    Closed,
    /// A rule of the protocol or a bound is broken.
    Broken,
}

/// Every frame means what RFC 6455 says, however the bytes are cut up on their way, and is refused where a rule is broken;
/// what goes back is
/// no more than what came, and perhaps a reason.
pub fn websocket(input: &[u8]) {
    let Some((cut, bytes)) = input.split_first() else { return };
    let (messages, end, answers) = read(bytes, usize::MAX);
    let (expected, expected_end, complete) = by_the_book(bytes);
    assert_eq!(messages, expected);
    if complete {
        assert_eq!(end, expected_end);
    } else {
        assert_ne!(end, End::Closed);
    }
    let most = bytes.len() + VIOLATION.len();
    assert!(answers.len() <= most, "{} bytes are answered with {}", bytes.len(), answers.len());
    let in_pieces = read(bytes, 1 + usize::from(*cut % 64));
    assert_eq!((messages, end, answers), in_pieces, "where the bytes are cut does not matter");
    for message in &expected {
        if let Message::Text(text) = message {
            super::client_frame(text.as_bytes());
        }
    }
}

/// A client that sends these bytes, at most so many at once, and then nothing.
struct Client<'a> {
    bytes: &'a [u8],
    at_once: usize,
    received: Vec<u8>,
}

impl Read for Client<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.bytes.len().min(self.at_once).min(buffer.len());
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.received.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the gateway's socket makes of them, and what it answers of its own accord.
fn read(bytes: &[u8], at_once: usize) -> (Vec<Message>, End, Vec<u8>) {
    let mut client = Client { bytes, at_once, received: Vec::new() };
    let mut socket = WebSocketContext::new(Role::Server, Some(websocket_config(MAX_FRAME_BYTES)));
    let mut messages = Vec::new();
    let end = loop {
        match socket.read(&mut client) {
            Ok(message) => {
                assert!(message.len() <= MAX_FRAME_BYTES);
                let closes = message.is_close();
                messages.push(message);
                if closes {
                    break End::Closed;
                }
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break End::Waiting,
            Err(Error::Protocol(_) | Error::Capacity(_) | Error::Utf8(_)) => break End::Broken,
            Err(error) => panic!("nothing else can go wrong here: {error:?}"),
        }
        assert!(messages.len() <= bytes.len() / 6, "a frame of a client has at least six bytes");
    };
    (messages, end, client.received)
}

/// A message whose last fragment has not come.
struct Unfinished {
    text: bool,
    payload: Vec<u8>,
}

/// The same by RFC 6455, read frame by frame as it stands there. `true` unless the last frame is there only in part: a
/// broken rule in that may be seen at once or later.
fn by_the_book(mut bytes: &[u8]) -> (Vec<Message>, End, bool) {
    let mut messages = Vec::new();
    let mut unfinished: Option<Unfinished> = None;
    while !bytes.is_empty() {
        let Some((frame, rest)) = Frame::split(bytes) else { return (messages, End::Waiting, false) };
        bytes = rest;
        let Ok(message) = frame.add_to(&mut unfinished) else { return (messages, End::Broken, true) };
        let closes = message.as_ref().is_some_and(Message::is_close);
        messages.extend(message);
        if closes {
            return (messages, End::Closed, true);
        }
    }
    (messages, End::Waiting, true)
}

/// One frame (§5.2).
struct Frame {
    last: bool,
    reserved: u8,
    opcode: u8,
    masked: bool,
    /// `None`: longer than is allowed, so nobody waits until it is there.
    payload: Option<Vec<u8>>,
}

/// A broken rule.
struct Broken;

impl Frame {
    /// The first frame and what follows it, if all of it is there.
    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (length, rest) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), rest),
        };
        let masked = second & 0x80 != 0;
        let (mask, rest) = if masked { rest.split_first_chunk()? } else { (&[0; 4], rest) };
        let mut frame = Self {
            last: first & 0x80 != 0,
            reserved: first & 0x70,
            opcode: first & 0xf,
            masked,
            payload: None,
        };
        if length > MAX_FRAME_BYTES as u64 {
            return Some((frame, rest));
        }
        let (payload, rest) = rest.split_at_checked(length as usize)?;
        frame.payload =
            Some(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect());
        Some((frame, rest))
    }

    /// What it means after the fragments before it.
    fn add_to(self, unfinished: &mut Option<Unfinished>) -> Result<Option<Message>, Broken> {
        let payload = self.payload.ok_or(Broken)?;
        if self.reserved != 0 || !self.masked {
            return Err(Broken);
        }
        if self.opcode >= 8 {
            return if self.last && payload.len() <= 125 {
                control(self.opcode, payload).map(Some)
            } else {
                Err(Broken)
            };
        }
        let mut message = match (self.opcode, unfinished.take()) {
            (0, Some(begun)) => begun,
            (1 | 2, None) => Unfinished { text: self.opcode == 1, payload: Vec::new() },
            _ => return Err(Broken),
        };
        message.payload.extend(payload);
        if message.payload.len() > MAX_FRAME_BYTES {
            return Err(Broken);
        }
        if message.text
            && let Err(error) = std::str::from_utf8(&message.payload)
            && (self.last || error.error_len().is_some())
        {
            return Err(Broken);
        }
        if !self.last {
            *unfinished = Some(message);
            return Ok(None);
        }
        Ok(Some(match String::from_utf8(message.payload) {
            Ok(text) if message.text => Message::text(text),
            Ok(text) => Message::binary(text.into_bytes()),
            Err(error) => Message::binary(error.into_bytes()),
        }))
    }
}

/// A control frame (§5.5).
fn control(opcode: u8, payload: Vec<u8>) -> Result<Message, Broken> {
    match opcode {
        8 => match payload.split_first_chunk::<2>() {
            None if payload.is_empty() => Ok(Message::Close(None)),
            None => Err(Broken),
            Some((code, reason)) => {
                let reason = String::from_utf8(reason.to_vec()).map_err(|_| Broken)?;
                let code = CloseCode::from(u16::from_be_bytes(*code));
                // A code that must not be sent (§7.4): the library tells its own instead, to both sides.
                let frame = if code.is_allowed() {
                    CloseFrame { code, reason: reason.into() }
                } else {
                    CloseFrame { code: CloseCode::Protocol, reason: VIOLATION.into() }
                };
                Ok(Message::Close(Some(frame)))
            }
        },
        9 => Ok(Message::Ping(payload.into())),
        10 => Ok(Message::Pong(payload.into())),
        _ => Err(Broken),
    }
}
