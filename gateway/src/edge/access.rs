//! What an operation asks of its caller, as the first of its arguments: so that the manual says it, and no handler forgets it.
//!
//! Who the caller is was found out before, by the guard of all routes. A request that it did not see is refused.

use poem::Request;
use poem::http::StatusCode;
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::Problem;
use crate::auth::{Caller, Permission};
use crate::domain::UserId;
use crate::metrics::AuthRefusal;

/// The name of API keys in the manual.
const API_KEY: &str = "apiKey";

/// What sending takes.
pub const SENDING: &str = "an API key with the scope `send`, or a token with it";

/// What receiving takes.
pub const LISTENING: &str = "a token of this user, or an API key with the scope `read`";

/// What some operation takes, when nobody knows yet which one it is.
pub const ANYTHING: &str = "an API key or a token";

/// The name of tokens in the manual.
const TOKEN: &str = "token";

/// The caller may not do this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not allowed")]
pub struct NotAllowed {
    /// Why not.
    pub refusal: AuthRefusal,
    /// What the operation asks for.
    pub needs: &'static str,
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident: $permission:expr, $schemes:expr, $needs:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(pub Caller);

        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                describe(registry);
            }

            fn security_schemes() -> Vec<&'static str> {
                $schemes.to_vec()
            }

            async fn from_request(
                request: &'a Request,
                _: &mut poem::RequestBody,
                _: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let needs = |refusal| not_allowed(refusal, $needs);
                let caller = request.data::<Caller>().cloned();
                let caller = caller.ok_or(AuthRefusal::Missing).map_err(needs)?;
                let permission: Option<Permission<'_>> = $permission;
                permission.map_or(Ok(()), |permission| caller.check(permission)).map_err(needs)?;
                Ok(Self(caller))
            }
        }
    )*};
}

permissions! {
    /// May send notifications.
    MaySend: Some(Permission::Send), [API_KEY, TOKEN], SENDING;
    /// May withdraw them.
    MayWithdraw: Some(Permission::Withdraw), [API_KEY], "an API key with the scope `send` or `admin`";
    /// May ask what became of them.
    MayReadOutcomes: Some(Permission::ReadOutcomes), [API_KEY], "an API key with the scope `send`, `read` or `admin`";
    /// May look at users and topics.
    MayReadState: Some(Permission::ReadState), [API_KEY], "an API key with the scope `read` or `admin`";
    /// May change topics, forget and disconnect users.
    MayAdminister: Some(Permission::Administer), [API_KEY], "an API key with the scope `admin`";
    /// May receive what is somebody's; whose, [`MayReceive::check`] asks.
    MayReceive: None, [API_KEY, TOKEN], LISTENING;
}

/// What an operation says that opens a session: it judges the credential itself, because a browser cannot read a refusal.
pub struct ShowsCredential;

impl<'a> ApiExtractor<'a> for ShowsCredential {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        describe(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![API_KEY, TOKEN]
    }

    async fn from_request(
        _: &'a Request,
        _: &mut poem::RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self)
    }
}

impl MayReceive {
    /// Whether the caller may receive what is `user`'s.
    ///
    /// # Errors
    /// A refusal, for the guard to count and to answer.
    pub fn check(&self, user: &UserId) -> poem::Result<()> {
        self.0.check(Permission::Receive(user)).map_err(|refusal| not_allowed(refusal, LISTENING))
    }
}

fn not_allowed(refusal: AuthRefusal, needs: &'static str) -> poem::Error {
    poem::Error::new(NotAllowed { refusal, needs }, status_of(refusal))
}

/// 401 if another credential could help, 403 if this one is known and not enough (RFC 9110 §15.5.2, §15.5.4), 503 if nobody can
/// tell.
#[must_use]
pub fn status_of(refusal: AuthRefusal) -> StatusCode {
    match refusal {
        AuthRefusal::OtherUser | AuthRefusal::Scope => StatusCode::FORBIDDEN,
        AuthRefusal::Unverifiable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::UNAUTHORIZED,
    }
}

/// The refusal as its client reads it. A credential that is wrong is not told much about itself; `needs` is what would do.
#[must_use]
pub fn refused(refusal: AuthRefusal, needs: &str) -> Problem {
    let detail = match refusal {
        AuthRefusal::Scope => {
            return Problem::new(
                status_of(refusal),
                format!("the credential does not allow this: it takes {needs}"),
            );
        }
        AuthRefusal::Missing => "show an API key or a token: `Authorization: Bearer …`",
        AuthRefusal::InUrl => {
            "a credential in the address ends up in logs: send `Authorization: Bearer …`, or, for a WebSocket in a browser, the \
             subprotocol `bearer.…`"
        }
        AuthRefusal::Malformed => {
            "this is neither an API key nor a token: send `Authorization: Bearer …`, `Bearer` once"
        }
        AuthRefusal::UnknownKey => "this API key is not known, or was revoked",
        AuthRefusal::UnknownSigner => {
            "this token is signed with a key or an algorithm that is not accepted here"
        }
        AuthRefusal::Unverifiable => {
            "the keys that this token could be verified with cannot be had now; come back after `Retry-After` seconds"
        }
        AuthRefusal::Signature => "the token's signature is wrong",
        AuthRefusal::Expired => "the token is over",
        AuthRefusal::NotYetValid => "the token does not hold yet",
        AuthRefusal::Audience => "the token is for another audience",
        AuthRefusal::Issuer => "the token is of another issuer",
        AuthRefusal::OtherUser => "the token is another user's",
    };
    Problem::new(status_of(refusal), detail)
}

fn describe(registry: &mut Registry) {
    let bearer = |description: &'static str, format: Option<&'static str>| MetaSecurityScheme {
        ty: "http",
        description: Some(description),
        name: None,
        key_in: None,
        scheme: Some("bearer"),
        bearer_format: format,
        flows: None,
        openid_connect_url: None,
    };
    registry.create_security_scheme(
        API_KEY,
        bearer(
            "Fill in this one **or** the other, without the word `Bearer`. For back ends: a key made by `gateway key new`. What it may do are its scopes: `send` to send, withdraw and ask for \
             outcomes; `read` to receive as any user and to look at users, topics and outcomes; `admin` to change topics and to \
             look at, forget and disconnect users. Not needed in open mode, that is, while no keys are configured.",
            None,
        ),
    );
    registry.create_security_scheme(
        TOKEN,
        bearer(
            "Fill in this one **or** the other, without the word `Bearer`. For receivers: a JWT whose `sub` is the user, made by your login, or by `gateway token` for development. It opens that user's sockets, streams and mailbox; with `send` in its \
             `scope` it may send, too, and `from` is then its `sub`. A page that opens a WebSocket offers it as a subprotocol: \
             `new WebSocket(url, [\"notify.v1\", \"bearer.\" + token])`. Not needed in open mode.",
            Some("JWT"),
        ),
    );
}
