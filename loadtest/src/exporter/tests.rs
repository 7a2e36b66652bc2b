//! Tests of the tool's own metrics, over real HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;
use crate::set_up::SetUpError;

/// No single step of a test takes longer, not even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn served() -> (Arc<Exporter>, Served) {
    let exporter = Arc::new(Exporter::new("r1", "steady", "http://127.0.0.1:8000"));
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let served = exporter.serve(any).await.unwrap();
    (exporter, served)
}

async fn scrape(client: &reqwest::Client, address: SocketAddr) -> reqwest::Result<String> {
    client.get(format!("http://{address}/metrics")).send().await?.error_for_status()?.text().await
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn every_series_is_there_from_the_start() {
    let (_exporter, served) = served().await;
    let text = scrape(&client(), served.address).await.unwrap();
    let samples: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("_bucket{") && !line.contains("_sum"))
        .collect();
    let expected = [
        "loadtest_duplicates_total 0",
        r#"loadtest_missing_total{announced="no"} 0"#,
        r#"loadtest_missing_total{announced="yes"} 0"#,
        "loadtest_offered_rate 0",
        "loadtest_order_violations_total 0",
        "loadtest_pacer_lateness_seconds_count 0",
        r#"loadtest_push_latency_seconds_count{kind="intended"} 0"#,
        r#"loadtest_push_latency_seconds_count{kind="service"} 0"#,
        "loadtest_received_total 0",
        r#"loadtest_run_info{run="r1",scenario="steady",target="http://127.0.0.1:8000"} 1"#,
        r#"loadtest_sent_total{result="accepted"} 0"#,
        r#"loadtest_sent_total{result="refused"} 0"#,
        r#"loadtest_sent_total{result="unknown"} 0"#,
        "loadtest_users 0",
        "loadtest_verdict NaN",
    ];
    assert_eq!(samples, expected);
    assert!(text.contains("# HELP loadtest_users Sockets that are connected.\n"), "{text}");
}

#[tokio::test]
async fn what_is_counted_is_scraped() {
    let (exporter, served) = served().await;
    exporter.sent.accepted.inc_by(3);
    exporter.push_latency.intended.observe(0.004);
    exporter.push_latency.service.observe(0.0002);
    exporter.pacer_lateness.observe(0.00002);
    exporter.users.set(20_000);
    exporter.offered_rate.set(1_250.5);
    exporter.verdict.set(4.0);
    let text = scrape(&client(), served.address).await.unwrap();
    for sample in [
        r#"loadtest_sent_total{result="accepted"} 3"#,
        r#"loadtest_push_latency_seconds_bucket{kind="intended",le="0.0025"} 0"#,
        r#"loadtest_push_latency_seconds_bucket{kind="intended",le="0.005"} 1"#,
        r#"loadtest_push_latency_seconds_bucket{kind="service",le="0.0005"} 1"#,
        r#"loadtest_pacer_lateness_seconds_bucket{le="0.000025"} 1"#,
        "loadtest_users 20000",
        "loadtest_offered_rate 1250.5",
        "loadtest_verdict 4",
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample}\n{text}");
    }
}

#[tokio::test]
async fn without_a_scraper_nothing_is_waited_for() {
    let (_exporter, served) = served().await;
    let address = served.address;
    timeout(PATIENCE, served.linger(10 * PATIENCE)).await.unwrap();
    assert!(scrape(&client(), address).await.is_err(), "it is stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_gets_the_last_numbers() {
    let (exporter, served) = served().await;
    let (address, client) = (served.address, client());
    scrape(&client, address).await.unwrap();
    scrape(&client, address).await.unwrap();
    exporter.missing.silent.inc_by(7);
    let lingering = tokio::spawn(served.linger(10 * PATIENCE));
    // Twice: the first of them may come before the server has begun to linger, and then is not the last one.
    let last = async {
        let mut text = String::new();
        while let Ok(next) = scrape(&client, address).await {
            text = next;
        }
        text
    };
    let text = timeout(PATIENCE, last).await.unwrap();
    assert!(text.contains("loadtest_missing_total{announced=\"no\"} 7\n"), "{text}");
    timeout(PATIENCE, lingering).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_scrape_before_the_end_does_not_count_and_the_wait_is_bounded() {
    let (_exporter, served) = served().await;
    scrape(&client(), served.address).await.unwrap();
    let (address, begun) = (served.address, Instant::now());
    let at_most = Duration::from_millis(200);
    timeout(PATIENCE, served.linger(at_most)).await.unwrap();
    assert!(begun.elapsed() >= at_most);
    assert!(scrape(&client(), address).await.is_err(), "it is stopped");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let (exporter, served) = served().await;
    let SetUpError(text) = exporter.serve(served.address).await.unwrap_err();
    assert!(text.starts_with(&format!("cannot listen on {}: ", served.address)), "{text}");
}
