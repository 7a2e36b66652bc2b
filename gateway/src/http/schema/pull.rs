//! A mailbox without a session: pages of frames, and acks.

use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};

use crate::edge::frame::Frame;

/// A page of a user's mailbox. It is composed as text, from frames that are text already; this is what it looks like.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Page", example)]
pub(in crate::http) struct PageAnswer {
    /// What a socket would have got, in order: notifications, and gaps where something is missing.
    frames: Vec<Frame>,
    /// Behind the last frame: the `after` of the next page, and what to ack once these frames are dealt with.
    position: String,
    /// The mailbox's last position.
    head: String,
    /// Whether there are frames behind these now.
    more: bool,
}

/// Up to where a user has everything.
#[derive(Debug, Clone, Object, Deserialize, Serialize)]
#[oai(rename = "Ack", deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Ack {
    /// A position from a frame or a page: it and everything before it in the mailbox is acked.
    pub(in crate::http) position: String,
    /// Where the client's unbroken reading began: what lies before it, or is it, stays as it is. Without it: nothing stays.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) after: Option<String>,
}

impl Example for PageAnswer {
    fn example() -> Self {
        let position = "3k9q2m7w1x5ze-1048".to_owned();
        Self { frames: vec![Frame::example()], head: position.clone(), position, more: false }
    }
}
