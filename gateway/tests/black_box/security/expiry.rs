//! A session does not outlive the right that opened it.

use std::cell::Cell;
use std::time::Duration;

use gateway::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::credentials::{Issuer, SOME_TIME, now};
use super::secured::Secured;
use crate::harness::{EventSource, Receiver, SOME_TIME_US, within};

/// What ends a session must be noticed at a heartbeat at the latest.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A socket that is read all the time, so that its pings are answered while the test looks elsewhere.
struct Listener {
    frames: mpsc::UnboundedReceiver<Value>,
    code: JoinHandle<Option<u16>>,
}

impl Listener {
    fn of(mut socket: Receiver) -> Self {
        let (sender, frames) = mpsc::unbounded_channel();
        let code = tokio::spawn(async move {
            let mut code = None;
            loop {
                // Silence is broken by heartbeats; the end of the test ends this task.
                match socket.next_message().await {
                    Some(Message::Text(text)) => {
                        if sender.send(serde_json::from_str(text.as_str()).unwrap()).is_err() {
                            return code;
                        }
                    }
                    Some(Message::Close(frame)) => code = frame.map(|frame| frame.code.into()),
                    Some(_) => {}
                    None => return code,
                }
            }
        });
        Self { frames, code }
    }

    /// Reads on until a frame is like this.
    async fn until(&mut self, what: &str, mut is_it: impl FnMut(&Value) -> bool) {
        let found = async {
            loop {
                let frame = self.frames.recv().await;
                if is_it(&frame.unwrap_or_else(|| panic!("the socket ended before {what}"))) {
                    return;
                }
            }
        };
        within(what, found).await;
    }

    async fn hear(&mut self, text: &str) {
        self.until(text, |frame| frame["body"] == text).await;
    }

    async fn beat(&mut self) {
        self.until("a heartbeat", |frame| frame["type"] == "heartbeat").await;
    }

    /// The code that it was closed with.
    async fn closed(self) -> Option<u16> {
        within("the close", self.code).await.expect("the listener does not panic")
    }
}

/// Listens to both sockets of [`open`].
async fn listen(secured: &Secured, token: &str) -> [Listener; 2] {
    open(secured, token).await.map(Listener::of)
}

/// Fails unless each was closed with this code.
async fn all_closed(listeners: [Listener; 2], code: u16) {
    for listener in listeners {
        assert_eq!(listener.closed().await, Some(code));
    }
}

async fn open(secured: &Secured, token: &str) -> [Receiver; 2] {
    let bearer = format!("Bearer {token}");
    let plain = secured.dial("bob").acks_itself().header("authorization", &bearer).open().await;
    let browser = secured.dial("bob").acks_itself().subprotocol(&format!("notify.v1, bearer.{token}"));
    [plain, browser.open().await]
}

async fn stream(secured: &Secured, credential: &str) -> EventSource {
    let mut stream =
        EventSource::open(secured.request_of(credential, Method::GET, "/sse/bob")).await.expect("opened");
    assert_eq!(stream.next().await.expect("a welcome").kind, "welcome");
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_when_its_token_and_the_leeway_are_over() {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let secured = Secured::start_with_clock(clock, Issuer::hs256(), |config, _| {
        config.auth.leeway = Duration::from_secs(30);
        config.sessions.heartbeat = HEARTBEAT;
    })
    .await;
    let token = secured.issuer.token(&json!({"sub": "bob", "exp": SOME_TIME + 60}));
    let longer = secured.issuer.token(&json!({"sub": "bob", "exp": SOME_TIME + 600}));
    let mut sockets = listen(&secured, &token).await;
    let mut events = stream(&secured, &token).await;
    let mut lasting = listen(&secured, &longer).await;

    for second in [59, 61, 89] {
        hand.set((SOME_TIME + second) * 1_000_000);
        let text = format!("after {second} s");
        secured.tell("bob", &text).await;
        // Whatever comes of the time has come before the second heartbeat from now.
        for listener in sockets.iter_mut().chain(&mut lasting) {
            listener.hear(&text).await;
            listener.beat().await;
            listener.beat().await;
        }
        assert_eq!(events.texts(1).await[0], text);
    }
    hand.set((SOME_TIME + 91) * 1_000_000);
    all_closed(sockets, 4205).await;
    assert_eq!(events.expect_closed().await, 4205);
    secured.until_metric(r#"gateway_sessions_closed_total{code="4205",initiator="server"}"#, 3.0).await;
    secured.tell("bob", "only to those that last").await;
    for listener in &mut lasting {
        listener.hear("only to those that last").await;
    }
    let [first, second] = lasting.map(|listener| listener.code.abort_handle());
    first.abort();
    second.abort();
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_ends_in_time_by_the_machines_clock() {
    // Heartbeats are rare here: the end comes by itself.
    let secured = Secured::start_with(Issuer::eddsa(), |config, _| config.auth.leeway = Duration::ZERO).await;
    let ends = now() + 3;
    let token = secured.issuer.token(&json!({"sub": "bob", "exp": ends}));
    let sockets = listen(&secured, &token).await;
    let mut events = stream(&secured, &token).await;
    all_closed(sockets, 4205).await;
    assert!(now() >= ends, "not before its time");
    assert_eq!(events.expect_closed().await, 4205);
    assert!(now() <= ends + 3, "closed {} s late", now() - ends);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_token_is_over_gets_nothing_that_is_sent_afterwards() {
    let secured = Secured::start_with(Issuer::hs256(), |config, _| config.auth.leeway = Duration::ZERO).await;
    let ends = now() + 3;
    let token = secured.issuer.token(&json!({"sub": "bob", "exp": ends}));
    let [mut socket, other] = open(&secured, &token).await;
    drop(other);
    let over = Cell::new(false);
    let sends = async {
        // A busy sender: a session that always has something to write must not forget the time.
        while !over.get() {
            secured.tell("bob", &Clock::system().now_ms().to_string()).await;
        }
    };
    let listens = async {
        let mut last_ms = 0;
        while let Some(message) = socket.next_message().await {
            match message {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(text.as_str()).unwrap();
                    last_ms = frame["body"].as_str().map_or(last_ms, |body| body.parse().unwrap());
                }
                Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 4205),
                _ => {}
            }
        }
        over.set(true);
        last_ms
    };
    let ((), last_ms) = within("the close", async { tokio::join!(sends, listens) }).await;
    assert!(last_ms > (ends - 1) * 1_000, "it was busy to the end");
    assert!(last_ms <= (ends + 1) * 1_000, "{} ms too late", last_ms - ends * 1_000);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_closed_with_4205_comes_back_with_a_new_token_and_misses_nothing() {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let secured = Secured::start_with_clock(clock, Issuer::hs256(), |config, _| {
        config.sessions.heartbeat = HEARTBEAT;
    })
    .await;
    let claims = |exp: u64| json!({"sub": "bob", "exp": SOME_TIME + exp});
    let [mut socket, other] = open(&secured, &secured.issuer.token(&claims(60))).await;
    drop(other);
    secured.tell("bob", "before").await;
    assert_eq!(socket.texts(1).await, ["before"]);
    hand.set((SOME_TIME + 300) * 1_000_000);
    assert_eq!(within("the close", socket.expect_closed()).await, 4205);
    secured.tell("bob", "between").await;
    let old = secured.pull("bob", &secured.issuer.token(&claims(60)));
    assert_eq!(crate::harness::Answer::of(old).await.status, 401, "the old one is of no use");
    let bearer = format!("Bearer {}", secured.issuer.token(&claims(900)));
    let again = secured.dial("bob").after(&socket.position()).header("authorization", &bearer);
    let mut again = again.open().await;
    assert_eq!(again.texts(1).await, ["between"]);
    drop(again);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_opened_with_a_key_lasts_as_long_as_the_key() {
    let secured = Secured::start_with(Issuer::hs256(), |config, _| {
        config.sessions.heartbeat = HEARTBEAT;
    })
    .await;
    let key = secured.reading.text();
    let sockets = listen(&secured, &key).await;
    let mut events = stream(&secured, &key).await;
    let token = secured.issuer.token(&super::credentials::claims("bob"));
    let [with_token, other] = open(&secured, &token).await;
    drop(other);
    let mut with_token = Listener::of(with_token);
    let started = Instant::now();
    secured.write_keys(&[&secured.sending, &secured.administrating]);
    all_closed(sockets, 4001).await;
    assert_eq!(events.expect_closed().await, 4001);
    // A second until the file is read, a heartbeat until a session knows, and a busy machine.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    secured.tell("bob", "a token is another matter").await;
    with_token.hear("a token is another matter").await;
    with_token.code.abort();
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_opened_with_a_key_that_was_replaced_ends_too() {
    let secured = Secured::start_with(Issuer::hs256(), |config, _| {
        config.sessions.heartbeat = HEARTBEAT;
    })
    .await;
    let sockets = listen(&secured, &secured.reading.text()).await;
    let replaced = secured.reading.replaced();
    secured.write_keys(&[&secured.sending, &replaced]);
    all_closed(sockets, 4001).await;
    let sockets = open(&secured, &replaced.text()).await;
    drop(sockets);
    secured.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_key_stays_survives_every_change_of_the_file() {
    let secured = Secured::start_with(Issuer::hs256(), |config, _| {
        config.sessions.heartbeat = HEARTBEAT;
    })
    .await;
    let mut sockets = listen(&secured, &secured.reading.text()).await;
    secured.write_keys(&[&secured.reading, &secured.sending]);
    secured.until_reload("api_keys", "changed", 1.0).await;
    secured.replace("keys.toml", "this is no file of keys");
    secured.until_reload("api_keys", "failed", 1.0).await;
    secured.tell("bob", "still here").await;
    for listener in &mut sockets {
        listener.hear("still here").await;
        listener.beat().await;
        listener.beat().await;
    }
    for listener in sockets {
        listener.code.abort();
    }
    secured.stop().await;
}
