//! A gateway that sends some sockets away and refuses some sends: fewer sockets and fewer sends are no loss, and no pass.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use loadtest::gate::Class;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::harness::LoadTest;
use crate::stand_in::{Manners, Queue, StandIn};
use crate::wire::Head;

/// What it does to every tenth socket, or to every tenth send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Opens it only to say when to come back.
    SendsAway,
    /// Closes it for good after its first notification.
    ClosesForGood,
    /// Answers 403.
    RefusesSends,
}

struct Moody {
    mood: Mood,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sockets: HashMap<String, Queue>,
    sends: u64,
}

impl Manners for Moody {
    fn answer(&self, _: &Head, body: &[u8]) -> (u16, String) {
        let mut state = self.state.lock().unwrap();
        state.sends += 1;
        let number = state.sends;
        if self.mood == Mood::RefusesSends && number.is_multiple_of(10) {
            return (403, r#"{"title":"Forbidden","status":403,"detail":"not today"}"#.to_owned());
        }
        let notification: Value = serde_json::from_slice(body).unwrap();
        let user = notification["to"][0].as_str().unwrap();
        let position = format!("e-{number}");
        if let Some(queue) = state.sockets.get(user) {
            let frame = json!({"type": "notification", "position": position, "prev": "e-0", "id": "n",
                "sent_at": "2030-01-01T00:00:00Z", "body": notification["body"]});
            // A socket that has gone gets nothing.
            let _ = queue.send(Message::text(frame.to_string()));
            if self.mood == Mood::ClosesForGood && is_tenth(user) {
                let _ = queue.send(close(4010));
            }
        }
        (202, json!({"id": "n", "position": position, "recipients": 1, "online": 1}).to_string())
    }

    fn join(&self, head: &Head, queue: Queue) -> Option<&'static str> {
        let user = head.user().expect("no other socket is asked for");
        if self.mood == Mood::SendsAway && is_tenth(&user) {
            queue.send(Message::text(r#"{"type":"drain","reconnect_in_ms":100}"#)).unwrap();
            queue.send(close(1013)).unwrap();
            return Some("notify.v1");
        }
        let welcome = json!({"type": "welcome", "session": "s", "user": user, "position": "e-0", "head": "e-0",
            "heartbeat_ms": 25_000});
        queue.send(Message::text(welcome.to_string())).unwrap();
        self.state.lock().unwrap().sockets.insert(user, queue);
        Some("notify.v1")
    }
}

fn close(code: u16) -> Message {
    Message::Close(Some(CloseFrame { code: code.into(), reason: "".into() }))
}

/// Users are numbered from 0, and their names end with the number.
fn is_tenth(user: &str) -> bool {
    user.ends_with('0')
}

async fn in_the_mood(mood: Mood) -> StandIn {
    StandIn::start(Arc::new(Moody { mood, state: Mutex::default() })).await
}

#[tokio::test]
async fn a_socket_that_is_sent_away_is_a_socket_less_and_no_loss() {
    let server = in_the_mood(Mood::SendsAway).await;
    let ended =
        LoadTest::against("steady", &server.url()).option("--sockets", "20").run().await.with(3, "FAILED");
    ended.failed_only(Class::Latency, &["connects_failed"]);
    let summary = ended.summary();
    assert_eq!((summary.sockets.connected, summary.sockets.failed), (18, 2), "a knock is no socket");
    assert_eq!(summary.deliveries.lost, 0, "nothing is owed to who never came");
    assert!(ended.stdout.contains("1013"), "it says how they were sent away");
}

#[tokio::test]
async fn a_socket_that_is_closed_for_good_is_a_socket_less_and_no_loss() {
    let server = in_the_mood(Mood::ClosesForGood).await;
    let ended =
        LoadTest::against("steady", &server.url()).option("--sockets", "20").run().await.with(3, "FAILED");
    ended.failed_only(Class::Latency, &["unexpected_closes", "missing_sockets"]);
    let summary = ended.summary();
    assert_eq!(summary.sockets.closes.get(&4010), Some(&2));
    assert_eq!((summary.sockets.reconnected, summary.deliveries.lost), (0, 0));
}

#[tokio::test]
async fn sends_that_are_refused_are_no_loss_and_no_pass() {
    let server = in_the_mood(Mood::RefusesSends).await;
    let ended = LoadTest::against("steady", &server.url()).run().await.with(3, "FAILED");
    ended.failed_only(Class::Latency, &["refused"]);
    let deliveries = &ended.summary().deliveries;
    assert_eq!(deliveries.refused, deliveries.sent / 10);
    assert_eq!((deliveries.lost, deliveries.unexpected), (0, 0));
    assert!(ended.stdout.contains("not today"), "it says why");
}
