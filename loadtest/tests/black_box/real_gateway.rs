//! Short runs of the scenarios against the real gateway, which keeps its promises: nothing is lost, and enough was measured
//! for that to mean something.

use loadtest::summary::{Summary, Verdict};
use tokio::net::TcpStream;

use crate::harness::{Ended, Gateway, LoadTest};

/// Fails unless everything that was owed was delivered once and in order, and so many receptions were measured.
#[track_caller]
fn clean(ended: Ended, receptions: u64) -> Ended {
    let ended = ended.with(0, "PASSED");
    let summary = ended.summary();
    assert_eq!(summary.verdict, Verdict::Passed);
    let deliveries = &summary.deliveries;
    assert_eq!(deliveries.received, deliveries.expected);
    assert!(deliveries.received >= receptions, "{deliveries:?}");
    assert_eq!((deliveries.refused, deliveries.unknown), (0, 0), "{deliveries:?}");
    let wrong = [deliveries.lost, deliveries.duplicates, deliveries.out_of_order, deliveries.unexpected];
    assert_eq!(wrong, [0; 4], "{deliveries:?}");
    assert!(deliveries.findings.is_empty());
    assert!(summary.latencies["push"].count > 0);
    assert_eq!(summary.sockets.failed, 0, "{:?}", summary.sockets);
    consistent(summary);
    ended
}

/// What is said twice is said alike.
#[track_caller]
fn consistent(summary: &Summary) {
    let (deliveries, timeline) = (&summary.deliveries, &summary.timeline);
    assert_eq!(summary.format, loadtest::summary::FORMAT);
    assert!(!timeline.is_empty());
    assert_eq!(timeline.iter().map(|interval| interval.accepted).sum::<u64>(), deliveries.accepted);
    assert_eq!(timeline.iter().map(|interval| interval.received).sum::<u64>(), deliveries.received);
    assert!(timeline.is_sorted_by(|a, b| a.at < b.at));
    for (name, latency) in &summary.latencies {
        let of_samples = [latency.min, latency.p50, latency.p90, latency.p99, latency.p999, latency.max];
        assert!(of_samples.is_sorted(), "{name}: {latency:?}");
    }
}

/// Fails unless the gateway that the tool started is gone, with everything it wrote.
pub(crate) async fn nothing_is_left(ended: &Ended) {
    let address = ended.summary().run.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    assert!(TcpStream::connect(&address).await.is_err(), "the gateway at {address} still listens");
    assert_eq!(ended.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn steady_delivers_everything_and_measures_the_gateway_it_started() {
    let test = LoadTest::spawning("steady").await.option("--report", "report.html");
    let ended = clean(test.run().await, 300);
    let summary = ended.summary();
    assert_eq!((summary.run.scenario.as_str(), summary.run.adapter.as_str()), ("steady", "gateway"));
    assert_eq!((summary.sockets.asked, summary.sockets.connected), (40, 40));
    assert!(summary.latencies["push"].count >= 200, "without the warm-up: 300 in 1.5 s");
    assert!(summary.latencies["push"].count < summary.deliveries.received, "the warm-up is cut off");

    let gateway = summary.gateway.as_ref().expect("a gateway that was started here can be measured");
    assert!(gateway.rss_before > 0 && gateway.rss_max >= gateway.rss_before, "{gateway:?}");
    assert!(gateway.rss_connected >= gateway.rss_before && gateway.cpu_seconds > 0.0, "{gateway:?}");
    assert!(summary.generator.rss_max > 0 && summary.generator.cpu_seconds > 0.0);

    let report = std::fs::read_to_string(ended.path("report.html")).unwrap();
    assert!(report.contains("<svg") && report.contains(&summary.run.id));
    for foreign in ["<script src", "<link rel=\"stylesheet\"", "@import", "cdn."] {
        assert!(!report.contains(foreign), "the report needs nothing from elsewhere: {foreign}");
    }
    nothing_is_left(&ended).await;
}

#[tokio::test]
async fn steady_delivers_everything_through_a_log_on_disk() {
    let test = LoadTest::spawning("steady").await.option("--spawn-log", "disk");
    let ended = clean(test.run().await, 300);
    nothing_is_left(&ended).await;
}

#[tokio::test]
async fn a_gateway_elsewhere_is_measured_through_its_metrics() {
    let gateway = Gateway::start().await;
    let test = LoadTest::against("steady", &gateway.url()).option("--ops-url", &gateway.ops_url());
    let ended = clean(test.run().await, 300);
    let usage = ended.summary().gateway.as_ref().expect("its metrics say what it uses");
    assert!(usage.rss_before > 0 && usage.rss_max > 0, "{usage:?}");
}

#[tokio::test]
async fn a_storm_of_connects_loses_nothing() {
    let test = LoadTest::spawning("storm").await.option("--sockets", "200").option("--duration", "3s");
    let ended = clean(test.run().await, 100);
    assert!(ended.summary().latencies["connect"].count >= 200);
    nothing_is_left(&ended).await;
}

#[tokio::test]
async fn resumed_sockets_lose_nothing() {
    let test = LoadTest::spawning("resume").await.option("--duration", "4s");
    let ended = clean(test.run().await, 400);
    let summary = ended.summary();
    assert!(summary.sockets.reconnected >= 1, "{:?}", summary.sockets);
    assert!(summary.latencies["resume"].count >= 1);
    assert_eq!(summary.sockets.at_end, 40, "{:?}", summary.sockets);
    nothing_is_left(&ended).await;
}

#[tokio::test]
async fn a_fan_out_reaches_every_socket_once() {
    let test = LoadTest::spawning("fanout").await.option("--rate", "20");
    let ended = clean(test.run().await, 400);
    let summary = ended.summary();
    assert!(summary.deliveries.expected > summary.deliveries.accepted, "{:?}", summary.deliveries);
    assert!(summary.latencies["spread"].count >= 10);
    nothing_is_left(&ended).await;
}

#[tokio::test]
async fn sockets_that_do_not_read_miss_what_a_gap_announces_and_harm_nobody_else() {
    // Little enough for a run of a few seconds to be too much for a mailbox.
    let test = LoadTest::spawning("slow").await.gateway_config("[mailbox]\nmax_bytes = \"64KiB\"\n");
    let ended = test.option("--duration", "4s").run().await.with(0, "PASSED");
    let deliveries = &ended.summary().deliveries;
    assert!(deliveries.received >= 400, "{deliveries:?}");
    assert_eq!((deliveries.duplicates, deliveries.out_of_order, deliveries.unexpected), (0, 0, 0));
    assert!(deliveries.lost > 0, "somebody was slow: {deliveries:?}");
    assert_eq!(deliveries.lost, deliveries.announced, "{deliveries:?}");
    assert_eq!(deliveries.gaps.get("overflow").map(|gaps| gaps.missing), Some(deliveries.lost));
    consistent(ended.summary());
    nothing_is_left(&ended).await;
}

#[tokio::test]
async fn a_restart_under_load_loses_nothing() {
    // Clients come back at random within this time instead of the default 15 s, whatever `--settle` says meanwhile.
    let test = LoadTest::spawning("drain")
        .await
        .gateway_config("[shutdown]\nreconnect_window = \"4s\"\n")
        .option("--spawn-log", "disk")
        .option("--sockets", "10")
        .option("--duration", "4s")
        .option("--drain-timeout", "20s");
    let ended = clean(test.run().await, 100);
    let sockets = &ended.summary().sockets;
    assert_eq!(sockets.drains, 10, "each was told: {sockets:?}");
    assert!(sockets.reconnected >= 10 && sockets.at_end == 10, "each came back: {sockets:?}");
    nothing_is_left(&ended).await;
}

#[tokio::test]
async fn a_growing_rate_is_measured_step_by_step() {
    let test = LoadTest::spawning("ramp")
        .await
        .without("--duration")
        .without("--warm-up")
        .option("--rate", "100")
        .option("--step", "1s")
        .option("--max-rate", "250")
        .option("--knee-p99", "60s")
        .gate("knee>=100");
    let ended = clean(test.run().await, 200);
    let stages = &ended.summary().stages;
    assert!(stages.len() >= 2 && stages.is_sorted_by(|a, b| a.rate < b.rate), "{stages:?}");
    assert!(stages.iter().all(|stage| stage.rate <= 250.0 && stage.push.max > 0), "{stages:?}");
    nothing_is_left(&ended).await;
}
