//! A gateway that cannot read its keys does not start, least of all open; and it remarks on secrets that others can read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use super::credentials::{ApiKey, Issuer, key_set, keys_file};
use crate::process_harness::{EPHEMERAL, Ended, Folder, Process, Server, within_patience};

const API_KEYS: &str = "GATEWAY_AUTH_API_KEYS_FILE";
const TOKEN_KEYS: &str = "GATEWAY_AUTH_TOKEN_KEY_FILES";
const JWKS: &str = "GATEWAY_AUTH_JWKS";

async fn run(variables: &[(&str, &str)]) -> Ended {
    Process::run(&EPHEMERAL, variables).await
}

fn allow(path: &str, mode: u32) {
    std::fs::set_permissions(Path::new(path), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_gateway_that_cannot_read_its_keys_does_not_start() {
    let folder = Folder::new();
    let issuer = Issuer::es256();
    let private = issuer.pair.as_ref().unwrap().serialize_pem();
    let key = ApiKey::new("orders", &["send"]);
    let missing = folder.path().join("missing").display().to_string();
    let cases = [
        (API_KEYS, "auth.api_keys_file", missing.clone()),
        (API_KEYS, "auth.api_keys_file", folder.write("nonsense.toml", "nonsense")),
        (API_KEYS, "auth.api_keys_file", folder.write("half.toml", &keys_file(&[&key])[..80])),
        (TOKEN_KEYS, "auth.token_key_files", missing.clone()),
        (TOKEN_KEYS, "auth.token_key_files", folder.write("empty.key", "")),
        (TOKEN_KEYS, "auth.token_key_files", folder.write("blank.key", &" ".repeat(64))),
        (TOKEN_KEYS, "auth.token_key_files", folder.write("short.key", &"s".repeat(31))),
        (
            TOKEN_KEYS,
            "auth.token_key_files",
            folder.write("short-but-padded.key", &format!("{}\n\n\n", "s".repeat(31))),
        ),
        // One that anybody knows must not become a secret because it is no good PEM.
        (
            TOKEN_KEYS,
            "auth.token_key_files",
            folder.write("broken.pem", &issuer.file[..issuer.file.len() / 2]),
        ),
        (
            TOKEN_KEYS,
            "auth.token_key_files",
            folder.write("no-base64.pem", &issuer.file.replace("MFk", "***")),
        ),
        (TOKEN_KEYS, "auth.token_key_files", folder.write("private.pem", &private)),
        (JWKS, "auth.jwks", missing),
        (JWKS, "auth.jwks", folder.write("nonsense.json", "nonsense")),
        (JWKS, "auth.jwks", "http://keys.example/keys.json".to_owned()),
    ];
    let mut wrong = Vec::new();
    for (variable, setting, value) in &cases {
        // A gateway that starts would run for ever.
        let mut started = Process::start(&EPHEMERAL, &[(*variable, value)]);
        let first = within_patience("the end or a greeting", started.line()).await;
        if let Some(line) = first {
            wrong.push(format!("{value}: it starts and says {line}"));
            continue;
        }
        let ended = started.ended().await;
        if ended.code != Some(78) {
            wrong.push(format!("{value}: the code is {:?} and not EX_CONFIG", ended.code));
        }
        if !ended.complained.iter().any(|line| line.contains(setting)) {
            wrong.push(format!("{value}: the complaint names no {setting}: {:?}", ended.complained));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_gateway_with_keys_may_listen_anywhere_and_one_without_may_not() {
    let folder = Folder::new();
    let keys = folder.write("keys.toml", "# nobody yet\n");
    let anywhere = [
        ("GATEWAY_HTTP_LISTEN", "0.0.0.0:0"),
        ("GATEWAY_OPS_LISTEN", "127.0.0.1:0"),
        ("GATEWAY_LOG_STORE", "memory"),
    ];
    let refused = Process::run(&[], &anywhere).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    let checked = |variables: Vec<(&'static str, String)>| async move {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Process::run(&["check-config"], &variables).await.code
    };
    let mut variables: Vec<_> = anywhere.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    variables.push((API_KEYS, keys));
    assert_eq!(checked(variables).await, Some(0));
}

#[tokio::test]
async fn the_greeting_of_a_gateway_with_keys_does_not_call_it_open() {
    let folder = Folder::new();
    let keys = folder.write("keys.toml", &keys_file(&[&ApiKey::new("orders", &["send"])]));
    let server = Server::start(&[(API_KEYS, &keys)]).await;
    let greeting = server.greeting.join("\n");
    assert!(!greeting.to_lowercase().contains("open mode"), "{greeting}");
    server.process.terminate();
    assert_eq!(server.process.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_secret_that_others_can_read_is_remarked_on_and_a_public_key_is_not() {
    let folder = Folder::new();
    let secret = folder.write("secret.key", &Issuer::hs256().file);
    let public = folder.write("public.pem", &Issuer::es256().file);
    let set = folder.write("set.json", &key_set(&[Issuer::eddsa().jwk("k1")]));
    for path in [&public, &set] {
        allow(path, 0o644);
    }
    let both = format!("{secret},{public}");
    let variables = [(TOKEN_KEYS, both.as_str()), (JWKS, &set), ("GATEWAY_TELEMETRY_FORMAT", "json")];
    for (mode, expected) in [(0o644, 1), (0o604, 1), (0o600, 0), (0o400, 0)] {
        allow(&secret, mode);
        let server = Server::start(&variables).await;
        server.process.terminate();
        let ended = server.process.ended().await;
        let warnings: Vec<Value> = ended
            .complained
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &Value| line["level"] == "WARN")
            .collect();
        let about = |path: &str| warnings.iter().filter(|line| line.to_string().contains(path)).count();
        assert_eq!(about(&secret), expected, "mode {mode:o}: {warnings:?}");
        assert_eq!(about(&public) + about(&set), 0, "everybody may know them: {warnings:?}");
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_right_is_refused_before_a_port_is_bound() {
    let cases = [
        ("GATEWAY_AUTH_JWKS", "ftp://keys.example/set", "auth.jwks"),
        ("GATEWAY_AUTH_JWKS_REFRESH", "10ms", "auth.jwks_refresh"),
        ("GATEWAY_AUTH_LEEWAY", "1d", "auth.leeway"),
        ("GATEWAY_LIMITS_SENDS_PER_KEY", "0/s", "limits.sends_per_key"),
        ("GATEWAY_LIMITS_SENDS_PER_USER", "lots", "limits.sends_per_user"),
    ];
    for (variable, value, setting) in cases {
        let ended = run(&[(variable, value)]).await;
        assert_eq!(ended.code, Some(78), "{variable}={value}: {ended:?}");
        assert!(ended.complained.iter().any(|line| line.contains(setting)), "{ended:?}");
    }
}
