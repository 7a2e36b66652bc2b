//! What goes over a socket: frames (JSON text, `type` first) and close codes.
//!
//! This is the wire contract `notify.v1`, described for clients in `openapi/asyncapi.yaml`. It grows only by new types and
//! new fields. Nothing here knows how the text reaches a socket.

pub mod close_code;
pub mod frame;

pub use close_code::{CloseCode, Initiator};
pub use frame::{
    ClientFrame, InvalidClientFrame, SERVER_FRAME_TYPES, ServerFrame, TRACEPARENT_FIELD_BYTES, encode_body,
    write_broadcast_head, write_notification_head,
};

/// The subprotocol a client offers to be told the reason of a refusal by close code.
pub const SUBPROTOCOL: &str = "notify.v1";
