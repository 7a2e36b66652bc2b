//! Attacks on the real process. Beside each one somebody well-behaved sends and receives and loses nothing; the process's
//! memory stays within a bound, and afterwards nothing of the attack is remembered.
//!
//! Each attack is bounded in count and time. `cargo bench --bench attacks` runs the same ones in full size and measures what
//! they cost.

mod bystanders;
mod crowds;
mod floods;
mod frames;
mod provider;
mod slow;
mod target;
mod wire;

use std::time::Duration;

use bystanders::Bystanders;
use floods::Endless;
use provider::Provider;
use slow::Unread;
use target::{Credentials, Target};
use tokio::time::Instant;
use wire::Tally;

use crate::exposition::Exposition;
use crate::process_harness::{Folder, Server, scrape, until_metric};

/// How often a bystander sends, in a second.
const RATE: u32 = 50;

/// An attack goes on for so long, or for so much longer if its end is awaited.
const BRIEFLY: Duration = Duration::from_secs(1);
const AWAITED: Duration = Duration::from_secs(25);

const MIB: u64 = 1 << 20;

/// What has to be empty once everybody has gone and the short times of these tests have passed.
const TABLES: [&str; 13] = [
    "gateway_connections",
    r#"gateway_sessions{transport="websocket"}"#,
    r#"gateway_sessions{transport="sse"}"#,
    "http_server_active_requests",
    "gateway_users",
    "gateway_known_users",
    "gateway_mailbox_depth",
    "gateway_mailbox_bytes",
    r#"gateway_remembered{kind="idempotency_keys"}"#,
    r#"gateway_remembered{kind="outcomes"}"#,
    r#"gateway_remembered{kind="addresses"}"#,
    r#"gateway_remembered{kind="senders"}"#,
    "gateway_topics",
];

/// A gateway with a bystander, about to be attacked.
struct Battle {
    server: Server,
    bystanders: Bystanders,
    target: Target,
    resident_at_start: u64,
    _folder: Folder,
}

/// Whether credentials are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Secured,
}

impl Battle {
    async fn begin(mode: Mode, settings: &[(&'static str, &str)]) -> Self {
        Self::begin_with(mode, settings, None).await
    }

    async fn begin_with(mode: Mode, settings: &[(&'static str, &str)], open_files: Option<u32>) -> Self {
        let folder = Folder::new();
        let short = [
            ("GATEWAY_IDEMPOTENCY_WINDOW", "3s"),
            ("GATEWAY_OUTCOMES_RETENTION", "1s"),
            ("GATEWAY_NOTIFICATION_DEFAULT_TTL", "1s"),
            ("GATEWAY_FRAMES_CACHE", "16MiB"),
            // Or the bystander's own would be what is remembered the longest.
            ("GATEWAY_MAILBOX_HISTORY", "0"),
        ];
        let mut all: Vec<(&str, String)> =
            short.iter().chain(settings).map(|(key, value)| (*key, (*value).to_owned())).collect();
        let credentials = (mode == Mode::Secured).then(|| {
            let (credentials, settings) = Credentials::write(folder.path());
            all.extend(settings);
            credentials
        });
        let all: Vec<(&str, &str)> = all.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let server = match open_files {
            Some(open_files) => Server::start_with_open_files(open_files, &all).await,
            None => Server::start(&all).await,
        };
        let target = Target { http: server.addresses.http, credentials };
        let bystanders = Bystanders::start(&target, 1, RATE);
        let resident_at_start = server.resident_bytes();
        Self { server, bystanders, target, resident_at_start, _folder: folder }
    }

    async fn scrape(&self) -> Exposition {
        scrape(self.server.addresses.ops).await
    }

    async fn limited(&self, limit: &str) -> f64 {
        self.scrape().await.value(&format!(r#"gateway_limited_total{{limit="{limit}"}}"#))
    }

    /// Nobody well-behaved has suffered, memory never grew by more than the bound, and nothing is remembered.
    async fn end(self, most_growth: u64) {
        let Self { server, bystanders, resident_at_start, .. } = self;
        let seen = tokio::task::spawn_blocking(|| bystanders.finish()).await.unwrap();
        assert!(seen.accepted > 0, "the bystander sent");
        assert_eq!(seen.not_accepted, Tally::new(), "each of the bystander's sends was accepted");
        assert_eq!(seen.broken, Vec::<String>::new(), "its socket stayed open, without a gap");
        let slowest = seen.arrivals.iter().map(|arrival| arrival.latency).max();
        assert_eq!((seen.lost, seen.twice), (0, 0), "of {}, the slowest took {slowest:?}", seen.accepted);
        assert_eq!(seen.arrivals.len(), seen.accepted, "nothing came that was not sent");
        let ops = server.addresses.ops;
        for series in TABLES {
            until_metric(ops, series, 0.0).await;
        }
        let metrics = scrape(ops).await;
        assert_eq!(metrics.value("gateway_ledger_imbalance"), 0.0);
        assert_eq!(metrics.value("gateway_panics_total"), 0.0);
        assert_eq!(metrics.value("gateway_ready"), 1.0);
        let growth = server.highest_resident_bytes().saturating_sub(resident_at_start);
        assert!(growth < most_growth, "{growth} bytes at the most, {most_growth} are allowed");
        server.process.terminate();
        assert_eq!(server.process.ended().await.code, Some(0));
    }
}

fn briefly() -> Instant {
    Instant::now() + BRIEFLY
}

fn awaited() -> Instant {
    Instant::now() + AWAITED
}

/// How often this was met with.
fn count(tally: &Tally, what: &str) -> usize {
    tally.get(what).copied().unwrap_or(0)
}

/// Nothing else was met with.
fn only(tally: &Tally, what: &str) -> usize {
    assert_eq!(tally.keys().collect::<Vec<_>>(), [what], "{tally:?}");
    tally[what]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_half_sent_headers_are_cut() {
    let battle = Battle::begin(Mode::Open, &[("GATEWAY_HTTP_FIRST_REQUEST_TIMEOUT", "1s")]).await;
    let met = slow::half_sent_headers(battle.target.clone(), 500, briefly()).await;
    let cut = only(&met, "cut");
    assert!(cut >= 500, "{met:?}");
    let timeouts = battle.scrape().await.value("gateway_first_request_timeouts_total");
    assert_eq!(timeouts, cut as f64, "each is counted");
    assert_eq!(battle.limited("header_timeout").await, cut as f64);
    battle.end(64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_never_read_are_closed() {
    let battle = Battle::begin(Mode::Secured, &[("GATEWAY_SESSIONS_WRITE_TIMEOUT", "1s")]).await;
    let met = slow::never_read(battle.target.clone(), Unread::Frames, 100, awaited()).await;
    assert_eq!(only(&met, "cut"), 100);
    let closed = r#"gateway_sessions_closed_total{code="4108",initiator="server"}"#;
    assert_eq!(battle.scrape().await.value(closed), 100.0);
    battle.end(128 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_answers_that_are_never_read_are_cut() {
    let battle = Battle::begin(Mode::Open, &[("GATEWAY_HTTP_WRITE_TIMEOUT", "1s")]).await;
    let met = slow::never_read(battle.target.clone(), Unread::Events, 100, awaited()).await;
    assert_eq!(only(&met, "cut"), 100);
    let met = slow::never_read(battle.target.clone(), Unread::Answers, 100, awaited()).await;
    assert_eq!(only(&met, "cut"), 100);
    assert_eq!(battle.limited("write_timeout").await, 200.0);
    battle.end(192 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_strange_users_and_keys_are_forgotten() {
    const USERS: usize = 10_000;
    let battle = Battle::begin(Mode::Open, &[]).await;
    let met = crowds::users_and_keys(battle.target.clone(), USERS, awaited()).await;
    assert_eq!(only(&met, "202"), USERS / 100);
    let remembered = battle.scrape().await.value(r#"gateway_remembered{kind="idempotency_keys"}"#);
    assert!(remembered > 0.0, "they are remembered first");
    battle.end(128 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_strange_senders_and_addresses_are_forgotten() {
    const MANY: usize = 2_000;
    let settings = [
        ("GATEWAY_HTTP_TRUSTED_PROXIES", "127.1.0.0/16"),
        ("GATEWAY_LIMITS_CONNECTS_PER_ADDRESS", "1/s burst 10"),
        ("GATEWAY_LIMITS_SENDS_PER_USER", "1/s burst 10"),
    ];
    let battle = Battle::begin(Mode::Secured, &settings).await;
    let met = crowds::senders(battle.target.clone(), MANY, awaited()).await;
    assert_eq!(only(&met, "202"), MANY);
    let senders = battle.scrape().await.value(r#"gateway_remembered{kind="senders"}"#);
    assert!(senders > 0.0, "they are remembered first");
    let met = crowds::addresses(battle.target.clone(), MANY, awaited()).await;
    assert_eq!(only(&met, "401"), MANY);
    let metrics = battle.scrape().await;
    assert!(metrics.value(r#"gateway_remembered{kind="addresses"}"#) > 2.0, "they are remembered first");
    assert_eq!(metrics.value(r#"gateway_auth_refused_total{reason="missing"}"#), MANY as f64);
    battle.end(64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_out_of_descriptors_costs_only_those_who_come_late() {
    let settings = [("GATEWAY_HTTP_MAX_CONNECTIONS", "1000"), ("GATEWAY_HTTP_FIRST_REQUEST_TIMEOUT", "1s")];
    let battle = Battle::begin_with(Mode::Open, &settings, Some(128)).await;
    let met = slow::half_sent_headers(battle.target.clone(), 300, briefly()).await;
    assert!(only(&met, "cut") >= 300);
    assert!(battle.scrape().await.value("gateway_accept_errors_total") > 0.0, "they did run out");
    battle.end(64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_credentials_leads_nowhere_and_asks_the_provider_hardly_ever() {
    const GUESSES: usize = 2_000;
    let provider = Provider::start().await;
    let battle = Battle::begin(Mode::Secured, &[("GATEWAY_AUTH_JWKS", provider.url.as_str())]).await;
    let began = Instant::now();
    let met = crowds::guessed_keys(battle.target.clone(), GUESSES, awaited()).await;
    assert_eq!(only(&met, "401"), GUESSES);
    let met = crowds::invented_signers(battle.target.clone(), GUESSES, awaited()).await;
    // 401 after the provider was asked for it, 503 where it was asked a moment ago: nobody can tell then.
    assert_eq!(count(&met, "401") + count(&met, "503"), GUESSES, "{met:?}");
    // One at the start, one for the first stranger, one each five seconds.
    let most = 2 + began.elapsed().as_secs() / 5;
    assert!((2..=most).contains(&(provider.asked() as u64)), "{} fetches", provider.asked());
    let metrics = battle.scrape().await;
    let refused =
        |reason: &str| metrics.value(&format!(r#"gateway_auth_refused_total{{reason="{reason}"}}"#));
    assert_eq!(refused("unknown_key"), GUESSES as f64);
    assert_eq!(refused("unknown_signer") + refused("unverifiable"), GUESSES as f64);
    battle.end(64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_bodies_and_documents_nested_without_end_are_refused() {
    let battle = Battle::begin(Mode::Secured, &[("GATEWAY_HTTP_BODY_TIMEOUT", "1s")]).await;
    let met = slow::half_sent_bodies(battle.target.clone(), 500, briefly()).await;
    let answered = only(&met, "408");
    assert!(answered >= 500, "{met:?}");
    assert_eq!(battle.limited("body_timeout").await, answered as f64);

    let met = floods::nested(battle.target.clone(), 120, awaited()).await;
    assert_eq!(only(&met, "400"), 120);
    let invalid = r#"gateway_notifications_total{result="invalid",target="unknown"}"#;
    assert_eq!(battle.scrape().await.value(invalid), answered as f64 + 120.0);
    battle.end(64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_every_illegal_kind_are_closed_with_their_code() {
    const ROUNDS: usize = 5;
    let battle = Battle::begin(Mode::Open, &[]).await;
    let met = frames::illegal(battle.target.clone(), ROUNDS, awaited()).await;
    let expected = [("1002", 12), ("1003", 2), ("1007", 3), ("1009", 4)];
    let expected: Tally = expected.map(|(code, kinds)| (code.to_owned(), kinds * ROUNDS)).into();
    assert_eq!(met, expected);
    let closed = |code: &str| format!(r#"gateway_sessions_closed_total{{code="{code}",initiator="server"}}"#);
    let metrics = battle.scrape().await;
    for (code, count) in &expected {
        assert_eq!(metrics.value(&closed(code)), *count as f64, "{code}");
    }
    let before = metrics.value(&closed("1009"));

    let met = floods::endless(battle.target.clone(), Endless::EmptyFragments, 4, briefly()).await;
    // Who goes on sending may lose the close frame to a reset.
    let ended = count(&met, "1009") + count(&met, "cut");
    assert!(ended >= 4, "a message of empty fragments ends: {met:?}");
    assert!(battle.scrape().await.value(&closed("1009")) >= before + ended as f64, "{met:?}");
    battle.end(64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_that_nothing_limits_cost_no_memory() {
    const SOCKETS: usize = 500;
    let battle = Battle::begin(Mode::Open, &[]).await;
    let met = floods::endless(battle.target.clone(), Endless::Pings, 4, briefly()).await;
    assert!(count(&met, "sent") > 0, "{met:?}");
    let met = floods::connects(battle.target.clone(), 200, briefly()).await;
    assert!(count(&met, "connected") > 500, "{met:?}");
    let met = floods::reconnects(battle.target.clone(), SOCKETS, awaited()).await;
    assert_eq!(met, Tally::from([("opened".to_owned(), SOCKETS), ("came back".to_owned(), SOCKETS)]));
    for limit in ["inbound_frames", "connects_per_address", "session_opens"] {
        assert_eq!(battle.limited(limit).await, 0.0, "in open mode nothing is limited: {limit}");
    }
    battle.end(128 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_limited_where_there_are_keys() {
    const SOCKETS: usize = 500;
    let rates = [
        ("GATEWAY_LIMITS_CONNECTS_PER_ADDRESS", "100/s burst 100"),
        ("GATEWAY_LIMITS_SESSION_OPENS", "200/s burst 100"),
    ];
    let battle = Battle::begin(Mode::Secured, &rates).await;
    let met = floods::endless(battle.target.clone(), Endless::Pings, 4, briefly()).await;
    let ended = count(&met, "1008") + count(&met, "cut");
    assert!(ended >= 4, "{met:?}");
    let limited = battle.limited("inbound_frames").await;
    assert!(limited >= 4.0, "{limited} of {met:?}");

    let met = floods::connects(battle.target.clone(), 1, briefly()).await;
    let refused = battle.limited("connects_per_address").await;
    assert!(refused > 0.0 && met.values().sum::<usize>() as f64 >= refused, "{refused} of {met:?}");

    let met = floods::reconnects(battle.target.clone(), SOCKETS, awaited()).await;
    assert_eq!((count(&met, "opened"), count(&met, "came back")), (SOCKETS, SOCKETS), "{met:?}");
    let told = count(&met, "closed 1013");
    assert!(told > 0, "some were told to come back later: {met:?}");
    assert!(battle.limited("session_opens").await >= told as f64);
    battle.end(128 * MIB).await;
}
