//! Summaries of earlier runs: merged from shards, held against a baseline, compared between targets.

use std::time::Duration;

use loadtest::gate::Class;
use loadtest::summary::{Summary, Verdict};

use crate::harness::{Ended, Gateway, LoadTest};
use crate::proxy::{Fault, Proxy};

fn json(ended: &Ended) -> String {
    std::fs::read_to_string(ended.path("run.json")).unwrap()
}

/// Merges two summaries into `run.json`.
async fn merge(a: &str, b: &str) -> Ended {
    let test = LoadTest::words(&["merge", "run.json", "a.json", "b.json"]);
    test.file("a.json", a).file("b.json", b).run().await
}

/// Runs both shards of a run.
async fn shards(url: &str) -> (Ended, Ended) {
    let shard = |number: usize| {
        LoadTest::against("steady", url)
            .option("--run-id", "shared")
            .option("--shard", &format!("{number}/2"))
            .option("--sockets", "41")
    };
    tokio::join!(shard(1).run(), shard(2).run())
}

#[tokio::test]
async fn two_shards_share_a_run_and_merge_into_it() {
    let gateway = Gateway::start().await;
    let (a, b) = shards(&gateway.url()).await;
    let (a, b) = (a.with(0, "PASSED"), b.with(0, "PASSED"));
    let merged = merge(&json(&a), &json(&b)).await.with(0, "PASSED");
    let (a, b, merged) = (a.summary(), b.summary(), merged.summary());

    assert_eq!((a.run.shard, b.run.shard, merged.run.shard), (Some((1, 2)), Some((2, 2)), None));
    assert_eq!(a.sockets.connected + b.sockets.connected, 41, "they share the sockets");
    assert_eq!(merged.sockets.connected, 41);
    let sent = a.deliveries.sent + b.deliveries.sent;
    assert!((300..=500).contains(&sent), "they share the rate: {sent}");
    for number in [
        |summary: &Summary| summary.deliveries.offered,
        |summary: &Summary| summary.deliveries.sent,
        |summary: &Summary| summary.deliveries.accepted,
        |summary: &Summary| summary.deliveries.expected,
        |summary: &Summary| summary.deliveries.received,
        |summary: &Summary| summary.timeline.iter().map(|interval| interval.received).sum(),
    ] {
        assert_eq!(number(merged), number(a) + number(b));
        assert!(number(a) > 0 && number(b) > 0);
    }
    for series in ["push", "service", "post", "connect"] {
        let (a, b, merged) = (&a.latencies[series], &b.latencies[series], &merged.latencies[series]);
        assert_eq!(merged.count, a.count + b.count, "{series}");
        assert_eq!((merged.min, merged.max), (a.min.min(b.min), a.max.max(b.max)), "{series}");
        assert!((a.p50.min(b.p50)..=a.p50.max(b.p50)).contains(&merged.p50), "{series}");
        let mean = (a.mean * a.count as f64 + b.mean * b.count as f64) / merged.count as f64;
        assert!((merged.mean - mean).abs() <= mean / 100.0, "{series}: {} for {mean}", merged.mean);
    }
}

#[tokio::test]
async fn a_loss_in_one_shard_is_a_loss_of_the_run() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.http, Fault::DropOnlyTheLast).await;
    let (a, b) = shards(&proxy.url()).await;
    let lost = |ended: &Ended| ended.summary().deliveries.lost;
    assert_eq!(lost(&a) + lost(&b), 1, "one of them failed");
    let merged = merge(&json(&a), &json(&b)).await.with(4, "FAILED");
    assert_eq!(merged.summary().verdict, Verdict::DeliveryFailed);
    assert_eq!(merged.summary().deliveries.lost, 1);
    merged.failed_only(Class::Delivery, &["lost"]);
}

#[tokio::test]
async fn what_is_no_part_of_a_run_is_not_merged() {
    let gateway = Gateway::start().await;
    let whole = LoadTest::against("steady", &gateway.url()).run().await.with(0, "PASSED");
    let whole = json(&whole);
    merge(&whole, "{}").await.refused(1);
    merge(&whole, "not JSON").await.refused(1);
    let newer =
        whole.replacen(r#""format":1"#, r#""format":2"#, 1).replacen(r#""format": 1"#, r#""format": 2"#, 1);
    assert_ne!(newer, whole);
    let ended = merge(&whole, &newer).await.refused(1);
    assert!(ended.stderr.contains("format 2"), "it says why");
    let ended = LoadTest::words(&["merge", "out.json", "nowhere.json"]).run().await.refused(1);
    assert!(ended.stderr.contains("nowhere.json"), "it names the file");
}

#[tokio::test]
async fn a_run_is_held_against_an_earlier_one() {
    let gateway = Gateway::start().await;
    let first = LoadTest::against("steady", &gateway.url()).run().await.with(0, "PASSED");
    let test = LoadTest::against("steady", &gateway.url())
        .file("earlier.json", &json(&first))
        .option("--baseline", "earlier.json");
    let second = test.run().await.with(0, "PASSED");
    let said = second.stdout.to_lowercase();
    assert!(said.contains("baseline") || said.contains(&first.summary().run.id), "the comparison is shown");

    let test = LoadTest::against("steady", &gateway.url()).option("--baseline", "nowhere.json");
    let ended = test.run().await.refused(1);
    assert!(ended.stderr.contains("nowhere.json"), "it names the file, and before the run");
}

#[tokio::test]
async fn a_criterion_may_be_a_multiple_of_an_earlier_run() {
    let gateway = Gateway::start().await;
    let first = LoadTest::against("steady", &gateway.url()).run().await.with(0, "PASSED");
    let first = json(&first);
    let proxy = Proxy::start(gateway.http, Fault::Delay(Duration::from_millis(300))).await;
    for (gate, code, verdict) in [("push_p50<=1.5x", 3, "FAILED"), ("push_p50<=1000000x", 0, "PASSED")] {
        let test = LoadTest::against("steady", &proxy.url()).file("earlier.json", &first);
        let ended = test.option("--baseline", "earlier.json").gate(gate).run().await.with(code, verdict);
        if code == 3 {
            ended.failed_only(Class::Latency, &["push_p50"]);
        }
    }
    // A multiple of nothing is no criterion.
    let ended = LoadTest::against("steady", &gateway.url()).gate("push_p50<=1.5x").run().await.refused(1);
    assert!(ended.stderr.contains("--baseline"), "it says what is missing");
}

#[tokio::test]
async fn two_targets_are_compared_and_a_delay_of_one_is_seen() {
    let gateway = Gateway::start().await;
    let quick = Proxy::start(gateway.http, Fault::None).await;
    let slow = Proxy::start(gateway.http, Fault::Delay(Duration::from_millis(50))).await;
    let (a, b) = (format!("quick={}", quick.url()), format!("slow={}", slow.url()));
    let test = LoadTest::words(&["compare", "--target", &a, "--target", &b, "--rounds", "1", "steady"])
        .option("--sockets", "40")
        .option("--rate", "200")
        .option("--duration", "2s")
        .option("--warm-up", "500ms")
        .option("--metrics-listen", "off")
        .gate("push_p99<60s")
        .gate("lateness_p99<5s")
        .gate("wakeup_p99<5s")
        .gate("dispatch_p99<5s");
    let ended = test.run().await.with(0, "");
    for name in ["quick", "slow"] {
        assert!(ended.stdout.contains(name), "{name} has its numbers");
    }
    assert!(quick.pushes() >= 300 && slow.pushes() >= 300, "{} and {}", quick.pushes(), slow.pushes());
}

#[tokio::test]
async fn a_comparison_in_which_a_target_loses_something_fails() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.http, Fault::DropEvery(50)).await;
    let (a, b) = (format!("good={}", gateway.url()), format!("bad={}", proxy.url()));
    let test = LoadTest::words(&["compare", "--target", &a, "--target", &b, "--rounds", "1", "steady"])
        .option("--sockets", "40")
        .option("--rate", "200")
        .option("--duration", "2s")
        .option("--warm-up", "500ms")
        .gate("push_p99<60s")
        .gate("lateness_p99<5s")
        .gate("wakeup_p99<5s")
        .gate("dispatch_p99<5s");
    test.run().await.with(4, "");
}
