//! `refresh`: a session takes a new token without a break.

use std::time::Duration;

use gateway::clock::Clock;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::credentials::{Issuer, SOME_TIME};
use super::secured::Secured;
use crate::harness::{Receiver, SOME_TIME_US, within};

/// A socket that a test does not read for so long is closed.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A gateway in the time of the test, and the hand that moves it.
async fn start() -> (Secured, gateway::clock::ClockHand) {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let secured = Secured::start_with_clock(clock, Issuer::hs256(), |config, _| {
        config.auth.leeway = Duration::from_secs(5);
        config.sessions.heartbeat = HEARTBEAT;
        config.auth.audience = vec!["push.example".to_owned()];
    })
    .await;
    (secured, hand)
}

/// A token that ends so many seconds after the beginning.
fn token(secured: &Secured, user: &str, end: u64) -> String {
    secured.issuer.token(&json!({"sub": user, "aud": "push.example", "exp": SOME_TIME + end}))
}

async fn open(secured: &Secured, end: u64) -> Receiver {
    let token = token(secured, "bob", end);
    secured.dial("bob").acks_itself().subprotocol(&format!("notify.v1, bearer.{token}")).open().await
}

async fn say(socket: &mut Receiver, frame: &Value) {
    socket.say(Message::text(frame.to_string())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refreshed_session_lasts_as_long_as_its_new_token() {
    let (secured, hand) = start().await;
    let mut socket = open(&secured, 60).await;
    hand.set((SOME_TIME + 50) * 1_000_000);
    say(&mut socket, &json!({"type": "refresh", "token": token(&secured, "bob", 600)})).await;
    let refreshed = socket.next_event().await;
    assert_eq!(refreshed["type"], "refreshed", "{refreshed}");
    let expires_at: Timestamp = refreshed["expires_at"].as_str().expect("a time").parse().expect("RFC 3339");
    assert_eq!(expires_at.as_second(), i64::try_from(SOME_TIME + 600).unwrap());
    let keys: Vec<_> = refreshed.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["type", "expires_at"], "nothing else is told");

    hand.set((SOME_TIME + 300) * 1_000_000);
    secured.tell("bob", "beyond the first token").await;
    assert_eq!(socket.texts(1).await, ["beyond the first token"]);
    while socket.next_frame().await["type"] != "heartbeat" {}
    hand.set((SOME_TIME + 606) * 1_000_000);
    assert_eq!(within("the close", socket.expect_closed()).await, 4205);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_opened_by_a_header_is_refreshed_the_same_way() {
    let (secured, hand) = start().await;
    let bearer = format!("Bearer {}", token(&secured, "bob", 60));
    let mut socket = secured.dial("bob").acks_itself().header("authorization", &bearer).open().await;
    say(&mut socket, &json!({"type": "refresh", "token": token(&secured, "bob", 600), "more": [1]})).await;
    assert_eq!(socket.next_event().await["type"], "refreshed");
    hand.set((SOME_TIME + 300) * 1_000_000);
    secured.tell("bob", "still here").await;
    assert_eq!(socket.texts(1).await, ["still here"]);
    drop(socket);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_comes_twice_while_a_session_is_refreshed() {
    const NOTIFICATIONS: usize = 300;
    const REFRESHES: u64 = 20;
    let (secured, hand) = start().await;
    let mut socket = open(&secured, 60).await;
    let sends = async {
        for number in 0..NOTIFICATIONS {
            secured.tell("bob", &number.to_string()).await;
        }
    };
    let listens = async {
        let (mut texts, mut refreshed) = (Vec::new(), 0);
        while texts.len() < NOTIFICATIONS || refreshed < REFRESHES {
            if texts.len() as u64 >= refreshed * 10 && refreshed < REFRESHES {
                let text = token(&secured, "bob", 100 + refreshed);
                say(&mut socket, &json!({"type": "refresh", "token": text})).await;
                refreshed += 1;
                hand.set((SOME_TIME + refreshed) * 1_000_000);
            }
            let frame = socket.next_event().await;
            match frame["type"].as_str() {
                Some("notification") => texts.push(frame["body"].as_str().unwrap().to_owned()),
                Some("refreshed") => {}
                _ => panic!("{frame}"),
            }
        }
        texts
    };
    let ((), texts) = tokio::join!(sends, listens);
    let expected: Vec<_> = (0..NOTIFICATIONS).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected);
    assert_eq!(socket.duplicates(), 0);
    drop(socket);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_refreshed_badly_is_closed_with_the_reason() {
    let (secured, _hand) = start().await;
    let stranger = Issuer::hs256();
    let claims = json!({"sub": "bob", "aud": "push.example", "exp": SOME_TIME + 600});
    let mut unsigned = super::credentials::unsigned(&json!({"alg": "none"}), &claims);
    unsigned.push('.');
    let cases = [
        (
            "an expired one",
            json!(secured.issuer.token(&json!({"sub": "bob", "aud": "push.example", "exp": SOME_TIME - 60}))),
            4001,
        ),
        ("garbage", json!("garbage"), 4001),
        ("nothing", json!(""), 4001),
        ("a stranger's", json!(stranger.token(&claims)), 4001),
        ("one without a signature", json!(unsigned), 4001),
        (
            "one for others",
            json!(secured.issuer.token(&json!({"sub": "bob", "aud": "x", "exp": SOME_TIME + 600}))),
            4001,
        ),
        (
            "one without an end",
            json!(secured.issuer.token(&json!({"sub": "bob", "aud": "push.example"}))),
            4001,
        ),
        (
            "one that begins later",
            json!(secured.issuer.token(
                &json!({"sub": "bob", "aud": "push.example", "nbf": SOME_TIME + 60, "exp": SOME_TIME + 600})
            )),
            4001,
        ),
        ("another user's", json!(token(&secured, "alice", 600)), 4003),
    ];
    let mut wrong = Vec::new();
    for (what, shown, code) in &cases {
        let mut socket = open(&secured, 60).await;
        say(&mut socket, &json!({"type": "refresh", "token": shown})).await;
        let got = within("the close", socket.expect_closed()).await;
        if got != *code {
            wrong.push(format!("{what}: closed with {got} instead of {code}"));
        }
    }
    for (reason, times) in [("expired", 1.0), ("audience", 1.0), ("not_yet_valid", 1.0), ("other_user", 1.0)]
    {
        if secured.refused_because(reason).await != times {
            wrong.push(format!("{reason} was counted {} times", secured.refused_because(reason).await));
        }
    }
    if secured.refused().await != cases.len() as f64 {
        wrong.push(format!("{} refusals were counted", secured.refused().await));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_until_beyond_all_times_harms_nothing() {
    let (secured, _hand) = start().await;
    for exp in [json!(1e300), json!(u64::MAX), json!(253_402_300_800_u64), json!(253_402_300_799_u64)] {
        let mut socket = open(&secured, 60).await;
        let claims = json!({"sub": "bob", "aud": "push.example", "exp": exp});
        say(&mut socket, &json!({"type": "refresh", "token": secured.issuer.token(&claims)})).await;
        // Whether it is believed or refused.
        match socket.next_message().await {
            Some(Message::Text(text)) => {
                let refreshed: Value = serde_json::from_str(text.as_str()).unwrap();
                let expires_at = refreshed["expires_at"].as_str().expect("a time");
                assert!(expires_at.parse::<Timestamp>().is_ok(), "{exp}: {expires_at}");
                while socket.next_frame().await["type"] != "heartbeat" {}
            }
            Some(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 4001, "{exp}"),
            other => panic!("{exp}: {other:?}"),
        }
    }
    assert_eq!(secured.metric("gateway_panics_total").await, 0.0);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_is_no_frame_is_invalid_data() {
    let (secured, _hand) = start().await;
    for frame in [
        json!({"type": "refresh"}),
        json!({"type": "refresh", "token": 7}),
        json!({"type": "refresh", "token": null}),
    ] {
        let mut socket = open(&secured, 60).await;
        say(&mut socket, &frame).await;
        assert_eq!(within("the close", socket.expect_closed()).await, 1007, "{frame}");
    }
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_refreshed_by_a_token_of_a_key_that_came_later() {
    let (secured, hand) = start().await;
    let mut socket = open(&secured, 60).await;
    let next = Issuer::hs256();
    secured.replace("token.key", &next.file);
    secured.until_reload("token_keys", "changed", 1.0).await;
    let text = next.token(&json!({"sub": "bob", "aud": "push.example", "exp": SOME_TIME + 600}));
    say(&mut socket, &json!({"type": "refresh", "token": text})).await;
    assert_eq!(socket.next_event().await["type"], "refreshed");
    hand.set((SOME_TIME + 300) * 1_000_000);
    secured.tell("bob", "after the rotation").await;
    assert_eq!(socket.texts(1).await, ["after the rotation"]);
    drop(socket);
    secured.stop().await;
}
