//! Opening a socket: from which address, with which credentials, and not all at the same time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::clock::Clock;
use crate::nodes::Nodes;
use crate::security::Security;
use crate::set_up::SetUpError;
use crate::target::{Adapter, Incoming};

/// An open socket.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// From connect to welcome, at most.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Read at once. The default is 128 KiB, which would be most of what a socket costs here.
const READ_BUFFER_BYTES: usize = 1_024;

/// The largest message that is read.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The kernel's receive buffer of a socket that will stop reading, so that what it does not read soon fills the target's.
const SLOW_RECEIVE_BUFFER_BYTES: usize = 4_096;

/// Sockets from one source address: far enough below the 28,232 ports that Linux gives out by default for one target.
const SOCKETS_PER_ADDRESS: usize = 4_000;

/// Opens sockets at the nodes of one target.
pub struct Connector {
    adapter: Arc<dyn Adapter>,
    nodes: Vec<Node>,
    security: Arc<Security>,
    tls: Option<Arc<rustls::ClientConfig>>,
    permits: Semaphore,
    /// Where source addresses begin, for nodes that want them chosen.
    first_source: Ipv4Addr,
}

/// Where one node listens.
#[derive(Debug)]
struct Node {
    /// `ws://…` or `wss://…`, without a slash at the end.
    base: String,
    address: SocketAddr,
    /// Whether source addresses are chosen.
    chooses_sources: bool,
}

/// A socket that is ready.
pub struct Connected {
    /// The socket.
    pub socket: Socket,
    /// Where it starts, where there is a welcome.
    pub position: Option<String>,
    /// When the connect was begun, microseconds.
    pub began: u64,
}

/// Why a socket could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// In words, without anything that differs from socket to socket, so that they can be counted.
    pub why: String,
    /// When to come back, if the target said so.
    pub come_back_in: Option<Duration>,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, come_back_in: None }
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connector").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl Connector {
    /// Prepares to open sockets at these nodes, at most `at_once` at the same time; the source addresses of a target
    /// on loopback are chosen if there will be more than fit one, from a part of 127.0.0.0/8 that belongs to this `shard`.
    ///
    /// # Errors
    /// When an address is none, does not resolve, or the certificate authority cannot be used.
    pub async fn new(
        nodes: &Nodes,
        adapter: Arc<dyn Adapter>,
        security: Arc<Security>,
        at_once: usize,
        sockets: usize,
        shard: usize,
    ) -> Result<Self, SetUpError> {
        let several = sockets > SOCKETS_PER_ADDRESS || shard > 0;
        let block = u8::try_from(shard % 200).expect("below 200");
        let mut found = Vec::new();
        for url in nodes.all() {
            found.push(Node::find(url, several).await?);
        }
        Ok(Self {
            adapter,
            nodes: found,
            tls: security.tls()?,
            security,
            permits: Semaphore::new(at_once),
            first_source: Ipv4Addr::new(127, 1, block, 1),
        })
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Opens a user's socket at a node and waits for its welcome.
    ///
    /// # Errors
    /// [`Refused`]; a welcome that does not come is one, too.
    pub async fn connect(
        &self,
        index: usize,
        node: usize,
        user: &str,
        after: Option<&str>,
        slow: bool,
        clock: Clock,
    ) -> Result<Connected, Refused> {
        let _permit = self.permits.acquire().await.map_err(|_| "the run is over".to_owned())?;
        let began = clock.now();
        match tokio::time::timeout(TIMEOUT, self.open(index, &self.nodes[node], user, after, slow)).await {
            Ok(opened) => opened.map(|(socket, position)| Connected { socket, position, began }),
            Err(_) => Err(format!("no welcome within {} s", TIMEOUT.as_secs()).into()),
        }
    }

    async fn open(
        &self,
        index: usize,
        node: &Node,
        user: &str,
        after: Option<&str>,
        slow: bool,
    ) -> Result<(Socket, Option<String>), Refused> {
        let url = format!("{}{}", node.base, self.adapter.socket_path(user, after));
        let mut request = url.into_client_request().map_err(|error| error.to_string())?;
        let token = self.security.token_for(user);
        let offered: Vec<String> = self
            .adapter
            .subprotocol()
            .map(str::to_owned)
            .into_iter()
            .chain(token.map(|token| format!("bearer.{token}")))
            .collect();
        if !offered.is_empty() {
            let mut value = HeaderValue::from_str(&offered.join(", ")).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            request.headers_mut().insert("sec-websocket-protocol", value);
        }
        let stream = self.tcp(index, node, slow).await.map_err(|error| words(&error))?;
        let connector = self.tls.clone().map(tokio_tungstenite::Connector::Rustls);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let upgrade =
            tokio_tungstenite::client_async_tls_with_config(request, stream, Some(config), connector);
        let (mut socket, _) = upgrade.await.map_err(|error| refusal(&error))?;
        let position = if self.adapter.welcomes() { Some(self.welcome(&mut socket).await?) } else { None };
        Ok((socket, position))
    }

    async fn tcp(&self, index: usize, node: &Node, slow: bool) -> std::io::Result<TcpStream> {
        let domain = Domain::for_address(node.address);
        let socket = socket2::Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if slow {
            SockRef::from(&socket).set_recv_buffer_size(SLOW_RECEIVE_BUFFER_BYTES)?;
        }
        if node.chooses_sources {
            // Otherwise the kernel looks for a port that is free for every target, for seconds when many are taken.
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
            let further = u32::try_from(index / SOCKETS_PER_ADDRESS).unwrap_or(0);
            let source = Ipv4Addr::from_bits(self.first_source.to_bits() + further);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        TcpSocket::from_std_stream(socket.into()).connect(node.address).await
    }

    /// Waits for the welcome; gives the position it names. A target may open a socket only to say when to come back.
    async fn welcome(&self, socket: &mut Socket) -> Result<String, Refused> {
        let mut come_back_in = None;
        loop {
            let why = match socket.next().await {
                Some(Ok(Message::Text(text))) => match self.adapter.decode(text.as_str()) {
                    Incoming::Welcome { position } => return Ok(position.to_owned()),
                    Incoming::Drain { reconnect_in_ms } => {
                        come_back_in = Some(Duration::from_millis(reconnect_in_ms));
                        continue;
                    }
                    Incoming::Other => continue,
                    Incoming::Notification { .. } | Incoming::Gap { .. } => {
                        "something else before a welcome".to_owned()
                    }
                },
                Some(Ok(Message::Close(Some(frame)))) => {
                    format!("closed with {} {} instead of a welcome", u16::from(frame.code), frame.reason)
                }
                Some(Ok(Message::Close(None))) => "closed instead of a welcome".to_owned(),
                Some(Ok(_)) => continue,
                Some(Err(error)) => refusal(&error),
                None => "the connection ended before a welcome".to_owned(),
            };
            return Err(Refused { why, come_back_in });
        }
    }
}

impl Node {
    async fn find(url: &reqwest::Url, several_sources: bool) -> Result<Self, SetUpError> {
        let host = url.host_str().ok_or_else(|| SetUpError(format!("{url} has no host")))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let found = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await;
        let address = found.ok().and_then(|mut found| found.next());
        let address = address.ok_or_else(|| SetUpError(format!("the address of {host} is not known")))?;
        Ok(Self {
            base: url.as_str().trim_end_matches('/').replacen("http", "ws", 1),
            address,
            chooses_sources: matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback() && several_sources),
        })
    }
}

/// Lets a connection end without a goodbye: with a reset, as when a process or a line is gone.
pub(super) fn break_off(socket: &Socket) {
    let stream = match socket.get_ref() {
        MaybeTlsStream::Plain(stream) => stream,
        MaybeTlsStream::Rustls(stream) => stream.get_ref().0,
        _ => return,
    };
    // On a connection that is gone already there is nothing to break.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Why an upgrade failed.
fn refusal(error: &Error) -> String {
    match error {
        Error::Http(response) => format!("refused with {}", response.status()),
        Error::Io(error) => words(error),
        error => error.to_string(),
    }
}

/// The kind of an error, without numbers that differ from socket to socket.
fn words(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => error.kind().to_string(),
        None => error.to_string(),
    }
}
