//! The one table of close codes.
//!
//! A client can act on the range alone: 4000–4099 do not come back, 4100–4199 come back later, 4200–4299 come back at once.
//! Codes below 4000 are RFC 6455 §7.4 and the registry it opened.

use std::fmt;

/// Who ended a session: the metric label `initiator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// The client sent a close frame.
    Client,
    /// The gateway decided to.
    Server,
    /// The connection broke without a close frame.
    Network,
}

impl Initiator {
    /// Every initiator.
    pub const ALL: [Self; 3] = [Self::Client, Self::Server, Self::Network];

    /// The value of the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Network => "network",
        }
    }
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reason:literal;)*) => {
        /// Why a socket was closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum CloseCode { $($(#[$doc])* $name = $code,)* }

        impl CloseCode {
            /// Every code the gateway knows, in ascending order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code with this number, if it is one of ours.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($code => Some(Self::$name),)* _ => None }
            }

            /// The stable machine-readable word sent as the close reason.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// The number as a metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => stringify!($code),)* }
            }
        }
    };
}

close_codes! {
    /// The client is done.
    Normal = 1000, "normal";
    /// The page was left, or an endpoint goes away for good.
    GoingAway = 1001, "going_away";
    /// The client broke RFC 6455: an unmasked frame, a reserved bit, an unknown opcode.
    ProtocolError = 1002, "protocol_error";
    /// A binary message, or a frame type the gateway does not know.
    UnsupportedData = 1003, "unsupported_data";
    /// Text that is not UTF-8 or not a JSON frame.
    InvalidData = 1007, "invalid_data";
    /// A rule that has no code of its own.
    PolicyViolation = 1008, "policy_violation";
    /// An inbound frame over the limit.
    TooLarge = 1009, "too_large";
    /// The gateway failed while serving this socket; come back.
    InternalError = 1011, "internal_error";
    /// The gateway restarts; the `drain` frame before it says when to come back.
    Drain = 1012, "drain";
    /// The gateway has no room or is behind; come back later.
    Overloaded = 1013, "overloaded";
    /// The token is missing, wrong or not valid yet.
    InvalidToken = 4001, "invalid_token";
    /// The token or the page's origin does not allow this socket.
    Forbidden = 4003, "forbidden";
    /// One session more than a user may hold was opened and this one was silent the longest.
    TooManySessions = 4009, "too_many_sessions";
    /// An administrator disconnected the user.
    Disconnected = 4010, "disconnected";
    /// Nothing could be written for ten seconds.
    NoWriteProgress = 4108, "no_write_progress";
    /// A ping was not answered in time.
    NoHeartbeatAnswer = 4112, "no_heartbeat_answer";
    /// The token expired while the socket was open.
    TokenExpired = 4205, "token_expired";
}

impl CloseCode {
    /// The number that stands in the close frame.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.number(), self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number_and_has_a_reason_that_fits_a_close_frame() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_number(code.number()), Some(*code));
            assert_eq!(code.label(), code.number().to_string());
            assert!(code.reason().len() <= 123, "RFC 6455 leaves 123 bytes for the reason");
        }
        assert!(CloseCode::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        assert_eq!(CloseCode::from_number(1006), None, "1006 is never sent");
    }
}
