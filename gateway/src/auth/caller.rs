//! Who asks, and what they may do.

use std::sync::Arc;

use super::api_keys::{ApiKey, Scope};
use crate::domain::UserId;
use crate::metrics::AuthRefusal;

/// Who a request comes from.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Anybody: the gateway is open.
    Anybody,
    /// Whoever has this API key.
    Key(Arc<ApiKey>),
    /// The user whose token it is.
    User(Arc<TokenUser>),
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUser {
    /// Its `sub`.
    pub user: UserId,
    /// Its `scope` has `send`.
    pub may_send: bool,
    /// Its `exp`, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
    /// How long after that it still holds, for clocks that differ, in milliseconds.
    pub leeway_ms: u64,
}

/// What an operation asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission<'a> {
    /// To send notifications.
    Send,
    /// To withdraw them.
    Withdraw,
    /// To ask what became of them.
    ReadOutcomes,
    /// To look at users and topics.
    ReadState,
    /// To receive and ack what is this user's.
    Receive(&'a UserId),
    /// To change topics, forget and disconnect users.
    Administer,
}

/// What a session stands on: once it is gone the session ends.
#[derive(Debug, Clone)]
pub enum Authority {
    /// The gateway is open.
    Open,
    /// An API key that is not revoked.
    Key(Arc<ApiKey>),
    /// A token that holds until then, in milliseconds since the Unix epoch, leeway included.
    Token {
        /// When it is over.
        until_ms: u64,
    },
}

/// Why a session may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// Its token is over.
    Expired,
    /// Its API key is revoked.
    Revoked,
}

impl Caller {
    /// Whether the caller may do this.
    ///
    /// # Errors
    /// [`AuthRefusal::OtherUser`] for the mailbox of somebody else, [`AuthRefusal::Scope`] for everything else.
    pub fn check(&self, permission: Permission<'_>) -> Result<(), AuthRefusal> {
        let allowed = match self {
            Self::Anybody => true,
            Self::Key(key) => key.allows(match permission {
                Permission::Send => &[Scope::Send],
                Permission::Withdraw => &[Scope::Send, Scope::Admin],
                Permission::ReadOutcomes => &[Scope::Send, Scope::Read, Scope::Admin],
                Permission::ReadState => &[Scope::Read, Scope::Admin],
                Permission::Receive(_) => &[Scope::Read],
                Permission::Administer => &[Scope::Admin],
            }),
            Self::User(token) => match permission {
                Permission::Send => token.may_send,
                Permission::Receive(user) if *user != token.user => return Err(AuthRefusal::OtherUser),
                Permission::Receive(_) => true,
                _ => false,
            },
        };
        if allowed { Ok(()) } else { Err(AuthRefusal::Scope) }
    }

    /// As whom the caller sends, whatever the request says; `None`: as the request says.
    #[must_use]
    pub fn sends_as(&self) -> Option<&UserId> {
        match self {
            Self::User(token) => Some(&token.user),
            Self::Anybody | Self::Key(_) => None,
        }
    }

    /// Whose `Idempotency-Key`s the caller's are: those of two scopes never meet. A key's successor of the same name goes on
    /// with its scope.
    #[must_use]
    pub fn idempotency_scope(&self) -> Vec<u8> {
        match self {
            Self::Anybody => b"open".to_vec(),
            Self::Key(key) => [b"key\0", key.name().as_bytes()].concat(),
            Self::User(token) => [b"user\0", token.user.as_str().as_bytes()].concat(),
        }
    }

    /// What kind of caller it is, and its name, for audit lines.
    #[must_use]
    pub fn named(&self) -> (&'static str, &str) {
        match self {
            Self::Anybody => ("anybody", ""),
            Self::Key(key) => ("key", key.name()),
            Self::User(token) => ("user", token.user.as_str()),
        }
    }

    /// What a session of this caller stands on.
    #[must_use]
    pub fn authority(&self) -> Authority {
        match self {
            Self::Anybody => Authority::Open,
            Self::Key(key) => Authority::Key(Arc::clone(key)),
            Self::User(token) => Authority::Token { until_ms: token.holds_until_ms() },
        }
    }
}

impl TokenUser {
    /// When the token is over for us, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn holds_until_ms(&self) -> u64 {
        self.expires_at_ms.saturating_add(self.leeway_ms)
    }
}

impl Authority {
    /// Why it is gone at this time, if it is.
    #[must_use]
    pub fn lapse(&self, now_ms: u64) -> Option<Lapse> {
        match self {
            Self::Open => None,
            Self::Key(key) => key.is_revoked().then_some(Lapse::Revoked),
            Self::Token { until_ms } => (now_ms >= *until_ms).then_some(Lapse::Expired),
        }
    }

    /// For how many more milliseconds it holds, if there is an end to it.
    #[must_use]
    pub fn remaining_ms(&self, now_ms: u64) -> Option<u64> {
        match self {
            Self::Open | Self::Key(_) => None,
            Self::Token { until_ms } => Some(until_ms.saturating_sub(now_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_own_mailbox_and_sends_only_if_it_says_so() {
        let [bob, eve] = ["bob", "eve"].map(|name| UserId::parse(name).unwrap());
        let token = TokenUser { user: bob.clone(), may_send: false, expires_at_ms: 5_000, leeway_ms: 1_000 };
        let silent = Caller::User(Arc::new(token.clone()));
        let sender = Caller::User(Arc::new(TokenUser { may_send: true, ..token }));
        assert_eq!(silent.check(Permission::Receive(&bob)), Ok(()));
        assert_eq!(silent.check(Permission::Receive(&eve)), Err(AuthRefusal::OtherUser));
        assert_eq!(silent.check(Permission::Send), Err(AuthRefusal::Scope));
        assert_eq!(sender.check(Permission::Send), Ok(()));
        for other in
            [Permission::Withdraw, Permission::ReadOutcomes, Permission::ReadState, Permission::Administer]
        {
            assert_eq!(sender.check(other), Err(AuthRefusal::Scope), "{other:?}");
        }
        let authority = sender.authority();
        assert_eq!((authority.lapse(5_999), authority.remaining_ms(5_999)), (None, Some(1)));
        assert_eq!((authority.lapse(6_000), authority.remaining_ms(7_000)), (Some(Lapse::Expired), Some(0)));
    }
}
