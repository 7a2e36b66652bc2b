//! The HTTP API: the whole route table, and nothing that decides about delivery.
//!
//! Handlers parse a request into the domain's types, call one use case of `delivery`, and turn its result into a typed
//! response.

mod accept;
mod docs;
mod guard;
mod identity;
mod intake;
mod outcomes;
mod pull;
mod reading;
mod refusal;
mod schema;
mod send;
mod stats;
mod topics;
mod traced;
mod users;

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem::{EndpointExt, IntoEndpoint, Response, Route};
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{OpenApi, OpenApiService};

use crate::auth::{Authenticator, HostPolicy, OriginPolicy};
use crate::delivery::Delivery;
use crate::edge::page;
use crate::lifecycle::Lifecycle;
use crate::limits::MemoryAdmission;
use crate::listener::ClientAddresses;
use crate::metrics::Metrics;
use crate::presence::Presence;

pub use accept::SendLimits;
pub use guard::Guard;
pub use outcomes::OutcomeApi;
pub use pull::PullApi;
pub use send::SendApi;
pub use stats::StatsApi;
pub use topics::TopicsApi;
pub use users::UsersApi;

use traced::Traces;

/// What the handlers and what guards them need.
#[derive(Clone)]
pub struct Http {
    /// The use cases.
    pub delivery: Delivery,
    /// Those that concern other nodes, too.
    pub presence: Presence,
    /// What counts requests.
    pub metrics: Arc<Metrics>,
    /// Whether new work is welcome.
    pub lifecycle: Lifecycle,
    /// Which hosts are answered.
    pub hosts: HostPolicy,
    /// Which pages may use the API.
    pub origins: OriginPolicy,
    /// Limits of what may be sent.
    pub limits: SendLimits,
    /// The largest request body, in bytes.
    pub max_body: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Who shows which credential.
    pub authenticator: Authenticator,
    /// Whether there is memory for more.
    pub memory: MemoryAdmission,
    /// Where requests come from.
    pub clients: Arc<ClientAddresses>,
}

/// Pages by their paths, served beside the operations.
pub type Pages = Vec<(&'static str, BoxEndpoint<'static, Response>)>;

/// Every public route. `sessions` are the operations that open one, `pages` what a browser finds beside the manual.
pub fn routes(http: Http, sessions: impl OpenApi + 'static, pages: Pages) -> BoxEndpoint<'static, Response> {
    let guard = Guard::new(&http);
    let (delivery, presence) = (http.delivery.clone(), http.presence.clone());
    let tracing = delivery.tracing().clone();
    let stats = StatsApi::new(delivery.clone(), Arc::clone(&http.metrics));
    let sending = (SendApi::new(http.clone()), OutcomeApi { http });
    let receiving = (sessions, PullApi { delivery: delivery.clone() });
    let managing = (UsersApi { delivery: delivery.clone(), presence }, TopicsApi { delivery }, stats);
    let service = service((sending, receiving, managing));
    let (document, manual) = (service.spec(), Arc::new(docs::manual(service.swagger_ui_html())));
    // Not nested at `/`: poem would hide the front page behind it.
    let service = Arc::new(service.into_endpoint());
    pages
        .into_iter()
        .fold(Route::new(), |route, (path, page)| route.at(path, page))
        .at("/favicon.ico", page::inert(poem::get(docs::no_icon)))
        .at("/openapi.json", poem::get(docs::json(document)))
        .at("/asyncapi.yaml", poem::get(docs::asyncapi()))
        .at("/docs", poem::get(Arc::clone(&manual)))
        .at("/docs/", poem::get(manual))
        .nest_no_strip("/v1", Arc::clone(&service))
        .nest_no_strip("/ws", Arc::clone(&service))
        .nest_no_strip("/sse", service)
        .with(guard)
        .with(Traces(tracing))
        .boxed()
}

/// The OpenAPI document, as `gateway openapi` prints it and `/openapi.json` serves it. `S` describes the sessions.
#[must_use]
pub fn document<S: OpenApi>() -> String {
    service(Description::<((SendApi, OutcomeApi), (S, PullApi), (UsersApi, TopicsApi, StatsApi))>(
        PhantomData,
    ))
    .spec()
}

/// Describes operations without anything that could serve them.
struct Description<T>(PhantomData<T>);

impl<T: OpenApi> OpenApi for Description<T> {
    fn meta() -> Vec<MetaApi> {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, _: &mut Routes) {}
}

type Routes = HashMap<String, HashMap<Method, BoxEndpoint<'static>>>;

fn service<A: OpenApi>(apis: A) -> OpenApiService<A, ()> {
    OpenApiService::new(apis, "Notification gateway", crate::VERSION).server("/").summary("POST in, WebSocket push out").description(
        "POST a notification and the gateway pushes it at once to every WebSocket its recipient holds, keeps it for \
         those who are away, and can say afterwards what became of it for each recipient.\n\n\
         **Try it:** open a socket (`gateway listen bob`, or any WebSocket client at `/ws/bob`), then execute \
         *Send a notification* below as it stands. A gateway with keys wants to know who asks: *Authorize* takes an API key \
         or a token.\n\n\
         Errors are `application/problem+json` (RFC 9457). A 4xx or 507 is never delivered; a 503 that says \
         `\"delivered\":\"unknown\"` may have been. The socket's frames are described in [/asyncapi.yaml](/asyncapi.yaml).",
    )
}
