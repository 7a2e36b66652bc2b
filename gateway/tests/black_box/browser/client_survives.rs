//! A network that cuts, delays and falls silent: nothing is lost, nothing comes twice, and nobody waits for ever.

use std::time::Duration;

use gateway::config::Bytes;
use serde_json::json;
use tokio::sync::Semaphore;

use super::BROKEN_LINES;
use super::page::Page;
use super::proxy::{Direction, Proxy, Trouble};
use crate::harness::Gateway;

/// How soon a line that fell silent is noticed.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Notifications that are sent while one trap waits for its prey.
const SENDS_PER_CUT: usize = 12;

/// Numbers that look random: the same ones for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    /// A number from 0, below this limit.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).expect("below a usize")
    }
}

/// Receives through so many cuts, at random places of the stream, while a sender goes on and on.
async fn survive(transport: &str, cuts: usize) {
    let seed = std::env::var("CUTS_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("CUTS_SEED={seed}");
    let mut dice = Dice(seed);
    let gateway = Gateway::start_with(|config| {
        config.sessions.heartbeat = HEARTBEAT;
        config.mailbox.max_notifications = 100_000;
        config.mailbox.max_bytes = Bytes(64 << 20);
    })
    .await;
    let proxy = Proxy::start(gateway.address());
    let page = Page::open(&[proxy.address()]).await;
    let options = json!({"user": "bob", "transport": transport, "minBackoffMs": 1, "maxBackoffMs": 20});
    let bob = page.listen_with(options).await;
    bob.until_state("open").await;

    let may_send = Semaphore::new(0);
    let sends = async {
        for number in 1..=cuts * SENDS_PER_CUT {
            may_send.acquire().await.expect("nobody closes it").forget();
            gateway.send_text("bob", &number.to_string()).await;
        }
    };
    let network = async {
        for cut in 1..=cuts {
            proxy.delay(Duration::from_millis([0, 0, 1, 5][dice.below(4)]));
            let trouble = [Trouble::Reset, Trouble::End][dice.below(2)];
            match dice.below(4) {
                // Within the next handshake, its request or its answer.
                0 => {
                    let direction = [Direction::Up, Direction::Down][dice.below(2)];
                    proxy.strike_after(direction, 1 + dice.below(300), trouble);
                    proxy.strike(Trouble::Reset);
                }
                // Within an ack.
                1 => proxy.strike_after(Direction::Up, 1 + dice.below(80), trouble),
                // Within what is sent meanwhile, behind the handshake: silence is noticed by heartbeats there.
                _ => {
                    let trouble = if dice.below(4) == 0 { Trouble::Silence } else { trouble };
                    proxy.strike_after(Direction::Down, 700 + dice.below(2_000), trouble);
                }
            }
            may_send.add_permits(SENDS_PER_CUT);
            proxy.until(&format!("cut {cut}"), |seen| seen.sprung >= cut).await;
        }
        proxy.delay(Duration::ZERO);
    };
    tokio::join!(sends, network);

    let expected: Vec<_> = (1..=cuts * SENDS_PER_CUT).map(|number| number.to_string()).collect();
    let came = bob.until_texts(expected.len()).await;
    assert!(came == expected, "every one, in order, once: {came:?}");
    let last = bob.events("notification").await.pop().expect("the last one");
    gateway.until_acked("bob", last["position"].as_str().expect("a position")).await;
    let state = gateway.user("bob").await.body;
    assert_eq!(state["pending"], 0, "{state}");
    if transport == "sse" {
        // Nobody answers on a stream: of one that fell silent the gateway hears when its connection ends.
        proxy.strike(Trouble::End);
    }
    gateway.until_sessions("bob", 1).await;
    assert_eq!(bob.events("gap").await, [] as [serde_json::Value; 0]);
    assert_eq!(bob.texts().await.len(), expected.len(), "nothing more has come");
    // Of an answer that ends within its head a browser believes what came: half a permission for this origin, or none.
    page.close(&[&BROKEN_LINES[..], &["has been blocked by CORS policy"]].concat()).await;
    drop(proxy);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_cuts_lose_nothing_and_repeat_nothing() {
    survive("websocket", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_events_that_is_cut_loses_nothing_and_repeats_nothing() {
    survive("sse", 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_fell_silent_is_noticed_by_its_missing_heartbeats() {
    let gateway = Gateway::start_with(|config| config.sessions.heartbeat = HEARTBEAT).await;
    let proxy = Proxy::start(gateway.address());
    let page = Page::open(&[proxy.address()]).await;
    for transport in ["websocket", "sse"] {
        let options =
            json!({"user": transport, "transport": transport, "minBackoffMs": 1, "maxBackoffMs": 20});
        let client = page.listen_with(options).await;
        client.until_state("open").await;
        gateway.send_text(transport, "before").await;
        client.until_texts(1).await;
        proxy.strike(Trouble::Silence);
        gateway.send_text(transport, "into the silence").await;
        client.until_told("waiting", 1).await;
        client.until_told("open", 2).await;
        gateway.send_text(transport, "after").await;
        assert_eq!(client.until_texts(3).await, ["before", "into the silence", "after"]);
        client.close().await;
    }
    page.close(&BROKEN_LINES).await;
    drop(proxy);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_ever_for_an_answer() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.address());
    let page = Page::open(&[proxy.address()]).await;
    let options =
        |user: &str, transport: &str| json!({"user": user, "transport": transport, "minBackoffMs": 1});
    let bob = page.listen_with(options("bob", "sse")).await;
    bob.until_state("open").await;
    // An ack whose connection falls silent, while the stream itself is well.
    proxy.strike_after(Direction::Up, 1, Trouble::Silence);
    let first = gateway.send_text("bob", "one").await;
    proxy.until("the ack", |seen| seen.sprung == 1).await;
    // And a handshake that nobody answers.
    proxy.strike_after(Direction::Up, 1, Trouble::Silence);
    let ann = page.listen_with(options("ann", "websocket")).await;
    proxy.until("the handshake", |seen| seen.sprung == 2).await;

    ann.until_state("open").await;
    gateway.send_text("ann", "at last").await;
    assert_eq!(ann.until_texts(1).await, ["at last"]);
    gateway.until_acked("bob", &first.position()).await;
    assert_eq!(bob.events("welcome").await.len(), 1, "one stream all along");
    page.close(&BROKEN_LINES).await;
    drop(proxy);
    gateway.stop().await;
}
