//! The manual's examples: every operation executes as it stands, and answers with a status that it declares.

use gateway::protocol::SERVER_FRAME_TYPES;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, segment};

/// Operations whose example names something that only an earlier answer can tell, with what they say then.
const NEED_AN_ANSWER: [(&str, u16); 3] =
    [("getNotification", 404), ("withdrawNotification", 404), ("ackNotifications", 400)];

/// Operations that open a session.
const SESSIONS: [&str; 2] = ["receive", "receiveEvents"];

async fn document(gateway: &Gateway) -> Value {
    gateway.get("/openapi.json").await.body
}

/// The example that the manual fills in for a value of this schema.
fn example(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let target =
            document.pointer(reference.trim_start_matches('#')).expect("the reference leads somewhere");
        return example(document, target);
    }
    match (&schema["example"], schema["type"].as_str()) {
        (Value::Null, Some("array")) => json!([example(document, &schema["items"])]),
        (Value::Null, Some("object")) => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            fields.map(|(name, field)| (name.clone(), example(document, field))).collect()
        }
        (Value::Null, Some("string")) => json!("string"),
        (example, _) => example.clone(),
    }
}

async fn execute(gateway: &Gateway, document: &Value, method: &str, path: &str, operation: &Value) -> Answer {
    let mut path = path.to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "path" {
            let name = parameter["name"].as_str().expect("a name");
            let value = example(document, &parameter["schema"]);
            let value = value.as_str().unwrap_or_else(|| panic!("{path}: {name} has no example"));
            path = path.replace(&format!("{{{name}}}"), &segment(value));
        } else {
            assert_ne!(
                parameter["required"], true,
                "{path}: what may stand in a query or header may be left out"
            );
        }
    }
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
    let request = gateway.request(method, &path);
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    Answer::of(if body.is_null() { request } else { request.json(&example(document, body)) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_executes_as_it_stands() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let mut executed = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let name = operation["operationId"].as_str().expect("a name");
            if SESSIONS.contains(&name) {
                continue;
            }
            let answer = execute(&gateway, &document, method, path, operation).await;
            println!("{name}: {} {}", answer.status, answer.body);
            let declared = &operation["responses"][answer.status.to_string()];
            assert!(declared.is_object(), "{name} does not declare {}", answer.status);
            let expected = NEED_AN_ANSWER.iter().find(|(known, _)| *known == name);
            match expected {
                Some((_, status)) => assert_eq!(answer.status, *status, "{name}"),
                None => assert!((200..300).contains(&answer.status), "{name}: {}", answer.body),
            }
            executed += 1;
        }
    }
    assert!(executed >= 15, "{executed}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_frame_is_explained_by_the_operation_that_opens_a_stream() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let stream = document["paths"]["/sse/{user}"]["get"]["description"].as_str().expect("a description");
    let socket = document["paths"]["/ws/{user}"]["get"]["description"].as_str().expect("a description");
    for name in SERVER_FRAME_TYPES {
        assert!(
            stream.contains(&format!("`{name}`")),
            "the operation `receiveEvents` does not explain {name}"
        );
    }
    let frames = gateway.request(Method::GET, "/asyncapi.yaml").send().await.expect("an answer");
    let frames = frames.text().await.expect("a text");
    for reason in gateway::domain::GapReason::ALL {
        let word = format!("`{}`", reason.as_str());
        assert!(socket.contains(&word), "the operation `receive` does not explain {word}");
        assert!(frames.contains(&word), "the description of the frames does not explain {word}");
    }
    gateway.stop().await;
}
