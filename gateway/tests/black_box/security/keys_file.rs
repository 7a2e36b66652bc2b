//! The file of API keys, changed while the gateway runs: what it says holds soon, and nonsense changes nothing.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::credentials::{ApiKey, Issuer, keys_file};
use super::secured::Secured;
use crate::harness::Answer;

/// What a good file may take to hold: a second by the manual, and a busy machine.
const SOON: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_stops_working_while_requests_run_and_nothing_else_does() {
    let secured = Secured::start().await;
    let (revoked, kept) = (secured.sending.text(), ApiKey::new("kept", &["send"]));
    secured.write_keys(&[&secured.sending, &kept]);
    secured.until_reload("api_keys", "changed", 1.0).await;

    let notification = json!({"to": ["bob"], "body": "x"});
    let mut seen = Vec::new();
    let mut revoked_at = None;
    let mut refusals = 0;
    // Until it was refused many times in a row: one that flickers would be seen.
    while refusals < 50 {
        let status = secured.send_as(&revoked, &notification).await.status;
        secured.send_as(&kept.text(), &notification).await.accepted();
        assert!(matches!(status, 202 | 401), "{status}");
        assert!(status == 401 || refusals == 0, "it came back to life");
        refusals += usize::from(status == 401);
        seen.push(status);
        if seen.len() == 20 {
            assert_eq!(refusals, 0);
            secured.write_keys(&[&kept]);
            revoked_at = Some(Instant::now());
        }
        if let (1, Some(since)) = (refusals, revoked_at) {
            assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
        }
        if refusals == 0 && revoked_at.is_some_and(|since| since.elapsed() > SOON) {
            panic!("{SOON:?} after it was revoked the key still works");
        }
    }
    assert_eq!(secured.refused_because("unknown_key").await, 50.0);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_and_new_scopes_hold_without_a_restart() {
    let secured = Secured::start().await;
    let key = ApiKey::new("late", &["send"]);
    let send = || {
        let request = secured.request_of(&key.text(), reqwest::Method::POST, "/v1/notifications");
        request.json(&json!({"to": ["bob"], "body": "x"}))
    };
    assert_eq!(Answer::of(send()).await.status, 401);
    secured.write_keys(&[&secured.sending, &key]);
    secured.until_status("a new key to work", 202, send).await;
    let demoted = ApiKey { scopes: vec!["read"], ..key.clone() };
    secured.write_keys(&[&secured.sending, &demoted]);
    secured.until_status("a lost scope to be lost", 403, send).await;
    assert_eq!(Answer::of(secured.pull("bob", &key.text())).await.status, 200, "and the new one to hold");
    secured.until_reload("api_keys", "changed", 2.0).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_key_holds_and_its_predecessor_does_not() {
    let secured = Secured::start().await;
    let next = secured.sending.replaced();
    let send = |text: String| {
        let request = secured.request_of(&text, reqwest::Method::POST, "/v1/notifications");
        request.json(&json!({"to": ["bob"], "body": "x"}))
    };
    secured.write_keys(&[&next]);
    secured.until_status("the next key to work", 202, || send(next.text())).await;
    assert_eq!(Answer::of(send(secured.sending.text())).await.status, 401);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_written_in_place_is_read_too() {
    let secured = Secured::start().await;
    let key = ApiKey::new("late", &["read"]);
    secured.folder.write("keys.toml", &keys_file(&[&secured.sending, &key]));
    secured.until_status("the key to work", 200, || secured.pull("bob", &key.text())).await;
    secured.tell("bob", "the other still works").await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_makes_no_sense_keeps_the_keys_of_before() {
    let secured = Secured::start().await;
    let good = keys_file(&[&secured.sending]);
    let key = &secured.sending;
    let other = ApiKey { id: key.id.clone(), ..ApiKey::new("other", &["send"]) };
    let nonsense = [
        "this is no TOML".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("sha256", "sha265"),
        good.replace(&key.hash(), &key.hash()[1..]),
        good.replace(&key.hash(), &format!("{}zz", &key.hash()[2..])),
        good.replace(&key.hash(), &key.text()),
        good.replace("[\"send\"]", "[\"send\", \"everything\"]"),
        good.replace("[\"send\"]", "\"send\""),
        good.replace(&key.id, "not an id"),
        good.replace("[[key]]", "[[keys]]"),
        good.replace("name = \"orders\"", "names = \"orders\""),
        format!("{good}sends = \"many\"\n"),
        format!("{good}{}", keys_file(&[&other])),
    ];
    let mut wrong = Vec::new();
    for (number, text) in nonsense.iter().enumerate() {
        secured.replace("keys.toml", text);
        let failed = r#"gateway_credential_reloads_total{result="failed",source="api_keys"}"#;
        let before_failing = number as f64 - wrong.len() as f64;
        let deadline = Instant::now() + SOON;
        while secured.metric(failed).await <= before_failing && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if secured.metric(failed).await <= before_failing {
            wrong.push(format!("not found wrong: {text}"));
        }
        let status = secured.send_as(&key.text(), &json!({"to": ["bob"], "body": "x"})).await.status;
        if status != 202 {
            wrong.push(format!("the key is answered with {status} after: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let next = ApiKey::new("late", &["read"]);
    secured.write_keys(&[&secured.sending, &next]);
    secured.until_status("a good file to hold again", 200, || secured.pull("bob", &next.text())).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_gone_or_cannot_be_read_keeps_the_keys_of_before() {
    let secured = Secured::start().await;
    let path: PathBuf = secured.folder.path().join("keys.toml");
    std::fs::remove_file(&path).unwrap();
    secured.until_reload("api_keys", "failed", 1.0).await;
    secured.tell("bob", "gone").await;
    assert_eq!(secured.get("/v1/users/bob").await.status, 401, "and the gateway is not open");
    std::fs::create_dir(&path).unwrap();
    secured.until_reload("api_keys", "failed", 2.0).await;
    secured.tell("bob", "a directory").await;
    std::fs::remove_dir(&path).unwrap();
    let next = ApiKey::new("late", &["read"]);
    secured.write_keys(&[&next]);
    secured.until_status("a good file to hold again", 200, || secured.pull("bob", &next.text())).await;
    assert_eq!(Answer::of(secured.pull("bob", &secured.sending.text())).await.status, 401);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_without_keys_lets_nobody_in_and_opens_nothing() {
    let secured = Secured::start().await;
    secured.replace("keys.toml", "# nobody\n");
    secured
        .until_status("the last key to be revoked", 401, || secured.pull("bob", &secured.reading.text()))
        .await;
    assert_eq!(secured.get("/v1/users/bob").await.status, 401);
    let token = secured.issuer.token(&super::credentials::claims("bob"));
    assert_eq!(Answer::of(secured.pull("bob", &token)).await.status, 200, "tokens are another matter");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_touched_but_not_changed_is_no_change() {
    let secured = Secured::start().await;
    let same = keys_file(&[&secured.sending, &secured.reading, &secured.administrating]);
    secured.replace("keys.toml", &same);
    // The token's key is read again after it: when that has happened, the file of keys was looked at.
    secured.replace("token.key", &Issuer::hs256().file);
    secured.until_reload("token_keys", "changed", 1.0).await;
    secured.replace("token.key", &secured.issuer.file);
    secured.until_reload("token_keys", "changed", 2.0).await;
    let series = r#"gateway_credential_reloads_total{result="changed",source="api_keys"}"#;
    assert_eq!(secured.metric(series).await, 0.0, "there were no others");
    secured.tell("bob", "x").await;
    secured.stop().await;
}
