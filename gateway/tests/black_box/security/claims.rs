//! What a token has to say: whose it is, until when it holds, for whom it is meant and from whom it comes.

use serde_json::{Value, json};

use super::credentials::{ApiKey, Issuer, SOME_TIME, claims, now, sending_claims};
use super::doors::{Door, Verdict};
use super::secured::Secured;
use gateway::clock::Clock;

use crate::harness::SOME_TIME_US;

/// Shows tokens with these claims at every door.
async fn expect(secured: &Secured, verdict: Verdict, reason: Option<&str>, cases: &[(&str, Value)]) {
    let place = secured.place("bob").await;
    let mut wrong = Vec::new();
    for (what, claims) in cases {
        let (all, because) = counts(secured, reason).await;
        let token = secured.issuer.token(claims);
        wrong.extend(place.unlike(verdict, &Door::ALL, what, Some(&token)).await);
        let (all_after, because_after) = counts(secured, reason).await;
        let expected = if verdict == Verdict::Open { 0.0 } else { Door::ALL.len() as f64 };
        if (all_after - all, because_after - because) != (expected, expected) {
            let counted = (all_after - all, because_after - because);
            wrong.push(format!("{what}: counted {counted:?} (all, {reason:?}), expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Refusals so far: all, and those for the reason; without one twice the same.
async fn counts(secured: &Secured, reason: Option<&str>) -> (f64, f64) {
    let all = secured.refused().await;
    match reason {
        Some(reason) => (all, secured.refused_because(reason).await),
        None => (all, all),
    }
}

/// Good claims with one of them changed; `null` takes it away.
fn but(name: &str, value: Value) -> Value {
    let mut claims = sending_claims("bob");
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_holds_from_its_beginning_to_its_end_give_or_take_the_leeway() {
    let (clock, _hand) = Clock::manual(SOME_TIME_US);
    let secured = Secured::start_with_clock(clock, Issuer::hs256(), |config, _| {
        config.auth.leeway = std::time::Duration::from_secs(30);
    })
    .await;
    let until = |exp: u64| json!({"sub": "bob", "exp": exp, "scope": "send"});
    let from = |nbf: u64| json!({"sub": "bob", "exp": SOME_TIME + 3_600, "nbf": nbf, "scope": "send"});
    let good = [
        ("an hour left", until(SOME_TIME + 3_600)),
        ("over, but within the leeway", until(SOME_TIME - 29)),
        ("has begun", from(SOME_TIME - 1)),
        ("begins within the leeway", from(SOME_TIME + 29)),
    ];
    expect(&secured, Verdict::Open, None, &good).await;
    let over = [
        ("over for a second more than the leeway", until(SOME_TIME - 31)),
        ("over for an hour", until(SOME_TIME - 3_600)),
        ("over since 1970", until(0)),
    ];
    expect(&secured, Verdict::Unauthorized, Some("expired"), &over).await;
    let early = [
        ("begins a second beyond the leeway", from(SOME_TIME + 31)),
        ("begins in an hour", from(SOME_TIME + 3_599)),
    ];
    expect(&secured, Verdict::Unauthorized, Some("not_yet_valid"), &early).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leeway_a_token_is_over_when_it_says_so() {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let secured = Secured::start_with_clock(clock, Issuer::es256(), |config, _| {
        config.auth.leeway = std::time::Duration::ZERO;
    })
    .await;
    let claims = json!({"sub": "bob", "exp": SOME_TIME + 10, "scope": "send"});
    expect(&secured, Verdict::Open, None, &[("ten seconds before its end", claims.clone())]).await;
    hand.set(SOME_TIME_US + 9_000_000);
    expect(&secured, Verdict::Open, None, &[("one second before its end", claims.clone())]).await;
    hand.set(SOME_TIME_US + 11_000_000);
    let over = [("one second after its end", claims)];
    expect(&secured, Verdict::Unauthorized, Some("expired"), &over).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_says_when_it_ends() {
    let secured = Secured::start().await;
    let never = [
        ("no end", but("exp", Value::Null)),
        ("an end that is a text", but("exp", json!((now() + 3_600).to_string()))),
        ("an end that is a list", but("exp", json!([now() + 3_600]))),
        ("an end that is true", but("exp", json!(true))),
        ("an end before 1970", but("exp", json!(-1))),
        ("an end that is an object", but("exp", json!({}))),
    ];
    expect(&secured, Verdict::Unauthorized, None, &never).await;
    let odd = [
        ("a beginning that is a text", but("nbf", json!("soon"))),
        ("a beginning that is an object", but("nbf", json!({}))),
    ];
    expect(&secured, Verdict::Unauthorized, None, &odd).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_beyond_all_times_harms_nothing() {
    let secured = Secured::start().await;
    let place = secured.place("bob").await;
    for exp in [json!(u64::MAX), json!(i64::MAX), json!(1e300), json!(1e18), json!(u64::MAX / 1_000_000)] {
        let token = secured.issuer.token(&but("exp", exp.clone()));
        for door in Door::ALL {
            let verdict = place.knock(door, Some(&token)).await;
            assert!(
                matches!(verdict, Verdict::Open | Verdict::Unauthorized),
                "{exp} at {door:?}: {verdict:?}"
            );
        }
    }
    assert_eq!(secured.metric("gateway_panics_total").await, 0.0);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fraction_of_a_second_is_a_time_too() {
    // RFC 7519 §2: a NumericDate may have a fraction.
    let secured = Secured::start().await;
    let claims = but("exp", json!(now() as f64 + 3_600.5));
    expect(&secured, Verdict::Open, None, &[("a fraction", claims)]).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_says_whose_it_is() {
    let secured = Secured::start().await;
    let nobodys = [
        ("nobody's", but("sub", Value::Null)),
        ("of an empty name", but("sub", json!(""))),
        ("of a dot", but("sub", json!("."))),
        ("of two dots", but("sub", json!(".."))),
        ("of a name that is too long", but("sub", json!("b".repeat(257)))),
        ("of a name with a line in it", but("sub", json!("bob\nalice"))),
        ("of a name with a zero in it", but("sub", json!("bob\u{0}"))),
        ("of a number", but("sub", json!(7))),
        ("of several", but("sub", json!(["bob"]))),
        ("of an object", but("sub", json!({"bob": true}))),
    ];
    expect(&secured, Verdict::Unauthorized, None, &nobodys).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_users_token_opens_none_of_a_users_doors() {
    let secured = Secured::start().await;
    let place = secured.place("bob").await;
    let others =
        ["alice", "Bob", "BOB", "bob ", " bob", "bob\u{301}", "b%6fb", "bobb", "bo", "*", "bob/alice"];
    let mut wrong = Vec::new();
    for (number, other) in others.iter().enumerate() {
        let token = secured.issuer.token(&sending_claims(other));
        wrong.extend(place.unlike(Verdict::Forbidden, &Door::RECEIVING, other, Some(&token)).await);
        let expected = ((number + 1) * Door::RECEIVING.len()) as f64;
        let counted = secured.refused_because("other_user").await;
        if counted != expected {
            wrong.push(format!("{other}: {counted} counted, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for transport in ["websocket", "sse"] {
        let series = format!(r#"gateway_sessions_opened_total{{result="accepted",transport="{transport}"}}"#);
        assert_eq!(secured.metric(&series).await, 0.0, "{transport}");
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_name_may_be_any_text_that_user_ids_may_be() {
    let secured = Secured::start().await;
    for user in ["bö b/☃", "b%6fb", "a.b@example.org", "..bob", "\"quoted\"", &"x".repeat(256)] {
        let place = secured.place(user).await;
        let token = secured.issuer.token(&claims(user));
        let wrong = place.unlike(Verdict::Open, &Door::RECEIVING, user, Some(&token)).await;
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_for_one_of_the_audiences_and_from_one_of_the_issuers() {
    let secured = Secured::start_with(Issuer::hs256(), |config, _| {
        config.auth.audience = vec!["push.example".to_owned(), "spare.example".to_owned()];
        config.auth.issuer = vec!["https://login.example".to_owned(), "https://spare.example".to_owned()];
    })
    .await;
    let with = |aud: Value, iss: Value| {
        let mut claims = but("aud", aud);
        if !iss.is_null() {
            claims["iss"] = iss;
        }
        claims
    };
    let issuer = || json!("https://login.example");
    let good = [
        ("the first of both", with(json!("push.example"), issuer())),
        ("the second of both", with(json!("spare.example"), json!("https://spare.example"))),
        ("one audience of several", with(json!(["elsewhere.example", "push.example"]), issuer())),
    ];
    expect(&secured, Verdict::Open, None, &good).await;
    let elsewhere = [
        ("no audience", with(Value::Null, issuer())),
        ("another audience", with(json!("elsewhere.example"), issuer())),
        ("several others", with(json!(["a.example", "b.example"]), issuer())),
        ("no audience in a list", with(json!([]), issuer())),
        ("more than the audience", with(json!("push.example.evil.example"), issuer())),
        ("less than the audience", with(json!("push"), issuer())),
        ("the audience in capitals", with(json!("PUSH.EXAMPLE"), issuer())),
    ];
    expect(&secured, Verdict::Unauthorized, Some("audience"), &elsewhere).await;
    let foreign = [
        ("no issuer", with(json!("push.example"), Value::Null)),
        ("another issuer", with(json!("push.example"), json!("https://evil.example"))),
        ("an issuer with a slash more", with(json!("push.example"), json!("https://login.example/"))),
        ("less than the issuer", with(json!("push.example"), json!("https://login"))),
    ];
    expect(&secured, Verdict::Unauthorized, Some("issuer"), &foreign).await;
    let odd = [
        ("a number for an audience", with(json!(7), issuer())),
        ("a list of issuers", with(json!("push.example"), json!([7]))),
    ];
    expect(&secured, Verdict::Unauthorized, None, &odd).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audience_and_issuer_are_not_looked_at_unless_configured() {
    let secured = Secured::start().await;
    let mut claims = but("aud", json!(["elsewhere.example"]));
    claims["iss"] = json!("https://anybody.example");
    expect(&secured, Verdict::Open, None, &[("for and from whomever", claims)]).await;
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_and_nonsense_open_nothing() {
    let secured = Secured::start().await;
    let place = secured.place("bob").await;
    let stranger = ApiKey::new("stranger", &["send", "read", "admin"]);
    let known = &secured.reading;
    let forged = known.replaced().text();
    let unknown_keys = [stranger.text(), forged.clone(), format!("{}A", known.text())];
    let mut wrong = place.unlike(Verdict::Unauthorized, &Door::ALL, "nothing", None).await;
    assert_eq!(secured.refused_because("missing").await, Door::ALL.len() as f64);
    for key in &unknown_keys {
        wrong.extend(place.unlike(Verdict::Unauthorized, &Door::ALL, "an unknown key", Some(key)).await);
    }
    let nonsense = [
        "nonsense",
        "gwk_",
        "gwk__",
        "gwk_zzzzzzzz_",
        &known.text()[..20],
        &known.text().to_uppercase(),
        &known.hash(),
        &known.secret,
        &format!("gwk_{}", known.hash()),
        &known.id,
    ];
    for text in nonsense {
        wrong.extend(place.unlike(Verdict::Unauthorized, &Door::ALL, text, Some(text)).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(secured.refused_because("malformed").await >= Door::ALL.len() as f64);
    assert!(secured.refused_because("unknown_key").await >= 2.0 * Door::ALL.len() as f64);
    let sessions_refused = 4.0 * (1 + unknown_keys.len() + nonsense.len()) as f64;
    let text = secured.metrics_text().await;
    let sessions = super::secured::total(&text, "gateway_sessions_opened_total", r#"result="unauthorized""#);
    assert_eq!(sessions, sessions_refused, "sessions that were refused are counted as such");
    let sends = secured.notifications("unauthorized").await;
    assert_eq!(sends, (1 + unknown_keys.len() + nonsense.len()) as f64, "and so are sends");
    secured.stop().await;
}
