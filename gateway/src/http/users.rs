//! `/v1/users/{user}`: what is known of a user, how to disconnect one, how to forget one.

use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};

use super::schema::users::{Disconnected, UserAnswer, UserTopics};
use crate::delivery::Delivery;
use crate::edge::answer::{FORBIDDEN, NOT_NOW, UNAUTHORIZED};
use crate::edge::parameters::Tag;
use crate::edge::{Answer, MayAdminister, MayReadState, Refusals, UserParam};
use crate::presence::Presence;

/// The operations about users.
pub struct UsersApi {
    pub(super) delivery: Delivery,
    pub(super) presence: Presence,
}

/// What is known of a user.
#[derive(ApiResponse)]
enum UserResponse {
    /// What is known; all zeros for a user never seen.
    #[oai(status = 200)]
    Found(Json<UserAnswer>),
}

/// The answer to a disconnect.
#[derive(ApiResponse)]
enum DisconnectResponse {
    /// Every session was told to end; each is closed with 4010.
    #[oai(status = 200)]
    Disconnected(Json<Disconnected>),
}

/// The answer to the wish to forget somebody.
#[derive(ApiResponse)]
enum ForgetResponse {
    /// Nothing waits for the user any more, no topic has the user as a subscriber.
    #[oai(status = 204)]
    Forgotten,
}

/// A user's subscriptions.
#[derive(ApiResponse)]
enum TopicsResponse {
    /// The topics; none for a user never seen.
    #[oai(status = 200)]
    Found(Json<UserTopics>),
}

struct Looking;

impl Refusals for Looking {
    const STATUSES: &'static [(u16, &'static str)] =
        &[(400, "The user id breaks a rule."), (401, UNAUTHORIZED), (403, FORBIDDEN), (503, NOT_NOW)];
}

struct Forgetting;

impl Refusals for Forgetting {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (400, "The user id breaks a rule."),
        (401, UNAUTHORIZED),
        (403, FORBIDDEN),
        (
            503,
            "The log cannot take the change now: try again after `Retry-After` seconds, which is always safe. With \
             `\"delivered\":\"unknown\"` the user may have been forgotten.",
        ),
    ];
}

#[OpenApi(tag = "Tag::Users")]
impl UsersApi {
    /// Look at a user
    ///
    /// Sessions, what waits in the mailbox, and how far the user has acked. The gateway keeps no directory: a user never
    /// seen has zeros. Sessions are those on all gateways that share the log; one that does not answer within half a second
    /// is not counted.
    #[oai(path = "/v1/users/:user", method = "get", operation_id = "getUser")]
    async fn look(
        &self,
        _caller: MayReadState,
        /// The user id, percent-encoded.
        user: Path<UserParam>,
    ) -> Answer<UserResponse, Looking> {
        let user = &user.0.0;
        self.delivery.catch_up().await;
        let summary = self.presence.user(user).await;
        let answer = UserAnswer::new(user.as_str(), &summary, |number| self.delivery.position(number));
        Answer::from(Ok(UserResponse::Found(Json(answer))))
    }

    /// Forget a user
    ///
    /// Withdraws what waits in the mailbox, ends every subscription, and closes the sessions with 4010. The user exists
    /// again as soon as somebody names it.
    #[oai(path = "/v1/users/:user", method = "delete", operation_id = "forgetUser")]
    async fn forget(
        &self,
        _caller: MayAdminister,
        /// The user id, percent-encoded.
        user: Path<UserParam>,
    ) -> Answer<ForgetResponse, Forgetting> {
        let forgotten = self.delivery.forget(&user.0.0).await;
        Answer::from(forgotten.map(|()| ForgetResponse::Forgotten).map_err(Into::into))
    }

    /// Disconnect a user
    ///
    /// Closes every session of the user with 4010, which tells clients not to come back. What waits in the mailbox stays.
    /// Several gateways that share a log all do; one that does not answer within half a second is not counted.
    #[oai(path = "/v1/users/:user/sessions", method = "delete", operation_id = "disconnectUser")]
    async fn disconnect(
        &self,
        _caller: MayAdminister,
        /// The user id, percent-encoded.
        user: Path<UserParam>,
    ) -> Answer<DisconnectResponse, Looking> {
        let sessions = self.presence.disconnect(&user.0.0).await;
        Answer::from(Ok(DisconnectResponse::Disconnected(Json(Disconnected { sessions }))))
    }

    /// List a user's topics
    ///
    /// Every topic that the user is subscribed to, sorted by name.
    #[oai(
        path = "/v1/users/:user/topics",
        method = "get",
        operation_id = "getUserTopics",
        tag = "Tag::Topics"
    )]
    async fn topics(
        &self,
        _caller: MayReadState,
        /// The user id, percent-encoded.
        user: Path<UserParam>,
    ) -> Answer<TopicsResponse, Looking> {
        self.delivery.catch_up().await;
        let topics = self.delivery.topics_of(&user.0.0).iter().map(|name| String::from(&**name)).collect();
        Answer::from(Ok(TopicsResponse::Found(Json(UserTopics { topics }))))
    }
}
