//! What a newcomer's browser finds: the manual, the descriptions of API and frames.
//!
//! Each answer tells the browser what it may do with it: see `policy`.

mod policy;

use std::sync::OnceLock;

use bytes::Bytes;
use poem::endpoint::make_sync;
use poem::http::{StatusCode, header};
use poem::{Endpoint, EndpointExt, Response, handler};

use crate::edge::page;

/// The frames of `notify.v1`, as committed.
pub(super) const ASYNCAPI: &str = include_str!("../../../openapi/asyncapi.yaml");

/// Its fields come and go, so the page is watched.
const FORGET_CREDENTIALS: &str = r#"<script>
new MutationObserver(() => {
  for (const input of document.querySelectorAll(".auth-container input")) {
    if (input.type !== "password") { input.type = "password"; input.autocomplete = "off"; }
  }
}).observe(document.body, { childList: true, subtree: true });
</script>
"#;

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
    answer.with(page::headers())
}

/// Swagger UI asks for credentials in plain fields, which browsers remember and offer elsewhere: it shall not.
fn with_script(mut html: String) -> String {
    // The last one: the manual's own script has the text in it, too.
    let end = html.rfind("</body>").unwrap_or(html.len());
    html.insert_str(end, FORGET_CREDENTIALS);
    html
}

pub(super) fn asyncapi() -> impl Endpoint {
    page::inert(text("application/yaml", Bytes::from_static(ASYNCAPI.as_bytes())))
}

pub(super) fn json(document: String) -> impl Endpoint {
    page::inert(text("application/json", document.into()))
}

fn text(media_type: &'static str, text: Bytes) -> impl Endpoint {
    make_sync(move |_| Response::builder().content_type(media_type).body(text.clone()))
}
