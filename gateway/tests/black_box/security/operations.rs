//! The table of operations and of what each needs, tried with every kind of credential.

use reqwest::Method;
use serde_json::{Value, json};

use super::credentials::{ApiKey, Issuer, claims, keys_file, sending_claims};
use super::doors::{Verdict, of_answer, verdict_on};
use super::secured::Secured;
use crate::harness::{Answer, EventSource};

/// Who may: the names of credentials in [`Credentials`].
const SENDERS: &[&str] = &["key send", "bob with send", "alice with send", "key of all scopes"];
const OUTCOMES: &[&str] = &["key send", "key read", "key admin", "key of all scopes"];
const WITHDRAWERS: &[&str] = &["key send", "key admin", "key of all scopes"];
const LOOKERS: &[&str] = &["key read", "key admin", "key of all scopes"];
const LISTENERS: &[&str] = &["key read", "bob", "bob with send", "key of all scopes"];
const ADMINISTRATORS: &[&str] = &["key admin", "key of all scopes"];

/// Each with its name; none at all is without a text.
type Credentials = Vec<(&'static str, Option<String>)>;

/// An operation, with `{id}` and `{position}` to be filled in.
struct Operation {
    method: Method,
    path: &'static str,
    body: Option<Value>,
    allowed: &'static [&'static str],
}

fn operation(
    method: Method,
    path: &'static str,
    body: Option<Value>,
    allowed: &'static [&'static str],
) -> Operation {
    Operation { method, path, body, allowed }
}

fn operations() -> Vec<Operation> {
    let send = json!({"to": ["carol"], "body": "x"});
    let batch = json!([send, send]);
    let ack = json!({"position": "{position}"});
    let users = json!(["bob"]);
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    vec![
        operation(post.clone(), "/v1/notifications", Some(send), SENDERS),
        operation(post.clone(), "/v1/notifications/batch", Some(batch), SENDERS),
        operation(get.clone(), "/v1/notifications/{id}", None, OUTCOMES),
        operation(delete.clone(), "/v1/notifications/{id}", None, WITHDRAWERS),
        operation(get.clone(), "/v1/users/bob", None, LOOKERS),
        operation(get.clone(), "/v1/users/bob/topics", None, LOOKERS),
        operation(get.clone(), "/v1/topics/news", None, LOOKERS),
        operation(get.clone(), "/v1/stats", None, LOOKERS),
        operation(get, "/v1/users/bob/notifications", None, LISTENERS),
        operation(post, "/v1/users/bob/acks", Some(ack), LISTENERS),
        operation(delete.clone(), "/v1/users/bob", None, ADMINISTRATORS),
        operation(delete.clone(), "/v1/users/bob/sessions", None, ADMINISTRATORS),
        operation(put.clone(), "/v1/topics/news/subscribers/bob", None, ADMINISTRATORS),
        operation(delete.clone(), "/v1/topics/news/subscribers/bob", None, ADMINISTRATORS),
        operation(put, "/v1/topics/news/subscribers", Some(users.clone()), ADMINISTRATORS),
        operation(delete, "/v1/topics/news/subscribers", Some(users), ADMINISTRATORS),
    ]
}

/// A gateway with one key more than usual, and every kind of credential it knows.
async fn start() -> (Secured, ApiKey, Credentials) {
    let secured = Secured::start_with(Issuer::es256(), |_, _| {}).await;
    let all = ApiKey::new("everything", &["send", "read", "admin"]);
    secured.write_keys(&[&secured.sending, &secured.reading, &secured.administrating, &all]);
    secured.until_reload("api_keys", "changed", 1.0).await;
    let issuer = &secured.issuer;
    let mut other_scopes = claims("bob");
    other_scopes["scope"] = json!("sending resend Send SEND openid send-only read admin");
    let mut several_scopes = claims("bob");
    several_scopes["scope"] = json!("openid send profile");
    let credentials = vec![
        ("nobody", None),
        ("key send", Some(secured.sending.text())),
        ("key read", Some(secured.reading.text())),
        ("key admin", Some(secured.administrating.text())),
        ("key of all scopes", Some(all.text())),
        ("bob", Some(issuer.token(&claims("bob")))),
        ("bob with send", Some(issuer.token(&several_scopes))),
        ("bob with other scopes", Some(issuer.token(&other_scopes))),
        ("alice", Some(issuer.token(&claims("alice")))),
        ("alice with send", Some(issuer.token(&sending_claims("alice")))),
    ];
    (secured, all, credentials)
}

/// What a credential of this name is entitled to, where `allowed` may.
fn expected(name: &str, allowed: &[&str]) -> Verdict {
    match name {
        "nobody" => Verdict::Unauthorized,
        // A token is as good as its user: other claims take nothing away.
        "bob with other scopes" if allowed.contains(&"bob") => Verdict::Open,
        name if allowed.contains(&name) => Verdict::Open,
        _ => Verdict::Forbidden,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_is_done_for_those_who_may_and_for_nobody_else() {
    let (secured, all, credentials) = start().await;
    let mut wrong = Vec::new();
    let (mut unauthorized, mut forbidden) = (0, 0);
    for operation in operations() {
        for (name, credential) in &credentials {
            let sent = secured.send_as(&all.text(), &json!({"to": ["bob"], "body": "x"})).await.accepted();
            let id = sent.body["id"].as_str().unwrap().to_owned();
            let path = operation.path.replace("{id}", &id);
            let mut request = secured.request(operation.method.clone(), &path);
            if let Some(text) = credential {
                request = request.bearer_auth(text);
            }
            if let Some(body) = &operation.body {
                let body = body.to_string().replace("{position}", &sent.position());
                request = request.header("content-type", "application/json").body(body);
            }
            let answer = Answer::of(request).await;
            let got = of_answer(&answer);
            let expected = expected(name, operation.allowed);
            unauthorized += usize::from(expected == Verdict::Unauthorized);
            forbidden += usize::from(expected == Verdict::Forbidden);
            if got != expected {
                let place = format!("{} {}", operation.method, operation.path);
                wrong.push(format!("{place} by {name}: {got:?} instead of {expected:?}: {}", answer.body));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(secured.refused_because("missing").await, unauthorized as f64);
    let not_allowed = secured.refused_because("scope").await + secured.refused_because("other_user").await;
    assert_eq!(not_allowed, forbidden as f64);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_to_listen_is_open_to_those_who_may_and_to_nobody_else() {
    let (secured, _all, credentials) = start().await;
    let mut wrong = Vec::new();
    for (name, credential) in &credentials {
        let bearer = credential.as_ref().map(|text| format!("Bearer {text}"));
        let dial = |subprotocol: Option<String>, header: bool| {
            let mut dial = secured.dial("bob");
            if let Some(protocols) = subprotocol {
                dial = dial.subprotocol(&protocols);
            }
            match &bearer {
                Some(bearer) if header => dial.header("authorization", bearer),
                _ => dial,
            }
        };
        let browser = credential
            .as_ref()
            .map_or_else(|| "notify.v1".to_owned(), |text| format!("notify.v1, bearer.{text}"));
        let stream = secured.request(Method::GET, "/sse/bob");
        let stream = bearer.iter().fold(stream, |stream, value| stream.header("authorization", value));
        let stream = match EventSource::open(stream).await {
            Ok(_) => Verdict::Open,
            Err(answer) => of_answer(&answer),
        };
        for (way, got) in [
            ("a socket", verdict_on(dial(None, true)).await),
            ("a socket with its name", verdict_on(dial(Some("notify.v1".to_owned()), true)).await),
            ("a browser's socket", verdict_on(dial(Some(browser), false)).await),
            ("a stream", stream),
        ] {
            let expected = expected(name, LISTENERS);
            if got != expected {
                wrong.push(format!("{way} by {name}: {got:?} instead of {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_is_a_text_or_a_list_of_texts_and_only_a_whole_word_allows() {
    let secured = Secured::start().await;
    let send = async |scope: Value| {
        let mut claims = claims("bob");
        claims["scope"] = scope;
        let token = secured.issuer.token(&claims);
        secured.send_as(&token, &json!({"to": ["carol"], "body": "x"})).await.status
    };
    for scope in [json!("send"), json!("a send b"), json!(["a", "send"])] {
        assert_eq!(send(scope.clone()).await, 202, "{scope}");
    }
    for scope in [json!(""), json!("sends"), json!("SEND"), json!("a,send"), json!([]), json!(["a send"])] {
        assert_eq!(send(scope.clone()).await, 403, "{scope}");
    }
    for scope in [json!(7), json!(true), json!({"send": true}), json!([["send"]])] {
        let status = send(scope.clone()).await;
        assert!([401, 403].contains(&status), "{scope}: {status}");
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manual_is_for_everybody() {
    let secured = Secured::start().await;
    for path in ["/", "/docs", "/openapi.json", "/asyncapi.yaml"] {
        assert_eq!(secured.get(path).await.status, 200, "{path}");
        let with_nonsense = Answer::of(secured.request_of("nonsense", Method::GET, path)).await;
        assert_eq!(with_nonsense.status, 200, "{path}");
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_spelling_of_an_operation_goes_round_the_guard() {
    let secured = Secured::start().await;
    let host = secured.address();
    for (method, target) in [
        ("HEAD", "/v1/users/bob"),
        ("GET", "/v1/users/bob/"),
        ("GET", "//v1/users/bob"),
        ("GET", "/v1//users/bob"),
        ("GET", "/v1/./users/bob"),
        ("GET", "/docs/../v1/users/bob"),
        ("GET", "/docs/..%2fv1/users/bob"),
        ("GET", "/%76%31/users/bob"),
        ("GET", "/v1/users%2Fbob"),
        ("GET", "/v1/users/bob%00"),
        ("GET", "/v1/users/b%6Fb"),
        ("GET", "/V1/USERS/bob"),
        ("GET", "/v1/users/bob;x=1"),
        ("GET", "/v1/users/bob#x"),
        ("GET", "http://127.0.0.1/v1/users/bob"),
        ("GET", "/sse/bob"),
        ("HEAD", "/sse/bob"),
        ("GET", "/sse//bob"),
        ("OPTIONS", "/v1/users/bob"),
        ("get", "/v1/users/bob"),
        ("PATCH", "/v1/users/bob"),
    ] {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = secured.exchange(request.as_bytes()).await;
        assert!((400..500).contains(&answer.status), "{method} {target}: {} {}", answer.status, answer.body);
    }
    // Headers that proxies and frameworks use to say that a request is another one.
    for header in [
        "X-HTTP-Method-Override: GET",
        "X-Original-URL: /docs",
        "X-Rewrite-URL: /docs",
        "X-Forwarded-User: bob",
    ] {
        let request =
            format!("GET /v1/users/bob HTTP/1.1\r\nHost: {host}\r\n{header}\r\nConnection: close\r\n\r\n");
        assert_eq!(secured.exchange(request.as_bytes()).await.status, 401, "{header}");
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheme_of_a_credential_is_bearer_in_any_case_and_nothing_else() {
    let secured = Secured::start().await;
    let token = secured.issuer.token(&claims("bob"));
    let show = async |value: String| {
        let request = secured.request(Method::GET, "/v1/users/bob/notifications");
        of_answer(&Answer::of(request.header("authorization", value)).await)
    };
    // RFC 9110 §11.1: the scheme is matched without regard to case.
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(show(format!("{scheme} {token}")).await, Verdict::Open, "{scheme}");
    }
    for value in [
        token.clone(),
        format!("Basic {token}"),
        format!("Token {token}"),
        format!("Bearer{token}"),
        format!("Bearer: {token}"),
        format!("Bearer \"{token}\""),
        format!("Bearer {token}, Bearer {token}"),
        format!("Basic YTpi, Bearer {token}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
    ] {
        assert_eq!(show(value.clone()).await, Verdict::Unauthorized, "{value}");
    }
    for header in ["x-api-key", "cookie", "proxy-authorization", "x-auth-token"] {
        let request = secured.request(Method::GET, "/v1/users/bob/notifications");
        let answer = Answer::of(request.header(header, format!("Bearer {token}"))).await;
        assert_eq!(of_answer(&answer), Verdict::Unauthorized, "{header} is no place for a token here");
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subprotocol_is_no_place_for_the_credential_of_an_ordinary_request() {
    let secured = Secured::start().await;
    let token = secured.issuer.token(&claims("bob"));
    let request = secured.request(Method::GET, "/v1/users/bob/notifications");
    let answer = Answer::of(request.header("sec-websocket-protocol", format!("bearer.{token}"))).await;
    assert_eq!(of_answer(&answer), Verdict::Unauthorized);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_does_not_say_which_keys_there_are() {
    let secured = Secured::start().await;
    let known = secured.reading.replaced();
    let unknown = ApiKey::new("nobody", &["read"]);
    assert!(keys_file(&[&secured.reading]).contains(&known.id), "the same id, another secret");
    let refusal = async |key: &ApiKey| {
        let answer = Answer::of(secured.pull("bob", &key.text())).await;
        (answer.status, answer.body, answer.headers.get("www-authenticate").cloned())
    };
    assert_eq!(refusal(&known).await, refusal(&unknown).await);
    secured.stop().await;
}
