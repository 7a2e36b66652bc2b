//! Each fault fails the criterion that is about it, and no other, with the exit code of its class and the exact count.
//!
//! Every run is the same but for the fault, and the control passes: what fails is the fault's doing. Broken connections are
//! in `cuts`.

use std::collections::BTreeSet;
use std::time::Duration;

use loadtest::gate::Class;
use loadtest::payload::Payload;
use loadtest::summary::{Deliveries, Gaps, Verdict};

use crate::harness::{Ended, Gateway, LoadTest};
use crate::proxy::{Fault, Proxy};

/// What a fault did, and what the tool made of it.
struct Trial {
    ended: Ended,
    proxy: Proxy,
    _gateway: Gateway,
}

/// Runs `steady` through a proxy with this fault.
async fn steady_with(fault: Fault, change: impl FnOnce(LoadTest) -> LoadTest) -> Trial {
    run_with("steady", fault, change).await
}

/// Runs a scenario through a proxy with this fault.
async fn run_with(scenario: &str, fault: Fault, change: impl FnOnce(LoadTest) -> LoadTest) -> Trial {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.http, fault).await;
    let ended = change(LoadTest::against(scenario, &proxy.url())).run().await;
    Trial { ended, proxy, _gateway: gateway }
}

impl Trial {
    fn deliveries(&self) -> &Deliveries {
        &self.ended.summary().deliveries
    }

    /// Fails unless everything was sent and pushed once: 200 a second, for two seconds.
    #[track_caller]
    fn pushed_all(self) -> Self {
        let deliveries = self.deliveries();
        assert!(deliveries.sent >= 300, "enough was sent to mean something: {deliveries:?}");
        assert_eq!(deliveries.accepted, deliveries.sent);
        assert_eq!(deliveries.expected, deliveries.accepted, "one receiver each");
        assert_eq!(self.proxy.pushes(), deliveries.accepted, "the gateway pushed each of them once");
        self
    }

    /// Fails unless this is what is wrong with the delivery: lost, duplicates, out of order, unexpected.
    #[track_caller]
    fn wrong_by(self, lost: u64, duplicates: u64, out_of_order: u64, unexpected: u64) -> Self {
        let found = self.deliveries();
        let wrong = [found.lost, found.duplicates, found.out_of_order, found.unexpected];
        assert_eq!(wrong, [lost, duplicates, out_of_order, unexpected], "{found:?}");
        assert_eq!(found.received, found.expected - lost);
        let values = &self.ended.summary().values;
        for (name, value) in [
            ("lost", lost),
            ("duplicates", duplicates),
            ("order_violations", out_of_order),
            ("unexpected", unexpected),
        ] {
            assert_eq!(values.get(name), Some(&(value as f64)), "what gates compare: {name}");
        }
        assert_eq!(found.findings.is_empty(), wrong == [0; 4], "the first are named: {:?}", found.findings);
        self
    }

    /// Fails unless the delivery was judged to be wrong, by the criteria for these numbers and no other.
    #[track_caller]
    fn fails_delivery(self, metrics: &[&str]) {
        let Self { ended, proxy, .. } = self;
        let ended = ended.with(4, "FAILED");
        assert_eq!(ended.summary().verdict, Verdict::DeliveryFailed);
        ended.failed_only(Class::Delivery, metrics);
        drop(proxy);
    }
}

#[tokio::test]
async fn without_a_fault_the_run_passes() {
    let trial = steady_with(Fault::None, |test| test).await.pushed_all().wrong_by(0, 0, 0, 0);
    let ended = trial.ended.with(0, "PASSED");
    let summary = ended.summary();
    assert_eq!(summary.verdict, Verdict::Passed);
    assert!(ended.failed().is_empty());
    assert!(summary.sockets.closes.is_empty(), "{:?}", summary.sockets);
    assert_eq!((summary.sockets.connected, summary.sockets.reconnected), (40, 0));
}

#[tokio::test]
async fn each_notification_that_is_dropped_is_lost() {
    let trial = steady_with(Fault::DropEvery(50), |test| test).await.pushed_all();
    let lost = trial.proxy.pushes() / 50;
    assert!(lost >= 6 && lost == trial.proxy.strikes());
    assert_eq!(trial.deliveries().announced, 0);
    trial.wrong_by(lost, 0, 0, 0).fails_delivery(&["lost"]);
}

#[tokio::test]
async fn a_loss_that_a_gap_announces_is_a_loss_all_the_same() {
    let trial = steady_with(Fault::AnnounceEvery(50), |test| test).await.pushed_all();
    let lost = trial.proxy.pushes() / 50;
    assert_eq!(trial.deliveries().announced, lost);
    assert_eq!(trial.deliveries().gaps.get("overflow"), Some(&Gaps { gaps: lost, missing: lost }));
    trial.wrong_by(lost, 0, 0, 0).fails_delivery(&["lost"]);
}

/// Texts for slow sockets are large, so that buffers fill soon; these frames belong to nobody else.
const FOR_SLOW_ONES: usize = 8 * 1_024;

#[tokio::test]
async fn what_a_slow_socket_misses_has_to_be_announced() {
    let gateway = Gateway::start().await;
    for (fault, code, verdict) in [(Fault::AnnounceEvery(5), 0, "PASSED"), (Fault::DropEvery(5), 4, "FAILED")]
    {
        let proxy = Proxy::start_sparing(gateway.http, fault, FOR_SLOW_ONES).await;
        let ended = LoadTest::against("slow", &proxy.url()).run().await;
        let deliveries = &ended.summary().deliveries;
        assert!(proxy.strikes() >= 3, "there were large ones: {}", proxy.pushes());
        assert_eq!(deliveries.lost, proxy.strikes(), "{deliveries:?}");
        assert_eq!(deliveries.announced, if code == 0 { deliveries.lost } else { 0 }, "{deliveries:?}");
        let ended = ended.with(code, verdict);
        let failed = ended.failed().into_iter().filter(|gate| gate.class == Class::Delivery);
        assert!(failed.clone().count() == usize::from(code == 4));
        assert!(failed.clone().all(|gate| gate.text.starts_with("unannounced")));
    }
}

#[tokio::test]
async fn what_a_healthy_socket_misses_beside_slow_ones_is_a_loss_although_a_gap_announces_it() {
    let trial = run_with("slow", Fault::AnnounceEvery(50), |test| test).await;
    assert!(trial.deliveries().lost >= 6 && trial.deliveries().lost == trial.deliveries().announced);
    let ended = trial.ended.with(4, "FAILED");
    let failed = ended.failed().into_iter().filter(|gate| gate.class == Class::Delivery);
    assert!(failed.clone().count() == 1 && failed.clone().all(|gate| gate.text == "lost_by_healthy=0"));
}

#[tokio::test]
async fn each_receiver_that_a_fan_out_misses_is_a_loss() {
    let trial = run_with("fanout", Fault::DropEvery(100), |test| test.option("--rate", "10")).await;
    let deliveries = trial.deliveries();
    assert_eq!(deliveries.expected, 40 * deliveries.accepted);
    assert!(trial.proxy.pushes() == deliveries.expected && trial.proxy.strikes() >= 6);
    assert_eq!((deliveries.lost, deliveries.unexpected), (trial.proxy.strikes(), 0));
    trial.fails_delivery(&["lost"]);
}

#[tokio::test]
async fn a_single_loss_at_the_very_end_of_a_stream_is_found() {
    let trial = steady_with(Fault::DropOnlyTheLast, |test| test).await.pushed_all();
    let held = trial.proxy.held().expect("the last one is held back for ever");
    let held = Payload::find(&held).expect("a notification of the load test");
    assert!(held.number >= 2, "it had predecessors that did arrive");
    trial.wrong_by(1, 0, 0, 0).fails_delivery(&["lost"]);
}

#[tokio::test]
async fn a_loss_during_the_warm_up_is_a_loss() {
    // The 350th of 600 is due after 1.75 s.
    let change = |test: LoadTest| test.option("--duration", "3s").option("--warm-up", "2s");
    let trial = steady_with(Fault::DropEvery(350), change).await.pushed_all();
    assert_eq!(trial.proxy.strikes(), 1);
    trial.wrong_by(1, 0, 0, 0).fails_delivery(&["lost"]);
}

#[tokio::test]
async fn each_notification_that_comes_twice_is_a_duplicate() {
    let trial = steady_with(Fault::DuplicateEvery(50), |test| test).await.pushed_all();
    let duplicates = trial.proxy.pushes() / 50;
    assert!(duplicates >= 6 && duplicates == trial.proxy.strikes());
    trial.wrong_by(0, duplicates, 0, 0).fails_delivery(&["duplicates"]);
}

#[tokio::test]
async fn two_notifications_that_change_places_breach_the_order_once() {
    let trial = steady_with(Fault::SwapTwo, |test| test).await.pushed_all();
    assert_eq!(trial.proxy.strikes(), 1);
    trial.wrong_by(0, 0, 1, 0).fails_delivery(&["order_violations"]);
}

#[tokio::test]
async fn a_notification_for_somebody_else_is_unexpected() {
    let trial = steady_with(Fault::Misdeliver, |test| test).await.pushed_all();
    assert_eq!(trial.proxy.strikes(), 1);
    trial.wrong_by(0, 0, 0, 1).fails_delivery(&["unexpected"]);
}

#[tokio::test]
async fn when_nothing_arrives_everything_is_lost() {
    let trial = steady_with(Fault::DropEvery(1), |test| test).await.pushed_all();
    let lost = trial.proxy.pushes();
    let trial = trial.wrong_by(lost, 0, 0, 0);
    // There are no samples either, which alone would make the run invalid.
    assert_eq!(trial.ended.summary().latencies["push"].count, 0);
    let ended = trial.ended.with(4, "FAILED");
    assert!(ended.failed().iter().any(|gate| gate.class == Class::Delivery && gate.text.starts_with("lost")));
}

#[tokio::test]
async fn a_delay_fails_the_latency_and_nothing_else() {
    const DELAY: Duration = Duration::from_millis(200);
    let change = |test: LoadTest| test.gate("push_p99<100ms");
    let trial = steady_with(Fault::Delay(DELAY), change).await.pushed_all().wrong_by(0, 0, 0, 0);
    let ended = trial.ended.with(3, "FAILED");
    assert_eq!(ended.summary().verdict, Verdict::TooSlow);
    ended.failed_only(Class::Latency, &["push_p99"]);
    let latencies = &ended.summary().latencies;
    for series in ["push", "service"] {
        // A histogram rounds within its precision.
        assert!(
            latencies[series].min >= 198_000,
            "nothing was faster than the delay: {}",
            latencies[series].min
        );
    }
    assert!(latencies["post"].p50 < 100_000, "requests were not delayed: {}", latencies["post"].p50);
}

#[tokio::test]
async fn a_stall_shows_in_the_intended_time_and_is_not_the_tools_own() {
    const STALL: Duration = Duration::from_millis(1_200);
    let fault = Fault::StallEverything { from: 250, lasting: STALL };
    let change = |test: LoadTest| test.option("--duration", "4s").gate("push_max<500ms");
    let trial = steady_with(fault, change).await.pushed_all().wrong_by(0, 0, 0, 0);
    assert_eq!(trial.proxy.strikes(), 1);
    let ended = trial.ended.with(3, "FAILED");
    ended.failed_only(Class::Latency, &["push_max"]);
    let latencies = &ended.summary().latencies;
    let share = |percent: u64| STALL.as_micros() as u64 * percent / 100;
    assert!(latencies["push"].max >= share(90), "what was due at its beginning: {:?}", latencies["push"].max);
    assert!(latencies["push"].p99 >= share(75), "what was due during it: {:?}", latencies["push"].p99);
    // A third of all was due during it. A stream has one POST in flight, so only 40 of these 240 were begun during it: who
    // counts from there sees a twentieth.
    assert!(latencies["push"].p90 >= share(50), "as many as were due: {:?}", latencies["push"].p90);
    assert!(latencies["service"].p90 < share(25), "as few as were begun: {:?}", latencies["service"].p90);
    assert!(latencies["push"].p50 < share(50), "most was due before and after: {:?}", latencies["push"].p50);
    for own in ["lateness", "dispatch"] {
        assert!(latencies[own].p99 < share(25), "{own} is the tool's own: {:?}", latencies[own].p99);
    }
    // It is seen where it was: intervals are seconds, and the stall touches three of them at most.
    let pushes = || ended.summary().timeline.iter().filter_map(|interval| interval.push);
    let slow = pushes().filter(|push| push.max >= share(50)).count();
    let quick = pushes().filter(|push| push.max < share(50)).count();
    assert!((1..=3).contains(&slow) && quick >= 1, "{slow} slow and {quick} quick intervals");
}

#[tokio::test]
async fn a_run_without_samples_is_invalid_and_never_passes() {
    // The only one that may be due is due in the warm-up.
    let change =
        |test: LoadTest| test.option("--rate", "0.2").option("--duration", "1s").option("--warm-up", "500ms");
    let trial = steady_with(Fault::None, change).await;
    let ended = trial.ended.with(5, "INVALID");
    assert_eq!(ended.summary().verdict, Verdict::Invalid);
    assert!(ended.failed().iter().any(|gate| gate.class == Class::Validity));
    assert_eq!(ended.summary().latencies["push"].count, 0);
}

#[tokio::test]
async fn delivery_outranks_validity_and_validity_outranks_latency() {
    let impossible = |test: LoadTest| test.gate("push_p99<1us").gate("lateness_p99<1us");
    let trial = steady_with(Fault::DropEvery(100), impossible).await;
    let ended = trial.ended.with(4, "FAILED");
    let classes = ended.failed().into_iter().map(|gate| gate.class).collect::<BTreeSet<_>>();
    assert_eq!(classes.len(), 3, "each is reported: {classes:?}");

    let trial = steady_with(Fault::None, impossible).await;
    let ended = trial.ended.with(5, "INVALID");
    let classes = ended.failed().into_iter().map(|gate| gate.class).collect::<BTreeSet<_>>();
    assert_eq!(classes, BTreeSet::from([Class::Latency, Class::Validity]), "each is reported");
}
