//! Broken connections: a client that comes back with its position has lost nothing, and one that was robbed of it has; a
//! sender that repeats what it had no answer to sends nothing twice.

use loadtest::gate::Class;
use loadtest::summary::Verdict;

use crate::harness::{Ended, Gateway, LoadTest};
use crate::proxy::{Fault, Proxy};

async fn run(scenario: &str, fault: Fault) -> (Ended, Proxy) {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.http, fault).await;
    let test = LoadTest::against(scenario, &proxy.url()).option("--duration", "3s");
    // That the target broke connections is told apart: see below.
    (test.gate("unexpected_closes<1000").run().await, proxy)
}

#[tokio::test]
async fn a_client_that_is_cut_and_comes_back_has_lost_nothing() {
    for scenario in ["resume", "steady"] {
        let (ended, proxy) = run(scenario, Fault::CutEvery(50)).await;
        let ended = ended.with(0, "PASSED");
        let (deliveries, sockets) = (&ended.summary().deliveries, &ended.summary().sockets);
        assert!(deliveries.sent >= 400, "{deliveries:?}");
        assert_eq!(deliveries.received, deliveries.expected);
        let wrong = [deliveries.lost, deliveries.duplicates, deliveries.out_of_order, deliveries.unexpected];
        assert_eq!(wrong, [0; 4], "{deliveries:?}");

        let cuts = proxy.strikes();
        assert!(cuts >= 5, "it was cut: {cuts}");
        // One that the tool broke itself at the same moment is not counted as broken by the target.
        let closes = sockets.closes.get(&1006).copied().unwrap_or_default();
        assert!(closes + 2 >= cuts && closes <= cuts, "{cuts} cuts, {sockets:?}");
        assert!(sockets.reconnected >= closes, "each came back: {sockets:?}");
        assert_eq!(sockets.at_end, 40, "all are there at the end: {sockets:?}");
    }
}

#[tokio::test]
async fn a_cut_that_nobody_asked_for_fails_a_criterion_of_its_own() {
    let gateway = Gateway::start().await;
    let proxy = Proxy::start(gateway.http, Fault::CutEvery(50)).await;
    let ended = LoadTest::against("steady", &proxy.url()).run().await.with(3, "FAILED");
    ended.failed_only(Class::Latency, &["unexpected_closes"]);
}

#[tokio::test]
async fn a_client_that_comes_back_and_is_not_given_what_it_missed_has_lost_it() {
    let (ended, proxy) = run("resume", Fault::CutAndLose(50)).await;
    let ended = ended.with(4, "FAILED");
    assert_eq!(ended.summary().verdict, Verdict::DeliveryFailed);
    assert!(proxy.strikes() >= 1);
    let deliveries = &ended.summary().deliveries;
    assert!(deliveries.lost >= proxy.strikes(), "at least what each cut swallowed: {deliveries:?}");
    assert_eq!(deliveries.lost, deliveries.expected - deliveries.received);
    assert_eq!((deliveries.duplicates, deliveries.out_of_order, deliveries.unexpected), (0, 0, 0));
    ended.failed_only(Class::Delivery, &["lost"]);
}

#[tokio::test]
async fn a_send_without_an_answer_is_unknown_and_no_loss() {
    let (ended, proxy) = run("steady", Fault::LoseAnswerEvery(100)).await;
    let ended = ended.with(3, "FAILED");
    ended.failed_only(Class::Latency, &["unknown"]);
    let deliveries = &ended.summary().deliveries;
    assert_eq!(deliveries.unknown, deliveries.sent / 100, "{deliveries:?}");
    assert_eq!(deliveries.accepted, deliveries.sent - deliveries.unknown, "{deliveries:?}");
    assert_eq!(proxy.pushes(), deliveries.sent, "the gateway did each of them nevertheless");
    let wrong = [deliveries.lost, deliveries.duplicates, deliveries.out_of_order, deliveries.unexpected];
    assert_eq!(wrong, [0; 4], "{deliveries:?}");
}
