//! What developers find first: a page to send from and to receive on, and the client that it and other pages use.
//!
//! Plain files, served as they stand and embedded in the program: nothing builds them, nothing of them is loaded from elsewhere.
//! The page does what any page could do with the API; it is shown to everybody, and what it shows is up to the credential that its
//! reader enters.

use std::net::SocketAddr;
use std::sync::OnceLock;

use bytes::Bytes;
use poem::endpoint::{BoxEndpoint, make_sync};
use poem::http::{HeaderMap, StatusCode, header};
use poem::web::Redirect;
use poem::{EndpointExt, IntoEndpoint, IntoResponse, Request, Response};
use sha2::{Digest, Sha256};

use crate::config::{self, Link};
use crate::edge::{Problem, page};

/// Where compose starts Grafana.
const GRAFANA: &str = "http://127.0.0.1:3000";

/// What the page may do: use the scripts and styles it is served with, ask its own origin, and never make markup of a text.
const POLICY: &str = "script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The client for browsers.
static CLIENT: File = File::new("client.js", JAVASCRIPT, include_str!("console/client.js"));

static INDEX: File =
    File::new("index.html", "text/html; charset=utf-8", include_str!("console/page/index.html"));

macro_rules! files {
    ($($name:literal: $media_type:expr,)*) => {
        [$(File::new($name, $media_type, include_str!(concat!("console/page/", $name))),)*]
    };
}

/// What the page is made of.
static FILES: [File; 24] = files! {
    "choice.js": JAVASCRIPT,
    "console.css": "text/css; charset=utf-8",
    "console.js": JAVASCRIPT,
    "credential.js": JAVASCRIPT,
    "elements.js": JAVASCRIPT,
    "entry.js": JAVASCRIPT,
    "fields.css": "text/css; charset=utf-8",
    "gateway.js": JAVASCRIPT,
    "icon.svg": "image/svg+xml",
    "latency.js": JAVASCRIPT,
    "log.js": JAVASCRIPT,
    "mailbox.js": JAVASCRIPT,
    "outcome.js": JAVASCRIPT,
    "pane.js": JAVASCRIPT,
    "panes.css": "text/css; charset=utf-8",
    "panes.js": JAVASCRIPT,
    "parts.css": "text/css; charset=utf-8",
    "plot.js": JAVASCRIPT,
    "poll.js": JAVASCRIPT,
    "sender.js": JAVASCRIPT,
    "sent.js": JAVASCRIPT,
    "stats.js": JAVASCRIPT,
    "topics.js": JAVASCRIPT,
    "words.js": JAVASCRIPT,
};

/// A file of the program.
struct File {
    name: &'static str,
    media_type: &'static str,
    text: &'static str,
    /// Names this very text. Hashed for the first who asks: at every start it would take an unoptimized build a while.
    tag: OnceLock<String>,
}

/// What the page says of its gateway.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct About {
    /// The gateway's version.
    pub version: &'static str,
    /// Nobody needs a credential.
    pub open: bool,
    /// Where its metrics are shown.
    pub metrics_url: Option<String>,
    /// Where its dashboards are.
    pub grafana_url: Option<String>,
}

impl About {
    /// As the configuration says; `listeners` is where the public one and the operator's were bound.
    #[must_use]
    pub fn new(console: &config::Console, open: bool, listeners: (SocketAddr, SocketAddr)) -> Self {
        let (public, ops) = listeners;
        // Whoever reads the page elsewhere has another machine on loopback.
        let guesses = open && public.ip().is_loopback();
        let link = |link: &Link, auto: Option<String>| match link {
            Link::Auto => auto.filter(|_| guesses),
            Link::Nowhere => None,
            Link::To(url) => Some(url.clone()),
        };
        // An address that stands for all of them is none that a browser could ask.
        let metrics = ops.ip().is_loopback().then(|| format!("http://{ops}/metrics"));
        Self {
            version: crate::VERSION,
            open,
            metrics_url: link(&console.metrics_url, metrics),
            grafana_url: link(&console.grafana_url, Some(GRAFANA.to_owned())),
        }
    }
}

/// The pages by their paths. Without the console the front page is the manual; the client is served in any case.
#[must_use]
pub fn pages(enabled: bool, about: &About) -> Vec<(&'static str, BoxEndpoint<'static, Response>)> {
    let client = get(page::inert(make_sync(|request: Request| CLIENT.answer(request.headers()))));
    if !enabled {
        let manual = page::inert(make_sync(|_| Redirect::temporary("/docs")));
        return vec![("/client.js", client), ("/", get(manual))];
    }
    let policy = format!("{}; {POLICY}", page::NOTHING);
    let headers = page::headers().overriding(header::CONTENT_SECURITY_POLICY, policy);
    let index = make_sync(|request: Request| INDEX.answer(request.headers())).with(headers);
    let about = Bytes::from(serde_json::to_vec(about).expect("texts always serialize"));
    let files = make_sync(move |request: Request| {
        let name = request.path_params::<String>().unwrap_or_default();
        if name == "about.json" {
            return Response::builder().content_type("application/json").body(about.clone());
        }
        let file = FILES.iter().find(|file| file.name == name);
        let missing = || Problem::new(StatusCode::NOT_FOUND, "the console has no such file").into_response();
        file.map_or_else(missing, |file| file.answer(request.headers()))
    });
    vec![("/client.js", client), ("/", get(index)), ("/console/:file", get(page::inert(files)))]
}

/// A page is only read.
fn get(endpoint: impl IntoEndpoint<Endpoint: 'static>) -> BoxEndpoint<'static, Response> {
    poem::get(endpoint).map_to_response().boxed()
}

impl File {
    const fn new(name: &'static str, media_type: &'static str, text: &'static str) -> Self {
        Self { name, media_type, text, tag: OnceLock::new() }
    }

    /// The file, unless the browser has this very text (RFC 9110 §13.1.2).
    fn answer(&self, headers: &HeaderMap) -> Response {
        let tag = self.tag();
        let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        let is_known = known.flat_map(|tags| tags.split(',')).any(|known| {
            let known = known.trim();
            known.strip_prefix("W/").unwrap_or(known) == *tag
        });
        let response = Response::builder().header(header::ETAG, tag);
        if is_known {
            return response.status(StatusCode::NOT_MODIFIED).finish();
        }
        response.content_type(self.media_type).body(self.text)
    }

    fn tag(&self) -> &String {
        self.tag.get_or_init(|| {
            let digest = Sha256::digest(self.text);
            digest[..8].iter().fold("\"".to_owned(), |tag, byte| format!("{tag}{byte:02x}")) + "\""
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::config::Config;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/console/page");
        let entries = std::fs::read_dir(folder).unwrap();
        let there: BTreeSet<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let served: BTreeSet<String> =
            FILES.iter().chain([&INDEX]).map(|file| file.name.to_owned()).collect();
        assert_eq!(there, served);
    }

    #[test]
    fn links_lead_nowhere_by_themselves_where_there_are_keys_or_others_may_read_them() {
        let console = Config::for_tests().console;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 9464));
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9464));
        let about = About::new(&console, true, (loopback, loopback));
        assert_eq!(about.metrics_url.as_deref(), Some("http://127.0.0.1:9464/metrics"));
        let about = About::new(&console, true, (loopback, any));
        assert_eq!((about.metrics_url, about.grafana_url.as_deref()), (None, Some(GRAFANA)));
        let about = About::new(&console, true, (any, loopback));
        assert_eq!((about.metrics_url, about.grafana_url), (None, None));
        let about = About::new(&console, false, (loopback, loopback));
        assert_eq!((about.metrics_url, about.grafana_url), (None, None));
        let said = config::Console { metrics_url: Link::To("https://metrics.example".to_owned()), ..console };
        let about = About::new(&said, false, (any, any));
        assert_eq!(about.metrics_url.as_deref(), Some("https://metrics.example"));
    }
}
