//! A gateway with keys: an API key for each request, and for each socket a token of its user in the subprotocol.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::harness::{LoadTest, gateway_binary};
use crate::stand_in::{Manners, Queue, StandIn};
use crate::wire::Head;

const API_KEY: &str = "key-that-opens-the-door";
const JWT_KEY: &str = "a-secret-of-more-than-thirty-two-bytes-for-tokens";

/// As much of a gateway with keys as a run of `steady` sees.
#[derive(Default)]
struct Secured {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sockets: HashMap<String, (Queue, u64)>,
    last: u64,
    refused: u64,
    methods: HashSet<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Manners for Secured {
    fn answer(&self, head: &Head, body: &[u8]) -> (u16, String) {
        let mut state = self.state.lock().unwrap();
        if head.header("authorization") != Some(&format!("Bearer {API_KEY}")) {
            state.refused += 1;
            return (
                401,
                r#"{"title":"Unauthorized","status":401,"detail":"an API key is needed"}"#.to_owned(),
            );
        }
        state.methods.insert(head.method().to_owned());
        match (head.method(), head.path()) {
            ("POST", "/v1/notifications") => {
                (202, state.push(&serde_json::from_slice(body).unwrap()).to_string())
            }
            ("DELETE", path) if path.starts_with("/v1/users/") => (204, String::new()),
            _ => (404, r#"{"title":"Not Found","status":404,"detail":"nothing here"}"#.to_owned()),
        }
    }

    fn join(&self, head: &Head, queue: Queue) -> Option<&'static str> {
        let user = head.user().expect("no other socket is asked for");
        let mut state = self.state.lock().unwrap();
        let position = format!("e-{}", state.last);
        if may_listen(head, &user) {
            let welcome = json!({"type": "welcome", "session": "s", "user": user, "position": position,
                "head": position, "heartbeat_ms": 25_000});
            queue.send(Message::text(welcome.to_string())).unwrap();
            let last = state.last;
            state.sockets.insert(user, (queue, last));
        } else {
            state.refused += 1;
            let close = CloseFrame { code: 4001.into(), reason: "token".into() };
            queue.send(Message::Close(Some(close))).unwrap();
        }
        Some("notify.v1")
    }
}

/// Whether a client offers the protocol and a token of that user, and nothing of it in the address.
fn may_listen(head: &Head, user: &str) -> bool {
    let offered: Vec<&str> =
        head.header("sec-websocket-protocol").unwrap_or_default().split(',').map(str::trim).collect();
    let token = offered.iter().find_map(|one| one.strip_prefix("bearer."));
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    let key = DecodingKey::from_secret(JWT_KEY.as_bytes());
    offered.contains(&"notify.v1")
        && token.is_some_and(|token| {
            !head.target().contains(token)
                && decode::<Claims>(token, &key, &validation).is_ok_and(|token| token.claims.sub == user)
        })
}

impl State {
    fn push(&mut self, notification: &Value) -> Value {
        self.last += 1;
        let (id, position) = (format!("n-{}", self.last), format!("e-{}", self.last));
        let users = notification["to"].as_array().unwrap();
        let mut online = 0;
        for user in users {
            let Some((queue, before)) = self.sockets.get_mut(user.as_str().unwrap()) else { continue };
            let frame = json!({"type": "notification", "position": position, "prev": format!("e-{before}"),
                "id": id, "sent_at": "2030-01-01T00:00:00Z", "body": notification["body"]});
            // A socket that is just gone gets nothing; the run has ended by then.
            let _ = queue.send(Message::text(frame.to_string()));
            *before = self.last;
            online += 1;
        }
        json!({"id": id, "position": position, "recipients": users.len(), "online": online})
    }
}

async fn started() -> (Arc<Secured>, StandIn) {
    let secured = Arc::new(Secured::default());
    let server = StandIn::start(Arc::clone(&secured)).await;
    (secured, server)
}

#[tokio::test]
async fn with_both_keys_a_secured_gateway_is_tested_like_any_other() {
    let (secured, server) = started().await;
    let test = LoadTest::against("steady", &server.url())
        // Editors end a file with a newline, which is not part of a key.
        .file("api.key", &format!("{API_KEY}\n"))
        .file("jwt.key", JWT_KEY)
        .option("--api-key-file", "api.key")
        .option("--jwt-key-file", "jwt.key");
    let ended = test.run().await.with(0, "PASSED");
    assert!(ended.summary().deliveries.received >= 300, "{:?}", ended.summary().deliveries);
    assert_eq!(ended.summary().deliveries.received, ended.summary().deliveries.sent);
    let state = secured.state.lock().unwrap();
    assert_eq!(state.refused, 0, "each request and each socket had its credential");
    assert!(state.methods.contains("POST"));

    let written = std::fs::read_to_string(ended.path("run.json")).unwrap();
    for said in [&ended.stdout, &ended.stderr, &written] {
        assert!(!said.contains(API_KEY) && !said.contains(JWT_KEY), "a key is never shown");
    }
}

#[tokio::test]
async fn without_keys_there_is_no_run() {
    let (secured, server) = started().await;
    let ended = LoadTest::against("steady", &server.url()).run().await;
    let ended = ended.refused(2);
    assert!(ended.stderr.contains("4001") || ended.stderr.contains("token"), "it says what was refused");
    assert!(secured.state.lock().unwrap().refused > 0);
}

#[tokio::test]
async fn a_key_file_that_is_not_there_is_said_before_anything_is_sent() {
    let (secured, server) = started().await;
    for option in ["--api-key-file", "--jwt-key-file"] {
        let ended = LoadTest::against("steady", &server.url()).option(option, "nowhere.key").run().await;
        let ended = ended.refused(2);
        assert!(ended.stderr.contains("nowhere.key"), "it names the file");
    }
    assert_eq!(secured.state.lock().unwrap().refused, 0);
}

/// Makes a key for senders with the real gateway; returns its file of keys and the key.
async fn new_key(scopes: &str) -> (String, String) {
    let mut command = tokio::process::Command::new(gateway_binary().await);
    command.args(["key", "new", "--name", "loadtest", "--scopes", scopes]);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let file = String::from_utf8(output.stdout).unwrap();
    let key =
        file.strip_prefix("# key: ").and_then(|rest| rest.split_whitespace().next()).unwrap().to_owned();
    (file, key)
}

/// A run against the real gateway that has keys; what is left to say is what the tool shows.
async fn against_the_real_one(scopes: &str) -> LoadTest {
    let (keys, key) = new_key(scopes).await;
    let test = LoadTest::spawning("steady").await.file("keys.toml", &keys).file("token.secret", JWT_KEY);
    let test = test.file("api.key", &key);
    let [keys, secret] = ["keys.toml", "token.secret"].map(|name| test.path(name));
    test.gateway_config(&format!("[auth]\napi_keys_file = {keys:?}\ntoken_key_files = [{secret:?}]\n"))
}

#[tokio::test]
async fn the_real_gateway_with_keys_takes_the_key_and_the_tokens() {
    let test = against_the_real_one("send,read,admin").await;
    let ended = test.option("--api-key-file", "api.key").option("--jwt-key-file", "token.secret").run().await;
    let ended = ended.with(0, "PASSED");
    let deliveries = &ended.summary().deliveries;
    assert_eq!(deliveries.received, deliveries.expected);
    assert!(deliveries.received >= 300, "{deliveries:?}");
    assert_eq!((deliveries.lost, deliveries.duplicates, deliveries.refused), (0, 0, 0), "{deliveries:?}");
}

#[tokio::test]
async fn the_real_gateway_with_keys_refuses_whoever_has_none() {
    let ended = against_the_real_one("send,read,admin").await.run().await.refused(2);
    assert!(ended.stderr.contains("4001"), "{}", ended.stderr);
}
