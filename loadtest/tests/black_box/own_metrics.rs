//! The tool's own metrics: there while it runs, with the final numbers at its end.

use std::time::Duration;

use tokio::time::Interval;

use crate::harness::{Ended, Gateway, LoadTest, PATIENCE, Running, within_patience};

/// Notifications that sockets received.
const RECEIVED: &str = "loadtest_received_total";

/// Starts a run and returns with the address of its metrics.
async fn started(gateway: &Gateway, linger: &str) -> (Running, String) {
    let test = LoadTest::against("steady", &gateway.url())
        .option("--metrics-listen", "127.0.0.1:0")
        .option("--linger", linger);
    let mut running = test.start().await;
    let url = metrics_of(&mut running).await;
    (running, url)
}

/// The address of its metrics, as a tool says it on standard error.
pub(crate) async fn metrics_of(running: &mut Running) -> String {
    let line = running.complaint("/metrics").await;
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    assert!(
        url.starts_with("http://127.0.0.1:") && url.ends_with("/metrics") && !url.contains(":0/"),
        "{url}"
    );
    url
}

/// Scrapes until a family's samples add up to a value that `is_enough`.
pub(crate) async fn until_value(url: &str, family: &str, is_enough: impl Fn(f64) -> bool) {
    let mut rhythm = rhythm();
    within_patience(family, async {
        loop {
            rhythm.tick().await;
            let scrape = scrape(url).await.expect("the tool still runs");
            if value(&scrape, family).is_some_and(&is_enough) {
                return;
            }
        }
    })
    .await;
}

/// As Prometheus would, only faster.
fn rhythm() -> Interval {
    tokio::time::interval(Duration::from_millis(100))
}

/// One scrape; `None` when nobody answers any more, or not to the end.
async fn scrape(url: &str) -> Option<String> {
    let response = reqwest::Client::new().get(url).timeout(PATIENCE).send().await.ok()?;
    assert_eq!(response.status(), 200);
    response.text().await.ok()
}

/// The sum of a family's samples; `None` when there are none.
fn value(scrape: &str, family: &str) -> Option<f64> {
    let samples = scrape.lines().filter_map(|line| {
        let rest = line.strip_prefix(family).filter(|rest| rest.starts_with([' ', '{']))?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    samples.reduce(|sum, value| sum + value)
}

#[tokio::test]
async fn metrics_are_served_during_the_run_and_the_last_scrape_has_the_final_numbers() {
    let gateway = Gateway::start().await;
    let (running, url) = started(&gateway, "50s").await;
    let scraping = async {
        let (mut rhythm, mut scrapes) = (rhythm(), Vec::new());
        loop {
            rhythm.tick().await;
            let Some(scrape) = scrape(&url).await else { return scrapes };
            scrapes.push(scrape);
        }
    };
    let (scrapes, ended) = tokio::join!(within_patience("the last scrape", scraping), running.ended());
    // Not after 50 s more, which is beyond patience: the last scrape let it go.
    let ended: Ended = ended.with(0, "PASSED");
    let course: Vec<f64> = scrapes.iter().map(|scrape| value(scrape, RECEIVED).unwrap()).collect();
    let received = ended.summary().deliveries.received as f64;
    assert!(course.is_sorted() && course.iter().any(|value| (1.0..received).contains(value)), "{course:?}");
    assert_eq!(course.last(), Some(&received), "the final number was there to be scraped");
    let last = scrapes.last().unwrap();
    assert_eq!(value(last, "loadtest_sent_total"), Some(ended.summary().deliveries.sent as f64));
    for family in last.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(last.contains(&format!("# HELP {family} ")), "{family} has a help text");
        assert!(family.starts_with("loadtest_") || family.starts_with("process_"), "{family} is ours");
    }
}

#[tokio::test]
async fn a_run_that_nobody_scrapes_does_not_linger() {
    let gateway = Gateway::start().await;
    // Within patience, so it did not wait for a scrape that nobody is there to make.
    let (running, _) = started(&gateway, "600s").await;
    running.ended().await.with(0, "PASSED");
}
