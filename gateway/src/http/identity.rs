//! Who asks: found out before a request's body is read, and written down for what changes something.

use std::net::IpAddr;
use std::sync::Arc;

use poem::http::{Method, StatusCode};
use poem::{Request, Response};

use super::Http;
use crate::auth::{Authenticator, Caller, credential_in_url, credential_of};
use crate::clock::Clock;
use crate::edge::admission::CredentialInUrl;
use crate::listener::ClientAddresses;
use crate::metrics::{AuthRefusal, Metrics};
use crate::telemetry::Throttle;

/// What below this path happens needs a credential; manual and documents do not, and sessions judge theirs themselves.
pub(super) const OPERATIONS: &str = "/v1/";

/// What is posted here and below is a send: too frequent for a line each.
pub(super) const SENDS: &str = "/v1/notifications";

/// Finds out who asks.
#[derive(Clone)]
pub(super) struct Identity {
    authenticator: Authenticator,
    clients: Arc<ClientAddresses>,
    metrics: Arc<Metrics>,
    clock: Clock,
    refusals: Arc<Throttle>,
}

/// What an audit line says of a request, kept while it is answered.
pub(super) struct Audit {
    caller: Caller,
    method: Method,
    path: String,
    client: IpAddr,
    /// Somebody may ask about it later.
    is_change: bool,
}

impl Identity {
    pub(super) fn new(http: &Http) -> Self {
        Self {
            authenticator: http.authenticator.clone(),
            clients: Arc::clone(&http.clients),
            metrics: Arc::clone(&http.metrics),
            clock: http.delivery.clock().clone(),
            refusals: Arc::default(),
        }
    }

    /// Who asks. The request carries it from now on, for the operation to judge.
    ///
    /// # Errors
    /// Why nobody is known; [`Identity::refused`] counts it.
    pub(super) async fn identify(&self, request: &mut Request) -> Result<Option<Audit>, AuthRefusal> {
        if !request.uri().path().starts_with(OPERATIONS) {
            return Ok(None);
        }
        if self.authenticator.is_open() {
            request.set_data(Caller::Anybody);
            return Ok(None);
        }
        if request.uri().query().is_some_and(credential_in_url) {
            return Err(AuthRefusal::InUrl);
        }
        let credential = credential_of(request.headers())?;
        let caller = self.authenticator.caller(credential.as_ref()).await?;
        request.set_data(caller.clone());
        let (method, path) = (request.method(), request.uri().path());
        let is_change = is_change(&caller, method, path);
        Ok((is_change || tracing::enabled!(tracing::Level::DEBUG)).then(|| Audit {
            caller,
            method: method.clone(),
            path: path.to_owned(),
            client: self.client(request),
            is_change,
        }))
    }

    /// Takes a credential out of the address of a request for a session, which is judged later: nobody shall read, or repeat, it
    /// meanwhile.
    pub(super) fn take_out_of_address(&self, request: &mut Request) {
        if self.authenticator.is_open() || !request.uri().query().is_some_and(credential_in_url) {
            return;
        }
        let path = request.uri().path().parse().expect("a part of an address that was parsed");
        *request.uri_mut() = path;
        request.set_data(CredentialInUrl);
    }

    /// Counts a refusal and, now and then, says so; the credential is not part of it.
    pub(super) fn refused(&self, refusal: AuthRefusal, client: IpAddr) {
        self.metrics.auth_refused.of(refusal).inc();
        if let Some(held_back) = self.refusals.pass(self.clock.now_ms()) {
            tracing::warn!(?refusal, %client, held_back, "a request was refused because of its credential");
        }
    }

    /// The address of whoever asks.
    pub(super) fn client(&self, request: &Request) -> IpAddr {
        self.clients.client_address(request)
    }
}

impl Audit {
    /// Writes down who did what: changes always, the rest for whoever looks closely.
    pub(super) fn done(&self, response: &Response) {
        let (kind, name) = self.caller.named();
        let status = response.status().as_u16();
        let (method, path, client) = (self.method.as_str(), self.path.as_str(), self.client);
        if self.is_change && status < StatusCode::BAD_REQUEST.as_u16() {
            tracing::info!(target: "gateway::audit", audit = true, caller = kind, name, method, path, %client, status, "done");
        } else {
            tracing::debug!(target: "gateway::audit", audit = true, caller = kind, name, method, path, %client, status, "answered");
        }
    }
}

/// Whether it is a change that somebody may ask about later. Sends have their own traces, and who acks with a token acks what is
/// its own.
fn is_change(caller: &Caller, method: &Method, path: &str) -> bool {
    match *method {
        Method::PUT | Method::DELETE => true,
        Method::POST if path.ends_with("/acks") => matches!(caller, Caller::Key(_)),
        Method::POST => !path.starts_with(SENDS),
        _ => false,
    }
}
