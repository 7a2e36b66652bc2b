//! `Host` and `Origin`: what a browser says about the page that asks.

use std::net::IpAddr;
use std::sync::Arc;

use poem::Request;
use poem::http::header;
use poem::http::uri::Authority;

/// Which `Host` the gateway answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPolicy {
    /// Only names of this machine: a page that made its own name resolve to 127.0.0.1 (DNS rebinding) is refused.
    LoopbackOnly,
    /// These names, and those of this machine.
    Listed(Arc<[String]>),
    /// Any.
    Any,
}

/// Which web origins (RFC 6454) may use the API and open sockets.
#[derive(Debug, Clone)]
pub struct OriginPolicy {
    allowed: Vec<String>,
    any_loopback: bool,
}

impl HostPolicy {
    /// Whether a request for `host` (a `Host` header or `:authority`, port included) is answered.
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        let name = host_name(host);
        match self {
            Self::Any => true,
            Self::LoopbackOnly => is_loopback(name),
            Self::Listed(names) => {
                let is_listed =
                    |listed: &String| listed.eq_ignore_ascii_case(host) || listed.eq_ignore_ascii_case(name);
                names.iter().any(is_listed) || is_loopback(name)
            }
        }
    }
}

impl OriginPolicy {
    /// Allows the gateway's own origin and those listed; with `any_loopback`, pages on this machine at any port too.
    #[must_use]
    pub fn new(allowed: &[String], any_loopback: bool) -> Self {
        let normalized = allowed.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase());
        Self { allowed: normalized.collect(), any_loopback }
    }

    /// Whether a page of `origin` may talk to the gateway it reaches as `host`.
    ///
    /// The opaque origin `null` (sandboxed frames, files) is nobody's and never allowed.
    #[must_use]
    pub fn allows(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        if !matches!(scheme, "http" | "https") {
            return false;
        }
        let same_origin = authority == host.to_ascii_lowercase();
        let on_this_machine = self.any_loopback && scheme == "http" && is_page_on_loopback(authority);
        same_origin || on_this_machine || self.allowed.contains(&origin)
    }
}

/// A development server: `localhost` or `127.0.0.1`, any port.
fn is_page_on_loopback(authority: &str) -> bool {
    matches!(host_name(authority), "localhost" | "127.0.0.1") && has_plain_port(authority)
}

fn has_plain_port(authority: &str) -> bool {
    authority.split_once(':').is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The name or address without its port, IPv6 brackets removed.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The name under which the client reached the gateway: `Host`, or `:authority` in HTTP/2.
#[must_use]
pub fn host(request: &Request) -> &str {
    let authority = || request.uri().authority().map(Authority::as_str);
    request.header(header::HOST).or_else(authority).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered_in_open_mode() {
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "[::1]"] {
            assert!(HostPolicy::LoopbackOnly.allows(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1",
        ] {
            assert!(!HostPolicy::LoopbackOnly.allows(host), "{host}");
        }
        assert!(HostPolicy::Any.allows("push.example"));
        let listed = HostPolicy::Listed(Arc::new(["push.example".to_owned(), "10.0.0.7:8000".to_owned()]));
        for host in ["push.example", "PUSH.example:443", "10.0.0.7:8000", "127.0.0.1:8000"] {
            assert!(listed.allows(host), "{host}");
        }
        for host in ["evil.example", "push.example.evil.example", "10.0.0.7:9000", "10.0.0.7", ""] {
            assert!(!listed.allows(host), "{host}");
        }
    }

    #[test]
    fn the_own_origin_listed_ones_and_development_servers_are_allowed() {
        let policy = OriginPolicy::new(&["https://App.example/".to_owned()], true);
        for origin in [
            "http://127.0.0.1:8000",
            "https://app.example",
            "http://localhost:5173",
            "http://localhost",
            "http://127.0.0.1:3000",
        ] {
            assert!(policy.allows(origin, "127.0.0.1:8000"), "{origin}");
        }
        for origin in [
            "null",
            "https://evil.example",
            "http://localhost.evil.example",
            "http://localhost:80@evil.example",
            "https://app.example.evil.example",
            "file://localhost",
            "http://127.0.0.1:8000.evil.example",
        ] {
            assert!(!policy.allows(origin, "127.0.0.1:8000"), "{origin}");
        }
        assert!(!OriginPolicy::new(&[], false).allows("http://localhost:5173", "push.example"));
    }
}
