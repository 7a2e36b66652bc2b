//! Each frame, byte by byte as clients have read it ever since, and what a frame costs.

use super::*;
use crate::domain::{Priority, UserId};

const EPOCH: Epoch = Epoch::from_bits(7);

fn at(number: u64) -> Position {
    Position::new(EPOCH, number)
}

fn text(frame: &ServerFrame<'_>) -> String {
    String::from_utf8(frame.to_json()).unwrap()
}

#[test]
fn the_frames_read_as_documented() {
    let welcome = ServerFrame::Welcome {
        session: "s1".to_owned(),
        user: "bob",
        position: at(1041),
        head: at(1047),
        heartbeat_ms: 25_000,
    };
    assert_eq!(
        text(&welcome),
        r#"{"type":"welcome","session":"s1","user":"bob","position":"0000000000007-1041","head":"0000000000007-1047","heartbeat_ms":25000}"#
    );
    let gap =
        ServerFrame::Gap { after: at(1048), until: at(1060), count: Some(12), reason: GapReason::Overflow };
    assert_eq!(
        text(&gap),
        r#"{"type":"gap","after":"0000000000007-1048","until":"0000000000007-1060","count":12,"reason":"overflow"}"#
    );
    let unknown = ServerFrame::Gap { after: at(1), until: at(2), count: None, reason: GapReason::Epoch };
    assert_eq!(
        text(&unknown),
        r#"{"type":"gap","after":"0000000000007-1","until":"0000000000007-2","reason":"epoch"}"#
    );
    assert_eq!(text(&ServerFrame::Heartbeat), r#"{"type":"heartbeat"}"#);
    assert_eq!(
        text(&ServerFrame::Drain { reconnect_in_ms: 7340 }),
        r#"{"type":"drain","reconnect_in_ms":7340}"#
    );
    assert_eq!(
        text(&ServerFrame::close(CloseCode::Disconnected)),
        r#"{"type":"close","code":4010,"reason":"disconnected"}"#
    );
}

#[test]
fn a_notification_is_its_head_and_its_shared_body() {
    let notification = Notification {
        id: NotificationId::from_bytes([0x11; 16]),
        accepted_at_us: 1_700_000_000_123_456,
        target: Target::Users(vec![UserId::parse("bob").unwrap()]),
        from: Some("alice".to_owned()),
        title: None,
        body: Some("hello \"bob\"".to_owned()),
        data: Some(serde_json::json!({"z": 1, "a": [true]})),
        ttl_seconds: 60,
        collapse_key: None,
        priority: Priority::Normal,
        idempotency: None,
    };
    let mut frame = Vec::new();
    write_notification_head(&mut frame, EPOCH, u64::MAX, 0);
    frame.extend(encode_body(&notification, None));
    assert_eq!(
        String::from_utf8(frame).unwrap(),
        concat!(
            r#"{"type":"notification","position":"0000000000007-18446744073709551615","prev":"0000000000007-0","#,
            r#""id":"11111111-1111-1111-1111-111111111111","sent_at":"2023-11-14T22:13:20.123456Z","#,
            r#""from":"alice","body":"hello \"bob\"","data":{"z":1,"a":[true]}}"#
        )
    );
}

#[test]
fn a_recorded_notification_says_which_trace_it_belongs_to() {
    let notification = Notification {
        id: NotificationId::from_bytes([0x11; 16]),
        accepted_at_us: 0,
        target: Target::Everybody,
        from: None,
        title: None,
        body: None,
        data: None,
        ttl_seconds: 60,
        collapse_key: None,
        priority: Priority::Normal,
        idempotency: None,
    };
    let trace = TraceContext { trace_id: [0xab; 16], span_id: [0xcd; 8] };
    assert_eq!(
        String::from_utf8(encode_body(&notification, Some(trace))).unwrap(),
        concat!(
            r#""id":"11111111-1111-1111-1111-111111111111","sent_at":"1970-01-01T00:00:00Z","topic":"*","#,
            r#""traceparent":"00-abababababababababababababababab-cdcdcdcdcdcdcdcd-01"}"#
        )
    );
    let bare = encode_body(&notification, None).len();
    assert_eq!(encode_body(&notification, Some(trace)).len() - bare, TRACEPARENT_FIELD_BYTES);
}

#[test]
fn an_ack_may_name_the_client_s_span_and_a_wrong_one_does_no_harm() {
    let ack = |traceparent: &str| {
        let text = format!(r#"{{"type":"ack","position":"0000000000007-9","traceparent":{traceparent}}}"#);
        let Ok(ClientFrame::Ack { trace, .. }) = ClientFrame::parse(&text) else { panic!("{text}") };
        trace
    };
    let trace = TraceContext { trace_id: [0xab; 16], span_id: [0xcd; 8] };
    assert_eq!(ack(&format!("\"{}\"", trace.traceparent())), Some(trace));
    assert_eq!(ack(&format!("\"{}\"", trace.traceparent().replace("-01", "-00"))), None, "not recorded");
    for wrong in ["\"\"", "7", "null", "[{}]"] {
        assert_eq!(ack(wrong), None, "{wrong}");
    }
}

#[test]
fn a_new_token_is_read_and_never_printed_and_the_answer_says_when_it_is_over() {
    let frame = ClientFrame::parse(r#"{"token":"a.b.c","type":"refresh"}"#).unwrap();
    assert_eq!(frame, ClientFrame::Refresh { token: Secret::new("a.b.c") });
    assert!(!format!("{frame:?}").contains("a.b.c"));
    for wrong in [r#"{"type":"refresh"}"#, r#"{"type":"refresh","token":7}"#] {
        assert_eq!(ClientFrame::parse(wrong), Err(InvalidClientFrame::NotAFrame), "{wrong}");
    }
    let refreshed = ServerFrame::refreshed(1_700_000_000_000);
    assert_eq!(text(&refreshed), r#"{"type":"refreshed","expires_at":"2023-11-14T22:13:20Z"}"#);
}

#[test]
fn the_list_of_frame_types_names_every_frame() {
    let frames = [
        ServerFrame::Welcome {
            session: String::new(),
            user: "bob",
            position: at(0),
            head: at(0),
            heartbeat_ms: 0,
        },
        ServerFrame::Gap { after: at(0), until: at(1), count: None, reason: GapReason::Overflow },
        ServerFrame::Heartbeat,
        ServerFrame::refreshed(0),
        ServerFrame::Drain { reconnect_in_ms: 0 },
        ServerFrame::close(CloseCode::Normal),
    ];
    let mut named: Vec<String> = frames
        .iter()
        .map(|frame| {
            // A new variant does not compile here until it is listed above.
            match frame {
                ServerFrame::Welcome { .. }
                | ServerFrame::Gap { .. }
                | ServerFrame::Heartbeat
                | ServerFrame::Refreshed { .. }
                | ServerFrame::Drain { .. }
                | ServerFrame::Close { .. } => {}
            }
            let value: Value = serde_json::from_slice(&frame.to_json()).unwrap();
            value["type"].as_str().unwrap().to_owned()
        })
        .collect();
    named.push("notification".to_owned());
    named.sort_unstable();
    let mut listed = SERVER_FRAME_TYPES;
    listed.sort_unstable();
    assert_eq!(named, listed);
}

#[test]
fn rubbish_is_told_from_a_frame_of_a_later_version() {
    for text in [
        "",
        r#"["ack","0000000000007-1048",null,null]"#,
        "hello",
        "7",
        "[]",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"ack""#,
        r#"{"type":"ack"}"#,
        r#"{"type":"ack","position":7}"#,
        r#"{"type":"ack","position":"x"}"#,
    ] {
        assert_eq!(ClientFrame::parse(text), Err(InvalidClientFrame::NotAFrame), "{text}");
    }
    assert_eq!(ClientFrame::parse(r#"{"type":"dance","x":[1]}"#), Err(InvalidClientFrame::UnknownType));
    let ack = ClientFrame::parse(r#"{"later":[1],"position":"0000000000007-1048","type":"ack"}"#);
    assert_eq!(ack, Ok(ClientFrame::Ack { position: at(1048), after: None, trace: None }));
    let wide = ClientFrame::parse(r#"{"type":"ack","position":"0000000000007-9","after":"0000000000007-3"}"#);
    assert_eq!(wide, Ok(ClientFrame::Ack { position: at(9), after: Some(at(3)), trace: None }));
}
