//! What everything that a browser finds here says of itself: what it may do, and that it is nobody else's.

use poem::Endpoint;
use poem::EndpointExt;
use poem::http::header;
use poem::middleware::{SetHeader, SetHeaderEndpoint};

/// The policy of an answer that is no page: whatever a browser takes it for, it may do nothing. Pages add to it what they need.
///
/// What a policy does not name falls back to `default-src`, except `base-uri`, `form-action` and `frame-ancestors`;
/// `object-src` is named for those who read it and for scanners.
pub const NOTHING: &str =
    "default-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The rights of a device that no page of ours asks for. Only names that browsers know: they complain of others.
const NO_DEVICES: &str = "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), \
                          microphone=(), payment=(), usb=()";

/// What is no page: a browser that takes it for one may do nothing with it.
pub fn inert<E: Endpoint>(endpoint: E) -> SetHeaderEndpoint<E> {
    endpoint.with(headers().overriding(header::CONTENT_SECURITY_POLICY, NOTHING))
}

/// What every answer to a browser says of itself besides its policy.
#[must_use]
pub fn headers() -> SetHeader {
    SetHeader::new()
        .overriding(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .overriding(header::REFERRER_POLICY, "no-referrer")
        // For browsers that do not know `frame-ancestors`.
        .overriding(header::X_FRAME_OPTIONS, "DENY")
        // No page that opens ours, and none that ours opens, holds on to its window.
        .overriding("cross-origin-opener-policy", "same-origin")
        .overriding("cross-origin-resource-policy", "same-origin")
        .overriding("permissions-policy", NO_DEVICES)
        // A page goes with its scripts and hashes, and all of them change with the version.
        .overriding(header::CACHE_CONTROL, "no-cache")
}
