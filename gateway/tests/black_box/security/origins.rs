//! Pages and names, once credentials are asked for: a page needs both its origin and its credential.

use gateway::config::Config;
use reqwest::Method;
use serde_json::json;

use super::credentials::{Issuer, sending_claims};
use super::doors::{Verdict, verdict_on};
use super::secured::Secured;
use crate::harness::Answer;

const APP: &str = "https://app.example";
const EVIL: &str = "https://evil.example";

async fn start() -> Secured {
    Secured::start_with(Issuer::hs256(), |config: &mut Config, _| {
        config.http.allowed_origins = vec![APP.to_owned()];
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_page_with_a_token_may_send_and_listen() {
    let secured = start().await;
    let permission = secured.preflight(APP, "authorization, content-type").await;
    assert_eq!((permission.status, permission.header("access-control-allow-origin")), (204, APP));
    let headers = permission.header("access-control-allow-headers").to_ascii_lowercase();
    assert!(headers.contains("authorization"), "{headers}");
    assert_eq!(permission.header("access-control-allow-credentials"), "", "cookies mean nothing here");

    let token = secured.issuer.token(&sending_claims("bob"));
    let dial = secured.dial("bob").header("origin", APP).subprotocol(&format!("notify.v1, bearer.{token}"));
    let mut page = dial.open().await;
    let request = secured.request_of(&token, Method::POST, "/v1/notifications").header("origin", APP);
    let answer = Answer::of(request.json(&json!({"to": ["bob"], "body": "chat"}))).await.accepted();
    assert_eq!(answer.header("access-control-allow-origin"), APP);
    assert_eq!(page.texts(1).await, ["chat"]);
    drop(page);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_page_may_read_why_it_was_refused() {
    let secured = start().await;
    let request = secured.request(Method::POST, "/v1/notifications").header("origin", APP);
    let answer = Answer::of(request.json(&json!({"to": ["bob"], "body": "x"}))).await;
    answer.refused(401, None);
    assert_eq!(answer.header("access-control-allow-origin"), APP);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_credential_makes_up_for_a_foreign_page() {
    let secured = start().await;
    let token = secured.issuer.token(&sending_claims("bob"));
    let own = format!("http://{}", secured.address());
    // Pages on this machine are welcome in open mode only.
    let foreign =
        [EVIL, "null", "http://localhost:5173", "http://127.0.0.1:3000", "https://app.example.evil.example"];
    for origin in foreign {
        let request = secured.request_of(&token, Method::POST, "/v1/notifications").header("origin", origin);
        let answer = Answer::of(request.json(&json!({"to": ["bob"], "body": origin}))).await;
        assert_eq!(answer.status, 403, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
        assert_eq!(secured.preflight(origin, "authorization, content-type").await.status, 403, "{origin}");
        let stream = secured.request_of(&token, Method::GET, "/sse/bob").header("origin", origin);
        assert_eq!(Answer::of(stream).await.status, 403, "{origin}");
        let bearer = format!("Bearer {token}");
        for (dial, way) in [
            (secured.dial("bob").header("authorization", &bearer), "a socket"),
            (secured.dial("bob").subprotocol(&format!("notify.v1, bearer.{token}")), "a browser's socket"),
        ] {
            let verdict = verdict_on(dial.header("origin", origin)).await;
            assert_eq!(verdict, Verdict::Forbidden, "{way} of {origin}");
        }
    }
    let page = secured.dial("bob").header("origin", &own).subprotocol(&format!("notify.v1, bearer.{token}"));
    assert_eq!(verdict_on(page).await, Verdict::Open, "the gateway's own page may");
    let text = secured.metrics_text().await;
    let refused = super::secured::total(&text, "gateway_sessions_opened_total", r#"result="origin""#);
    assert_eq!(refused, 3.0 * foreign.len() as f64);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_name_is_refused_before_everything_else() {
    let secured = Secured::start_with(Issuer::hs256(), |config, _| {
        config.http.allowed_hosts = vec!["push.example".to_owned()];
    })
    .await;
    let token = secured.issuer.token(&sending_claims("bob"));
    for host in
        ["evil.example", "push.example.evil.example", "evil.example:443", "xpush.example", "push.exampl"]
    {
        for path in
            ["/", "/docs", "/openapi.json", "/v1/users/bob", "/v1/users/bob/notifications", "/nowhere"]
        {
            for request in [secured.request(Method::GET, path), secured.request_of(&token, Method::GET, path)]
            {
                let answer = Answer::of(request.header("host", host)).await;
                assert_eq!(answer.status, 403, "{host} {path}: {}", answer.body);
            }
        }
        let bearer = format!("Bearer {token}");
        let dial = secured.dial("bob").header("host", host).header("authorization", &bearer);
        dial.connect().await.expect_err("refused before the upgrade").refused(403, None);
        let dial =
            secured.dial("bob").header("host", host).subprotocol(&format!("notify.v1, bearer.{token}"));
        dial.connect().await.expect_err("refused before the upgrade").refused(403, None);
    }
    assert_eq!(secured.refused().await, 0.0, "no credential was even looked at");
    for host in ["push.example", "PUSH.example", "push.example:443"] {
        let answer = Answer::of(secured.pull("bob", &token).header("host", host)).await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.body);
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_list_of_names_any_is_answered_that_shows_a_credential() {
    let secured = Secured::start().await;
    let token = secured.issuer.token(&sending_claims("bob"));
    let with = Answer::of(secured.pull("bob", &token).header("host", "push.example")).await;
    assert_eq!(with.status, 200);
    let without = secured.request(Method::GET, "/v1/users/bob/notifications").header("host", "push.example");
    assert_eq!(Answer::of(without).await.status, 401);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_listener_stays_on_this_machine_and_tells_no_page() {
    let secured = start().await;
    assert_eq!(secured.operators_answer_to("localhost").await, 200);
    assert_eq!(
        secured.operators_answer_to("evil.example").await,
        403,
        "a name that leads here (DNS rebinding)"
    );
    let client = reqwest::Client::new();
    for path in ["/metrics", "/health/ready", "/health/live"] {
        for origin in [EVIL, APP] {
            let request = client.get(format!("http://{}{path}", secured.operators_address()));
            let answer = Answer::of(request.header("origin", origin)).await;
            assert_eq!(answer.header("access-control-allow-origin"), "", "{path} for {origin}");
        }
    }
    secured.stop().await;
}
