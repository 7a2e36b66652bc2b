//! `gateway key new` and `gateway token`: what they print works, and they print nothing they should not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::credentials::{Issuer, base64url};
use super::secured::Secured;
use crate::harness::{Answer, Gateway};
use crate::process_harness::{Ended, Folder, Process};

const TOKEN_KEYS: &str = "GATEWAY_AUTH_TOKEN_KEY_FILES";

/// What stands in the environment of a command.
type Variables<'a> = &'a [(&'a str, &'a str)];

async fn run(arguments: &[&str], variables: Variables<'_>) -> Ended {
    Process::run(arguments, variables).await
}

/// The key that the command's output holds in a comment.
fn key_in(output: &[String]) -> String {
    let line = output.iter().find_map(|line| line.strip_prefix("# key: ")).expect("the key in a comment");
    line.split_whitespace().next().expect("the key").to_owned()
}

/// The claims of a token.
fn claims_of(token: &str) -> Value {
    use base64::Engine;
    let part = token.split('.').nth(1).expect("claims");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_printed_once_with_the_block_that_lets_it_in() {
    let made = run(&["key", "new", "--name", "orders", "--scopes", "send,read"], &[]).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let key = key_in(&made.printed);
    let parts: Vec<_> = key.splitn(3, '_').collect();
    assert_eq!((parts[0], parts[1].len(), parts[2].len()), ("gwk", 8, 43), "{key}");
    let text = made.printed.join("\n");
    assert_eq!(text.matches(parts[2]).count(), 1, "once: {text}");
    assert!(!made.complained.join("\n").contains(parts[2]), "standard error is often kept: {made:?}");
    let file: toml::Table = text.parse().expect("what is printed is what the file needs");
    let blocks = file["key"].as_array().expect("a list of keys");
    assert_eq!(blocks.len(), 1);
    assert_eq!(blocks[0]["id"].as_str(), Some(parts[1]));
    assert_eq!(blocks[0]["name"].as_str(), Some("orders"));
    let hash: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(blocks[0]["sha256"].as_str(), Some(&*hash));

    // Appended to a file that has one already, as people do.
    let second = run(&["key", "new", "--name", "other", "--scopes", "admin"], &[]).await;
    let folder = Folder::new();
    let path = folder.write("keys.toml", &format!("{text}\n{}\n", second.printed.join("\n")));
    let gateway = Gateway::start_with(|config| config.auth.api_keys_file = Some(path.into())).await;
    let ask =
        |key: String, method: Method, path: &str| Answer::of(gateway.request(method, path).bearer_auth(key));
    let send = gateway.request(Method::POST, "/v1/notifications").bearer_auth(&key);
    Answer::of(send.json(&json!({"to": ["bob"], "body": "x"}))).await.accepted();
    assert_eq!(ask(key.clone(), Method::GET, "/v1/users/bob").await.status, 200);
    assert_eq!(ask(key.clone(), Method::DELETE, "/v1/users/bob").await.status, 403);
    let second = key_in(&second.printed);
    assert!(ask(second, Method::DELETE, "/v1/users/bob").await.status < 300);
    gateway.stop().await;
}

#[tokio::test]
async fn no_two_keys_are_alike() {
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(key_in(&run(&["key", "new", "--name", "n", "--scopes", "send"], &[]).await.printed));
    }
    let mut ids: Vec<_> = keys.iter().map(|key| key[4..12].to_owned()).collect();
    let mut secrets: Vec<_> = keys.iter().map(|key| key[13..].to_owned()).collect();
    for parts in [&mut ids, &mut secrets] {
        parts.sort_unstable();
        parts.dedup();
        assert_eq!(parts.len(), 5, "{keys:?}");
    }
}

#[tokio::test]
async fn a_name_cannot_smuggle_anything_into_the_file() {
    for name in ["a\"b", "a\\", "a]\n[[key]]\nid = \"00000000\"", "# x", "ä b", "'''", "a\u{7f}"] {
        let made = run(&["key", "new", "--name", name, "--scopes", "read"], &[]).await;
        if made.code != Some(0) {
            assert!(made.printed.is_empty(), "{made:?}");
            continue;
        }
        let file: toml::Table = made.printed.join("\n").parse().expect("TOML whatever the name");
        let blocks = file["key"].as_array().expect("a list of keys");
        assert_eq!((blocks.len(), blocks[0]["name"].as_str()), (1, Some(name)));
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_is_not_made() {
    let cases: [&[&str]; 8] = [
        &["key", "new"],
        &["key", "new", "--name", "orders"],
        &["key", "new", "--scopes", "send"],
        &["key", "new", "--name", "orders", "--scopes", ""],
        &["key", "new", "--name", "orders", "--scopes", "everything"],
        &["key", "new", "--name", "orders", "--scopes", "send,everything"],
        &["key", "new", "--name", "", "--scopes", "send"],
        &["key", "old", "--name", "orders", "--scopes", "send"],
    ];
    for arguments in cases {
        let ended = run(arguments, &[]).await;
        assert!(ended.code.is_some_and(|code| code != 0), "{arguments:?}: {ended:?}");
        assert!(!ended.complained.is_empty() && ended.printed.is_empty(), "{arguments:?}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_by_the_configured_secret_opens_its_users_doors() {
    let secured = Secured::start().await;
    let secret = secured.folder.path().join("token.key").display().to_string();
    let variables = [(TOKEN_KEYS, secret.as_str())];
    let made = run(&["token", "--user", "bob"], &variables).await;
    assert_eq!((made.code, made.printed.len()), (Some(0), 1), "{made:?}");
    let token = &made.printed[0];
    assert_eq!(Answer::of(secured.pull("bob", token)).await.status, 200);
    assert_eq!(Answer::of(secured.pull("alice", token)).await.status, 403);
    let notification = json!({"to": ["carol"], "body": "x"});
    assert_eq!(secured.send_as(token, &notification).await.status, 403, "no scope was asked for");
    let an_hour = claims_of(token)["exp"].as_u64().unwrap() - super::credentials::now();
    assert!((3_500..=3_600).contains(&an_hour), "{an_hour} s");

    let made = run(&["token", "--user", "bö b/☃", "--ttl", "5m", "--scope", "send"], &variables).await;
    let token = &made.printed[0];
    secured.send_as(token, &notification).await.accepted();
    let claims = claims_of(token);
    assert_eq!((claims["sub"].as_str(), claims["scope"].as_str()), (Some("bö b/☃"), Some("send")));
    let left = claims["exp"].as_u64().unwrap() - super::credentials::now();
    assert!((250..=300).contains(&left), "{left} s");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_by_a_private_key_opens_its_users_doors() {
    for issuer in [Issuer::rs256(), Issuer::es256(), Issuer::eddsa()] {
        let private = issuer.pair.as_ref().unwrap().serialize_pem();
        let name = issuer.name;
        let secured = Secured::start_with(issuer, |_, _| {}).await;
        let path = secured.folder.write("private.pem", &private);
        std::fs::set_permissions(Path::new(&path), std::fs::Permissions::from_mode(0o600)).unwrap();
        let made = run(&["token", "--user", "bob", "--key-file", &path], &[]).await;
        assert_eq!((made.code, made.printed.len()), (Some(0), 1), "{name}: {made:?}");
        assert_eq!(Answer::of(secured.pull("bob", &made.printed[0])).await.status, 200, "{name}");
        assert!(made.complained.is_empty(), "{made:?}");
        secured.stop().await;
    }
}

#[tokio::test]
async fn a_key_that_others_can_read_is_remarked_on_when_it_signs() {
    let folder = Folder::new();
    let private = Issuer::es256().pair.unwrap().serialize_pem();
    for path in [folder.write("secret.key", &base64url(&[7; 32])), folder.write("private.pem", &private)] {
        for (mode, expected) in [(0o600, false), (0o644, true)] {
            std::fs::set_permissions(Path::new(&path), std::fs::Permissions::from_mode(mode)).unwrap();
            for (arguments, variables) in [
                (vec!["token", "--user", "bob", "--key-file", path.as_str()], vec![]),
                (vec!["token", "--user", "bob"], vec![(TOKEN_KEYS, path.as_str())]),
            ] {
                if path.ends_with(".pem") && !variables.is_empty() {
                    // A private key is nothing to verify with.
                    continue;
                }
                let made = run(&arguments, &variables).await;
                assert_eq!(made.code, Some(0), "{made:?}");
                let remarked = made.complained.join("\n").contains(&path);
                assert_eq!(remarked, expected, "{path} with mode {mode:o}: {made:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_for_the_audience_and_from_the_issuer_of_the_configuration() {
    let secured = Secured::start_with(Issuer::hs256(), |config, _| {
        config.auth.audience = vec!["push.example".to_owned()];
        config.auth.issuer = vec!["https://login.example".to_owned()];
    })
    .await;
    let secret = secured.folder.path().join("token.key").display().to_string();
    let variables = [
        (TOKEN_KEYS, secret.as_str()),
        ("GATEWAY_AUTH_AUDIENCE", "push.example"),
        ("GATEWAY_AUTH_ISSUER", "https://login.example"),
    ];
    let made = run(&["token", "--user", "bob"], &variables).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let answer = Answer::of(secured.pull("bob", &made.printed[0])).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    secured.stop().await;
}

#[tokio::test]
async fn a_token_that_cannot_be_is_not_made() {
    let folder = Folder::new();
    let secret = folder.write("secret.key", &base64url(&[7; 32]));
    let short = folder.write("short.key", "short");
    let public = folder.write("public.pem", &Issuer::es256().file);
    let missing = folder.path().join("missing").display().to_string();
    let cases: [(&[&str], Variables<'_>); 11] = [
        (&["token"], &[(TOKEN_KEYS, &secret)]),
        (&["token", "--user", "bob"], &[]),
        (&["token", "--user", "bob"], &[(TOKEN_KEYS, &public)]),
        (&["token", "--user", "bob"], &[(TOKEN_KEYS, &missing)]),
        (&["token", "--user", "bob"], &[(TOKEN_KEYS, &short)]),
        (&["token", "--user", "bob", "--key-file", &missing], &[]),
        (&["token", "--user", "bob", "--key-file", &short], &[]),
        (&["token", "--user", "bob", "--key-file", &public], &[]),
        (&["token", "--user", "", "--key-file", &secret], &[]),
        (&["token", "--user", "..", "--key-file", &secret], &[]),
        (&["token", "--user", "bob", "--ttl", "soon", "--key-file", &secret], &[]),
    ];
    let mut wrong = Vec::new();
    for (arguments, variables) in cases {
        let ended = run(arguments, variables).await;
        let failed = ended.code.is_some_and(|code| code != 0);
        if !failed || ended.complained.is_empty() || !ended.printed.is_empty() {
            wrong.push(format!("{arguments:?} {variables:?}: {ended:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_token_that_is_over_at_once_is_not_made() {
    let folder = Folder::new();
    let secret = folder.write("secret.key", &base64url(&[7; 32]));
    for ttl in ["0s", "10ms"] {
        let ended = run(&["token", "--user", "bob", "--ttl", ttl, "--key-file", &secret], &[]).await;
        assert!(ended.code.is_some_and(|code| code != 0) && ended.printed.is_empty(), "{ttl}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_terminals_client_and_sender_show_a_credential_from_a_file() {
    let secured = Secured::start().await;
    let url = format!("http://{}", secured.address());
    let token = secured.folder.write("bob.token", &secured.issuer.token(&super::credentials::claims("bob")));
    let key = secured.folder.write("orders.key", &format!("{}\n", secured.sending.text()));
    let listen = ["listen", "--url", &url, "--credential-file", &token, "--count", "1", "bob"];
    let listening = Process::start(&listen, &[]);
    secured.until_metric(r#"gateway_sessions{transport="websocket"}"#, 1.0).await;
    let sent = run(&["send", "--url", &url, "--credential-file", &key, "bob", "hello"], &[]).await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    let heard = listening.ended().await;
    assert_eq!(heard.code, Some(0), "{heard:?}");
    assert!(heard.printed.join("\n").contains("hello"), "{heard:?}");

    let wrong = secured.sending.replaced();
    let file = secured.folder.write("wrong.key", &wrong.text());
    for arguments in [
        vec!["send", "--url", &url, "--credential-file", &file, "bob", "hello"],
        vec!["send", "--url", &url, "bob", "hello"],
        vec!["listen", "--url", &url, "--credential-file", &file, "bob"],
        vec!["listen", "--url", &url, "bob"],
        vec!["listen", "--url", &url, "--credential-file", &token, "alice"],
    ] {
        let ended = run(&arguments, &[]).await;
        assert!(ended.code.is_some_and(|code| code != 0), "{arguments:?}: {ended:?}");
        assert!(!ended.complained.is_empty(), "{arguments:?}: {ended:?}");
        let said = [ended.printed, ended.complained].concat().join("\n");
        assert!(!said.contains(&wrong.secret), "{said}");
    }
    secured.stop().await;
}
