//! The OpenAPI document says what each operation needs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::secured::Secured;

fn committed() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../openapi/gateway.json");
    std::fs::read_to_string(path).expect("the document is committed")
}

fn document() -> Value {
    serde_json::from_str(&committed()).expect("JSON")
}

/// The names of the schemes for keys and for tokens.
fn schemes(document: &Value) -> (String, String) {
    let schemes = document["components"]["securitySchemes"].as_object().expect("security schemes");
    let named = |part: &str| {
        let mut names = schemes.keys().filter(|name| name.to_lowercase().contains(part));
        let name = names.next().unwrap_or_else(|| panic!("no scheme is named after a {part}: {schemes:?}"));
        assert_eq!(names.next(), None, "{schemes:?}");
        name.clone()
    };
    (named("key"), named("token"))
}

/// Which schemes are enough for an operation, each by itself.
fn enough_for(operation: &Value) -> BTreeSet<String> {
    let alternatives = operation["security"].as_array().cloned().unwrap_or_default();
    alternatives
        .iter()
        .map(|alternative| {
            let names: Vec<_> = alternative.as_object().expect("an object").keys().collect();
            assert_eq!(names.len(), 1, "one credential is enough: {alternative}");
            names[0].clone()
        })
        .collect()
}

/// The operations that a user's token opens.
const WITH_TOKEN: [&str; 6] = [
    "post /v1/notifications",
    "post /v1/notifications/batch",
    "get /v1/users/{user}/notifications",
    "post /v1/users/{user}/acks",
    "get /ws/{user}",
    "get /sse/{user}",
];

#[test]
fn both_credentials_are_shown_as_bearer() {
    let document = document();
    let (key, token) = schemes(&document);
    for name in [&key, &token] {
        let scheme = &document["components"]["securitySchemes"][name];
        assert_eq!(
            (scheme["type"].as_str(), scheme["scheme"].as_str()),
            (Some("http"), Some("bearer")),
            "{name}"
        );
        assert!(scheme["description"].as_str().is_some_and(|text| text.len() > 20), "{name} is explained");
    }
}

#[test]
fn every_operation_names_what_it_needs() {
    let document = document();
    let (key, token) = schemes(&document);
    let mut seen = Vec::new();
    let mut wrong = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let place = format!("{method} {path}");
            let mut expected = BTreeSet::from([key.clone()]);
            if WITH_TOKEN.contains(&place.as_str()) {
                expected.insert(token.clone());
            }
            let named = enough_for(operation);
            if named != expected {
                wrong.push(format!("{place} names {named:?} instead of {expected:?}"));
            }
            for status in ["401", "403"] {
                if operation["responses"].get(status).is_none() {
                    wrong.push(format!("{place} does not mention {status}"));
                }
            }
            if place.starts_with("post /v1/notifications") && operation["responses"].get("429").is_none() {
                wrong.push(format!("{place} does not mention 429"));
            }
            seen.push(place);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for place in WITH_TOKEN {
        assert!(seen.iter().any(|seen| seen == place), "{place} is among {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_with_keys_serves_the_committed_document_to_everybody() {
    let secured = Secured::start().await;
    let served = secured.get("/openapi.json").await;
    assert_eq!(served.status, 200);
    assert!(served.body == document(), "openapi/gateway.json is out of date");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manual_runs_no_script_but_its_own() {
    let secured = Secured::start().await;
    for path in ["/", "/docs"] {
        let answer = secured.get(path).await;
        let policy = answer.header("content-security-policy").to_owned();
        let directive = |name: &str| {
            let mut directives = policy.split(';').map(str::trim);
            directives.find_map(|text| text.strip_prefix(name)).unwrap_or_default().trim().to_owned()
        };
        assert!(!policy.is_empty(), "{path} has a Content-Security-Policy");
        let scripts = [directive("script-src "), directive("default-src ")];
        let scripts = scripts.iter().find(|sources| !sources.is_empty()).expect("scripts are ruled");
        for loose in ["'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:", "data:"] {
            assert!(!scripts.split(' ').any(|source| source == loose), "{path}: {policy}");
        }
        for name in ["base-uri", "object-src", "frame-ancestors"] {
            let closed = directive(&format!("{name} "));
            let inherited = name == "object-src" && directive("default-src ") == "'none'";
            assert!(closed == "'none'" || inherited, "{path}: {name} in {policy}");
        }
    }
    secured.stop().await;
}
