//! What counts as read: ack frames and pongs, what they cover, and what other devices still get.

use gateway::clock::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Gateway, Place, Receiver, SOME_TIME_US, within};

const ACKED: &str = r#"gateway_ledger_final_total{outcome="acked"}"#;
const EXPIRED: &str = r#"gateway_ledger_final_total{outcome="expired"}"#;

async fn send_numbers(gateway: &Gateway, count: usize) {
    for number in 0..count {
        gateway.send_text("bob", &format!("number {number}")).await;
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("number {number}")).collect()
}

async fn ack(receiver: &mut Receiver, position: &str) {
    receiver.say(Message::text(json!({"type": "ack", "position": position}).to_string())).await;
}

async fn ack_all(receiver: &mut Receiver) {
    let position = receiver.position();
    ack(receiver, &position).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_acked_comes_again_and_what_was_does_not() {
    let gateway = Gateway::start().await;
    send_numbers(&gateway, 5).await;
    let mut receiver = gateway.dial("bob").acks_itself().open().await;
    assert_eq!(receiver.texts(3).await, numbers(0..3));
    ack_all(&mut receiver).await;
    assert_eq!(receiver.texts(2).await, numbers(3..5));
    gateway.until_metric(ACKED, 3.0).await;
    assert_eq!(gateway.user("bob").await.body["pending"], 2);
    receiver.close().await;

    let mut again = gateway.dial("bob").acks_itself().open().await;
    assert_eq!(again.texts(2).await, numbers(3..5));
    ack_all(&mut again).await;
    gateway.until_metric(ACKED, 5.0).await;
    again.close().await;

    let mut nothing_left = gateway.dial("bob").acks_itself().open().await;
    gateway.send_text("bob", "new").await;
    assert_eq!(nothing_left.texts(1).await, ["new"]);
    drop(nothing_left);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_covers_nothing_from_before_its_session() {
    let gateway = Gateway::start().await;
    send_numbers(&gateway, 3).await;
    let mut late = gateway.dial("bob").after("now").acks_itself().open().await;
    let old = late.position();
    ack(&mut late, &old).await;
    gateway.send_text("bob", "new").await;
    assert_eq!(late.texts(1).await, ["new"]);
    ack_all(&mut late).await;
    gateway.until_metric(ACKED, 1.0).await;
    assert_eq!(gateway.user("bob").await.body["pending"], 3);

    let mut other = gateway.dial("bob").acks_itself().open().await;
    assert_eq!(other.texts(4).await, [numbers(0..3), vec!["new".to_owned()]].concat());
    drop((late, other));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_read_on_in_a_new_session_settles_both_with_one_ack() {
    let gateway = Gateway::start().await;
    send_numbers(&gateway, 4).await;
    let mut first = gateway.dial("bob").acks_itself().open().await;
    let origin = first.position();
    assert_eq!(first.texts(3).await, numbers(0..3));
    let position = first.position();
    first.close().await;
    let mut second = gateway.dial("bob").after(&position).acks_itself().open().await;
    assert_eq!(second.texts(1).await, numbers(3..4));
    let wide = json!({"type": "ack", "position": second.position(), "after": origin});
    second.say(Message::text(wide.to_string())).await;
    gateway.until_metric(ACKED, 4.0).await;
    drop(second);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_of_the_future_of_the_past_and_of_elsewhere_change_nothing() {
    let gateway = Gateway::start().await;
    send_numbers(&gateway, 2).await;
    let mut receiver = gateway.dial("bob").acks_itself().open().await;
    let start = receiver.position();
    assert_eq!(receiver.texts(2).await, numbers(0..2));
    let place = Place::of(&json!(receiver.position()));
    ack(&mut receiver, "0000000000000-99").await;
    // Nothing beyond what the session was given is covered.
    ack(&mut receiver, &format!("{}-{}", place.epoch, u64::MAX)).await;
    ack(&mut receiver, &start).await;
    gateway.until_metric(ACKED, 2.0).await;
    gateway.send_text("bob", "after the ack of the future").await;
    assert_eq!(receiver.texts(1).await, ["after the ack of the future"]);
    assert_eq!(gateway.user("bob").await.body["pending"], 1);
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_that_is_none_ends_the_session() {
    let gateway = Gateway::start().await;
    for broken in [
        json!({"type": "ack"}),
        json!({"type": "ack", "position": 7}),
        json!({"type": "ack", "position": "x"}),
    ] {
        let mut receiver = gateway.listen("bob").await;
        receiver.say(Message::text(broken.to_string())).await;
        assert_eq!(receiver.expect_closed().await, 1007);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bare_socket_acks_by_reading_and_answering_pings() {
    let gateway = Gateway::start().await;
    send_numbers(&gateway, 3).await;
    let mut receiver = gateway.listen("bob").await;
    assert_eq!(receiver.texts(3).await, numbers(0..3));
    assert_eq!(gateway.metric(ACKED).await, 0.0, "nothing is acked by being written");
    // The ping stands behind the notifications: the client answers it when it reads on.
    read_on_until_acked(&gateway, &mut receiver, 3.0).await;
    gateway.send_text("bob", "later").await;
    assert_eq!(receiver.texts(1).await, ["later"]);
    drop(receiver);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_dies_without_a_word_loses_nothing() {
    let gateway = Gateway::start().await;
    let hole = BlackHole::start(gateway.address()).await;
    let mut cut_off = gateway.dial("bob").through(hole.address).open().await;
    gateway.send_text("bob", "number 0").await;
    assert_eq!(cut_off.texts(1).await, numbers(0..1));
    read_on_until_acked(&gateway, &mut cut_off, 1.0).await;
    hole.swallow.send_replace(true);
    for number in 1..4 {
        let sent = gateway.send_text("bob", &format!("number {number}")).await;
        assert_eq!(sent.body["online"], 1, "the gateway cannot know yet");
    }
    // They were written, and the kernel took them: no ack follows from that.
    gateway.until_metric(r#"gateway_push_latency_seconds_count{stage="written"}"#, 4.0).await;
    let mut back = gateway.listen("bob").await;
    assert_eq!(back.texts(3).await, numbers(1..4));
    assert_eq!(gateway.metric(ACKED).await, 1.0);
    drop((cut_off, back, hole));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_on_one_device_is_read_and_another_may_still_look_back() {
    let gateway = Gateway::start_with(|config| config.mailbox.history = 2).await;
    let mut phone = gateway.dial("bob").acks_itself().open().await;
    let before = phone.position();
    send_numbers(&gateway, 5).await;
    assert_eq!(phone.texts(5).await, numbers(0..5));
    ack_all(&mut phone).await;
    gateway.until_metric(ACKED, 5.0).await;

    let mut tablet = gateway.dial("bob").after(&before).acks_itself().open().await;
    let gap = tablet.gap().await;
    assert_eq!((&gap["count"], &gap["reason"]), (&json!(3), &json!("acked")), "{gap}");
    assert_eq!(tablet.texts(2).await, numbers(3..5));
    let mut history = gateway.dial("bob").after("start").acks_itself().open().await;
    assert_eq!(history.texts(2).await, numbers(3..5));
    let user = gateway.user("bob").await;
    assert_eq!(user.body["pending"], 0);
    drop((phone, tablet, history));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connected_device_that_is_behind_gets_what_another_acked_beyond_the_history() {
    const COUNT: usize = 400;
    let gateway = Gateway::start_with(|config| {
        config.mailbox.history = 1;
        config.mailbox.max_bytes.0 = 64 << 20;
    })
    .await;
    let mut slow = gateway.dial("bob").acks_itself().receive_buffer(4_096).open().await;
    let mut quick = gateway.dial("bob").acks_itself().open().await;
    let padding = "x".repeat(30_000);
    for number in 0..COUNT {
        let large = json!({"to": ["bob"], "data": number, "body": padding});
        gateway.send(large).await.accepted();
        assert_eq!(quick.notification().await["data"], number);
        ack_all(&mut quick).await;
    }
    gateway.until_metric(ACKED, COUNT as f64).await;
    for number in 0..COUNT {
        assert_eq!(slow.notification().await["data"], number);
    }
    drop((slow, quick));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_ones_make_room_first_and_are_no_loss() {
    let gateway = Gateway::start_with(|config| config.mailbox.max_notifications = 3).await;
    let mut receiver = gateway.dial("bob").acks_itself().open().await;
    let before = receiver.position();
    send_numbers(&gateway, 3).await;
    assert_eq!(receiver.texts(3).await, numbers(0..3));
    ack_all(&mut receiver).await;
    gateway.until_metric(ACKED, 3.0).await;
    for text in ["number 3", "number 4"] {
        gateway.send_text("bob", text).await;
    }
    assert_eq!(receiver.texts(2).await, numbers(3..5));
    let mut other = gateway.dial("bob").after(&before).acks_itself().open().await;
    assert_eq!(other.gap().await["reason"], "acked");
    assert_eq!(other.texts(3).await, numbers(2..5));
    assert_eq!(gateway.metric(r#"gateway_mailbox_dropped_total{reason="overflow"}"#).await, 0.0);
    drop((receiver, other));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_to_live_of_zero_is_for_those_who_are_there() {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let gateway = Gateway::start_with_clock(clock, |_| {}).await;
    let mut present = gateway.dial("bob").acks_itself().open().await;
    let before = present.position();
    let now_or_never = |text: &str| json!({"to": ["bob"], "body": text, "ttl_seconds": 0});
    let sent = gateway.send(now_or_never("look up")).await.accepted();
    assert_eq!(sent.body["recipients"], 1);
    assert_eq!(present.texts(1).await, ["look up"]);

    let mut late = gateway.dial("bob").after(&before).acks_itself().open().await;
    let gap = late.gap().await;
    assert_eq!((&gap["until"], &gap["reason"]), (&sent.body["position"], &json!("expired")), "{gap}");
    gateway.send_text("bob", "for both").await;
    assert_eq!(late.texts(1).await, ["for both"]);
    assert_eq!(present.texts(1).await, ["for both"]);

    let unread: Value = gateway.send(now_or_never("nobody acks this")).await.accepted().body;
    assert_eq!(unread["online"], 1);
    ack(&mut present, sent.body["position"].as_str().unwrap()).await;
    gateway.until_metric(ACKED, 1.0).await;
    hand.set(SOME_TIME_US + 7_000_000);
    gateway.until_metric(EXPIRED, 1.0).await;
    assert_eq!(gateway.user("bob").await.body["pending"], 1, "what may wait still waits");
    drop((present, late));
    gateway.stop().await;
}

/// The client keeps reading, as any does, until so many are acked.
async fn read_on_until_acked(gateway: &Gateway, receiver: &mut Receiver, count: f64) {
    let reading = async {
        loop {
            assert!(receiver.next_message().await.is_some_and(|message| message.is_ping()));
        }
    };
    tokio::select! {
        () = reading => {}
        () = gateway.until_metric(ACKED, count) => {}
    }
}

/// Stands between a client and the gateway; once told to, it swallows all that the gateway says and tells nobody.
struct BlackHole {
    address: std::net::SocketAddr,
    swallow: watch::Sender<bool>,
}

impl BlackHole {
    async fn start(gateway: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (swallow, swallowing) = watch::channel(false);
        tokio::spawn(async move {
            let (client, _) = within("a client", listener.accept()).await.unwrap();
            let server = TcpStream::connect(gateway).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let mut until_dropped = swallowing.clone();
            let to_gateway = async move {
                // After the cut the client's word does not get through either.
                tokio::select! {
                    copied = tokio::io::copy(&mut from_client, &mut to_server) => drop(copied),
                    _ = until_dropped.wait_for(|swallow| *swallow) => {}
                }
                // Kept open until the test ends: no end of file tells the gateway.
                let _ = until_dropped.wait_for(|_| false).await;
                drop(to_server);
            };
            let to_receiver = async move {
                let mut buffer = vec![0; 65_536];
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    if !*swallowing.borrow() && to_client.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            };
            tokio::join!(to_gateway, to_receiver);
        });
        Self { address, swallow }
    }
}
