//! TLS without a proxy: the same API, sockets and streams, and certificates that are replaced while it runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

use crate::process_harness::{Folder, Process, Running, Server, until_metric, until_some, within_patience};

const CHANGED: &str = r#"gateway_credential_reloads_total{result="changed",source="tls"}"#;
const FAILED: &str = r#"gateway_credential_reloads_total{result="failed",source="tls"}"#;
const STALE: &str = r#"gateway_credentials_stale{source="tls"}"#;
const STREAMS: &str = r#"gateway_sessions{transport="sse"}"#;

/// A certificate for this machine that nobody but its owner has signed.
fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap()
}

/// Where a gateway finds its certificate.
struct Files {
    folder: Folder,
}

impl Files {
    fn with(certificate: &CertifiedKey<KeyPair>) -> Self {
        let files = Self { folder: Folder::new() };
        files.replace(&certificate.cert.pem(), &certificate.signing_key.serialize_pem());
        files
    }

    fn replace(&self, certificate: &str, key: &str) {
        self.folder.write("certificate.pem", certificate);
        self.folder.write("key.pem", key);
    }

    /// Starts a gateway that uses them, its configuration changed by `change`.
    async fn start_with(&self, change: impl FnOnce(&mut gateway::config::Config)) -> Running {
        Running::start_with(|config| {
            config.http.tls_certificate_file = Some(self.folder.path().join("certificate.pem"));
            config.http.tls_key_file = Some(self.folder.path().join("key.pem"));
            change(config);
        })
        .await
    }
}

/// Connects by TLS and trusts nothing but this certificate.
async fn try_connect(
    http: SocketAddr,
    trusted: &CertificateDer<'static>,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![protocol.into()];
    let socket = TcpSocket::new_v4()?;
    // So small that a reader who does not read is noticed soon.
    socket.set_recv_buffer_size(4_096)?;
    let stream = within_patience("a connection", socket.connect(http)).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    within_patience("a handshake", handshake).await
}

async fn connect(http: SocketAddr, trusted: &CertifiedKey<KeyPair>, protocol: &str) -> TlsStream<TcpStream> {
    try_connect(http, trusted.cert.der(), protocol).await.unwrap()
}

fn client(trusted: &CertifiedKey<KeyPair>) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(trusted.cert.pem().as_bytes()).unwrap();
    reqwest::Client::builder().tls_certs_only([certificate]).build().unwrap()
}

async fn send(client: &reqwest::Client, http: SocketAddr, text: &str) {
    let request = client.post(format!("https://{http}/v1/notifications"));
    let request = request.json(&json!({"to": ["bob"], "body": text})).send();
    assert_eq!(within_patience("an answer", request).await.unwrap().status(), 202);
}

async fn read_until(stream: &mut TlsStream<TcpStream>, wanted: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(wanted) {
        let more = within_patience(wanted, stream.read_buf(&mut read)).await.unwrap();
        assert!(more > 0, "the connection ended: {}", String::from_utf8_lossy(&read));
    }
    String::from_utf8(read).unwrap()
}

/// Whether the gateway hangs up, as politely or as rudely as it likes.
async fn is_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
    within_patience("the end", stream.read(&mut [0; 64])).await.is_ok_and(|read| read == 0)
}

async fn next_frame(socket: &mut tokio_tungstenite::WebSocketStream<TlsStream<TcpStream>>) -> Value {
    loop {
        let message = within_patience("a frame", socket.next()).await.unwrap().unwrap();
        if let Message::Text(text) = message {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

#[tokio::test]
async fn the_api_sockets_and_streams_work_over_tls() {
    let certificate = certificate();
    let files = Files::with(&certificate);
    // Nothing but a client's end ends its stream.
    let gateway = files.start_with(|config| config.sessions.heartbeat = Duration::from_secs(600)).await;
    let http = gateway.addresses.http;
    let stream = connect(http, &certificate, "http/1.1").await;
    let opening = Box::pin(tokio_tungstenite::client_async(format!("wss://{http}/ws/bob"), stream));
    let (mut socket, _) = within_patience("an upgrade", opening).await.unwrap();
    assert_eq!(next_frame(&mut socket).await["type"], "welcome");
    let mut events = connect(http, &certificate, "http/1.1").await;
    let request = format!("GET /sse/bob HTTP/1.1\r\nHost: {http}\r\n\r\n");
    events.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut events, "event: welcome").await;

    send(&client(&certificate), http, "hello").await;
    assert_eq!(next_frame(&mut socket).await["body"], "hello");
    read_until(&mut events, "hello").await;
    until_metric(gateway.addresses.ops, STREAMS, 1.0).await;
    // TLS says goodbye; the connection below stays open, and the stream has nothing to say.
    events.get_mut().1.send_close_notify();
    events.flush().await.unwrap();
    until_metric(gateway.addresses.ops, STREAMS, 0.0).await;
    socket.close(None).await.unwrap();
    drop(socket);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn http2_is_spoken_with_whoever_offers_it() {
    let certificate = certificate();
    let gateway = Files::with(&certificate).start_with(|_| {}).await;
    let mut stream = connect(gateway.addresses.http, &certificate, "h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // GET, https, /docs and an authority, of which all but two are in the static table (RFC 7541 appendix A).
    let fields = b"\x82\x87\x44\x05/docs\x41\x09127.0.0.1";
    let length = u8::try_from(fields.len()).unwrap();
    stream.write_all(&[&[0, 0, length, 1, 5, 0, 0, 0, 1], &fields[..]].concat()).await.unwrap();
    let first_field = loop {
        let mut head = [0; 9];
        within_patience("a frame", stream.read_exact(&mut head)).await.unwrap();
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        within_patience("its payload", stream.read_exact(&mut payload)).await.unwrap();
        if head[3] == 1 {
            break payload[0];
        }
    };
    assert_eq!(first_field, 0x88, "the entry of the static table for 200");
    drop(stream);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_or_speaks_no_tls_is_cut() {
    let certificate = certificate();
    let files = Files::with(&certificate);
    let gateway = files.start_with(|config| config.http.first_request_timeout = Duration::from_secs(2)).await;
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        let mut stream = TcpStream::connect(gateway.addresses.http).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        assert!(is_closed(&mut stream).await);
    }
    // A handshake is no request.
    let mut stream = connect(gateway.addresses.http, &certificate, "http/1.1").await;
    let end = within_patience("the end", stream.read(&mut [0; 64])).await;
    // Without a word of farewell, or with it.
    assert!(end.map_or_else(|error| error.kind() == std::io::ErrorKind::UnexpectedEof, |read| read == 0));
    until_metric(gateway.addresses.ops, "gateway_first_request_timeouts_total", 3.0).await;

    let mut plain = TcpStream::connect(gateway.addresses.http).await.unwrap();
    plain.write_all(b"GET /docs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Reset or closed: it is no HTTP in any case.
    let _ = within_patience("the end", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    send(&client(&certificate), gateway.addresses.http, "others are served").await;
    until_metric(gateway.addresses.ops, "gateway_connections", 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn deadlines_and_bounds_hold_over_tls() {
    let certificate = certificate();
    let files = Files::with(&certificate);
    let gateway = files
        .start_with(|config| {
            config.http.keep_alive = Duration::from_secs(2);
            config.http.write_timeout = Duration::from_millis(300);
            config.http.max_header.0 = 2_048;
            config.mailbox.max_bytes.0 = 64 << 20;
        })
        .await;
    let http = gateway.addresses.http;
    let mut large = connect(http, &certificate, "http/1.1").await;
    let request = format!("GET / HTTP/1.1\r\nHost: {http}\r\nX: {}", "x".repeat(3_000));
    large.write_all(request.as_bytes()).await.unwrap();
    assert!(read_until(&mut large, "\r\n\r\n").await.starts_with("HTTP/1.1 431 "));
    drop(large);
    until_metric(gateway.addresses.ops, r#"gateway_limited_total{limit="header_size"}"#, 1.0).await;

    let mut silent = connect(http, &certificate, "http/1.1").await;
    silent.write_all(format!("GET /v1/users/bob HTTP/1.1\r\nHost: {http}\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut silent, "\r\n\r\n").await;
    until_metric(gateway.addresses.ops, r#"gateway_limited_total{limit="keep_alive"}"#, 1.0).await;

    let mut events = connect(http, &certificate, "http/1.1").await;
    events.write_all(format!("GET /sse/bob HTTP/1.1\r\nHost: {http}\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut events, "event: welcome").await;
    let (client, text) = (client(&certificate), "x".repeat(30_000));
    let closed = r#"gateway_limited_total{limit="write_timeout"}"#;
    until_some("the stalled stream's end", async || {
        send(&client, http, &text).await;
        let scraped = crate::process_harness::scrape(gateway.addresses.ops).await;
        (scraped.value(closed) == 1.0).then_some(())
    })
    .await;
    until_metric(gateway.addresses.ops, STREAMS, 0.0).await;
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn another_certificate_holds_without_a_restart_and_a_broken_one_never_does() {
    let (old, new) = (certificate(), certificate());
    let files = Files::with(&old);
    let gateway = files.start_with(|_| {}).await;
    let http = gateway.addresses.http;
    let stream = connect(http, &old, "http/1.1").await;
    let opening = Box::pin(tokio_tungstenite::client_async(format!("wss://{http}/ws/bob"), stream));
    let (mut socket, _) = within_patience("an upgrade", opening).await.unwrap();
    assert_eq!(next_frame(&mut socket).await["type"], "welcome");

    let broken = [
        (new.cert.pem(), old.signing_key.serialize_pem()),
        (new.cert.pem(), "no key at all".to_owned()),
        (String::new(), new.signing_key.serialize_pem()),
    ];
    for (number, (certificate, key)) in broken.iter().enumerate() {
        files.replace(certificate, key);
        until_metric(gateway.addresses.ops, FAILED, (number + 1) as f64).await;
        send(&client(&old), http, "the old one holds").await;
        assert_eq!(next_frame(&mut socket).await["body"], "the old one holds");
    }
    until_metric(gateway.addresses.ops, CHANGED, 0.0).await;
    until_metric(gateway.addresses.ops, STALE, 1.0).await;

    files.replace(&new.cert.pem(), &new.signing_key.serialize_pem());
    until_metric(gateway.addresses.ops, CHANGED, 1.0).await;
    until_metric(gateway.addresses.ops, STALE, 0.0).await;
    send(&client(&new), http, "the new one holds").await;
    assert_eq!(next_frame(&mut socket).await["body"], "the new one holds", "who is connected stays so");
    assert!(try_connect(http, old.cert.der(), "http/1.1").await.is_err(), "the old one is gone");
    until_metric(gateway.addresses.ops, FAILED, broken.len() as f64).await;
    drop(socket);
    assert_eq!(gateway.stop().await, Ok(()));
}

#[tokio::test]
async fn files_that_cannot_be_used_end_it_before_a_port_is_bound() {
    let (certificate, other) = (certificate(), certificate());
    let (folder, missing) = (Folder::new(), "/nowhere/at/all.pem".to_owned());
    let good = folder.write("certificate.pem", &certificate.cert.pem());
    let key = folder.write("key.pem", &certificate.signing_key.serialize_pem());
    let foreign = folder.write("foreign.pem", &other.signing_key.serialize_pem());
    let text = folder.write("text.pem", "no PEM");
    // Whoever has the port already would be told of first, if it were bound first.
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let cases = [
        ("http.tls_certificate_file", &missing, &key),
        ("http.tls_certificate_file", &text, &key),
        ("http.tls_key_file", &good, &missing),
        ("http.tls_key_file", &good, &text),
        ("http.tls_key_file", &good, &foreign),
    ];
    for (setting, certificate, key) in cases {
        let variables = [
            ("GATEWAY_HTTP_TLS_CERTIFICATE_FILE", certificate.as_str()),
            ("GATEWAY_HTTP_TLS_KEY_FILE", key.as_str()),
        ];
        let serve = ["--listen", &listen, "--ops-listen", "127.0.0.1:0", "--log", "memory"];
        for arguments in [&serve[..], &["check-config"]] {
            let ended = Process::run(arguments, &variables).await;
            assert_eq!(ended.code, Some(78), "{ended:?}");
            assert_eq!(ended.complained.len(), 1, "{ended:?}");
            assert!(ended.complained[0].contains(setting), "{ended:?}");
        }
    }
    let variables =
        [("GATEWAY_HTTP_TLS_CERTIFICATE_FILE", good.as_str()), ("GATEWAY_HTTP_TLS_KEY_FILE", key.as_str())];
    let checked = Process::run(&["check-config"], &variables).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[tokio::test]
async fn the_greeting_speaks_of_https() {
    let certificate = certificate();
    let files = Files::with(&certificate);
    let path = |name: &str| files.folder.path().join(name).display().to_string();
    let (pem, key) = (path("certificate.pem"), path("key.pem"));
    let server = Server::start(&[
        ("GATEWAY_HTTP_TLS_CERTIFICATE_FILE", pem.as_str()),
        ("GATEWAY_HTTP_TLS_KEY_FILE", key.as_str()),
    ])
    .await;
    let url = format!("https://{}", server.addresses.http);
    let lines = server.greeting.iter().filter(|line| line.contains(&url)).count();
    assert_eq!(lines, 5, "console, manual, listen, send and curl: {:?}", server.greeting);
    assert!(server.greeting.iter().any(|line| line.contains(&server.ops_url())), "the operator's has none");
    send(&client(&certificate), server.addresses.http, "hello").await;
    server.process.terminate();
    assert_eq!(server.process.ended().await.code, Some(0));
}
