//! A mailbox without a session: pages of frames over HTTP, and acks.

use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};

use super::refusal::unavailable;
use super::schema::pull::{Ack, PageAnswer};
use crate::delivery::{AckError, After, Delivery, Frame, FrameSink, Page, SubscribeError};
use crate::domain::{Epoch, GapReason, Position, UserId};
use crate::edge::answer::{FORBIDDEN, NOT_NOW, REQUEST_TIMEOUT, UNAUTHORIZED, UNSUPPORTED_MEDIA_TYPE};
use crate::edge::parameters::Tag;
use crate::edge::{AfterParam, Answer, JsonBody, JsonText, MayReceive, Problem, Refusals, UserParam};
use crate::protocol::{ServerFrame, write_broadcast_head, write_notification_head};

/// Notifications in a page if nobody says how many.
const DEFAULT_LIMIT: u32 = 100;

/// The operations for receivers that hold no session.
pub struct PullApi {
    pub(super) delivery: Delivery,
}

/// A page of a mailbox.
#[derive(ApiResponse)]
enum PageResponse {
    /// The next frames, or none if there are none now.
    #[oai(status = 200)]
    Page(JsonText<PageAnswer>),
}

/// The answer to an ack.
#[derive(ApiResponse)]
enum AckResponse {
    /// Taken; it counts within a second or so.
    #[oai(status = 202)]
    Taken(Json<Ack>),
}

struct Reading;

impl Refusals for Reading {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (400, "The user id or `after` breaks a rule, or `limit` is out of range."),
        (401, UNAUTHORIZED),
        (403, FORBIDDEN),
        (
            503,
            "This node is behind the position, or the log cannot be read: try again after `Retry-After` seconds.",
        ),
    ];
}

struct Acking;

impl Refusals for Acking {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (400, "The user id breaks a rule, or `position` is none of this log."),
        (401, UNAUTHORIZED),
        (403, FORBIDDEN),
        (408, REQUEST_TIMEOUT),
        (413, "The body is too large."),
        (415, UNSUPPORTED_MEDIA_TYPE),
        (503, NOT_NOW),
    ];
}

#[OpenApi(tag = "Tag::Receiving")]
impl PullApi {
    /// Read a mailbox
    ///
    /// The frames that a socket would get, in order, without one: notifications, and gaps where something is missing. Take the
    /// `position` of the answer as `after` of the next request; whatever was dealt with is acked by *Ack over HTTP*.
    /// Notifications with a time to live of 0 and those for everybody who is connected come to sessions only.
    #[oai(path = "/v1/users/:user/notifications", method = "get", operation_id = "readMailbox")]
    async fn read(
        &self,
        caller: MayReceive,
        /// Whose mailbox; percent-encoded.
        user: Path<UserParam>,
        /// Where to start: a position from a frame or a page, `start` (everything that is kept, acked or not) or `now` (nothing
        /// old). Without it the page starts with the first that is not acked.
        after: Query<Option<AfterParam>>,
        /// How many notifications at most: 1 to 1,000. Without it: 100. A page has at most 1 MiB of frames.
        #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<Option<u32>>,
    ) -> poem::Result<Answer<PageResponse, Reading>> {
        caller.check(&user.0.0)?;
        let after = after.0.map_or(After::Acked, |after| after.0);
        let limit = limit.0.unwrap_or(DEFAULT_LIMIT) as usize;
        Ok(Answer::from(self.page(&user.0.0, after, limit).await))
    }

    /// Ack over HTTP
    ///
    /// The user has everything up to `position`: it and everything before it in the mailbox is acked, on whichever device it
    /// was received, or on none; with `after` only what lies behind that. Old positions and repetitions are harmless.
    #[oai(path = "/v1/users/:user/acks", method = "post", operation_id = "ackNotifications")]
    async fn ack(
        &self,
        caller: MayReceive,
        /// Whose mailbox; percent-encoded.
        user: Path<UserParam>,
        ack: JsonBody<Ack>,
    ) -> poem::Result<Answer<AckResponse, Acking>> {
        caller.check(&user.0.0)?;
        Ok(Answer::from(self.take_ack(&user.0.0, ack.value).await))
    }
}

impl PullApi {
    async fn page(&self, user: &UserId, after: After, limit: usize) -> Result<PageResponse, Box<Problem>> {
        let mut frames = Frames::new(self.delivery.position(0).epoch);
        let read = self.delivery.read(user, after, limit, &mut frames).await;
        let page = read.map_err(|error| match error {
            SubscribeError::Behind | SubscribeError::Log(_) => unavailable(&error),
        })?;
        Ok(PageResponse::Page(frames.into_page(page)))
    }

    async fn take_ack(&self, user: &UserId, ack: Ack) -> Result<AckResponse, Box<Problem>> {
        let parse = |field: &'static str, text: &str| {
            text.parse::<Position>().map_err(|error| Box::new(Problem::invalid(field, error.to_string())))
        };
        let position = parse("position", &ack.position)?;
        let after = ack.after.as_deref().map(|after| parse("after", after)).transpose()?;
        let acked = self.delivery.ack(user, after, position).await;
        acked.map_err(|error| {
            let field = match &error {
                AckError::Foreign => "position",
                AckError::ForeignBeginning => "after",
                AckError::NotYet(error) => return unavailable(error),
            };
            Box::new(Problem::invalid(field, error.to_string()))
        })?;
        Ok(AckResponse::Taken(Json(ack)))
    }
}

/// A page on its way to the client, as JSON text: the frames are text already.
struct Frames {
    json: Vec<u8>,
    empty: bool,
    epoch: Epoch,
}

impl Frames {
    fn new(epoch: Epoch) -> Self {
        Self { json: br#"{"frames":["#.to_vec(), empty: true, epoch }
    }

    fn into_page(mut self, page: Page) -> JsonText<PageAnswer> {
        let Page { position, head, more } = page;
        let rest = format!(r#"],"position":"{position}","head":"{head}","more":{more}}}"#);
        self.json.extend(rest.into_bytes());
        JsonText::new(self.json)
    }

    /// Where the next frame is to be written.
    fn next(&mut self) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.empty) {
            self.json.push(b',');
        }
        &mut self.json
    }
}

impl FrameSink for Frames {
    fn notification(&mut self, number: u64, prev: u64, frame: &Frame, _live: bool) {
        let epoch = self.epoch;
        let json = self.next();
        write_notification_head(json, epoch, number, prev);
        json.extend_from_slice(&frame.body);
    }

    fn broadcast(&mut self, frame: &Frame) {
        let json = self.next();
        write_broadcast_head(json);
        json.extend_from_slice(&frame.body);
    }

    fn gap(&mut self, after: Position, until: Position, count: Option<u32>, reason: GapReason) {
        let gap = ServerFrame::Gap { after, until, count, reason };
        self.next().extend(gap.to_json());
    }
}
