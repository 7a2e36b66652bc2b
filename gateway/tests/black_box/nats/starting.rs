//! Starts that take long, that fail, or that find what only another build knows.

use async_nats::HeaderMap;
use gateway::app::{App, BindError};
use gateway::config::Config;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::nodes::{Nodes, STREAM, Shared, readiness, until_some};
use crate::harness::{Gateway, within};
use crate::process_harness::Process;

/// An address that nobody has a moment ago.
fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn while_a_node_waits_for_its_stream_it_says_that_it_starts_and_then_what_is_survived() {
    let mut nodes = Nodes::start(0).await;
    nodes.shared.cluster.servers()[0].kill();
    let operators = free_address();
    let ask = async |path: &str| {
        let answer = reqwest::get(format!("http://{operators}{path}")).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    };
    let starting = async {
        let live = until_some("a node that starts to answer", async || ask("/health/live").await).await;
        assert_eq!(live, (200, "live\n".to_owned()), "nobody shall restart it");
        assert_eq!(ask("/health/ready").await, Some((503, "starting\n".to_owned())));
        assert_eq!(ask("/state").await.unwrap().0, 503);
        assert!(ask("/metrics").await.unwrap().1.contains("\ngateway_ready 0\n"));
    };
    let shared = nodes.shared.configure("copy");
    let server = &mut nodes.shared.cluster.servers()[0];
    let starting = async {
        starting.await;
        server.restart().await;
    };
    let joining = Gateway::start_with(|config| {
        shared(config);
        config.ops.listen = operators;
    });
    let ((), gateway) = tokio::join!(starting, joining);
    let (status, text) = readiness(&gateway).await;
    assert_eq!(status, 200);
    assert!(
        text.starts_with("ready\nlog in NATS, on one server: an accepted notification survives"),
        "{text}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_behind_that_speaks_for_it() {
    let mut shared = Shared::new().await;
    shared.cluster.servers()[0].kill();
    let operators = free_address();
    let mut config = Config::for_tests();
    shared.configure("copy")(&mut config);
    config.nats.connect_timeout = std::time::Duration::from_millis(500);
    (config.http.listen, config.ops.listen) = (free_address(), operators);
    let asking = async {
        let mut kept =
            until_some("the operators' listener", async || TcpStream::connect(operators).await.ok()).await;
        kept.write_all(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        kept.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        let mut rest = Vec::new();
        // A connection that is kept: it ends with the start, not with whoever asks.
        within("the end of a kept connection", kept.read_to_end(&mut rest)).await.unwrap();
    };
    let (failed, ()) = tokio::join!(App::bind(config), asking);
    assert!(matches!(failed, Err(BindError::Nats(_))));
    std::net::TcpListener::bind(operators).expect("the port is free again");
}

#[tokio::test]
async fn whoever_is_told_to_stop_while_it_starts_stops() {
    let mut shared = Shared::new().await;
    shared.cluster.servers()[0].kill();
    let (operators, log) = (free_address(), shared.cluster.log(STREAM));
    let process = Process::start(
        &["--listen", "127.0.0.1:0", "--ops-listen", &operators.to_string(), "--log", &log],
        &[("GATEWAY_NATS_CONNECT_TIMEOUT", "10m")],
    );
    let live = format!("http://{operators}/health/live");
    until_some("it to start", async || reqwest::get(&live).await.ok()).await;
    process.terminate();
    let ended = process.ended().await;
    assert_eq!((ended.code, ended.printed.len()), (Some(0), 0), "{ended:?}");
}

#[tokio::test]
async fn an_entry_of_another_build_makes_nodes_not_ready_that_run_and_that_start() {
    const UNKNOWN_KIND: &[u8] = &[1, 200];
    let mut nodes = Nodes::start(1).await;
    nodes.gateways[0].send_text("bob", "known").await;
    let bob = nodes.gateways[0].listen("bob").await;
    let client = async_nats::connect(nodes.shared.cluster.urls()).await.unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("Gateway-Entry", "00000000000000aa.1.1");
    let entries = format!("{STREAM}.entries");
    client.publish_with_headers(entries, headers, UNKNOWN_KIND.into()).await.unwrap();
    client.flush().await.unwrap();
    let halted = async |gateway: &Gateway| {
        let (status, text) = readiness(gateway).await;
        (status == 503 && text == "the log cannot be followed\n").then_some(())
    };
    until_some("the running one to notice", async || halted(&nodes.gateways[0]).await).await;
    nodes.join(|_| {}).await;
    until_some("the starting one to notice", async || halted(&nodes.gateways[1]).await).await;
    for gateway in &nodes.gateways {
        assert_eq!(gateway.user("bob").await.body["pending"], 1, "what was before is known");
        gateway.send(json!({"to": ["bob"], "body": "new"})).await.refused(503, None);
        let joining = gateway.subscriber(Method::PUT, "news", "bob").await;
        joining.refused(503, None);
        assert_eq!(joining.body.get("delivered"), None, "it is certainly not in the log: {:?}", joining.body);
        let Err(refused) = gateway.dial("carol").connect().await else { panic!("it hands out what is old") };
        refused.refused(503, None);
    }
    bob.close().await;
    nodes.stop().await;
}
