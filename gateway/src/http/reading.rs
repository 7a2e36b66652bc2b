//! A sender's body without the request around it: parsed and checked as the handlers do it.

use bytes::Bytes;

use super::SendLimits;
use super::schema::sending::NotificationRequest;
use crate::domain::Notification;
use crate::edge::{BatchBody, InvalidBody, JsonBody, Problem};

impl SendLimits {
    /// The notification that a body asks for; `now_us` is the time of acceptance.
    ///
    /// # Errors
    /// What the sender would be told.
    pub fn read(&self, body: Bytes, now_us: u64) -> Result<Notification, Box<Problem>> {
        let request = JsonBody::<NotificationRequest>::read(body).map_err(problem)?;
        self.accept(request.value, None, now_us).map_err(|refusal| Box::new(refusal.problem))
    }

    /// The notifications that a batch's body asks for, each on its own.
    ///
    /// # Errors
    /// What the sender would be told if the body is no array, or has more items than are even looked at.
    pub fn read_batch(
        &self,
        body: Bytes,
        now_us: u64,
    ) -> Result<Vec<Result<Notification, Box<Problem>>>, Box<Problem>> {
        let batch = BatchBody::<NotificationRequest>::read(body).map_err(problem)?;
        let accept =
            |request| self.accept(request, None, now_us).map_err(|refusal| Box::new(refusal.problem));
        Ok(batch.into_items().map(|item| item.value.map_err(problem).and_then(accept)).collect())
    }
}

fn problem(error: InvalidBody) -> Box<Problem> {
    Box::new(Problem::from_error(&error.into()))
}
