//! New keys for tokens, without a restart: in files, in a set of keys, and at a URL that strangers cannot make us hammer.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::RequestBuilder;
use serde_json::json;
use tokio::time::Instant;

use super::credentials::{Issuer, claims, key_set};
use super::key_server::{KeyServer, Reply};
use super::secured::Secured;
use crate::harness::{Answer, Gateway};
use crate::process_harness::Folder;

/// Tokens are all that this gateway knows.
async fn start_with_set(jwks: &str, refresh: Duration) -> Gateway {
    Gateway::start_with(|config| {
        config.auth.jwks = Some(jwks.to_owned());
        config.auth.jwks_refresh = refresh;
    })
    .await
}

fn pull(gateway: &Gateway, token: &str) -> RequestBuilder {
    gateway.request(reqwest::Method::GET, "/v1/users/bob/notifications").bearer_auth(token)
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    Answer::of(pull(gateway, token)).await.status
}

/// Asks until the answer has this status, for so long.
async fn soon(gateway: &Gateway, token: &str, wanted: u16, within: Duration) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let got = status(gateway, token).await;
        if got == wanted {
            return Ok(());
        }
        if started.elapsed() > within {
            return Err(format!("{got} instead of {wanted} after {within:?}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const A_WHILE: Duration = Duration::from_secs(8);
const AN_HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_in_the_place_of_the_old_one_holds_soon() {
    for kinds in [[Issuer::hs256(), Issuer::hs256()], [Issuer::es256(), Issuer::rs256()]] {
        let [first, second] = kinds;
        let secured = Secured::start_with(first, |_, _| {}).await;
        let old = secured.issuer.token(&claims("bob"));
        let new = second.token(&claims("bob"));
        assert_eq!(status(&secured, &new).await, 401);
        secured.replace("token.key", &second.file);
        soon(&secured, &new, 200, A_WHILE).await.unwrap();
        assert_eq!(status(&secured, &old).await, 401, "the old one is of no use any more");
        secured.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_makes_no_sense_keeps_the_one_of_before() {
    let secured = Secured::start_with(Issuer::es256(), |_, _| {}).await;
    let token = secured.issuer.token(&claims("bob"));
    let pem = secured.issuer.file.clone();
    let private = secured.issuer.pair.as_ref().unwrap().serialize_pem();
    for (number, text) in ["short", "", &pem[..pem.len() / 2], &private].into_iter().enumerate() {
        secured.replace("token.key", text);
        secured.until_reload("token_keys", "failed", number as f64 + 1.0).await;
        assert_eq!(status(&secured, &token).await, 200, "{text}");
    }
    std::fs::remove_file(secured.folder.path().join("token.key")).unwrap();
    secured.until_reload("token_keys", "failed", 5.0).await;
    assert_eq!(status(&secured, &token).await, 200);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_of_keys_in_a_file_is_read_again() {
    let [first, second] = [Issuer::es256(), Issuer::eddsa()];
    let folder = Folder::new();
    let path = folder.write("set.json", &key_set(&[first.jwk("k1")]));
    let gateway = start_with_set(&path, AN_HOUR).await;
    let (old, new) = (first.token_of_key("k1", &claims("bob")), second.token_of_key("k2", &claims("bob")));
    soon(&gateway, &old, 200, A_WHILE).await.unwrap();
    assert_eq!(status(&gateway, &new).await, 401);

    let write = |set: &str| {
        std::fs::rename(folder.write("next", set), PathBuf::from(&path)).unwrap();
    };
    write(&key_set(&[first.jwk("k1"), second.jwk("k2")]));
    soon(&gateway, &new, 200, A_WHILE).await.unwrap();
    assert_eq!(status(&gateway, &old).await, 200, "both hold while both are there");
    write(&key_set(&[second.jwk("k2")]));
    soon(&gateway, &old, 401, A_WHILE).await.unwrap();
    write("no set of keys");
    gateway.until_metric(r#"gateway_credential_reloads_total{result="failed",source="jwks"}"#, 1.0).await;
    assert_eq!(status(&gateway, &new).await, 200);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_key_makes_the_gateway_ask_for_the_set_at_once() {
    let [first, second] = [Issuer::rs256(), Issuer::es256()];
    let server = KeyServer::start(&key_set(&[first.jwk("k1")])).await;
    let gateway = start_with_set(&server.url(), AN_HOUR).await;
    let (old, new) = (first.token_of_key("k1", &claims("bob")), second.token_of_key("k2", &claims("bob")));
    soon(&gateway, &old, 200, A_WHILE).await.unwrap();
    let before = server.fetched();
    for _ in 0..50 {
        assert_eq!(status(&gateway, &old).await, 200);
    }
    assert_eq!(server.fetched(), before, "a known key needs no set");

    server.say(Reply::Set(key_set(&[first.jwk("k1"), second.jwk("k2")])));
    soon(&gateway, &new, 200, A_WHILE).await.unwrap();
    assert_eq!(status(&gateway, &old).await, 200);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_cannot_make_the_gateway_ask_all_the_time() {
    let issuer = Issuer::es256();
    let server = KeyServer::start(&key_set(&[issuer.jwk("k1")])).await;
    let gateway = start_with_set(&server.url(), AN_HOUR).await;
    soon(&gateway, &issuer.token_of_key("k1", &claims("bob")), 200, A_WHILE).await.unwrap();
    let stranger = Issuer::es256();
    let before = server.fetched();
    let started = Instant::now();
    let mut tried = 0;
    while tried < 400 || started.elapsed() < Duration::from_secs(4) {
        let token = stranger.token_of_key(&format!("k{tried}-of-a-stranger"), &claims("bob"));
        // 401 where the set was asked for it, 503 where nobody asks so soon again.
        assert!(matches!(status(&gateway, &token).await, 401 | 503));
        tried += 1;
    }
    let fetched = server.fetched() - before;
    // "Every few seconds", and one at the beginning.
    let most = 1 + usize::try_from(started.elapsed().as_secs()).unwrap() / 2;
    assert!(fetched <= most, "{fetched} fetches in {:?}, {most} would be enough", started.elapsed());
    assert!(fetched >= 1, "an unknown key is a reason to ask");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_set_is_asked_for_again_after_a_while_so_that_a_revoked_key_is_forgotten() {
    let [first, second] = [Issuer::es256(), Issuer::es256()];
    let server = KeyServer::start(&key_set(&[first.jwk("k1"), second.jwk("k2")])).await;
    let gateway = start_with_set(&server.url(), Duration::from_secs(1)).await;
    let token = first.token_of_key("k1", &claims("bob"));
    soon(&gateway, &token, 200, A_WHILE).await.unwrap();
    server.say(Reply::Set(key_set(&[second.jwk("k2")])));
    soon(&gateway, &token, 401, A_WHILE).await.unwrap();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_fails_keeps_the_keys_of_before() {
    let issuer = Issuer::es256();
    let set = key_set(&[issuer.jwk("k1")]);
    let server = KeyServer::start(&set).await;
    let elsewhere = KeyServer::start(&key_set(&[Issuer::es256().jwk("k1")])).await;
    let gateway = start_with_set(&server.url(), Duration::from_secs(1)).await;
    let token = issuer.token_of_key("k1", &claims("bob"));
    soon(&gateway, &token, 200, A_WHILE).await.unwrap();
    let failed = r#"gateway_credential_reloads_total{result="failed",source="jwks"}"#;
    for reply in [
        Reply::Status(500),
        Reply::Status(404),
        Reply::Set("no set of keys".to_owned()),
        Reply::Set("{\"keys\": 7}".to_owned()),
        Reply::Set(format!("{{\"keys\": [], \"padding\": \"{}\"}}", "x".repeat(32 << 20))),
    ] {
        let before = gateway.metric(failed).await;
        server.say(reply.clone());
        let deadline = Instant::now() + A_WHILE;
        while gateway.metric(failed).await == before && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let told: String = format!("{reply:?}").chars().take(60).collect();
        assert!(gateway.metric(failed).await > before, "not seen as a failure: {told}");
        assert_eq!(status(&gateway, &token).await, 200, "{told}");
    }
    // Another host may belong to anybody.
    server.say(Reply::Elsewhere(elsewhere.url()));
    let asked = server.fetched();
    while server.fetched() < asked + 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status(&gateway, &token).await, 200, "the set from elsewhere has another k1");
    server.say(Reply::Silence);
    let asked = server.fetched();
    while server.fetched() == asked {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let started = Instant::now();
    let strangers = Issuer::es256().token_of_key("k7", &claims("bob"));
    assert_eq!(status(&gateway, &token).await, 200, "known keys wait for nobody");
    assert_eq!(status(&gateway, &strangers).await, 503, "nobody can tell");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_cannot_be_asked_makes_no_good_token_bad() {
    let issuer = Issuer::es256();
    let server = KeyServer::start(&key_set(&[issuer.jwk("k1")])).await;
    server.say(Reply::Status(500));
    let gateway = start_with_set(&server.url(), AN_HOUR).await;
    let token = issuer.token_of_key("k1", &claims("bob"));
    let answer = Answer::of(pull(&gateway, &token)).await;
    answer.refused(503, None);
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "it is worth another try");
    let protocols = format!("notify.v1, bearer.{token}");
    let dial = gateway.dial("bob").subprotocol(&protocols);
    let (mut page, _) = dial.connect().await.expect("who offers the subprotocol is upgraded");
    assert_eq!(page.next_frame().await["type"], "drain", "it is told when to come back");
    assert_eq!(page.expect_closed().await, 1013, "and not that its token is wrong");

    server.say(Reply::Set(key_set(&[issuer.jwk("k1")])));
    soon(&gateway, &token, 200, A_WHILE).await.unwrap();
    // A refresh that nobody can judge leaves the session as it is.
    let (mut page, _) = gateway.dial("bob").subprotocol(&protocols).connect().await.expect("a good token");
    assert_eq!(page.next_frame().await["type"], "welcome");
    server.say(Reply::Status(500));
    let unverifiable = r#"gateway_auth_refused_total{reason="unverifiable"}"#;
    let before = gateway.metric(unverifiable).await;
    let unknown = issuer.token_of_key("k2", &claims("bob"));
    page.say(tokio_tungstenite::tungstenite::Message::text(
        json!({"type": "refresh", "token": unknown}).to_string(),
    ))
    .await;
    gateway.until_metric(unverifiable, before + 1.0).await;
    page.close().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_lasts_though_the_key_of_its_token_is_replaced() {
    let secured = Secured::start().await;
    let token = secured.issuer.token(&claims("bob"));
    let mut socket = secured.dial("bob").header("authorization", &format!("Bearer {token}")).open().await;
    let next = Issuer::hs256();
    secured.replace("token.key", &next.file);
    secured.until_reload("token_keys", "changed", 1.0).await;
    secured.tell("bob", "after the rotation").await;
    assert_eq!(socket.texts(1).await, ["after the rotation"]);
    assert_eq!(status(&secured, &token).await, 401, "but it opens nothing new");
    let other = secured.issuer.token(&json!({"sub": "bob"}));
    assert_eq!(status(&secured, &other).await, 401);
    drop(socket);
    secured.stop().await;
}
