//! Live delivery: who gets what, in which order, and how a session ends.

use gateway::clock::Clock;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use std::time::Duration;

use crate::harness::{Answer, Gateway, Place, Receiver, SOME_TIME_US, segment, within};

/// Senders that post at the same time.
const SENDERS: u64 = 64;

/// What each of them posts, one after the other.
const NOTIFICATIONS_EACH: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_of_a_user_gets_it_and_nobody_else_does() {
    let gateway = Gateway::start().await;
    let mut phone = gateway.listen("bob").await;
    let mut desk = gateway.listen("bob").await;
    let mut other = gateway.listen("carol").await;

    let answer = gateway.send(json!({"to": ["bob"], "title": "Hello"})).await.accepted();
    for receiver in [&mut phone, &mut desk] {
        let notification = receiver.notification().await;
        assert_eq!(notification["title"], "Hello");
        assert_eq!(notification["id"], answer.body["id"]);
        assert_eq!(notification["position"], answer.body["position"]);
    }
    gateway.send_text("carol", "for carol").await;
    assert_eq!(other.notification().await["body"], "for carol");

    phone.close().await;
    drop((desk, other));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_under_many_concurrent_senders() {
    let gateway = Gateway::start_with(|config| config.mailbox.max_notifications = 5_000).await;
    let (phone, desk) = (gateway.listen("bob").await, gateway.listen("bob").await);

    let senders: Vec<_> = (0..SENDERS)
        .map(|name| {
            let sender = gateway.sender();
            tokio::spawn(async move {
                for number in 0..NOTIFICATIONS_EACH {
                    let data = json!({"sender": name, "number": number});
                    sender.send(json!({"to": ["bob"], "data": data})).await.accepted();
                }
            })
        })
        .collect();
    let (on_phone, on_desk) = tokio::join!(everything_sent(phone), everything_sent(desk));
    for sender in senders {
        sender.await.expect("no sender fails");
    }

    assert_eq!(on_phone, on_desk, "both sessions see the order of the log");
    let mut next = [0; SENDERS as usize];
    for notification in &on_phone {
        let sender = notification["data"]["sender"].as_u64().expect("as it was sent");
        let expected = &mut next[usize::try_from(sender).expect("one of few")];
        assert_eq!(notification["data"]["number"], *expected, "the order of sender {sender}");
        *expected += 1;
    }
    for (earlier, later) in on_phone.iter().zip(&on_phone[1..]) {
        assert!(Place::of(&earlier["position"]).number < Place::of(&later["position"]).number);
        assert_eq!(later["prev"], earlier["position"], "the chain of a mailbox is whole");
    }
    gateway.stop().await;
}

async fn everything_sent(mut receiver: Receiver) -> Vec<Value> {
    let mut notifications = Vec::new();
    for _ in 0..SENDERS * NOTIFICATIONS_EACH {
        notifications.push(receiver.notification().await);
    }
    assert_eq!(receiver.duplicates(), 0);
    notifications
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_reconnects_before_the_old_socket_dies_stays_reachable() {
    let gateway = Gateway::start().await;
    let old = gateway.listen("bob").await;
    let mut new = gateway.listen("bob").await;
    old.close().await;
    gateway.until_sessions("bob", 1).await;
    let answer = gateway.send_text("bob", "still there?").await;
    assert_eq!(answer.body["online"], 1);
    assert_eq!(new.notification().await["body"], "still there?");

    drop(new);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_disconnect_never_takes_the_new_session_with_it() {
    let gateway = Gateway::start().await;
    let mut current = gateway.listen("bob").await;
    for round in 0..100 {
        let mut next = gateway.listen_after("bob", "now").await;
        // The gateway learns of the old socket's end while it takes the notification.
        drop(current);
        let text = format!("round {round}");
        let answer = gateway.send_text("bob", &text).await;
        assert_ne!(answer.body["online"], 0, "in round {round}");
        assert_eq!(next.texts(1).await, [text]);
        current = next;
    }
    drop(current);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_opened_after_the_answer_gets_the_notification() {
    let gateway = Gateway::start().await;
    for round in 0..50 {
        let user = format!("user {round}");
        let answer = gateway.send_text(&user, "before").await;
        assert_eq!(answer.body["online"], 0);
        let mut receiver = gateway.listen(&user).await;
        assert_eq!(receiver.welcome()["head"], answer.body["position"]);
        assert_eq!(receiver.notification().await["position"], answer.body["position"]);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_counts_mailboxes_and_recipients_online() {
    let gateway = Gateway::start().await;
    let sessions = [gateway.listen("bob").await, gateway.listen("bob").await, gateway.listen("carol").await];

    let answer = gateway.send(json!({"to": ["bob", "carol", "dave"]})).await.accepted();
    assert_eq!(answer.body["recipients"], 3);
    assert_eq!(answer.body["online"], 2, "users are counted, not sessions");
    assert_eq!(answer.body.get("rejected"), None);

    drop(sessions);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_welcome_names_session_user_place_and_heartbeat() {
    let gateway = Gateway::start().await;
    let first = gateway.send_text("bob", "one").await;
    let last = gateway.send_text("bob", "two").await;
    let (phone, desk) = (gateway.listen("bob").await, gateway.listen_after("bob", &first.position()).await);

    assert_eq!(fields(phone.welcome()), ["type", "session", "user", "position", "head", "heartbeat_ms"]);
    assert_eq!(phone.welcome()["user"], "bob");
    assert_eq!(phone.welcome()["heartbeat_ms"], 25_000);
    assert_eq!(phone.welcome()["head"], last.body["position"]);
    assert!(Place::of(&phone.welcome()["position"]).number < Place::of(&first.body["position"]).number);
    assert_eq!(desk.welcome()["position"], first.body["position"]);
    assert_ne!(phone.welcome()["session"], desk.welcome()["session"], "each session has its own name");

    drop((phone, desk));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_carries_exactly_what_was_given() {
    let gateway = Gateway::start().await;
    let mut receiver = gateway.listen("bob").await;
    let data = r#"{"zebra":{"b":[1,-2.5,true,null,{"c":""}],"a":18446744073709551615},"ant":"日本 \"🚀\" \\ \n","":[]}"#;
    let body = format!(
        r#"{{"to":["bob"],"from":"ålice","title":"<b>","body":"line\nline \u0000 \u2028","data":{data}}}"#
    );

    let request = gateway.request(reqwest::Method::POST, "/v1/notifications");
    let answer = Answer::of(request.header("content-type", "application/json").body(body)).await.accepted();
    let frame = receiver.notification().await;
    assert_eq!(
        fields(&frame),
        ["type", "position", "prev", "id", "sent_at", "from", "title", "body", "data"]
    );
    assert_eq!(frame["id"], answer.body["id"]);
    assert_eq!((&frame["from"], &frame["title"]), (&json!("ålice"), &json!("<b>")));
    assert_eq!(frame["body"], "line\nline \u{0} \u{2028}");
    assert_eq!(frame["data"].to_string(), data, "values and the order of keys stay");
    let sent_at = frame["sent_at"].as_str().expect("a text");
    assert!(sent_at.ends_with('Z') && sent_at.parse::<jiff::Timestamp>().is_ok(), "RFC 3339: {sent_at}");

    gateway.send(json!({"to": ["bob"], "data": false})).await.accepted();
    let bare = receiver.notification().await;
    assert_eq!(fields(&bare), ["type", "position", "prev", "id", "sent_at", "data"]);

    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_session_too_many_closes_the_one_that_was_silent_the_longest() {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let gateway = Gateway::start_with_clock(clock, |_| {}).await;
    let mut receivers = Vec::new();
    for _ in 0..16 {
        receivers.push(gateway.listen("bob").await);
    }
    hand.set(SOME_TIME_US + 1_000_000);
    for (_, speaker) in receivers.iter_mut().enumerate().filter(|(index, _)| *index != 3) {
        speaker.say(Message::Ping("alive".into())).await;
        assert_eq!(speaker.next_message().await, Some(Message::Pong("alive".into())));
    }

    receivers.push(gateway.listen("bob").await);
    assert_eq!(receivers.remove(3).expect_closed().await, 4009);
    assert_eq!(gateway.user("bob").await.body["sessions"], 16);
    gateway.send_text("bob", "to the rest").await;
    for receiver in &mut receivers {
        assert_eq!(receiver.notification().await["body"], "to the rest");
    }

    drop(receivers);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_disconnects_a_user_and_nobody_else() {
    let gateway = Gateway::start().await;
    let mut sessions = [gateway.listen("a/b").await, gateway.listen("a/b").await];
    let mut other = gateway.listen("carol").await;
    let path = format!("/v1/users/{}/sessions", segment("a/b"));

    let answer = Answer::of(gateway.request(reqwest::Method::DELETE, &path)).await;
    assert_eq!((answer.status, answer.body), (200, json!({"sessions": 2})));
    for session in &mut sessions {
        assert_eq!(session.expect_closed().await, 4010);
    }
    gateway.until_sessions("a/b", 0).await;
    let again = Answer::of(gateway.request(reqwest::Method::DELETE, &path)).await;
    assert_eq!(again.body, json!({"sessions": 0}));
    gateway.send_text("carol", "untouched").await;
    assert_eq!(other.notification().await["body"], "untouched");

    drop((sessions, other));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_come_with_a_ping_each() {
    let gateway = Gateway::start_with(|config| config.sessions.heartbeat = Duration::from_millis(100)).await;
    let mut receiver = gateway.listen("bob").await;
    assert_eq!(receiver.welcome()["heartbeat_ms"], 100);

    for _ in 0..3 {
        assert_eq!(receiver.next_frame().await, json!({"type": "heartbeat"}));
    }
    assert!(receiver.pings() >= 2, "a ping follows each heartbeat, {} came", receiver.pings());

    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_answers_no_ping_is_closed() {
    let gateway = Gateway::start_with(|config| config.sessions.heartbeat = Duration::from_millis(100)).await;
    // From here on nobody answers for this client.
    let mut stream = gateway.listen("bob").await.into_stream();

    let mut received = Vec::new();
    within("the gateway to hang up", stream.read_to_end(&mut received)).await.expect("an orderly end");
    let goodbye = [&[0x88, 21][..], &4112_u16.to_be_bytes(), b"no_heartbeat_answer"].concat();
    assert!(received.ends_with(&goodbye), "{:?}", Utf8Bytes::try_from(received));
    drop(stream);
    gateway.until_metric(r#"gateway_sessions_closed_total{code="4112",initiator="server"}"#, 1.0).await;
    gateway.stop().await;
}

/// The names of an object's fields, in their order.
fn fields(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}
