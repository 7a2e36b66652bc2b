//! A run that somebody stops: it says what it knows, judges nothing, and takes the gateway it started along.

use loadtest::summary::Verdict;

use crate::harness::LoadTest;
use crate::own_metrics::{metrics_of, until_value};
use crate::real_gateway::nothing_is_left;

async fn stopped_by(signal: &str) {
    let test = LoadTest::spawning("steady").await.option("--spawn-log", "disk").option("--duration", "50s");
    let mut running = test.option("--metrics-listen", "127.0.0.1:0").option("--linger", "0s").start().await;
    let url = metrics_of(&mut running).await;
    until_value(&url, "loadtest_received_total", |received| received >= 50.0).await;
    running.signal(signal).await;

    let ended = running.ended().await.with(5, "INVALID");
    let summary = ended.summary();
    assert_eq!(summary.verdict, Verdict::Invalid);
    assert!(summary.deliveries.received >= 50, "what was measured until then is kept");
    assert_eq!(summary.deliveries.lost, 0, "what was on its way is not called lost");
    assert!(summary.run.duration_seconds > 0.0);
    nothing_is_left(&ended).await;
}

#[tokio::test]
async fn a_run_that_is_interrupted_at_the_terminal_is_invalid_and_leaves_nothing_behind() {
    stopped_by("INT").await;
}

#[tokio::test]
async fn a_run_that_is_terminated_is_invalid_and_leaves_nothing_behind() {
    stopped_by("TERM").await;
}
