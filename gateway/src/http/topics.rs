//! `/v1/topics/{topic}`: who is subscribed.

use std::collections::HashSet;

use poem::http::StatusCode;
use poem_openapi::param::Path;
use poem_openapi::{ApiResponse, OpenApi};

use super::schema::topics::{MAX_USERS, TopicAnswer, UserNames};
use crate::delivery::{CannotJoin, Delivery};
use crate::domain::{TopicName, UserId};
use crate::edge::answer::{FORBIDDEN, NOT_NOW, REQUEST_TIMEOUT, UNAUTHORIZED, UNSUPPORTED_MEDIA_TYPE};
use crate::edge::parameters::{Tag, TopicParam};
use crate::edge::{Answer, JsonAnswer, ListBody, MayAdminister, MayReadState, Problem, Refusals, UserParam};

/// The operations about topics.
pub struct TopicsApi {
    pub(super) delivery: Delivery,
}

/// A topic.
#[derive(ApiResponse)]
enum TopicResponse {
    /// The topic as it is now.
    #[oai(status = 200)]
    Topic(JsonAnswer<TopicAnswer>),
}

const BAD_NAME: &str = "A name breaks a rule; `*` is no topic that anybody can subscribe to.";
const UNAVAILABLE: &str = "The log cannot take the change now: try again after `Retry-After` seconds, which is always \
                           safe. With `\"delivered\":\"unknown\"` the change may have been made.";

struct Looking;

impl Refusals for Looking {
    const STATUSES: &'static [(u16, &'static str)] =
        &[(400, BAD_NAME), (401, UNAUTHORIZED), (403, FORBIDDEN), (503, NOT_NOW)];
}

struct Joining;

impl Refusals for Joining {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (400, BAD_NAME),
        (401, UNAUTHORIZED),
        (403, FORBIDDEN),
        (503, UNAVAILABLE),
        (507, "The topic has as many subscribers as it may, or the user as many topics. Nothing changed."),
    ];
}

struct Leaving;

impl Refusals for Leaving {
    const STATUSES: &'static [(u16, &'static str)] =
        &[(400, BAD_NAME), (401, UNAUTHORIZED), (403, FORBIDDEN), (503, UNAVAILABLE)];
}

struct ChangingMany;

impl Refusals for ChangingMany {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (400, "A name breaks a rule, or there are none or more than 10,000. Nothing changed."),
        (401, UNAUTHORIZED),
        (403, FORBIDDEN),
        (408, REQUEST_TIMEOUT),
        (413, "The names together are too large for one change. Nothing changed."),
        (415, UNSUPPORTED_MEDIA_TYPE),
        (503, UNAVAILABLE),
    ];
}

#[OpenApi(tag = "Tag::Topics")]
impl TopicsApi {
    /// Look at a topic
    ///
    /// How many users are subscribed. A topic exists as soon as somebody names it.
    #[oai(path = "/v1/topics/:topic", method = "get", operation_id = "getTopic")]
    async fn look(
        &self,
        _caller: MayReadState,
        /// The topic's name, percent-encoded.
        topic: Path<TopicParam>,
    ) -> Answer<TopicResponse, Looking> {
        let topic = &topic.0.0;
        self.delivery.catch_up().await;
        Answer::from(Ok(answer(TopicAnswer::new(topic.as_str(), self.delivery.subscribers(topic)))))
    }

    /// Subscribe a user
    ///
    /// From now on notifications to the topic come to the user, too. Whoever is subscribed already stays so.
    #[oai(path = "/v1/topics/:topic/subscribers/:user", method = "put", operation_id = "subscribe")]
    async fn subscribe(
        &self,
        _caller: MayAdminister,
        /// The topic's name, percent-encoded.
        topic: Path<TopicParam>,
        /// The user id, percent-encoded.
        user: Path<UserParam>,
    ) -> Answer<TopicResponse, Joining> {
        Answer::from(self.join_one(&topic.0.0, user.0.0).await)
    }

    /// Unsubscribe a user
    ///
    /// From now on notifications to the topic do not come to the user. What came before stays in the mailbox. Whoever was
    /// not subscribed stays so.
    #[oai(path = "/v1/topics/:topic/subscribers/:user", method = "delete", operation_id = "unsubscribe")]
    async fn unsubscribe(
        &self,
        _caller: MayAdminister,
        /// The topic's name, percent-encoded.
        topic: Path<TopicParam>,
        /// The user id, percent-encoded.
        user: Path<UserParam>,
    ) -> Answer<TopicResponse, Leaving> {
        Answer::from(self.leave(&topic.0.0, &[user.0.0]).await)
    }

    /// Subscribe many users
    ///
    /// 1 to 10,000 user ids as an array, in one change. Those who cannot be subscribed are listed with the reason; the
    /// others are subscribed.
    #[oai(path = "/v1/topics/:topic/subscribers", method = "put", operation_id = "subscribeMany")]
    async fn subscribe_many(
        &self,
        _caller: MayAdminister,
        /// The topic's name, percent-encoded.
        topic: Path<TopicParam>,
        users: ListBody<UserNames>,
    ) -> Answer<TopicResponse, ChangingMany> {
        Answer::from(self.join_many(&topic.0.0, users.0).await)
    }

    /// Unsubscribe many users
    ///
    /// 1 to 10,000 user ids as an array, in one change.
    #[oai(path = "/v1/topics/:topic/subscribers", method = "delete", operation_id = "unsubscribeMany")]
    async fn unsubscribe_many(
        &self,
        _caller: MayAdminister,
        /// The topic's name, percent-encoded.
        topic: Path<TopicParam>,
        users: ListBody<UserNames>,
    ) -> Answer<TopicResponse, ChangingMany> {
        Answer::from(self.leave_many(&topic.0.0, users.0).await)
    }
}

impl TopicsApi {
    async fn join_one(&self, topic: &TopicName, user: UserId) -> Result<TopicResponse, Box<Problem>> {
        let membership = self.delivery.join(topic, &[user]).await?;
        let detail = match membership.refused.first() {
            None => return Ok(answer(TopicAnswer::joined(topic.as_str(), &membership))),
            Some((_, CannotJoin::TopicFull)) => "the topic has as many subscribers as it may",
            Some((_, CannotJoin::UserFull)) => "the user is subscribed to as many topics as one may",
        };
        Err(Box::new(Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)))
    }

    async fn join_many(&self, topic: &TopicName, names: UserNames) -> Result<TopicResponse, Box<Problem>> {
        let membership = self.delivery.join(topic, &users_of(&names)?).await?;
        Ok(answer(TopicAnswer::joined(topic.as_str(), &membership)))
    }

    async fn leave_many(&self, topic: &TopicName, names: UserNames) -> Result<TopicResponse, Box<Problem>> {
        self.leave(topic, &users_of(&names)?).await
    }

    async fn leave(&self, topic: &TopicName, users: &[UserId]) -> Result<TopicResponse, Box<Problem>> {
        let subscribers = self.delivery.leave(topic, users).await?;
        Ok(answer(TopicAnswer::new(topic.as_str(), subscribers)))
    }
}

fn answer(topic: TopicAnswer) -> TopicResponse {
    TopicResponse::Topic(JsonAnswer(topic))
}

/// The users of a request, each once.
fn users_of(names: &UserNames) -> Result<Vec<UserId>, Box<Problem>> {
    let UserNames(names) = names;
    if !(1..=MAX_USERS).contains(&names.len()) {
        let detail = format!("a request names 1 to {MAX_USERS} users, this one has {}", names.len());
        return Err(Box::new(Problem::new(StatusCode::BAD_REQUEST, detail)));
    }
    let mut seen = HashSet::with_capacity(names.len());
    let mut users = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let user =
            UserId::parse(name).map_err(|error| Problem::invalid(format!("[{index}]"), error.to_string()))?;
        if seen.insert(name.as_str()) {
            users.push(user);
        }
    }
    Ok(users)
}
