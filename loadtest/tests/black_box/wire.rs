//! Just enough HTTP/1.1 for the servers of these tests: a request's head and body, an answer, an upgrade to WebSocket.

use std::io;

use percent_encoding::percent_decode_str;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// A connection from a client, with what was read ahead.
pub(crate) type Connection = BufReader<TcpStream>;

/// A socket whose client is under test.
pub(crate) type Socket = WebSocketStream<Connection>;

/// A request without its body.
pub(crate) struct Head {
    /// As it came, with the empty line at its end.
    pub(crate) text: String,
}

impl Head {
    /// The next request's head; `None` when the client sends no more.
    pub(crate) async fn read(connection: &mut Connection) -> io::Result<Option<Self>> {
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            if connection.read_line(&mut text).await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(Self { text }))
    }

    /// The method.
    pub(crate) fn method(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        self.text.split(' ').nth(1).unwrap_or_default()
    }

    /// The path alone.
    pub(crate) fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// The user whose socket is asked for.
    pub(crate) fn user(&self) -> Option<String> {
        let segment = self.path().strip_prefix("/ws/")?;
        Some(percent_decode_str(segment).decode_utf8_lossy().into_owned())
    }

    /// A header's value; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.text.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Whether it asks for a WebSocket.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }

    /// The body that follows it.
    pub(crate) async fn body(&self, connection: &mut Connection) -> io::Result<Vec<u8>> {
        let length = self.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await?;
        Ok(body)
    }
}

/// Answers a request; the connection stays open.
pub(crate) async fn answer(connection: &mut Connection, status: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all(format!("{head}{body}").as_bytes()).await
}

/// Answers a request for a WebSocket.
pub(crate) async fn upgrade(
    mut connection: Connection,
    head: &Head,
    subprotocol: Option<&str>,
) -> io::Result<Socket> {
    let accept = derive_accept_key(head.header("sec-websocket-key").unwrap_or_default().as_bytes());
    let selected = subprotocol.map_or(String::new(), |name| format!("sec-websocket-protocol: {name}\r\n"));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n{selected}\r\n"
    );
    connection.write_all(answer.as_bytes()).await?;
    Ok(WebSocketStream::from_raw_socket(connection, Role::Server, Some(small_buffers())).await)
}

/// The default buffer of 128 KiB is zeroed for every read.
pub(crate) fn small_buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4_096)
}
