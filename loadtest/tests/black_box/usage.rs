//! What is refused before a run, and how: wrong words end with 1, a target that cannot be used with 2.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::harness::{Gateway, LoadTest};

/// Every scenario there is.
const SCENARIOS: [&str; 9] =
    ["steady", "ramp", "fanout", "storm", "slow", "resume", "drain", "failover", "soak"];

/// An address at which nothing listens: the port was free a moment ago.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn the_list_names_every_scenario() {
    let ended = LoadTest::words(&["list"]).run().await.with(0, "");
    for scenario in SCENARIOS {
        assert!(
            ended.stdout.lines().any(|line| line.split_whitespace().next() == Some(scenario)),
            "{scenario} has a line of its own"
        );
    }
}

#[tokio::test]
async fn words_that_make_no_sense_are_usage_errors() {
    for words in [
        &[][..],
        &["no-such-scenario"],
        &["steady", "--no-such-option"],
        &["steady", "stray-word"],
        &["merge"],
        &["merge", "out.json"],
        &["compare", "steady"],
        &["compare", "--target", "no-equals-sign", "steady"],
    ] {
        LoadTest::words(words).run().await.refused(1);
    }
}

#[tokio::test]
async fn values_that_make_no_sense_are_usage_errors_that_say_which() {
    let gateway = Gateway::start().await;
    for (option, value) in [
        ("--sockets", "many"),
        ("--sockets", "0"),
        ("--sockets", "-1"),
        ("--senders", "0"),
        ("--rate", "fast"),
        ("--rate", "0"),
        ("--rate", "-5"),
        ("--rate", "NaN"),
        ("--rate", "inf"),
        ("--duration", "soon"),
        ("--duration", "0s"),
        ("--duration", "10"),
        ("--warm-up", "-1s"),
        ("--size", "huge"),
        ("--url", "ftp://127.0.0.1:8000"),
        ("--url", "not a url"),
        ("--url", "http://127.0.0.1:1,"),
        ("--url", "http://127.0.0.1:1,http://127.0.0.1:1/"),
        ("--adapter", "pigeon"),
        ("--spawn-log", "paper"),
        ("--shard", "0/2"),
        ("--shard", "3/2"),
        ("--shard", "1/0"),
        ("--shard", "half"),
        ("--metrics-listen", "everywhere"),
        ("--settle", "later"),
        ("--drain-timeout", "later"),
    ] {
        let ended = LoadTest::against("steady", &gateway.url()).option(option, value).run().await.refused(1);
        let name = option.trim_start_matches('-');
        // What begins with a dash is taken for an option of its own.
        let is_named = ended.stderr.contains(name) || ended.stderr.contains(value);
        assert!(is_named || value.starts_with('-'), "{option} {value}: the message says what is wrong");
    }
}

#[tokio::test]
async fn a_criterion_that_cannot_be_understood_is_a_usage_error_that_quotes_it() {
    let gateway = Gateway::start().await;
    for gate in [
        "speed<5ms",
        "push_p98<5ms",
        "push_p99",
        "push_p99<",
        "push_p99<5",
        "push_p99<5 parsecs",
        "push_p99<-5ms",
        "lost=<0",
        "lost==none",
        "<5ms",
        "",
    ] {
        let ended = LoadTest::against("steady", &gateway.url()).gate(gate).run().await.refused(1);
        assert!(ended.stderr.contains(gate), "{gate:?} is quoted");
    }
}

#[tokio::test]
async fn a_target_on_another_machine_is_refused_without_yes_and_nothing_is_sent() {
    // 0.0.0.0 is none of loopback's addresses, and what is sent there arrives here.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let elsewhere = [
        format!("http://0.0.0.0:{port}"),
        // Reserved for documentation and for names that do not exist.
        "http://192.0.2.1:8000".to_owned(),
        "http://[2001:db8::1]:8000".to_owned(),
        "https://gateway.invalid".to_owned(),
        "http://localhost.gateway.invalid:8000".to_owned(),
        "http://127.0.0.1.gateway.invalid:8000".to_owned(),
        "http://127.0.0.1:8000@gateway.invalid:8000".to_owned(),
        format!("http://127.0.0.1:{port},http://192.0.2.1:8000"),
    ];
    for url in elsewhere {
        let ended = LoadTest::against("steady", &url).run().await.refused(1);
        assert!(ended.stderr.contains("--yes"), "{url}: it says how to do it nevertheless");
        let target = format!("a={url}");
        let here = format!("b=http://127.0.0.1:{port}");
        let words = ["compare", "--target", &target, "--target", &here, "steady", "--duration", "1s"];
        let ended = LoadTest::words(&words).run().await.refused(1);
        assert!(ended.stderr.contains("--yes"), "{url} in a comparison");
    }
    let arrival = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(arrival.is_err(), "nobody knocked");
}

#[tokio::test]
async fn every_address_of_loopback_needs_no_yes() {
    let url = nobody().await;
    for host in ["127.0.0.1", "127.0.0.77", "localhost"] {
        let url = url.replace("127.0.0.1", host);
        // It is tried, and nobody is there.
        LoadTest::against("steady", &url).run().await.refused(2);
    }
}

#[tokio::test]
async fn a_target_where_nobody_listens_cannot_be_tested() {
    let url = nobody().await;
    for scenario in ["steady", "storm", "fanout"] {
        let ended = LoadTest::against(scenario, &url).run().await.refused(2);
        assert!(ended.stderr.contains(url.trim_start_matches("http://")), "it names the target");
        assert!(!ended.path("run.json").exists(), "what did not take place leaves no file");
    }
}

#[tokio::test]
async fn too_few_file_descriptors_are_said_with_the_number_needed() {
    let gateway = Gateway::start().await;
    let test = LoadTest::against("steady", &gateway.url()).option("--sockets", "200").open_files(64);
    let ended = test.run().await.refused(2);
    let numbers =
        ended.stderr.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
    assert!(numbers.clone().any(|number| (200..2_000).contains(&number)), "the number needed");
    assert!(numbers.clone().any(|number| number == 64), "the number there is");
}

#[tokio::test]
async fn a_gateway_that_cannot_be_started_is_said() {
    let test = LoadTest::scenario("steady").flag("--spawn").option("--gateway-binary", "/nowhere/gateway");
    let ended = test.run().await.refused(2);
    assert!(ended.stderr.contains("/nowhere/gateway"), "it names the binary");

    let test = LoadTest::scenario("steady").flag("--spawn").option("--gateway-binary", "/bin/false");
    test.run().await.refused(2);
}
