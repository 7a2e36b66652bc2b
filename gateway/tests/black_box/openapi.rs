//! The descriptions: true, complete, and the same in the repository as over HTTP.

use std::path::PathBuf;

use gateway::protocol::SERVER_FRAME_TYPES;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Gateway;

fn committed(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../openapi").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every operation of the committed document, with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("the document has paths");
    let of_path = |(path, methods): (&String, &'static str)| format!("{methods} {path}");
    let mut operations = Vec::new();
    for (path, item) in paths {
        for method in ["get", "put", "post", "delete", "patch"] {
            if let Some(operation) = item.get(method) {
                operations.push((of_path((path, method)), operation));
            }
        }
    }
    operations
}

fn document() -> Value {
    serde_json::from_str(&committed("gateway.json")).expect("openapi/gateway.json is JSON")
}

fn is_described(value: &Value, field: &str) -> bool {
    value[field].as_str().is_some_and(|text| !text.trim().is_empty())
}

async fn text_of(gateway: &Gateway, path: &str) -> (String, String) {
    let response = gateway.request(Method::GET, path).send().await.expect("the gateway answers");
    assert_eq!(response.status(), 200, "{path}");
    let media_type = response.headers()["content-type"].to_str().expect("ASCII").to_owned();
    (media_type, response.text().await.expect("a text"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_committed_document_is_what_is_served() {
    let gateway = Gateway::start().await;
    let (media_type, served) = text_of(&gateway, "/openapi.json").await;
    assert!(media_type.starts_with("application/json"), "{media_type}");
    let advice = "openapi/gateway.json is out of date: cargo run -- openapi > openapi/gateway.json";
    let parsed: Value = serde_json::from_str(&served).expect("JSON");
    // Not `assert_eq!`: two whole documents tell nobody anything.
    assert!(parsed == document(), "{advice}");
    assert!(served.trim() == committed("gateway.json").trim(), "{advice}");
    gateway.stop().await;
}

#[test]
fn every_operation_is_described() {
    let document = document();
    assert_eq!(document["servers"], json!([{"url": "/"}]), "wherever it is served from");
    let operations = operations(&document);
    assert!(operations.len() >= 5, "{operations:?}");
    let mut names: Vec<_> =
        operations.iter().map(|(_, operation)| operation["operationId"].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), operations.len(), "each has a name of its own: {names:?}");
    for (place, operation) in &operations {
        for field in ["operationId", "summary", "description"] {
            assert!(is_described(operation, field), "{place} has no {field}");
        }
        for (status, response) in operation["responses"].as_object().expect("responses") {
            assert!(is_described(response, "description"), "{place} does not describe {status}");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(is_described(parameter, "description"), "{place}: {}", parameter["name"]);
        }
    }
}

#[test]
fn no_idempotency_key_has_an_example_that_would_be_executed_twice() {
    let document = document();
    for (place, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("idempotency-key")) {
                let examples =
                    [&parameter["example"], &parameter["examples"], &parameter["schema"]["example"]];
                assert!(examples.into_iter().all(Value::is_null), "{place}: {parameter}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_a_send_executes_as_it_stands_twice() {
    let document = document();
    let content =
        &document["paths"]["/v1/notifications"]["post"]["requestBody"]["content"]["application/json"];
    let reference = content["schema"]["$ref"].as_str().expect("the body's schema has a name");
    let schema = document.pointer(reference.trim_start_matches('#')).expect("the reference leads somewhere");
    let example = schema["example"].clone();
    assert!(example.is_object(), "the schema has an example");

    let gateway = Gateway::start().await;
    let user = example["to"][0].as_str().expect("the example names a user").to_owned();
    let mut receiver = gateway.listen(&user).await;
    for _ in 0..2 {
        let answer = gateway.send(example.clone()).await.accepted();
        let notification = receiver.notification().await;
        assert_eq!(notification["id"], answer.body["id"]);
        for field in ["from", "title", "body", "data"] {
            assert_eq!(notification.get(field), example.get(field));
        }
    }
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manual_needs_no_other_host() {
    let gateway = Gateway::start().await;
    let (media_type, page) = text_of(&gateway, "/docs").await;
    assert!(media_type.starts_with("text/html"), "{media_type}");
    assert!(page.contains("sendNotification"), "the page carries the document");
    for tag in ["<script", "<link", "<img", "<iframe"] {
        for element in page.split(tag).skip(1) {
            let element = element.split('>').next().unwrap_or_default();
            for elsewhere in ["=\"http", "='http", "=http", "=\"//", "='//"] {
                assert!(!element.contains(elsewhere), "{tag}{element}> asks another host");
            }
        }
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_front_page_leads_to_the_manual() {
    let gateway = Gateway::start().await;
    let (media_type, page) = text_of(&gateway, "/").await;
    assert!(media_type.starts_with("text/html"), "{media_type}");
    assert!(page.contains("href=\"/docs\""), "it has a link to the manual");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_of_the_frames_is_served_as_committed() {
    let gateway = Gateway::start().await;
    let (media_type, served) = text_of(&gateway, "/asyncapi.yaml").await;
    assert_eq!(media_type, "application/yaml");
    assert_eq!(served, committed("asyncapi.yaml"));
    gateway.stop().await;
}

#[test]
fn every_frame_is_explained_by_the_operation_that_opens_a_socket() {
    let document = document();
    let manual = document["paths"]["/ws/{user}"]["get"]["description"].as_str().expect("a description");
    for name in SERVER_FRAME_TYPES {
        assert!(manual.contains(&format!("`{name}`")), "the operation `receive` does not explain {name}");
    }
}

#[test]
fn every_frame_is_described_by_the_description_of_the_frames() {
    let frames = committed("asyncapi.yaml");
    for name in SERVER_FRAME_TYPES {
        assert!(frames.contains(name), "openapi/asyncapi.yaml does not describe {name}");
    }
}
