//! What pages may do in a browser: use what they carry, ask their own origin, and nothing else.
//!
//! The hashes are computed here once more, from the page as it arrives: a manual that comes with other scripts than its policy
//! allows would be blank.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway::config::Link;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Gateway};

/// What browsers ask for although it is no page.
const NO_PAGES: [&str; 7] = [
    "/favicon.ico",
    "/openapi.json",
    "/asyncapi.yaml",
    "/client.js",
    "/console/console.js",
    "/console/console.css",
    "/console/about.json",
];

/// The manual, with and without the slash that people add.
const MANUAL: [&str; 2] = ["/docs", "/docs/"];

/// The developers' page.
const CONSOLE: &str = "/";

/// An answer of the gateway itself, not of where it leads.
async fn get(gateway: &Gateway, path: &str) -> (HeaderMap, String) {
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let answer = client.get(format!("http://{}{path}", gateway.address())).send().await.unwrap();
    assert!(answer.status().is_success() || answer.status().is_redirection(), "{path}: {}", answer.status());
    (answer.headers().clone(), answer.text().await.unwrap())
}

/// The directives of a policy with their sources.
fn directives(headers: &HeaderMap) -> BTreeMap<String, BTreeSet<String>> {
    let policies: Vec<_> = headers.get_all("content-security-policy").iter().collect();
    assert_eq!(policies.len(), 1, "{policies:?}");
    let mut directives = BTreeMap::new();
    for directive in policies[0].to_str().unwrap().split(';') {
        let mut words = directive.split_whitespace().map(str::to_owned);
        let name = words.next().expect("a directive has a name");
        // A browser heeds only the first of a name.
        assert!(directives.insert(name.clone(), words.collect()).is_none(), "{name} twice");
    }
    directives
}

fn sources(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The texts between `<name …>` and `</name>`.
fn texts_between<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name} "), format!("</{name}>"));
    let bare = format!("<{name}>");
    let mut texts = Vec::new();
    let mut rest = page;
    while let Some(at) = [&open, &bare].iter().filter_map(|tag| rest.find(tag.as_str())).min() {
        let text = &rest[at..][rest[at..].find('>').expect("the tag ends") + 1..];
        let end = text.find(&close).expect("the element ends");
        texts.push(&text[..end]);
        rest = &text[end + close.len()..];
    }
    texts
}

/// What remains of a page without the texts of these elements.
fn without(page: &str, texts: &[&str]) -> String {
    texts.iter().fold(page.to_owned(), |page, text| page.replacen(*text, "", 1))
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manual_may_use_the_scripts_and_styles_it_carries_and_nothing_else() {
    let gateway = Gateway::start().await;
    for path in MANUAL {
        let (headers, page) = get(&gateway, path).await;
        let scripts = texts_between(&page, "script");
        // The library has texts about styles: only what stands outside of scripts counts.
        let body = without(&page, &scripts);
        let styles = texts_between(&body, "style");
        assert!(scripts.len() >= 2 && !styles.is_empty(), "the manual, its library and its looks");
        assert!(scripts.iter().any(|script| script.contains("sendNotification")), "the document");

        // Within such a comment, a `<script` would keep the script from ending where it seems to end.
        for comment in scripts.iter().flat_map(|script| script.split("<!--").skip(1)) {
            let comment = comment.split("-->").next().unwrap_or_default();
            assert!(!comment.contains("<script"), "{comment:.80}");
        }

        let hashes = |texts: &[&str]| texts.iter().map(|text| hash(text)).collect::<BTreeSet<_>>();
        let expected = [
            ("default-src", sources(&["'none'"])),
            ("object-src", sources(&["'none'"])),
            ("base-uri", sources(&["'none'"])),
            ("form-action", sources(&["'none'"])),
            ("frame-ancestors", sources(&["'none'"])),
            ("script-src", hashes(&scripts)),
            ("style-src", hashes(&styles)),
            ("connect-src", sources(&["'self'"])),
            ("img-src", sources(&["'self'", "data:"])),
        ];
        let expected = expected.map(|(name, sources)| (name.to_owned(), sources));
        assert_eq!(directives(&headers), BTreeMap::from(expected), "{path}");

        // What a policy of hashes cannot allow: a page with such things would be broken.
        let markup = without(&body, &styles);
        for refused in [" style=", " src=", " onload=", " onclick=", "<link", "<base", "javascript:"] {
            assert!(!markup.contains(refused), "{refused} in {markup}");
        }
        // Styles ask for nothing but what is within them.
        for style in styles {
            assert!(!style.contains("@import"), "another style sheet");
            for address in style.split("url(").skip(1) {
                assert!(address.trim_start_matches(['"', '\'']).starts_with("data:"), "{address:.80}");
            }
        }
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_page_may_do_nothing() {
    let gateway = Gateway::start().await;
    for path in NO_PAGES {
        let (headers, _) = get(&gateway, path).await;
        let directives = directives(&headers);
        for name in ["default-src", "object-src", "base-uri", "form-action", "frame-ancestors"] {
            assert_eq!(directives.get(name), Some(&sources(&["'none'"])), "{path}: {name}");
        }
        assert_eq!(directives.len(), 5, "{path}: {directives:?}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_browser_finds_is_sealed_off_from_other_pages() {
    let gateway = Gateway::start().await;
    for path in NO_PAGES.into_iter().chain(MANUAL).chain([CONSOLE]) {
        let (headers, _) = get(&gateway, path).await;
        for (name, expected) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-cache"),
        ] {
            let found: Vec<_> = headers.get_all(name).iter().collect();
            assert_eq!(found, [expected], "{path}: {name}");
        }
        let permissions = headers["permissions-policy"].to_str().unwrap();
        assert!(permissions.split(", ").all(|permission| permission.ends_with("=()")), "{permissions}");
        for device in ["camera", "microphone", "geolocation"] {
            assert!(permissions.contains(&format!("{device}=()")), "{path}: {permissions}");
        }
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_pages_there_is_nothing_and_they_are_only_read() {
    let gateway = Gateway::start().await;
    // The manual's library comes with a page for sign-in by OAuth, which nobody here uses.
    for path in [
        "/docs/oauth-receiver.html",
        "/docs//",
        "/docs/x",
        "/docsx",
        "/console",
        "/console/",
        "/console/nothing.js",
        "/console/index.html",
        "/console/console.js/x",
        "/console/..%2fclient.js",
        "/client.js/",
    ] {
        Answer::of(gateway.request(Method::GET, path)).await.refused(404, None);
    }
    for path in NO_PAGES.into_iter().chain(MANUAL).chain([CONSOLE]) {
        Answer::of(gateway.request(Method::POST, path)).await.refused(405, None);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_may_use_its_own_files_and_make_no_markup_of_texts() {
    let gateway = Gateway::start().await;
    let (headers, page) = get(&gateway, CONSOLE).await;
    let expected = [
        ("default-src", sources(&["'none'"])),
        ("object-src", sources(&["'none'"])),
        ("base-uri", sources(&["'none'"])),
        ("form-action", sources(&["'none'"])),
        ("frame-ancestors", sources(&["'none'"])),
        ("script-src", sources(&["'self'"])),
        ("style-src", sources(&["'self'"])),
        ("connect-src", sources(&["'self'"])),
        ("img-src", sources(&["'self'"])),
        ("require-trusted-types-for", sources(&["'script'"])),
        ("trusted-types", sources(&["'none'"])),
    ];
    let expected = expected.map(|(name, sources)| (name.to_owned(), sources));
    assert_eq!(directives(&headers), BTreeMap::from(expected));

    // What such a policy refuses would be missing on the page.
    for refused in [" style=", " onload=", " onclick=", "<base", "javascript:", "<style", "<script>"] {
        assert!(!page.contains(refused), "{refused}");
    }
    // Every file that it names is there, and is what it is named as.
    let mut files = 0;
    for address in page.split(['"', '\'']).filter(|text| text.starts_with("/console/")) {
        let (headers, _) = get(&gateway, address).await;
        let media_type = headers["content-type"].to_str().unwrap();
        let expected = match address.rsplit('.').next() {
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            Some("svg") => "image/svg+xml",
            _ => panic!("{address} is nothing that the page could use"),
        };
        assert!(media_type.starts_with(expected), "{address}: {media_type}");
        files += 1;
    }
    assert!(files >= 3, "{files}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let gateway = Gateway::start().await;
    for path in ["/", "/client.js", "/console/console.css"] {
        let (headers, _) = get(&gateway, path).await;
        let tag = headers["etag"].to_str().unwrap();
        for (known, status) in [
            (tag.to_owned(), 304),
            (format!("\"other\", W/{tag}"), 304),
            ("\"other\"".to_owned(), 200),
            (tag.trim_matches('"').to_owned(), 200),
        ] {
            let request = gateway.request(Method::GET, path).header("if-none-match", &known);
            let answer = Answer::of(request).await;
            assert_eq!(answer.status, status, "{path}: {known}");
            assert_eq!(answer.header("etag"), tag);
        }
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_knows_where_its_links_lead() {
    let gateway = Gateway::start().await;
    let about = gateway.get("/console/about.json").await.body;
    assert_eq!(about["open"], true);
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["metrics_url"], format!("http://{}/metrics", gateway.operators_address()));
    assert_eq!(about["grafana_url"], "http://127.0.0.1:3000");
    gateway.stop().await;

    let gateway = Gateway::start_with(|config| {
        config.console.metrics_url = Link::Nowhere;
        config.console.grafana_url = Link::To("https://grafana.example/".to_owned());
    })
    .await;
    let about = gateway.get("/console/about.json").await.body;
    assert_eq!(about["metrics_url"], serde_json::Value::Null);
    assert_eq!(about["grafana_url"], "https://grafana.example/");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_console_the_front_page_is_the_manual_and_the_client_stays() {
    let gateway = Gateway::start_with(|config| config.console.enabled = false).await;
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let front = client.get(format!("http://{}/", gateway.address())).send().await.unwrap();
    assert_eq!(front.status(), 307);
    assert_eq!(front.headers()["location"], "/docs");
    drop((client, front));
    for path in ["/console/console.js", "/console/about.json"] {
        gateway.get(path).await.refused(404, None);
    }
    let (_, script) = get(&gateway, "/client.js").await;
    assert!(script.contains("export class NotificationClient"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_welcome_origins_may_use_the_client_from_here() {
    let gateway = Gateway::start().await;
    let origin = "http://localhost:5173";
    let request = gateway.request(Method::GET, "/client.js").header("origin", origin);
    let answer = Answer::of(request).await;
    // A module of another origin is loaded with CORS, or not at all.
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, origin));
    let foreign = gateway.request(Method::GET, "/client.js").header("origin", "https://evil.example");
    Answer::of(foreign).await.refused(403, None);
    gateway.stop().await;
}
