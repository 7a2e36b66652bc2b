//! What goes wrong costs what it touches and nobody else: a panic, a log that hangs, a clock that steps back.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::clock::Clock;
use gateway::config::LogStore;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::bad_machine::BadMachine;
use crate::harness::{EventSource, Gateway, Receiver, SOME_TIME_US};
use crate::process_harness::{Folder, Server, scrape, send, until_some, within_patience};
use crate::raw_socket::{FINAL, PING, PONG, RawSocket, frame};

const SECOND_US: u64 = 1_000_000;
const HOUR_US: u64 = 3_600 * SECOND_US;

async fn ack_all(receiver: &mut Receiver) {
    let ack = json!({"type": "ack", "position": receiver.position()});
    receiver.say(Message::text(ack.to_string())).await;
}

/// A clock that panics in the hands of chosen tasks: whoever asks it for the first time while it watches.
#[derive(Clone, Default)]
struct Trap(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    seen: HashSet<tokio::task::Id>,
    chosen: HashSet<tokio::task::Id>,
    watching: bool,
    armed: bool,
}

impl Trap {
    fn clock(&self) -> Clock {
        let trap = self.clone();
        Clock::told_by(move || {
            let Some(task) = tokio::task::try_id() else { return SOME_TIME_US };
            let mut watched = trap.0.lock().unwrap();
            if watched.seen.insert(task) && watched.watching {
                watched.chosen.insert(task);
            }
            if watched.armed && watched.chosen.remove(&task) {
                drop(watched);
                panic!("on purpose");
            }
            SOME_TIME_US
        })
    }

    /// The tasks that ask for the first time during `begin` are chosen.
    async fn choose<T>(&self, begin: impl Future<Output = T>) -> T {
        self.0.lock().unwrap().watching = true;
        let begun = begin.await;
        let mut watched = self.0.lock().unwrap();
        watched.watching = false;
        assert!(!watched.chosen.is_empty(), "nobody asked for the time");
        begun
    }

    fn arm(&self) {
        self.0.lock().unwrap().armed = true;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_socket_costs_that_socket_only_and_is_counted() {
    let trap = Trap::default();
    let gateway = Gateway::start_with_clock(trap.clock(), |_| {}).await;
    let mut ann = gateway.listen("ann").await;
    let mut bob = trap.choose(RawSocket::open(gateway.address(), "bob")).await;
    gateway.until_sessions("bob", 1).await;
    trap.arm();
    // What a client says is a sign of life, and that has a time.
    bob.write(&frame(FINAL | PING, b"!")).await;
    bob.end().await;
    gateway.until_metric("gateway_panics_total", 1.0).await;
    gateway.until_sessions("bob", 0).await;
    gateway.send(json!({"to": ["ann", "bob"], "body": "unharmed"})).await.accepted();
    assert_eq!(ann.texts(1).await, ["unharmed"]);
    let mut bob = gateway.listen("bob").await;
    assert_eq!(bob.texts(1).await, ["unharmed"], "nothing is lost either");
    assert_eq!(gateway.metric("gateway_ready").await, 1.0);
    drop((ann, bob));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_stream_ends_that_stream_only_and_is_counted() {
    let trap = Trap::default();
    let gateway = Gateway::start_with_clock(trap.clock(), |_| {}).await;
    let mut ann = gateway.stream("ann").await;
    // A client of its own, so that the stream has a connection, and with it a task, of its own.
    let stranger = reqwest::Client::new();
    let request = stranger.request(Method::GET, format!("http://{}/sse/bob", gateway.address()));
    let mut bob = trap
        .choose(async {
            let mut bob = EventSource::open(request).await.expect("the stream is not refused");
            assert_eq!(bob.next().await.expect("a welcome").kind, "welcome");
            bob
        })
        .await;
    trap.arm();
    gateway.send(json!({"to": ["ann", "bob"], "body": "unharmed"})).await.accepted();
    assert_eq!(ann.texts(1).await, ["unharmed"]);
    while bob.next().await.is_some() {}
    gateway.until_metric("gateway_panics_total", 1.0).await;
    let closed = r#"gateway_sessions_closed_total{code="1011",initiator="server"}"#;
    gateway.until_metric(closed, 1.0).await;
    assert_eq!(gateway.user("bob").await.body["sessions"], 0);
    assert_eq!(gateway.user("ann").await.body["sessions"], 1);
    drop((ann, bob, stranger));
    gateway.until_metric(r#"gateway_sessions{transport="sse"}"#, 0.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_one_log_line_in_the_configured_format() {
    let machine = BadMachine::new();
    let mut server = machine.start(&[]).await;
    // The names of notifications are random, and the first on each thread needs a seed.
    machine.fails("random EIO\n");
    let doomed = reqwest::Client::new()
        .post(format!("{}/v1/notifications", server.url()))
        .json(&json!({"to": ["bob"], "body": "doomed"}));
    let doomed = within_patience("the end of a doomed request", doomed.send()).await;
    assert!(doomed.is_err() || doomed.unwrap().status() == 500, "it cannot be answered well");
    machine.fails("");
    let line = server.process.complaint("panicked").await;
    let line: Value = serde_json::from_str(&line).expect("a line of JSON, as standard error is no terminal");
    assert_eq!(line["level"], "ERROR", "{line}");
    assert!(line["location"].is_string() && line["reason"].is_string(), "{line}");
    assert_eq!(send(server.addresses.http, &["bob"], "the next one").await.0, 202);
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.complained.iter().any(|line| line.contains("panicked")), "once: {ended:?}");
}

/// Status and text of `/health/ready`.
async fn readiness(server: &Server) -> (u16, String) {
    let answer = within_patience("readiness", reqwest::get(format!("{}/health/ready", server.ops_url())));
    let answer = answer.await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn until_ready(server: &Server, status: u16, text: &str) {
    until_some(text, async || {
        let (found, said) = readiness(server).await;
        (found == status && said.starts_with(text)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_hangs_is_not_ready_until_it_moves_and_sockets_stay() {
    let machine = BadMachine::new();
    let server = machine.start(&[("GATEWAY_LOG_STALL_TIMEOUT", "200ms")]).await;
    let (http, ops) = (server.addresses.http, server.addresses.ops);
    let mut socket = RawSocket::open(http, "bob").await;
    assert_eq!(scrape(ops).await.value("gateway_ready"), 1.0);
    machine.fails("fsync hang\n");
    let patient = tokio::spawn(async move { send(http, &["bob"], "patient").await });
    until_ready(&server, 503, "the log does not move\n").await;
    assert_eq!(scrape(ops).await.value("gateway_ready"), 0.0);
    let (status, problem) = send(http, &["bob"], "too late").await;
    assert_eq!((status, problem["delivered"].is_null()), (503, true), "refused at once: {problem}");
    socket.write(&frame(FINAL | PING, b"still there?")).await;
    assert_eq!(socket.frame_of(PONG).await.payload, b"still there?");

    machine.fails("");
    until_ready(&server, 200, "ready\n").await;
    assert_eq!(scrape(ops).await.value("gateway_ready"), 1.0);
    assert_eq!(patient.await.unwrap().0, 202, "what waited was accepted after all");
    assert_eq!(socket.frame_of_type("notification").await["body"], "patient");
    assert_eq!(send(http, &["bob"], "as before").await.0, 202);
    drop(socket);
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for words in ["the log does not move", "the log moves again"] {
        assert_eq!(ended.complained.iter().filter(|line| line.contains(words)).count(), 1, "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_hangs_does_not_hold_up_the_stop_for_ever_and_loses_nothing() {
    let machine = BadMachine::new();
    let settings = [("GATEWAY_LOG_STALL_TIMEOUT", "200ms"), ("GATEWAY_SHUTDOWN_TIMEOUT", "1s")];
    let server = machine.start(&settings).await;
    let http = server.addresses.http;
    assert_eq!(send(http, &["bob"], "kept").await.0, 202);
    machine.fails("fsync hang\n");
    let stuck = tokio::spawn(async move {
        let notification = json!({"to": ["bob"], "body": "nobody knows"});
        let url = format!("http://{http}/v1/notifications");
        reqwest::Client::new().post(url).json(&notification).send().await.map(|answer| answer.status())
    });
    until_ready(&server, 503, "the log does not move\n").await;
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_ne!(stuck.await.unwrap().ok().map(|status| status.as_u16()), Some(202));
    machine.fails("");
    let server = machine.start(&[]).await;
    let mut socket = RawSocket::open(server.addresses.http, "bob").await;
    assert_eq!(socket.frame_of_type("notification").await["body"], "kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_gateway_whose_threads_are_all_busy() {
    let machine = BadMachine::new();
    let server = machine.start(&[]).await;
    let http = server.addresses.http;
    // As many sockets as no machine has processors: each keeps a thread busy that wants to write to it.
    let users: Vec<String> = (0..256).map(|number| format!("user-{number}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let mut sockets = Vec::new();
    for user in &users {
        sockets.push(RawSocket::open(http, user).await);
    }
    assert_eq!(send(http, &users[..1], "the connection is known").await.0, 202);
    machine.fails("send hang\n");
    let doomed = tokio::spawn(async move {
        let pings = frame(FINAL | PING, b"!");
        for socket in &mut sockets {
            socket.write(&pings).await;
        }
        sockets
    });
    let sockets = doomed.await.unwrap();
    until_some("the operator's listener to be stuck, too", async || {
        let asked = reqwest::get(format!("{}/health/live", server.ops_url()));
        tokio::time::timeout(Duration::from_millis(200), asked).await.is_err().then_some(())
    })
    .await;
    // Two signals at once are one to the system, and nothing tells from outside that the first was heard: it is sent again.
    let signal = server.process.terminator();
    let ended = server.process.ended();
    tokio::pin!(ended);
    let mut again = tokio::time::interval(Duration::from_millis(200));
    let ended = loop {
        tokio::select! {
            ended = &mut ended => break ended,
            _ = again.tick() => signal(),
        }
    };
    assert_eq!(ended.code, Some(0), "{ended:?}");
    drop(sockets);
    machine.fails("");
    let server = machine.start(&[]).await;
    assert_eq!(scrape(server.addresses.ops).await.value("gateway_mailbox_depth"), 1.0, "it is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_back_an_hour_harms_nothing() {
    let folder = Folder::new();
    let directory = folder.path().to_owned();
    let configure = move |config: &mut gateway::config::Config| {
        config.log.store = LogStore::Disk(directory.clone());
        config.sessions.heartbeat = Duration::from_millis(200);
    };
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let gateway = Gateway::start_with_clock(clock, &configure).await;
    let mut bob = gateway.dial("bob").acks_itself().open().await;
    let before = gateway.send_text("bob", "before").await.position();
    assert_eq!(bob.texts(1).await, ["before"]);
    let brief = |text: &str| json!({"to": ["carol"], "body": text, "ttl_seconds": 60});
    gateway.send(brief("brief, from before")).await.accepted();

    hand.set(SOME_TIME_US - HOUR_US);
    let behind = gateway.send_text("bob", "behind").await;
    assert_eq!(behind.body["online"], 1);
    assert_eq!(bob.texts(1).await, ["behind"]);
    ack_all(&mut bob).await;
    gateway.until_metric(r#"gateway_ledger_final_total{outcome="acked"}"#, 2.0).await;
    gateway.send(brief("brief, from behind")).await.accepted();
    // Sessions live on: each beat closes whoever did not answer the one before it.
    for _ in 0..4 {
        while bob.next_frame().await["type"] != "heartbeat" {}
    }
    let mut resumed = gateway.dial("bob").after(&before).acks_itself().open().await;
    assert_eq!(resumed.texts(1).await, ["behind"]);
    let position = resumed.position();
    drop((bob, resumed));
    gateway.until_sessions("bob", 0).await;
    gateway.send_text("bob", "while away").await;
    assert_eq!(gateway.user("carol").await.body["pending"], 2, "nothing expires too early");
    gateway.stop().await;

    // Nor does a start: the log's time is ahead of the clock.
    let (clock, hand) = Clock::manual(SOME_TIME_US - HOUR_US);
    let gateway = Gateway::start_with_clock(clock, &configure).await;
    let mut bob = gateway.dial("bob").after(&position).acks_itself().open().await;
    assert_eq!(bob.texts(1).await, ["while away"]);
    gateway.send_text("bob", "after the restart").await;
    assert_eq!(bob.texts(1).await, ["after the restart"]);
    assert_eq!(gateway.user("carol").await.body["pending"], 2);
    // What the clock has to catch up on expires late, not never.
    hand.set(SOME_TIME_US + 59 * SECOND_US);
    gateway.send_text("bob", "in time").await;
    assert_eq!(gateway.user("carol").await.body["pending"], 2);
    hand.set(SOME_TIME_US + 62 * SECOND_US);
    gateway.until_metric(r#"gateway_ledger_final_total{outcome="expired"}"#, 2.0).await;
    assert_eq!(gateway.user("carol").await.body["pending"], 0);
    drop(bob);
    gateway.stop().await;
}
