//! `/v1/users/{user}`: what is known of a user, and how to disconnect one.

use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};

use super::schema::{Disconnected, UserAnswer};
use crate::delivery::Delivery;
use crate::edge::parameters::Tag;
use crate::edge::{Problem, UserParam};

/// The operations about users.
pub struct UsersApi {
    pub(super) delivery: Delivery,
}

/// What is known of a user.
#[derive(ApiResponse)]
enum UserResponse {
    /// What is known; all zeros for a user never seen.
    #[oai(status = 200)]
    Found(Json<UserAnswer>),
    /// The user id breaks a rule.
    #[oai(status = 400, content_type = "application/problem+json")]
    #[expect(dead_code, reason = "answered before the handler runs; declared for the manual")]
    BadRequest(Json<Problem>),
    /// The page's origin may not use the gateway, or the `Host` is none of this machine (open mode).
    #[oai(status = 403, content_type = "application/problem+json")]
    #[expect(dead_code, reason = "answered before the handler runs; declared for the manual")]
    Forbidden(Json<Problem>),
}

/// The answer to a disconnect.
#[derive(ApiResponse)]
enum DisconnectResponse {
    /// Every session was told to end; each is closed with 4010.
    #[oai(status = 200)]
    Disconnected(Json<Disconnected>),
    /// The user id breaks a rule.
    #[oai(status = 400, content_type = "application/problem+json")]
    #[expect(dead_code, reason = "answered before the handler runs; declared for the manual")]
    BadRequest(Json<Problem>),
    /// The page's origin may not use the gateway, or the `Host` is none of this machine (open mode).
    #[oai(status = 403, content_type = "application/problem+json")]
    #[expect(dead_code, reason = "answered before the handler runs; declared for the manual")]
    Forbidden(Json<Problem>),
}

#[OpenApi(tag = "Tag::Users")]
impl UsersApi {
    /// Look at a user
    ///
    /// Sessions, and what waits in the mailbox. The gateway keeps no directory: a user never seen has zeros.
    #[oai(path = "/v1/users/:user", method = "get", operation_id = "getUser")]
    async fn look(
        &self,
        /// The user id, percent-encoded.
        user: Path<UserParam>,
    ) -> UserResponse {
        let user = &user.0.0;
        let summary = self.delivery.user(user);
        let position = (summary.last > 0).then(|| self.delivery.position(summary.last).to_string());
        UserResponse::Found(Json(UserAnswer::new(user.as_str(), &summary, position)))
    }

    /// Disconnect a user
    ///
    /// Closes every session of the user with 4010, which tells clients not to come back. What waits in the mailbox stays.
    #[oai(path = "/v1/users/:user/sessions", method = "delete", operation_id = "disconnectUser")]
    async fn disconnect(
        &self,
        /// The user id, percent-encoded.
        user: Path<UserParam>,
    ) -> DisconnectResponse {
        let sessions = self.delivery.disconnect(&user.0.0);
        let sessions = u32::try_from(sessions).expect("bounded by the sessions a user may hold");
        DisconnectResponse::Disconnected(Json(Disconnected { sessions }))
    }
}
