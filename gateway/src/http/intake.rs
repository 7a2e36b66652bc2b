//! How a request's body comes in: within its limits of size and time, and only as many at once as there is room for.
//!
//! A body is read whole before its handler runs. Without a bound on all of them together, one connection with a hundred
//! requests could hold a hundred times the largest body.

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use poem::http::{StatusCode, header};
use poem::{Body, Request};
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::edge::Problem;
use crate::metrics::{Limit, Metrics};

/// Bytes of large bodies that are held at the same time, or one largest body if that is more.
const ROOM_BYTES: usize = 256 << 20;

/// A body up to so many bytes is a small one: they have a room of their own, so that whoever sends large ones cannot keep them
/// out.
const SMALL_BYTES: usize = 64 << 10;

/// Bytes of small bodies that are held, or announced, at the same time.
const SMALL_ROOM_BYTES: usize = 256 << 20;

/// Room is given away in units of so many bytes.
const UNIT_BYTES: usize = 1_024;

/// Bytes of a refused body that are read on, so that the sender reads the answer instead of a broken connection.
const MAX_LINGER_BYTES: u64 = 32 << 20;

/// Likewise, of whom nobody knows.
const MAX_STRANGERS_BYTES: u64 = 64 << 10;

/// Reads bodies.
#[derive(Clone)]
pub(super) struct Intake {
    max_body: usize,
    timeout: Duration,
    small_room: Arc<Semaphore>,
    room: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// The room that a body takes.
type Room = OwnedSemaphorePermit;

impl Intake {
    pub(super) fn new(max_body: usize, timeout: Duration, metrics: Arc<Metrics>) -> Self {
        let small_room = Arc::new(Semaphore::new(units(SMALL_ROOM_BYTES)));
        let room = Arc::new(Semaphore::new(units(ROOM_BYTES.max(max_body))));
        Self { max_body, timeout, small_room, room, metrics }
    }

    /// Reads the body before the handler does. Its room is to be kept until the request is answered.
    pub(super) async fn take(&self, request: &mut Request) -> Result<Room, Box<Problem>> {
        let announced = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let body = request.take_body();
        if announced.is_some_and(|length| length > self.max_body as u64) {
            self.linger(body, MAX_LINGER_BYTES).await;
            return Err(self.too_large());
        }
        let small = match announced {
            Some(length) => usize::try_from(length).ok().filter(|length| *length <= SMALL_BYTES),
            None => body.is_empty().then_some(0),
        };
        let reading = async {
            match small {
                Some(length) => {
                    // The server reads no more than was announced.
                    let room = self.room_for(&self.small_room, length)?;
                    Ok((room, body.into_bytes().await.map_err(|error| broken(&error))?))
                }
                None => self.read_large(body).await,
            }
        };
        let Ok(read) = tokio::time::timeout(self.timeout, reading).await else {
            self.metrics.limited.of(Limit::BodyTimeout).inc();
            let problem = Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive");
            return Err(Box::new(problem));
        };
        let (room, bytes) = read?;
        request.set_body(Body::from_bytes(bytes));
        Ok(room)
    }

    /// Room for what has come, not for what was announced: announcing costs nobody anything.
    async fn read_large(&self, body: Body) -> Result<(Room, Bytes), Box<Problem>> {
        let mut room = self.room_for(&self.room, 0)?;
        let mut read = Vec::new();
        let mut chunks = pin!(body.into_bytes_stream());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| broken(&error))?;
            if read.len() + chunk.len() > self.max_body {
                return Err(self.too_large());
            }
            read.extend_from_slice(&chunk);
            // However small the chunks are, only what they come to takes room.
            let more = units(read.len()) - room.num_permits();
            room.merge(self.room_for(&self.room, more * UNIT_BYTES)?);
        }
        Ok((room, read.into()))
    }

    fn room_for(&self, room: &Arc<Semaphore>, bytes: usize) -> Result<Room, Box<Problem>> {
        let wanted = u32::try_from(units(bytes)).unwrap_or(u32::MAX);
        Arc::clone(room).try_acquire_many_owned(wanted).map_err(|_| {
            self.metrics.limited.of(Limit::Memory).inc();
            let detail = "the gateway reads as many bodies as it has room for";
            Box::new(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
        })
    }

    /// Reads on for a moment what somebody sends whom nobody knows: an honest sender reads the answer, eight megabytes of a
    /// stranger are not read.
    pub(super) async fn refuse(&self, body: Body) {
        self.linger(body, MAX_STRANGERS_BYTES).await;
    }

    /// Reads on for a while what is refused anyway: closing with unread bytes would reset the connection under the answer.
    async fn linger(&self, body: Body, max_bytes: u64) {
        let mut reader = body.into_async_read().take(max_bytes);
        // Whether the rest came whole changes nothing.
        let _ =
            tokio::time::timeout(self.timeout, tokio::io::copy(&mut reader, &mut tokio::io::sink())).await;
    }

    fn too_large(&self) -> Box<Problem> {
        self.metrics.limited.of(Limit::BodySize).inc();
        let detail = format!("the body may have at most {} bytes", self.max_body);
        Box::new(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
    }
}

fn broken(error: &dyn Display) -> Box<Problem> {
    Box::new(Problem::new(StatusCode::BAD_REQUEST, error.to_string()))
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(bytes: usize) -> Request {
        Request::builder().header(header::CONTENT_LENGTH, bytes).body(vec![b'x'; bytes])
    }

    #[tokio::test]
    async fn as_many_large_bodies_are_held_as_there_is_room_for_and_small_ones_all_the_same() {
        let intake = Intake::new(ROOM_BYTES / 4, Duration::from_secs(60), Arc::new(Metrics::new()));
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(intake.take(&mut request(ROOM_BYTES / 4)).await.unwrap());
        }
        let refused = intake.take(&mut request(SMALL_BYTES + 1)).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(intake.take(&mut Request::builder().finish()).await.is_ok(), "it has no body");
        let mut small = request(SMALL_BYTES);
        assert!(intake.take(&mut small).await.is_ok());
        assert_eq!(small.take_body().into_bytes().await.unwrap().len(), SMALL_BYTES);
        held.pop();
        let mut large = request(SMALL_BYTES + 1);
        assert!(intake.take(&mut large).await.is_ok());
        assert_eq!(large.take_body().into_bytes().await.unwrap().len(), SMALL_BYTES + 1);
    }

    #[tokio::test]
    async fn a_body_that_does_not_say_its_size_is_bounded_by_what_comes() {
        let intake = Intake::new(100_000, Duration::from_secs(60), Arc::new(Metrics::new()));
        let chunks = |count: usize| {
            let chunk = move |_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 10_000]));
            Request::builder()
                .body(Body::from_bytes_stream(futures_util::stream::iter((0..count).map(chunk))))
        };
        let mut whole = chunks(10);
        assert!(intake.take(&mut whole).await.is_ok());
        assert_eq!(whole.take_body().into_bytes().await.unwrap().len(), 100_000);
        assert_eq!(intake.take(&mut chunks(11)).await.unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
