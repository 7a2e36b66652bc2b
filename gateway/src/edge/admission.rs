//! Who may open a session, by whichever transport.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use poem::Request;
use poem::http::{HeaderValue, StatusCode, header};

use super::Problem;
use super::access::{LISTENING, refused, status_of};
use crate::auth::{
    Authenticator, Authority, Caller, OriginPolicy, Permission, TokenUser, credential_of_session, host,
};
use crate::domain::{Secret, UserId};
use crate::lifecycle::Lifecycle;
use crate::limits::{Bucket, MemoryAdmission};
use crate::listener::ClientAddresses;
use crate::metrics::{AuthRefusal, Limit, Metrics, OpenResult, Transport};
use crate::protocol::CloseCode;

/// What a gateway says that takes no more sessions because it ends.
const STOPPING: &str = "the gateway is stopping";

/// What one says that cannot follow its log any further: it would hand out what others have left behind.
const HALTED: &str = "this gateway cannot follow its log; come to another one";

/// Judges attempts to open a session.
#[derive(Clone)]
pub struct Admission {
    /// Which pages may open one.
    pub origins: OriginPolicy,
    /// Whether new sessions are welcome.
    pub lifecycle: Lifecycle,
    /// Who shows which credential.
    pub authenticator: Authenticator,
    /// Whether there is memory for more.
    pub memory: MemoryAdmission,
    /// Where requests come from.
    pub clients: Arc<ClientAddresses>,
    /// How many may begin in a time; `None`: any number.
    pub opens: Option<Arc<Bucket>>,
    /// How many this node holds.
    pub max_sessions: usize,
    /// How many are admitted and not counted as sessions yet.
    pub opening: Arc<AtomicUsize>,
    /// What counts refusals.
    pub metrics: Arc<Metrics>,
}

/// A request carried a credential in its address. The guard takes the query away, so that nobody reads or repeats it.
#[derive(Debug, Clone, Copy)]
pub struct CredentialInUrl;

/// A session that may begin.
#[derive(Debug)]
pub struct Admitted {
    /// What it stands on.
    pub authority: Authority,
    /// Its place on this node, to be kept until it is counted as a session.
    pub place: Place,
}

/// A place for a session that is about to begin. Dropping it gives it back.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why a session is refused, in every language that a client may speak.
#[derive(Debug)]
pub struct NotAdmitted {
    /// For the count of attempts.
    pub result: OpenResult,
    /// For a client that was upgraded to be told why.
    pub code: CloseCode,
    /// For a client that reads HTTP.
    pub problem: Box<Problem>,
}

impl Admission {
    /// Judges a request for a session of `user`. What costs little comes first; only who may listen takes from what all share.
    ///
    /// # Errors
    /// Why this request may open no session; counted here, but for the attempt itself.
    pub async fn admit(&self, request: &Request, user: &UserId) -> Result<Admitted, NotAdmitted> {
        if self.lifecycle.is_stopping() {
            return Err(unavailable(CloseCode::Drain, STOPPING));
        }
        if self.lifecycle.is_halted() {
            return Err(unavailable(CloseCode::Overloaded, HALTED));
        }
        if !self.allows_origin(request) {
            let detail = "pages of this origin may not listen here; see http.allowed_origins";
            return Err(NotAdmitted {
                result: OpenResult::Origin,
                code: CloseCode::Forbidden,
                problem: Box::new(Problem::new(StatusCode::FORBIDDEN, detail)),
            });
        }
        if let Err(wait) = self.clients.check_proxied(request) {
            return Err(self.too_many(Limit::ConnectsPerAddress, wait));
        }
        let place = self.take_place()?;
        let caller = self.caller(request, user).await.map_err(|refusal| {
            self.metrics.auth_refused.of(refusal).inc();
            not_authorized(refusal)
        })?;
        let client = self.clients.client_address(request);
        let exempt = self.clients.is_exempt(client);
        if let Some(opens) = self.opens.as_ref().filter(|_| !exempt)
            && let Err(wait) = opens.take_one()
        {
            return Err(self.too_many(Limit::SessionOpens, wait));
        }
        // Finding out who asks may have taken a while.
        if self.lifecycle.is_stopping() {
            return Err(unavailable(CloseCode::Drain, STOPPING));
        }
        if let Caller::Key(key) = &caller {
            let (name, user) = (key.name(), user.as_str());
            tracing::info!(target: "gateway::audit", audit = true, caller = "key", name, user, %client, "receives");
        }
        Ok(Admitted { authority: caller.authority(), place })
    }

    /// What a new token of the session's user says.
    ///
    /// `None` if nobody can tell now, because keys cannot be had.
    ///
    /// # Errors
    /// What to close the session with; counted here.
    pub async fn refreshed(&self, token: &Secret, user: &str) -> Result<Option<Arc<TokenUser>>, CloseCode> {
        let caller = self.authenticator.caller(Some(token)).await;
        let judged = caller.and_then(|caller| match caller {
            Caller::User(token) if token.user.as_str() == user => Ok(Some(token)),
            Caller::User(_) => Err(AuthRefusal::OtherUser),
            Caller::Anybody | Caller::Key(_) => Err(AuthRefusal::Malformed),
        });
        judged.or_else(|refusal| {
            self.metrics.auth_refused.of(refusal).inc();
            if refusal == AuthRefusal::Unverifiable { Ok(None) } else { Err(not_authorized(refusal).code) }
        })
    }

    fn allows_origin(&self, request: &Request) -> bool {
        let allowed = |origin: &HeaderValue| {
            origin.to_str().is_ok_and(|origin| self.origins.allows(origin, host(request)))
        };
        request.headers().get(header::ORIGIN).is_none_or(allowed)
    }

    /// A place for one more, if the node can hold it.
    fn take_place(&self) -> Result<Place, NotAdmitted> {
        let full = |limit, detail| -> Result<Place, NotAdmitted> {
            self.metrics.limited.of(limit).inc();
            Err(unavailable(CloseCode::Overloaded, detail))
        };
        if self.memory.is_exceeded() {
            return full(Limit::Memory, "the gateway has no memory to spare");
        }
        // Taken before it is counted whether there was one: of two who come at once for the last place one gets none.
        let before = self.opening.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(&self.opening));
        let open = |transport| usize::try_from(self.metrics.sessions.of(transport).get()).unwrap_or(0);
        if before + open(Transport::WebSocket) + open(Transport::ServerSentEvents) >= self.max_sessions {
            return full(Limit::SessionsPerNode, "the gateway holds as many sessions as it may");
        }
        Ok(place)
    }

    async fn caller(&self, request: &Request, user: &UserId) -> Result<Caller, AuthRefusal> {
        if self.authenticator.is_open() {
            return Ok(Caller::Anybody);
        }
        if request.data::<CredentialInUrl>().is_some() {
            return Err(AuthRefusal::InUrl);
        }
        let credential = credential_of_session(request.headers())?;
        let caller = self.authenticator.caller(credential.as_ref()).await?;
        caller.check(Permission::Receive(user))?;
        Ok(caller)
    }

    fn too_many(&self, limit: Limit, wait: Duration) -> NotAdmitted {
        self.metrics.limited.of(limit).inc();
        let detail = "too many sessions begin at once; come back after `Retry-After` seconds";
        let problem = match limit {
            Limit::ConnectsPerAddress => Problem::new(StatusCode::TOO_MANY_REQUESTS, detail),
            _ => Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail),
        };
        NotAdmitted {
            result: OpenResult::RateLimited,
            code: CloseCode::Overloaded,
            problem: Box::new(problem.retry_after(wait)),
        }
    }
}

fn unavailable(code: CloseCode, detail: &str) -> NotAdmitted {
    let problem = Box::new(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    NotAdmitted { result: OpenResult::Overloaded, code, problem }
}

fn not_authorized(refusal: AuthRefusal) -> NotAdmitted {
    let (code, result) = match status_of(refusal) {
        StatusCode::FORBIDDEN => (CloseCode::Forbidden, OpenResult::Unauthorized),
        StatusCode::SERVICE_UNAVAILABLE => (CloseCode::Overloaded, OpenResult::Overloaded),
        _ => (CloseCode::InvalidToken, OpenResult::Unauthorized),
    };
    NotAdmitted { result, code, problem: Box::new(refused(refusal, LISTENING)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::listener::AddressRules;

    fn admission() -> Admission {
        let metrics = Arc::new(Metrics::new());
        let config = Config::for_tests();
        Admission {
            origins: OriginPolicy::new(&[], true),
            lifecycle: Lifecycle::new(),
            authenticator: Authenticator::load(&config, Clock::system(), Arc::clone(&metrics)).unwrap(),
            memory: MemoryAdmission::new(None),
            clients: Arc::new(ClientAddresses::new(AddressRules::default())),
            opens: None,
            max_sessions: 1,
            opening: Arc::default(),
            metrics,
        }
    }

    #[tokio::test]
    async fn a_gateway_that_stops_refuses_in_words_that_each_client_understands() {
        let (admission, request) = (admission(), Request::builder().finish());
        let bob = UserId::parse("bob").unwrap();
        assert!(admission.admit(&request, &bob).await.is_ok());
        admission.lifecycle.stop();
        let refused = admission.admit(&request, &bob).await.unwrap_err();
        assert_eq!((refused.code, refused.result), (CloseCode::Drain, OpenResult::Overloaded));
        assert_eq!(refused.problem.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn a_place_is_given_back_when_nothing_comes_of_it() {
        let (admission, request) = (admission(), Request::builder().finish());
        let bob = UserId::parse("bob").unwrap();
        let first = admission.admit(&request, &bob).await.unwrap();
        assert_eq!(admission.admit(&request, &bob).await.unwrap_err().code, CloseCode::Overloaded);
        drop(first);
        assert!(admission.admit(&request, &bob).await.is_ok());
    }
}
