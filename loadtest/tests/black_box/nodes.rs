//! Several addresses as one target: who is turned away goes on, and how long nobody was let in is measured.
//!
//! What gateways with one log promise together is in `nats`.

use loadtest::gate::Class;
use tokio::net::TcpListener;

use crate::harness::{Gateway, LoadTest};

#[tokio::test]
async fn whoever_is_turned_away_by_one_node_goes_to_the_next() {
    let gateway = Gateway::start().await;
    // The port was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}");
    let ended = LoadTest::against("failover", &format!("{nobody},{}", gateway.url()))
        .option("--ops-url", &gateway.ops_url())
        .run()
        .await
        .with(0, "PASSED failover: 40 sockets on 2 nodes");
    let summary = ended.summary();
    assert_eq!(summary.run.url.trim_end_matches('/'), nobody);
    assert_eq!(summary.run.further_urls, [format!("{}/", gateway.url())]);
    assert_eq!((summary.sockets.connected, summary.sockets.failed, summary.sockets.at_end), (40, 0, 40));
    let deliveries = &summary.deliveries;
    assert_eq!([deliveries.accepted, deliveries.received], [400; 2], "{deliveries:?}");
    // Half of the senders begin where nobody is; they do not go back there.
    assert_eq!((deliveries.failed_attempts, deliveries.retried), (20, 20), "{deliveries:?}");
}

#[tokio::test]
async fn how_long_no_send_was_accepted_is_measured_and_judged_alone() {
    let gateway = Gateway::start().await;
    let id = gateway.process_id();
    let ended = LoadTest::against("failover", &gateway.url())
        .option("--duration", "3s")
        .option("--drain-timeout", "20s")
        .option("--fault-command", &format!("kill -STOP {id}; sleep 2; kill -CONT {id}"))
        .option("--report", "report.html")
        .gate("longest_outage<1s")
        .run()
        .await
        .with(3, "FAILED");
    ended.failed_only(Class::Latency, &["longest_outage"]);
    let outage = ended.summary().deliveries.longest_outage;
    assert!(outage >= 1_900_000, "two seconds, less what was under way: {outage} µs");
    let marks = &ended.summary().marks;
    let place = |text: &str| {
        marks.iter().position(|mark| mark.what.contains(text)).unwrap_or_else(|| panic!("{text}: {marks:?}"))
    };
    assert!(place("harm is done") < place("the harm is over"));
    place("no send accepted for");
    assert!(ended.stdout.contains("longest outage"), "the terminal says it");
    let report = std::fs::read_to_string(ended.path("report.html")).unwrap();
    assert!(report.contains("longest outage"), "the page says it");
}

#[tokio::test]
async fn harm_that_cannot_be_done_is_told() {
    let gateway = Gateway::start().await;
    let test = LoadTest::against("failover", &gateway.url()).option("--fault-command", "exit 7");
    let ended = test.run().await.with(3, "FAILED");
    ended.failed_only(Class::Latency, &["target_failures"]);
    assert!(ended.stdout.contains("exit status: 7"));
}

#[tokio::test]
async fn what_means_nothing_to_a_scenario_is_refused() {
    let gateway = Gateway::start().await;
    let steady = LoadTest::against("steady", &gateway.url()).option("--fault-command", "true");
    assert!(steady.run().await.refused(1).stderr.contains("--fault-command"));
    let spawned = LoadTest::spawning("failover").await.run().await.refused(1);
    assert!(spawned.stderr.contains("--spawn"));
}
