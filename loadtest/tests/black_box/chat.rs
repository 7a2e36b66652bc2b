//! A chat server as many start with (`POST /send-message`, `/ws/{user_id}`, a dictionary of sockets): what it can do is
//! measured, and what it cannot is skipped, never passed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use loadtest::summary::Verdict;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Ended, LoadTest};
use crate::stand_in::{Manners, Queue, StandIn};
use crate::wire::Head;

/// The chat server. It forgets each message after the push, and who is not connected gets nothing.
#[derive(Default)]
struct Chat {
    sockets: Mutex<HashMap<String, Queue>>,
    /// Each n-th message is forgotten before the push; 0: none is.
    forgets_every: u64,
    messages: Mutex<u64>,
}

#[derive(Deserialize)]
struct ChatMessage {
    user_id: String,
    message: String,
}

impl Manners for Chat {
    fn answer(&self, head: &Head, body: &[u8]) -> (u16, String) {
        if (head.method(), head.path()) != ("POST", "/send-message") {
            return (404, r#"{"detail":"Not Found"}"#.to_owned());
        }
        let Ok(ChatMessage { user_id, message }) = serde_json::from_slice(body) else {
            return (422, r#"{"detail":"Unprocessable Entity"}"#.to_owned());
        };
        let sockets = self.sockets.lock().unwrap();
        let Some(queue) = sockets.get(&user_id) else {
            return (404, r#"{"detail":"User not connected"}"#.to_owned());
        };
        let mut messages = self.messages.lock().unwrap();
        *messages += 1;
        if self.forgets_every == 0 || !messages.is_multiple_of(self.forgets_every) {
            // A socket that is just gone gets nothing, and its sender is not told.
            let _ = queue.send(Message::text(message));
        }
        (200, r#"{"status":"sent"}"#.to_owned())
    }

    fn join(&self, head: &Head, queue: Queue) -> Option<&'static str> {
        let user = head.user().expect("no other socket is asked for");
        self.sockets.lock().unwrap().insert(user, queue);
        None
    }
}

async fn run(scenario: &str, chat: Chat) -> Ended {
    let server = StandIn::start(Arc::new(chat)).await;
    LoadTest::against(scenario, &server.url()).option("--adapter", "fastapi").run().await
}

#[tokio::test]
async fn a_chat_server_that_delivers_passes() {
    let ended = run("steady", Chat::default()).await.with(0, "PASSED");
    let summary = ended.summary();
    assert_eq!(summary.run.adapter, "fastapi");
    assert!(summary.deliveries.sent >= 300, "{:?}", summary.deliveries);
    assert_eq!(summary.deliveries.received, summary.deliveries.sent);
    assert!(summary.latencies["push"].count >= 200, "{:?}", summary.latencies["push"].count);
}

#[tokio::test]
async fn a_chat_server_that_forgets_fails() {
    let ended = run("steady", Chat { forgets_every: 100, ..Chat::default() }).await.with(4, "FAILED");
    let deliveries = &ended.summary().deliveries;
    assert_eq!(deliveries.lost, deliveries.accepted / 100);
    assert!(deliveries.lost >= 3);
}

#[tokio::test]
async fn what_a_chat_server_cannot_do_is_skipped() {
    for scenario in ["resume", "drain"] {
        let chat = Arc::new(Chat::default());
        let server = StandIn::start(Arc::clone(&chat)).await;
        let test = LoadTest::against(scenario, &server.url()).option("--adapter", "fastapi");
        let ended = test.run().await.with(2, "SKIPPED");
        assert_eq!(ended.summary().verdict, Verdict::Skipped, "{scenario}");
        assert_eq!(*chat.messages.lock().unwrap(), 0, "nothing was sent for {scenario}");
    }
}
