//! Tests of how the gateway is spoken to.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn a_socket_names_its_user_and_where_it_goes_on() {
    assert_eq!(Gateway.socket_path("bob", None), "/ws/bob?ack=client");
    assert_eq!(
        Gateway.socket_path("a/b ü?", Some("cnfsdn0y03pkn-1048")),
        "/ws/a%2Fb%20%C3%BC%3F?ack=client&after=cnfsdn0y03pkn-1048"
    );
}

#[test]
fn a_send_names_users_or_a_topic_and_carries_the_text_as_it_is() {
    let one = Gateway.send(&Destination::User("bob".to_owned()), "say \"hi\"", Some("key-1"));
    assert_eq!((&one.method, &*one.path), (&Method::POST, "/v1/notifications"));
    assert_eq!(one.headers, [("idempotency-key", "key-1".to_owned())]);
    assert_eq!(body(&one), json!({"to": ["bob"], "body": "say \"hi\"", "ttl_seconds": 60}));

    let users: Arc<[String]> = ["bob".to_owned(), "carol".to_owned()].into();
    let several = Gateway.send(&Destination::Users(users), "x", None);
    assert_eq!(several.headers, []);
    assert_eq!(body(&several)["to"], json!(["bob", "carol"]));

    let topic = Gateway.send(&Destination::Topic("news".to_owned()), "x", None);
    assert_eq!(body(&topic), json!({"topic": "news", "body": "x", "ttl_seconds": 60}));
}

#[test]
fn each_answer_has_its_meaning() {
    let problem = r#"{"type":"about:blank","title":"T","status":0,"detail":"d","later":[1]}"#;
    let unknown = r#"{"title":"T","detail":"d","delivered":"unknown"}"#;
    let said = |status: u16, body: &str| {
        let answer = Gateway.answer(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        match answer {
            Answer::Accepted => "accepted".to_owned(),
            Answer::Refused(why) => format!("refused {why}"),
            Answer::NotNow(why) => format!("not now {why}"),
            Answer::Unknown(why) => format!("unknown {why}"),
        }
    };
    for (status, body, expected) in [
        (202, r#"{"id":"…","position":"e-1","recipients":1,"online":1}"#, "accepted"),
        (200, "", "accepted"),
        (
            202,
            r#"{"id":"…","recipients":1,"online":1,"rejected":["full"]}"#,
            "unknown some recipients were refused",
        ),
        (503, unknown, "unknown 503 T: d"),
        (503, problem, "not now 503 T: d"),
        (503, "<html>", "not now 503 Service Unavailable"),
        (429, problem, "not now 429 T: d"),
        (409, problem, "not now 409 T: d"),
        (408, problem, "not now 408 T: d"),
        (400, r#"{"detail":"say \"to\""}"#, r#"refused 400 Bad Request: say "to""#),
        (401, "", "refused 401 Unauthorized"),
        (422, unknown, "refused 422 T: d"),
        (507, problem, "refused 507 T: d"),
        (500, problem, "unknown 500 T: d"),
        (502, "", "unknown 502 Bad Gateway"),
        (504, "", "unknown 504 Gateway Timeout"),
        (301, "", "unknown 301 Moved Permanently"),
        (204, "", "unknown 204 No Content"),
    ] {
        assert_eq!(said(status, body), expected, "{status} {body}");
    }
}

#[test]
fn every_kind_of_frame_is_understood() {
    let welcome = r#"{"type":"welcome","session":"s","user":"b\"ob","position":"e-1","head":"e-7","heartbeat_ms":25000}"#;
    assert_eq!(Gateway.decode(welcome), Incoming::Welcome { position: "e-1" });
    let gap = r#"{"type":"gap","after":"e-1","until":"e-9","count":8,"reason":"overflow"}"#;
    assert_eq!(Gateway.decode(gap), Incoming::Gap { count: Some(8), reason: "overflow", until: "e-9" });
    let gap = r#"{"type":"gap","after":"e-1","until":"f-9","reason":"epoch"}"#;
    assert_eq!(Gateway.decode(gap), Incoming::Gap { count: None, reason: "epoch", until: "f-9" });
    let drain = r#"{"type":"drain","reconnect_in_ms":7340}"#;
    assert_eq!(Gateway.decode(drain), Incoming::Drain { reconnect_in_ms: 7_340 });
}

#[test]
fn a_text_is_borrowed_unless_it_is_escaped() {
    let plain = concat!(
        r#"{"type":"notification","position":"e-4","prev":"e-3","id":"i","sent_at":"t","title":"\n","#,
        r#""body":"loadtest|r|0|1|2|3|...","data":{"body":"no","position":7}}"#
    );
    let Incoming::Notification { payload, position, trace: None } = Gateway.decode(plain) else {
        panic!("{plain}")
    };
    assert!(matches!(payload, Cow::Borrowed("loadtest|r|0|1|2|3|...")), "{payload:?}");
    assert_eq!(position, Some("e-4"));

    let escaped = r#"{"type":"notification","id":"i","sent_at":"t","body":"say \"hi\" \u00fc","topic":"*"}"#;
    let heard = Incoming::Notification { payload: "say \"hi\" ü".into(), position: None, trace: None };
    assert_eq!(Gateway.decode(escaped), heard);
    let without_text = r#"{"type":"notification","position":"e-4","prev":"e-3","id":"i","data":1}"#;
    let heard = Incoming::Notification { payload: "".into(), position: Some("e-4"), trace: None };
    assert_eq!(Gateway.decode(without_text), heard);
}

#[test]
fn a_frame_may_name_its_trace_and_nothing_in_there_harms_the_notification() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = Some(Traced { message: "i", parent });
    for (fields, trace) in [
        (format!(r#""id":"i","traceparent":"{parent}""#), trace),
        (format!(r#""traceparent":"{parent}""#), Some(Traced { message: "", parent })),
        (format!(r#""id":7,"traceparent":"{parent}""#), Some(Traced { message: "", parent })),
        (r#""id":"i""#.to_owned(), None),
        (r#""id":"i","traceparent":null"#.to_owned(), None),
        (r#""id":{"a":[1]},"traceparent":7"#.to_owned(), None),
        (r#""id":"i","traceparent":["00"]"#.to_owned(), None),
        // Left as it is: whoever follows it checks it.
        (
            r#""id":"i","traceparent":"\u0030\n""#.to_owned(),
            Some(Traced { message: "i", parent: r"\u0030\n" }),
        ),
    ] {
        let frame = format!(r#"{{"type":"notification","position":"e-4",{fields},"body":"x"}}"#);
        let heard = Incoming::Notification { payload: "x".into(), position: Some("e-4"), trace };
        assert_eq!(Gateway.decode(&frame), heard, "{frame}");
    }
}

#[test]
fn whatever_else_comes_is_a_sign_of_life() {
    for frame in [
        r#"{"type":"heartbeat"}"#,
        r#"{"type":"later","position":{"a":1}}"#,
        r#"{"type":"welcome"}"#,
        r#"{"type":"gap","until":"e-1","count":-1,"reason":"overflow"}"#,
        r#"{"type":7}"#,
        "[]",
        "hello",
        "",
    ] {
        assert_eq!(Gateway.decode(frame), Incoming::Other, "{frame}");
    }
}

#[test]
fn an_ack_is_the_frame_of_the_protocol() {
    assert_eq!(Gateway.ack("e-7", None).unwrap(), r#"{"type":"ack","position":"e-7"}"#);
    let traced = r#"{"type":"ack","position":"e-7","traceparent":"00-1-2-01"}"#;
    assert_eq!(Gateway.ack("e-7", Some("00-1-2-01")).unwrap(), traced);
}

#[test]
fn positions_compare_by_number_within_an_epoch() {
    for (a, b, reached) in [
        ("e-10", "e-9", true),
        ("e-9", "e-9", true),
        ("e-9", "e-10", false),
        ("f-10", "e-9", false),
        ("e-18446744073709551615", "e-0", true),
        ("e-x", "e-0", false),
        ("9", "9", false),
    ] {
        assert_eq!(Gateway.reached(a, b), reached, "{a} {b}");
    }
}

#[test]
fn subscribers_are_changed_a_thousand_at_a_time() {
    let users: Vec<String> = (0..2_001).map(|number| format!("u{number}")).collect();
    let requests = Gateway.subscribe("lines/7", &users);
    let sizes: Vec<usize> = requests.iter().map(|request| body(request).as_array().unwrap().len()).collect();
    assert_eq!(sizes, [1_000, 1_000, 1]);
    assert!(requests.iter().all(|request| request.path == "/v1/topics/lines%2F7/subscribers"));
    assert!(requests.iter().all(|request| request.method == Method::PUT));
    assert_eq!(body(&requests[2]), json!(["u2000"]));

    let removed = Gateway.clean_up(Some("lines/7"), &users);
    assert!(removed.iter().all(|request| request.method == Method::DELETE));
    assert_eq!(removed.len(), 3);
    assert_eq!(Gateway.clean_up(None, &users), []);
}
