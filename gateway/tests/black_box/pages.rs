//! What pages may do in a browser: use what they carry, ask their own origin, and nothing else.
//!
//! The hashes are computed here once more, from the page as it arrives: a manual that comes with other scripts than its policy
//! allows would be blank.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Gateway};

/// What browsers ask for although it is no page.
const NO_PAGES: [&str; 4] = ["/", "/favicon.ico", "/openapi.json", "/asyncapi.yaml"];

/// The manual, with and without the slash that people add.
const MANUAL: [&str; 2] = ["/docs", "/docs/"];

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
    for path in NO_PAGES.into_iter().chain(MANUAL) {
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
async fn below_the_manual_there_is_nothing_and_it_is_only_read() {
    let gateway = Gateway::start().await;
    // The manual's library comes with a page for sign-in by OAuth, which nobody here uses.
    for path in ["/docs/oauth-receiver.html", "/docs//", "/docs/x", "/docsx"] {
        Answer::of(gateway.request(Method::GET, path)).await.refused(404, None);
    }
    for path in NO_PAGES.into_iter().chain(MANUAL) {
        Answer::of(gateway.request(Method::POST, path)).await.refused(405, None);
    }
    gateway.stop().await;
}
