//! The binary: its greeting, its configuration, its exit codes, its signals.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::process_harness::{
    EPHEMERAL, Ended, Folder, Process, Server, scrape, send, until_metric, until_some, within_patience,
};
use crate::raw_socket::{CLOSE, RawSocket};

/// What a shell shows of a program that cannot be configured: `EX_CONFIG` of sysexits.h.
const EX_CONFIG: i32 = 78;

/// A POST whose body announces more bytes than [`FIRST_HALF`] has.
const FIRST_HALF: &str = r#"{"to":["bob"],"#;
const SECOND_HALF: &str = r#""body":"late"}"#;

/// Begins a send and leaves it half said; returns once the gateway has it in flight.
async fn half_sent(server: &Server) -> RawSocket {
    let mut socket = RawSocket::connect(server.addresses.http).await;
    let length = FIRST_HALF.len() + SECOND_HALF.len();
    let head = format!(
        "POST /v1/notifications HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{FIRST_HALF}"
    );
    socket.write(head.as_bytes()).await;
    until_metric(server.addresses.ops, "http_server_active_requests", 1.0).await;
    socket
}

/// Status and text of `/health/ready`.
async fn readiness(server: &Server) -> (u16, String) {
    let response = reqwest::get(format!("{}/health/ready", server.ops_url())).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn one_line(ended: &Ended) -> &str {
    assert_eq!(ended.complained.len(), 1, "one line for the operator: {ended:?}");
    assert!(ended.printed.is_empty(), "nothing on standard output: {ended:?}");
    &ended.complained[0]
}

#[tokio::test]
async fn the_greeting_says_where_to_click_who_may_send_and_what_to_paste() {
    let server = Server::start(&[]).await;
    let greeting = server.greeting.join("\n");
    assert!(greeting.starts_with("notification gateway "), "{greeting}");
    assert!(greeting.contains(&format!("{}/docs", server.url())), "{greeting}");
    assert!(greeting.contains("open mode: whoever is on this machine may send and listen"), "{greeting}");
    assert!(greeting.contains(&format!("  gateway listen --url {} bob", server.url())), "{greeting}");
    assert!(greeting.contains(&format!("  gateway send --url {} bob hello", server.url())), "{greeting}");
    assert!(greeting.contains(&format!("{}/v1/notifications", server.url())), "{greeting}");
    let manual = reqwest::get(format!("{}/docs", server.url())).await.unwrap();
    assert_eq!(manual.status(), 200, "the first link works");
}

#[tokio::test]
async fn the_greeting_leads_to_the_console_unless_there_is_none() {
    for (enabled, expected) in [("true", 1), ("false", 0)] {
        let server = Server::start(&[("GATEWAY_CONSOLE_ENABLED", enabled)]).await;
        let leads_there = format!("console  {}/ ", server.url());
        let lines = server.greeting.iter().filter(|line| line.contains(&leads_there)).count();
        assert_eq!(lines, expected, "{:?}", server.greeting);
        assert_eq!(server.greeting.iter().any(|line| line.contains("console")), expected == 1);
    }
}

#[tokio::test]
async fn what_one_terminal_sends_another_one_prints() {
    let server = Server::start(&[]).await;
    let url = server.url();
    let sent = Process::run(&["send", "--url", &url, "bob", "hello", "from", "afar"], &[]).await;
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert!(sent.printed[0].starts_with("accepted "), "{sent:?}");
    assert!(sent.printed[0].ends_with("(bob is not connected, it waits)"), "{sent:?}");
    let heard = Process::run(&["listen", "--url", &url, "--count", "1", "bob"], &[]).await;
    assert_eq!(heard.code, Some(0), "{heard:?}");
    assert_eq!(heard.printed.len(), 1, "{heard:?}");
    assert!(heard.printed[0].ends_with("hello from afar"), "{heard:?}");

    let mut listening = Process::start(&["listen", "--url", &url, "--count", "1", "eve"], &[]);
    listening.complaint("listening as eve").await;
    let sent = Process::run(&["send", "--url", &url, "--from", "alice", "eve", "live"], &[]).await;
    assert!(sent.printed[0].ends_with("(eve is connected)"), "{sent:?}");
    let heard = listening.ended().await;
    assert_eq!(heard.code, Some(0), "{heard:?}");
    assert!(heard.printed[0].ends_with("alice: live"), "{heard:?}");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_port_says_so_in_one_line() {
    let first = Server::start(&[]).await;
    let (http, ops) = (first.addresses.http.to_string(), first.addresses.ops.to_string());
    for (arguments, address, key) in [
        (["--listen", &http, "--ops-listen", "127.0.0.1:0"], &http, "http.listen"),
        (["--listen", "127.0.0.1:0", "--ops-listen", &ops], &ops, "ops.listen"),
    ] {
        // Warnings about the machine are not what this is about.
        let second = Process::run(&arguments, &[("GATEWAY_TELEMETRY_FILTER", "error")]).await;
        assert_eq!(second.code, Some(1), "{second:?}");
        let line = one_line(&second);
        assert!(line.contains(address.as_str()) && line.contains(key), "{line}");
    }
    assert_eq!(readiness(&first).await.0, 200, "the first one does not mind");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_exits_with_78_and_names_the_key_in_one_line() {
    let folder = Folder::new();
    let misspelt = folder.write("misspelt.toml", "[sessions]\nhartbeat = \"20s\"\n");
    let no_toml = folder.write("no.toml", "[http\nlisten = 3");
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 8] = [
        (
            &["--config", &misspelt],
            &[],
            &["misspelt.toml", "`sessions.hartbeat`", "did you mean `sessions.heartbeat`?"],
        ),
        (&["--config", &no_toml], &[], &["no.toml"]),
        (&["--config", "/nowhere/gateway.toml"], &[], &["/nowhere/gateway.toml"]),
        (&["--listen", "everywhere"], &[], &["http.listen", "everywhere", "command line"]),
        (
            &[],
            &[("GATEWAY_MAILBOX_MAX_BYTES", "much")],
            &["mailbox.max_bytes", "much", "GATEWAY_MAILBOX_MAX_BYTES"],
        ),
        (&["--listen", "0.0.0.0:0"], &[], &["http.listen", "loopback"]),
        (&["--ops-listen", "0.0.0.0:0"], &[], &["ops.listen", "loopback"]),
        (&EPHEMERAL, &[("GATEWAY_TELEMETRY_FILTER", "gateway=loud")], &["telemetry.filter"]),
    ];
    for (arguments, variables, expected) in cases {
        let ended = Process::run(arguments, variables).await;
        assert_eq!(ended.code, Some(EX_CONFIG), "{arguments:?}: {ended:?}");
        let line = one_line(&ended);
        assert!(line.starts_with("gateway: "), "{line}");
        assert!(expected.iter().all(|part| line.contains(part)), "{line} should say {expected:?}");
    }
}

#[tokio::test]
async fn check_config_finds_what_serve_would_refuse() {
    for arguments in [["check-config", "--listen", "0.0.0.0:0"], ["check-config", "--log", "tape"]] {
        let ended = Process::run(&arguments, &[]).await;
        assert_eq!(ended.code, Some(EX_CONFIG), "{arguments:?}: {ended:?}");
    }
    let fine = Process::run(&["check-config"], &[]).await;
    assert_eq!((fine.code, fine.printed), (Some(0), vec!["ok".to_owned()]));
}

#[tokio::test]
async fn check_config_finds_a_filter_of_log_lines_that_serve_would_refuse() {
    let variables = [("GATEWAY_TELEMETRY_FILTER", "gateway=loud")];
    let served = Process::run(&EPHEMERAL, &variables).await;
    let checked = Process::run(&["check-config"], &variables).await;
    assert_eq!(served.code, Some(EX_CONFIG), "{served:?}");
    assert_eq!((checked.code, checked.complained), (served.code, served.complained));
}

#[tokio::test]
async fn check_config_prints_each_value_and_where_it_came_from() {
    let folder = Folder::new();
    let file = folder.write(
        "gateway.toml",
        "[mailbox]\nmax_notifications = 5\n[sessions]\nheartbeat = \"1s\"\n[http]\nlisten = \"127.0.0.1:1\"\n",
    );
    let arguments = ["check-config", "--print", "--config", &file, "--listen", "127.0.0.1:2"];
    let variables = [("GATEWAY_SESSIONS_HEARTBEAT", "20s"), ("GATEWAY_HTTP_LISTEN", "127.0.0.1:3")];
    let ended = Process::run(&arguments, &variables).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for expected in [
        r#"http.listen = "127.0.0.1:2"  # from the command line"#.to_owned(),
        r#"sessions.heartbeat = "20s"  # from GATEWAY_SESSIONS_HEARTBEAT"#.to_owned(),
        format!(r#"mailbox.max_notifications = "5"  # from {file}"#),
        r#"shutdown.timeout = "10s"  # default"#.to_owned(),
    ] {
        assert!(ended.printed.contains(&expected), "{expected} is not in {:#?}", ended.printed);
    }
    assert_eq!(ended.printed.len(), gateway::config::SETTINGS.len(), "one line a setting");
}

#[tokio::test]
async fn a_variable_that_sets_nothing_is_only_a_warning() {
    let variables = [("GATEWAY_HTTP_LISTN", "127.0.0.1:1"), ("GATEWAY_SERVICE_HOST", "10.0.0.1")];
    let ended = Process::run(&["check-config"], &variables).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        ended.complained,
        [
            "gateway: warning: environment variable GATEWAY_HTTP_LISTN sets nothing; did you mean `GATEWAY_HTTP_LISTEN`?"
        ]
    );
    let mut server = Server::start(&variables).await;
    server.process.complaint("GATEWAY_HTTP_LISTN").await;
    assert_eq!(readiness(&server).await.0, 200);
}

#[tokio::test]
async fn sigterm_lets_requests_and_sockets_end_in_order() {
    let server = Server::start(&[]).await;
    let mut socket = RawSocket::open(server.addresses.http, "bob").await;
    let mut request = half_sent(&server).await;
    assert_eq!(readiness(&server).await.0, 200);

    server.process.terminate();
    let drain = socket.frame_of_type("drain").await;
    assert!((3_000..18_000).contains(&drain["reconnect_in_ms"].as_u64().unwrap()), "{drain}");
    assert_eq!(socket.frame_of(CLOSE).await.close_code(), 1012);
    assert_eq!(readiness(&server).await, (503, "stopping\n".to_owned()));
    assert_eq!(scrape(server.addresses.ops).await.value("gateway_draining"), 1.0);
    let health = Process::run(&["healthcheck", "--ops-url", &server.ops_url()], &[]).await;
    assert_eq!(health.code, Some(1), "a container that is stopping is not healthy");
    until_some("no new connections", async || TcpStream::connect(server.addresses.http).await.err()).await;

    request.write(SECOND_HALF.as_bytes()).await;
    let (head, answer) = request.answer().await;
    assert!(head.starts_with("HTTP/1.1 503 ") || head.starts_with("HTTP/1.1 202 "), "{head}");
    assert!(answer.is_object(), "{answer}");
    request.end().await;
    drop(socket);
    let addresses = server.addresses;
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(TcpStream::connect(addresses.ops).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn control_c_ends_it_as_sigterm_does() {
    let server = Server::start(&[]).await;
    let mut socket = RawSocket::open(server.addresses.http, "bob").await;
    server.process.signal("INT");
    socket.frame_of_type("drain").await;
    assert_eq!(socket.frame_of(CLOSE).await.close_code(), 1012);
    drop(socket);
    assert_eq!(server.process.ended().await.code, Some(0));
}

#[tokio::test]
async fn whoever_has_read_the_greeting_may_already_ask_it_to_stop() {
    for _ in 0..10 {
        let server = Server::start_and_read_greeting(&[]).await;
        server.process.terminate();
        let ended = server.process.ended().await;
        assert_eq!(ended.code, Some(0), "a signal killed it instead: {ended:?}");
    }
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_does_not_hold_up_the_end() {
    let server = Server::start(&[("GATEWAY_SHUTDOWN_TIMEOUT", "500ms")]).await;
    let _request = half_sent(&server).await;
    let started = tokio::time::Instant::now();
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once_and_says_how_many_were_cut() {
    let server = Server::start(&[("GATEWAY_SHUTDOWN_TIMEOUT", "10m")]).await;
    let _request = half_sent(&server).await;
    // Its client answers nothing after the close, for which it would be given two seconds.
    let mut socket = RawSocket::open(server.addresses.http, "bob").await;
    server.process.terminate();
    socket.frame_of(CLOSE).await;
    server.process.terminate();
    let ended = server.process.ended().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let cut = ended.complained.iter().find(|line| line.contains("are cut")).expect("a line about it");
    let cut: Value = serde_json::from_str(cut).unwrap();
    assert_eq!((&cut["level"], &cut["sessions"]), (&json!("WARN"), &json!(1)), "{cut}");
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once_although_connections_are_open() {
    let server = Server::start(&[("GATEWAY_SHUTDOWN_TIMEOUT", "10m")]).await;
    // One that never said anything, one that keeps its connection alive after a request, one to the operator's port.
    let _silent = RawSocket::connect(server.addresses.http).await;
    let client = reqwest::Client::new();
    for url in [format!("{}/v1/users/bob", server.url()), format!("{}/health/live", server.ops_url())] {
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
    }
    until_metric(server.addresses.ops, "gateway_connections", 2.0).await;
    server.process.terminate();
    assert_eq!(server.process.ended().await.code, Some(0));
}

#[tokio::test]
async fn the_openapi_document_is_printed_without_a_gateway() {
    let ended = Process::run(&["openapi"], &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let document: Value = serde_json::from_str(&ended.printed.join("\n")).unwrap();
    for path in ["/v1/notifications", "/v1/notifications/batch", "/v1/users/{user}", "/ws/{user}"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}

#[tokio::test]
async fn the_version_names_the_commit() {
    let ended = Process::run(&["--version"], &[]).await;
    let expected = format!("gateway {} ({})", gateway::VERSION, gateway::REVISION);
    assert_eq!((ended.code, ended.printed), (Some(0), vec![expected]));
    assert_ne!(gateway::REVISION, "");
}

#[tokio::test]
async fn the_healthcheck_tells_by_its_exit_code() {
    let server = Server::start(&[]).await;
    let ops_url = server.ops_url();
    let healthy = Process::run(&["healthcheck", "--ops-url", &ops_url], &[]).await;
    assert_eq!(healthy.code, Some(0), "{healthy:?}");
    server.process.terminate();
    assert_eq!(server.process.ended().await.code, Some(0));
    let gone = Process::run(&["healthcheck", "--ops-url", &ops_url], &[]).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(one_line(&gone).contains(&ops_url), "{gone:?}");
}

#[tokio::test]
async fn a_reader_of_the_greeting_who_leaves_does_not_end_the_gateway() {
    let mut server = Server::start(&[]).await;
    server.process.close_outputs();
    let (status, _) = send(server.addresses.http, &["bob"], "still there").await;
    assert_eq!(status, 202);
    let mut rude = RawSocket::connect(server.addresses.http).await;
    within_patience("a shutdown", rude.stream.shutdown()).await.unwrap();
    assert_eq!(readiness(&server).await.0, 200);
    server.process.terminate();
    assert_eq!(server.process.ended().await.code, Some(0));
}
