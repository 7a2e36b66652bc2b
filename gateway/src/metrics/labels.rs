//! The closed sets of label values.

use crate::domain::{DropReason, GapReason, Outcome, Priority};
use crate::protocol::{CloseCode, Initiator};

/// The label of a connection that broke without a close frame.
pub(super) const BROKEN: &str = "1006";
/// The label of a close code that is not in our table.
pub(super) const OTHER: &str = "other";

/// A closed set of label values.
pub trait Label: Copy + Eq + 'static {
    /// Every value.
    const ALL: &'static [Self];
    /// The text of the label.
    fn as_str(self) -> &'static str;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum $name { $($(#[$value_doc])* $value,)* }

            impl Label for $name {
                const ALL: &'static [Self] = &[$(Self::$value,)*];
                fn as_str(self) -> &'static str {
                    match self { $(Self::$value => $text,)* }
                }
            }
        )*
    };
}

labels! {
    /// Whom a sender addressed.
    Target {
        /// One user.
        User = "user",
        /// Several users.
        Users = "users",
        /// A topic's subscribers.
        Topic = "topic",
        /// Everybody who is connected.
        Everybody = "everybody",
        /// The request could not be read far enough to tell.
        Unknown = "unknown",
    }
    /// What the gateway answered to an offered notification.
    SendResult {
        /// 202.
        Accepted = "accepted",
        /// 400, 415.
        Invalid = "invalid",
        /// 413.
        TooLarge = "too_large",
        /// 202 with the answer to an earlier request of the same idempotency key.
        Repeated = "repeated",
        /// 409 or 422: the idempotency key is taken.
        Conflict = "conflict",
        /// 507: every recipient's mailbox refused it.
        Rejected = "rejected",
        /// 503: the gateway is stopping, behind, out of memory, or its log cannot take it.
        Overloaded = "overloaded",
        /// 401, 403: the sender did not show that it may.
        Unauthorized = "unauthorized",
        /// 429: the sender is over its rate.
        RateLimited = "rate_limited",
    }
    /// How far a push has come.
    Stage {
        /// It stands in the mailbox and its sessions were woken.
        Queued = "queued",
        /// Its bytes were handed to the kernel.
        Written = "written",
        /// The client said that it has it.
        Acked = "acked",
    }
    /// What carries a session.
    Transport {
        /// RFC 6455.
        WebSocket = "websocket",
        /// Server-sent events (HTML Living Standard §9.2).
        ServerSentEvents = "sse",
    }
    /// How an attempt to open a session ended.
    OpenResult {
        /// The session began.
        Accepted = "accepted",
        /// The page's origin is not allowed.
        Origin = "origin",
        /// Not a WebSocket handshake, or a wish that the transport cannot fulfil.
        BadRequest = "bad_request",
        /// The gateway is stopping, behind, full or out of memory.
        Overloaded = "overloaded",
        /// The client did not show that it may listen.
        Unauthorized = "unauthorized",
        /// Too many began in too short a time.
        RateLimited = "rate_limited",
    }
    /// Which limit refused, closed or delayed something.
    Limit {
        /// `limits.sends_per_key`: notifications refused.
        SendsPerKey = "sends_per_key",
        /// `limits.sends_per_user`: notifications refused.
        SendsPerUser = "sends_per_user",
        /// `limits.connects_per_address`: connections closed, or sessions refused behind a proxy.
        ConnectsPerAddress = "connects_per_address",
        /// `http.max_connections_per_address`: connections closed.
        ConnectionsPerAddress = "connections_per_address",
        /// `limits.session_opens`: sessions refused.
        SessionOpens = "session_opens",
        /// `sessions.max_total`: sessions refused.
        SessionsPerNode = "sessions_per_node",
        /// `limits.memory`: notifications and sessions refused.
        Memory = "memory",
        /// `limits.inbound_frames`: sessions closed.
        InboundFrames = "inbound_frames",
        /// `http.max_header`: requests refused.
        HeaderSize = "header_size",
        /// `http.first_request_timeout`, `http.header_timeout`: connections closed.
        HeaderTimeout = "header_timeout",
        /// `http.max_body`: requests refused.
        BodySize = "body_size",
        /// `http.body_timeout`: requests refused.
        BodyTimeout = "body_timeout",
        /// `http.keep_alive`: connections closed.
        KeepAlive = "keep_alive",
        /// `http.write_timeout`: connections closed.
        WriteTimeout = "write_timeout",
    }
    /// What strangers can make the gateway remember.
    Remembered {
        /// Idempotency keys.
        IdempotencyKeys = "idempotency_keys",
        /// Notifications whose outcome may be asked for.
        Outcomes = "outcomes",
        /// Addresses that hold a connection, or whose bucket is not full.
        Addresses = "addresses",
        /// Users whose bucket for sends is not full.
        Senders = "senders",
        /// Users with a session on another node.
        OnlineElsewhere = "online_elsewhere",
    }
    /// Why somebody was not let in, or not allowed.
    AuthRefusal {
        /// No credential was shown.
        Missing = "missing",
        /// It is neither an API key nor a token.
        Malformed = "malformed",
        /// It stood in the address.
        InUrl = "in_url",
        /// No such API key, or it was revoked.
        UnknownKey = "unknown_key",
        /// The token names a key that nobody knows, or none that it could be verified with.
        UnknownSigner = "unknown_signer",
        /// The token names a key that nobody knows, and the provider cannot be asked, or was a moment ago.
        Unverifiable = "unverifiable",
        /// The signature is not that of the token's key.
        Signature = "signature",
        /// The token is over.
        Expired = "expired",
        /// The token does not hold yet.
        NotYetValid = "not_yet_valid",
        /// The token is for others.
        Audience = "audience",
        /// The token comes from others.
        Issuer = "issuer",
        /// The token is another user's.
        OtherUser = "other_user",
        /// The credential does not allow the operation.
        Scope = "scope",
    }
    /// What credentials are read from.
    CredentialSource {
        /// `auth.api_keys_file`.
        ApiKeys = "api_keys",
        /// `auth.token_key_files`.
        TokenKeys = "token_keys",
        /// `auth.jwks`.
        Jwks = "jwks",
        /// `http.tls_certificate_file`.
        Tls = "tls",
    }
    /// How reading credentials again ended.
    ReloadResult {
        /// There were others; they hold from now on.
        Changed = "changed",
        /// They could not be read; those of before still hold.
        Failed = "failed",
    }
    /// How a session began.
    ResumeOutcome {
        /// It named no position.
        Fresh = "fresh",
        /// It named one, and nothing behind it was lost.
        Resumed = "resumed",
        /// It named one, and something behind it was lost.
        Gap = "gap",
        /// It named one of another epoch.
        Foreign = "foreign",
    }
    /// How a client acked.
    AckSource {
        /// By its answer to a ping.
        Pong = "pong",
        /// By a frame.
        Frame = "frame",
        /// By a request.
        Http = "http",
    }
    /// Why the log did not take an entry.
    AppendFailure {
        /// It is larger than an entry may be.
        TooLarge = "too_large",
        /// There is no room.
        Full = "full",
        /// The log is closed or cannot be reached.
        Unavailable = "unavailable",
        /// The log did not say whether it took it.
        Ambiguous = "ambiguous",
    }
    /// Why a span was not exported.
    SpanLoss {
        /// The queue for spans was full.
        QueueFull = "queue_full",
        /// The collector did not take it.
        ExportFailed = "export_failed",
    }
    /// Seen from the gateway.
    Direction {
        /// From clients.
        In = "in",
        /// To clients.
        Out = "out",
    }
}

impl Label for Priority {
    const ALL: &'static [Self] = &Self::ALL;
    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
}

impl Label for DropReason {
    const ALL: &'static [Self] = &Self::ALL;
    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
}

impl Label for Outcome {
    /// Without `Pending`, which is no end; dropped ones by their reason.
    const ALL: &'static [Self] =
        &[Self::Acked, Self::Collapsed, Self::Withdrawn, Self::Expired, Self::Overflowed, Self::Rejected];
    fn as_str(self) -> &'static str {
        match self {
            Self::Overflowed => "dropped_overflow",
            Self::Rejected => "dropped_rejected",
            other => Self::as_str(other),
        }
    }
}

impl Label for GapReason {
    const ALL: &'static [Self] = &Self::ALL;
    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
}

/// Every pair of code and initiator that can occur.
pub(super) fn close_combinations() -> impl Iterator<Item = (&'static str, &'static str)> {
    let known = CloseCode::ALL.iter().flat_map(|code| {
        [(code.label(), Initiator::Server.as_str()), (code.label(), Initiator::Client.as_str())]
    });
    known.chain([(OTHER, Initiator::Client.as_str()), (BROKEN, Initiator::Network.as_str())])
}
