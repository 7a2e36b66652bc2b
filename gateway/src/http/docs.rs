//! What a newcomer's browser finds: the manual, the descriptions of API and frames.
//!
//! Each answer tells the browser what it may do with it: see `policy`.

mod policy;

use std::sync::OnceLock;

use bytes::Bytes;
use poem::endpoint::make_sync;
use poem::http::{StatusCode, header};
use poem::middleware::{SetHeader, SetHeaderEndpoint};
use poem::web::Redirect;
use poem::{Endpoint, EndpointExt, Response, handler};

/// The frames of `notify.v1`, as committed.
pub(super) const ASYNCAPI: &str = include_str!("../../../openapi/asyncapi.yaml");

/// The rights of a device that no page of ours asks for. Only names that browsers know: they complain of others.
const NO_DEVICES: &str = "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), \
                          microphone=(), payment=(), usb=()";

/// Its fields come and go, so the page is watched.
const FORGET_CREDENTIALS: &str = r#"<script>
new MutationObserver(() => {
  for (const input of document.querySelectorAll(".auth-container input")) {
    if (input.type !== "password") { input.type = "password"; input.autocomplete = "off"; }
  }
}).observe(document.body, { childList: true, subtree: true });
</script>
"#;

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

/// The manual: `html` with the policy that its own scripts and styles need.
pub(super) fn manual(html: String) -> impl Endpoint<Output = Response> {
    // Hashed for the first who asks, not at every start: it takes an unoptimized build a tenth of a second.
    let policy = OnceLock::new();
    let html = Bytes::from(with_script(html));
    let answer = make_sync(move |_| {
        let policy = policy.get_or_init(|| policy::policy(&String::from_utf8_lossy(&html)));
        Response::builder()
            .header(header::CONTENT_SECURITY_POLICY, policy.as_str())
            .content_type("text/html; charset=utf-8")
            .body(html.clone())
    });
    answer.with(headers())
}

/// Swagger UI asks for credentials in plain fields, which browsers remember and offer elsewhere: it shall not.
fn with_script(mut html: String) -> String {
    // The last one: the manual's own script has the text in it, too.
    let end = html.rfind("</body>").unwrap_or(html.len());
    html.insert_str(end, FORGET_CREDENTIALS);
    html
}

pub(super) fn asyncapi() -> impl Endpoint {
    inert(text("application/yaml", Bytes::from_static(ASYNCAPI.as_bytes())))
}

pub(super) fn json(document: String) -> impl Endpoint {
    inert(text("application/json", document.into()))
}

/// What is no page: a browser that takes it for one may do nothing with it.
pub(super) fn inert<E: Endpoint>(endpoint: E) -> SetHeaderEndpoint<E> {
    endpoint.with(headers().overriding(header::CONTENT_SECURITY_POLICY, policy::NOTHING))
}

fn text(media_type: &'static str, text: Bytes) -> impl Endpoint {
    make_sync(move |_| Response::builder().content_type(media_type).body(text.clone()))
}

/// What every page says of itself besides its policy.
fn headers() -> SetHeader {
    SetHeader::new()
        .overriding(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .overriding(header::REFERRER_POLICY, "no-referrer")
        // For browsers that do not know `frame-ancestors`.
        .overriding(header::X_FRAME_OPTIONS, "DENY")
        // No page that opens ours, and none that ours opens, holds on to its window.
        .overriding("cross-origin-opener-policy", "same-origin")
        .overriding("cross-origin-resource-policy", "same-origin")
        .overriding("permissions-policy", NO_DEVICES)
        // A page goes with its hashes, and both change with the version.
        .overriding(header::CACHE_CONTROL, "no-cache")
}
