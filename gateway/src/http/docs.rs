//! What a newcomer's browser finds: the manual, the descriptions of API and frames.

use poem::endpoint::make_sync;
use poem::http::{StatusCode, header};
use poem::web::Redirect;
use poem::{Endpoint, Response, handler};

/// The frames of `notify.v1`, as committed.
pub(super) const ASYNCAPI: &str = include_str!("../../../openapi/asyncapi.yaml");

/// The front page is the manual.
#[handler]
pub(super) fn home() -> Redirect {
    Redirect::temporary("/docs")
}

/// Every browser asks for one.
#[handler]
pub(super) fn no_icon() -> StatusCode {
    StatusCode::NO_CONTENT
}

#[handler]
pub(super) fn asyncapi() -> Response {
    Response::builder().header(header::CONTENT_TYPE, "application/yaml").body(ASYNCAPI)
}

pub(super) fn json(document: String) -> impl Endpoint {
    make_sync(move |_| {
        Response::builder().header(header::CONTENT_TYPE, "application/json").body(document.clone())
    })
}
