//! What `gateway listen` and `gateway send` show to people.

use std::time::Duration;

use gateway::commands::{CommandError, listen, send};
use gateway::config::Config;

use crate::process_harness::{Running, until_metric, within_patience};

fn options(gateway: &Running, user: &str, count: u64) -> listen::Options {
    listen::Options {
        url: gateway.url(),
        user: user.to_owned(),
        after: None,
        json: false,
        count: Some(count),
        credential: None,
    }
}

/// Listens to the end; returns what was printed and what was remarked.
async fn hear(options: listen::Options) -> (Result<(), CommandError>, String, String) {
    let (mut out, mut remarks) = (Vec::new(), Vec::new());
    let result = within_patience("the end of listening", listen::run(options, &mut out, &mut remarks)).await;
    (result, String::from_utf8(out).unwrap(), String::from_utf8(remarks).unwrap())
}

#[tokio::test]
async fn a_listener_prints_time_sender_and_text_of_each_notification() {
    let gateway = Running::start_with(|_| {}).await;
    for (text, from) in [("first", Some("alice")), ("second", None)] {
        let said = send::run(&gateway.url(), "bob", text, from, None).await.unwrap();
        assert!(
            said.starts_with("accepted ") && said.ends_with("(bob is not connected, it waits)"),
            "{said}"
        );
    }
    let (result, out, remarks) = hear(options(&gateway, "bob", 2)).await;
    assert!(result.is_ok());
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    let (time, rest) = lines[0].split_at("12:34:56".len());
    assert!(time.split(':').all(|part| part.len() == 2 && part.parse::<u8>().is_ok()), "{out}");
    assert_eq!(rest, " alice: first");
    assert!(lines[1].ends_with(" second") && !lines[1].contains("alice"), "{out}");
    assert!(remarks.starts_with("-- listening as bob behind "), "{remarks}");
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_terminal_does_not_obey_what_a_sender_wrote() {
    let gateway = Running::start_with(|_| {}).await;
    let text = "\u{1b}[2J\u{7}red\r\nfake: line\u{9b}31m";
    send::run(&gateway.url(), "bob", text, Some("a\u{1b}]0;title\u{7}"), None).await.unwrap();
    let (_, out, _) = hear(options(&gateway, "bob", 1)).await;
    assert_eq!(out.lines().count(), 1, "{out:?}");
    assert!(!out.trim_end().chars().any(char::is_control), "{out:?}");
    assert!(out.contains("red") && out.contains("fake: line"), "{out:?}");
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn users_with_unusual_names_can_be_reached_from_the_terminal() {
    let gateway = Running::start_with(|_| {}).await;
    for user in ["a/b", "ünïcode 🦀", "50%", "a?b#c", "..x", " ", "ws/../admin"] {
        send::run(&gateway.url(), user, user, None, None).await.unwrap();
        let (result, out, _) = hear(options(&gateway, user, 1)).await;
        assert!(result.is_ok(), "{user}: {result:?}");
        assert!(out.trim_end_matches('\n').ends_with(user), "{user}: {out}");
    }
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn json_output_is_each_frame_as_it_came() {
    let gateway = Running::start_with(|_| {}).await;
    send::run(&gateway.url(), "bob", "hello", None, None).await.unwrap();
    let (_, out, _) = hear(listen::Options { json: true, ..options(&gateway, "bob", 1) }).await;
    let frames: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(frames[0]["type"], "welcome");
    assert_eq!(frames[1]["type"], "notification");
    assert_eq!(frames[1]["body"], "hello");
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_listener_who_wants_only_news_gets_nothing_old() {
    let gateway = Running::start_with(|_| {}).await;
    send::run(&gateway.url(), "bob", "old", None, None).await.unwrap();
    let listening = hear(listen::Options { after: Some("now".to_owned()), ..options(&gateway, "bob", 1) });
    let sending = async {
        until_metric(gateway.addresses.ops, r#"gateway_sessions{transport="websocket"}"#, 1.0).await;
        send::run(&gateway.url(), "bob", "new", None, None).await.unwrap()
    };
    let ((result, out, _), said) = tokio::join!(listening, sending);
    assert!(result.is_ok());
    assert!(said.ends_with("(bob is connected)"), "{said}");
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(out.trim_end().ends_with("new"), "{out}");
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn a_listener_comes_back_after_a_restart_and_tells_of_what_was_lost_with_memory() {
    let first = Running::start_with(|config| {
        config.shutdown.reconnect_window = Duration::from_millis(300);
    })
    .await;
    send::run(&first.url(), "bob", "before", None, None).await.unwrap();
    let addresses = first.addresses;
    let mut listening = Box::pin(hear(options(&first, "bob", 2)));
    let restarting = async {
        let written = "gateway_stored_delivery_age_seconds_count";
        until_metric(addresses.ops, written, 1.0).await;
        assert_eq!(first.stop().await, Ok(()));
        let mut config = Config::for_tests();
        config.http.listen = addresses.http;
        config.ops.listen = addresses.ops;
        let second = Running::start(config).await;
        until_metric(addresses.ops, r#"gateway_sessions{transport="websocket"}"#, 1.0).await;
        send::run(&second.url(), "bob", "after", None, None).await.unwrap();
        second
    };
    let ((result, out, remarks), second) = tokio::join!(&mut listening, restarting);
    assert!(result.is_ok(), "{result:?}");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].ends_with("before"), "{out}");
    assert_eq!(lines[1], "-- some missing (epoch)");
    assert!(lines[2].ends_with("after"), "{out}");
    assert!(remarks.contains("-- closed with 1012 drain; coming back in "), "{remarks}");
    assert_eq!(second.stop().await, Ok(()));
}

#[tokio::test]
async fn a_listener_who_was_disconnected_does_not_come_back() {
    let gateway = Running::start_with(|_| {}).await;
    let disconnecting = async {
        until_metric(gateway.addresses.ops, r#"gateway_sessions{transport="websocket"}"#, 1.0).await;
        let url = format!("{}/v1/users/bob/sessions", gateway.url());
        let answer = reqwest::Client::new().delete(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    let ((result, ..), ()) = tokio::join!(hear(options(&gateway, "bob", 1)), disconnecting);
    assert_eq!(result.unwrap_err().to_string(), "closed with 4010 disconnected");
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_one_line_that_names_the_gateway() {
    let gateway = Running::start_with(|_| {}).await;
    let (url, wanted) = (gateway.url(), options(&gateway, "bob", 1));
    let refused = send::run(&url, "", "x", None, None).await.unwrap_err().to_string();
    assert!(refused.starts_with("refused with 400"), "{refused}");
    let bad_position = listen::Options { after: Some("yesterday".to_owned()), ..wanted.clone() };
    let refused = hear(bad_position).await.0.unwrap_err().to_string();
    assert!(refused.starts_with("refused with 400"), "{refused}");
    assert!(refused.contains("`start`, `now`"), "{refused}");
    assert_eq!(gateway.stop().await, Ok(()));

    let silent = send::run(&url, "bob", "x", None, None).await.unwrap_err().to_string();
    let deaf = hear(wanted).await.0.unwrap_err().to_string();
    for line in [silent, deaf] {
        assert!(line.contains(&url.replace("http://", "")), "{line}");
        assert!(line.ends_with("is a gateway running there?"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}
