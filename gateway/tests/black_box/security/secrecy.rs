//! Nothing that anybody showed or keeps secret is said again: in no line at any level, no answer, no frame, no metric, no file.

mod needles;
mod showing;

use std::path::Path;

use serde_json::json;

use super::credentials::{ApiKey, Issuer, claims, key_set, keys_file, now, sending_claims, unsigned};
use super::wiretap::Wiretap;
use crate::harness::Collector;
use crate::process_harness::{EPHEMERAL, Folder, Process, Server, scrape, until_some};
use needles::Needles;
use showing::Client;

const API_KEYS: &str = "GATEWAY_AUTH_API_KEYS_FILE";
const TOKEN_KEYS: &str = "GATEWAY_AUTH_TOKEN_KEY_FILES";
const JWKS: &str = "GATEWAY_AUTH_JWKS";

/// Everything that a gateway is configured with and shown.
struct Scene {
    files: Folder,
    keys: Vec<ApiKey>,
    secret: Issuer,
    pair: Issuer,
    of_set: Issuer,
    variables: Vec<(&'static str, String)>,
    needles: Needles,
}

impl Scene {
    fn new() -> Self {
        let files = Folder::new();
        let keys = vec![
            ApiKey::new("a-key-of-orders", &["send", "read"]),
            ApiKey::new("a-key-of-operations", &["admin"]),
        ];
        let (secret, pair, of_set) = (Issuer::hs256(), Issuer::rs256(), Issuer::es256());
        let api_keys = files.write("keys.toml", &keys_file(&keys.iter().collect::<Vec<_>>()));
        let secret_file = files.write("secret.key", &secret.file);
        let pair_file = files.write("pair.pem", &pair.file);
        let set = files.write("set.json", &key_set(&[of_set.jwk("k1")]));
        let variables = vec![
            (API_KEYS, api_keys),
            (TOKEN_KEYS, format!("{secret_file},{pair_file}")),
            (JWKS, set),
            ("GATEWAY_AUTH_LEEWAY", "0s".to_owned()),
            ("GATEWAY_SESSIONS_HEARTBEAT", "200ms".to_owned()),
            ("GATEWAY_TELEMETRY_FILTER", "trace".to_owned()),
        ];
        let mut needles = Needles::default();
        needles.add_secret("the secret of HS256", secret.file.trim());
        Self { files, keys, secret, pair, of_set, variables, needles }
    }

    fn variables<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = self.variables.iter().map(|(name, value)| (*name, value.as_str()));
        own.chain(more.iter().copied()).collect()
    }

    /// Credentials of every kind, good and bad.
    fn credentials(&mut self) -> Vec<String> {
        let bob = sending_claims("bob");
        let soon_over = json!({"sub": "bob", "exp": now() + 2});
        let public = jsonwebtoken::EncodingKey::from_secret(self.pair.file.as_bytes());
        let header = json!({"alg": "HS256"});
        let stranger = ApiKey::new("stranger", &["send"]);
        let credentials = vec![
            self.keys[0].text(),
            self.keys[1].text(),
            self.keys[0].replaced().text(),
            stranger.text(),
            self.secret.token(&bob),
            self.pair.token(&bob),
            self.of_set.token_of_key("k1", &bob),
            self.of_set.token_of_key("k9", &bob),
            self.secret.token(&claims("alice")),
            self.secret.token(&soon_over),
            self.secret.token(&json!({"sub": "bob", "exp": now() - 3_600})),
            self.secret.token(&json!({"sub": "bob", "exp": now() + 7_200, "nbf": now() + 3_600})),
            self.secret.token(&json!({"sub": "bob"})),
            self.secret.token(&json!({"sub": "..", "exp": now() + 3_600})),
            Issuer::hs256().token(&bob),
            Issuer::es256().token(&bob),
            super::credentials::signed(&header, &bob, &public, jsonwebtoken::Algorithm::HS256),
            format!("{}.", unsigned(&json!({"alg": "none"}), &bob)),
            "a-credential-of-no-kind-that-anybody-knows".to_owned(),
        ];
        for credential in &credentials {
            self.needles.add_credential(credential);
        }
        credentials
    }
}

/// Every file below a directory.
fn files_below(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_credential_is_said_again_in_whatever_way_it_was_shown() {
    for format in ["json", "human"] {
        let mut scene = Scene::new();
        let data = Folder::new();
        let collector = Collector::start();
        let variables = scene.variables(&[("GATEWAY_TELEMETRY_FORMAT", format)]);
        let variables = collector.variables(&variables);
        let server = Server::start_on_disk(data.path(), &variables).await;
        let (http, ops) =
            (Wiretap::before(server.addresses.http).await, Wiretap::before(server.addresses.ops).await);

        let credentials = scene.credentials();
        let client = Client::new(http.address());
        for credential in &credentials {
            client.show_everywhere(credential).await;
        }
        let good = scene.secret.token(&claims("bob"));
        scene.needles.add_credential(&good);
        for credential in &credentials {
            client.refresh(&good, credential).await;
        }
        let over = scene.secret.token(&json!({"sub": "bob", "exp": now() + 1}));
        scene.needles.add_credential(&over);
        assert_eq!(client.listen_to_the_end(&over).await, Some(4205));

        let metrics = reqwest::get(format!("http://{}/metrics", ops.address())).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        assert!(metrics.contains("gateway_auth_refused_total"), "{metrics}");
        server.process.terminate();
        let ended = server.process.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");

        let mut found = Vec::new();
        let lines = [ended.printed, ended.complained].concat();
        for line in server.greeting.iter().chain(&lines) {
            found.extend(scene.needles.found_in("a line", line.as_bytes()));
        }
        for said in http.said().iter().chain(&ops.said()) {
            found.extend(scene.needles.found_in("the wire", said));
        }
        for (path, bytes) in files_below(data.path()) {
            found.extend(scene.needles.found_in(&path, &bytes));
        }
        found.extend(scene.needles.found_in("spans", format!("{:?}", collector.spans()).as_bytes()));
        found.sort_unstable();
        found.dedup();
        assert!(found.is_empty(), "{format}: {found:#?}");

        // The control: lines were written, wires were tapped, and who did something can be told.
        let all = lines.join("\n");
        assert!(all.contains("DEBUG"), "something is written at low levels: {all}");
        assert!(all.contains("a-key-of-operations"), "the name of a key shows in audit lines");
        let said: Vec<u8> = http.said().concat();
        assert!(said.windows(9).any(|bytes| bytes == b"\"welcome\""), "sessions were tapped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_said_when_its_file_makes_no_sense() {
    for format in ["json", "human"] {
        let scene = Scene::new();
        let variables = scene.variables(&[("GATEWAY_TELEMETRY_FORMAT", format)]);
        let server = Server::start(&variables).await;
        let key = ApiKey::new("pasted", &["send"]);
        let mut needles = Needles::default();
        needles.add_credential(&key.text());
        let good = keys_file(&[&key]);
        let shown = [
            good.replace(&key.hash(), &key.text()),
            good.replace("sha256 =", &format!("sha256 = {} =", key.text())),
            good.replace("[\"send\"]", &format!("[\"{}\"]", key.text())),
            good.replace(&key.id, &key.text()),
            format!("{good}\n{} = 1\n", key.text()),
            format!("{good}sends = {:?}\n", key.text()),
            key.text(),
        ];
        let failures = async |source: &str| {
            let series = format!(r#"gateway_credential_reloads_total{{result="failed",source="{source}"}}"#);
            scrape(server.addresses.ops).await.value(&series)
        };
        let rewrite = async |source: &str, name: &str, text: &str| {
            let before = failures(source).await;
            std::fs::rename(scene.files.write("next", text), scene.files.path().join(name)).unwrap();
            until_some("the file to be found wrong", async || {
                (failures(source).await > before).then_some(())
            })
            .await;
        };
        for text in &shown {
            rewrite("api_keys", "keys.toml", text).await;
        }
        let short = "a-secret-that-is-too-short";
        needles.add_secret("a short secret", short);
        rewrite("token_keys", "secret.key", short).await;
        let private = scene.pair.pair.as_ref().unwrap().serialize_pem();
        needles.add_secret("a line of a private key", private.lines().nth(3).unwrap());
        rewrite("token_keys", "secret.key", &private).await;
        rewrite("token_keys", "secret.key", &private[..private.len() / 2]).await;
        let set = format!("{{\"keys\": [{{\"kty\": \"oct\", \"k\": \"{}\"", key.secret);
        rewrite("jwks", "set.json", &set).await;
        server.process.terminate();
        let ended = server.process.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mut found = Vec::new();
        for line in ended.printed.iter().chain(&ended.complained) {
            found.extend(needles.found_in(line, line.as_bytes()));
            found.extend(scene.needles.found_in(line, line.as_bytes()));
        }

        // At the start the same files are complained about in a line for people.
        for text in &shown {
            scene.files.write("keys.toml", text);
            let mut started = Process::start(&EPHEMERAL, &scene.variables(&[]));
            while started.line().await.is_some() {}
            let ended = started.ended().await;
            for line in &ended.complained {
                found.extend(needles.found_in(line, line.as_bytes()));
            }
        }
        found.sort_unstable();
        found.dedup();
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_configuration_names_files_and_no_secrets() {
    let mut scene = Scene::new();
    scene.credentials();
    let printed = Process::run(&["check-config", "--print"], &scene.variables(&[])).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let text = [printed.printed, printed.complained].concat().join("\n");
    assert!(text.contains("keys.toml"), "{text}");
    let mut found = scene.needles.found_in("the configuration", text.as_bytes());
    for key in &scene.keys {
        if text.contains(&key.hash()) {
            found.push("the hash of a key".to_owned());
        }
    }
    assert!(found.is_empty(), "{found:#?}\n{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_in_an_address_is_not_printed() {
    let url = "https://somebody:a-password-in-an-address@keys.example/set";
    let printed = Process::run(&["check-config", "--print"], &[(JWKS, url)]).await;
    let text = [printed.printed, printed.complained].concat().join("\n");
    assert!(!text.contains("a-password-in-an-address"), "{text}");
}
