//! A proxy in front of a gateway that passes requests on byte by byte and sockets frame by frame, and does one kind of harm
//! to the notifications on their way to the clients (see [`Fault`]).
//!
//! Pings and pongs are answered on each side and not passed on. Everything it runs ends when its handle is dropped.

mod tampering;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::wire::{self, Connection, Head, Socket};
pub(crate) use tampering::Fault;
use tampering::{Decision, Tampering};

/// What every frame with a notification begins with.
const NOTIFICATION: &str = r#"{"type":"notification""#;

/// A running proxy.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    gateway: SocketAddr,
    tampering: Tampering,
    /// The way to each user's socket: for a notification that goes astray.
    sockets: Mutex<HashMap<String, mpsc::WeakUnboundedSender<Outgoing>>>,
}

/// A message on its way to a client; `None`: the connection breaks when everything before is written.
struct Outgoing {
    not_before: Instant,
    message: Option<Message>,
}

/// A socket ended in another way than by a close.
struct Broken;

impl Proxy {
    /// Starts a proxy in front of the gateway at this address.
    pub(crate) async fn start(gateway: SocketAddr, fault: Fault) -> Self {
        Self::start_sparing(gateway, fault, 0).await
    }

    /// Starts a proxy that does no harm to frames of fewer bytes.
    pub(crate) async fn start_sparing(gateway: SocketAddr, fault: Fault, smallest: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tampering = Tampering::new(fault, smallest);
        let shared = Arc::new(Shared { gateway, tampering, sockets: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self { address, shared, accepting }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address for clients.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Notifications that the gateway pushed so far.
    pub(crate) fn pushes(&self) -> u64 {
        self.shared.tampering.pushes()
    }

    /// How often the fault struck so far.
    pub(crate) fn strikes(&self) -> u64 {
        self.shared.tampering.strikes()
    }

    /// The notification that is held back and not delivered yet.
    pub(crate) fn held(&self) -> Option<String> {
        self.shared.tampering.held()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections' tasks end with the set they are in.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // A connection that breaks is its client's affair.
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut client = BufReader::new(stream);
    let Some(head) = Head::read(&mut client).await? else { return Ok(()) };
    shared.tampering.unstalled().await;
    let mut gateway = TcpStream::connect(shared.gateway).await?;
    gateway.set_nodelay(true)?;
    if head.is_upgrade() {
        // One that the gateway refuses is dropped: no test needs more.
        let Some((client, gateway)) = shake_hands(&shared, client, gateway, &head).await else {
            return Ok(());
        };
        bridge(&shared, &head.user().unwrap_or_default(), client, gateway).await;
        return Ok(());
    }
    gateway.write_all(head.text.as_bytes()).await?;
    let (from_client, to_client) = tokio::io::split(client);
    let (from_gateway, to_gateway) = tokio::io::split(gateway);
    // An answer comes in one piece: it is small, and the connection is one of this machine.
    let is_lost = || shared.tampering.loses_answer();
    let requests = pass(&shared, from_client, to_gateway, || false);
    let answers = pass(&shared, from_gateway, to_client, is_lost);
    tokio::try_join!(requests, answers)?;
    Ok(())
}

/// Passes bytes on until there are no more, or until a piece of them is lost and the connection with it.
async fn pass(
    shared: &Shared,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    is_lost: impl Fn() -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1_024];
    loop {
        let read = from.read(&mut buffer).await?;
        shared.tampering.unstalled().await;
        if read == 0 {
            return to.shutdown().await;
        }
        if is_lost() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// Opens the gateway's socket first, so that the client is told which subprotocol the gateway selected.
async fn shake_hands(
    shared: &Shared,
    client: Connection,
    gateway: TcpStream,
    head: &Head,
) -> Option<(Socket, WebSocketStream<TcpStream>)> {
    let target = if shared.tampering.forgets_positions() {
        without_position(head.target())
    } else {
        head.target().to_owned()
    };
    let mut request = format!("ws://{}{target}", shared.gateway).into_client_request().ok()?;
    for name in ["sec-websocket-protocol", "authorization"] {
        if let Some(value) = head.header(name) {
            request.headers_mut().insert(name, value.parse().ok()?);
        }
    }
    let config = Some(wire::small_buffers());
    let (gateway, answer) = client_async_with_config(request, gateway, config).await.ok()?;
    let selected = answer.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
    Some((wire::upgrade(client, head, selected).await.ok()?, gateway))
}

/// Passes messages on in both directions until both sides have closed or one of them breaks; then the other breaks, too.
async fn bridge(shared: &Shared, user: &str, client: Socket, gateway: WebSocketStream<TcpStream>) {
    let (mut to_client, mut from_client) = client.split();
    let (mut to_gateway, mut from_gateway) = gateway.split();
    let (queue, mut queued) = mpsc::unbounded_channel();
    shared.sockets.lock().unwrap().insert(user.to_owned(), queue.downgrade());

    let read_gateway = async move {
        while let Some(message) = from_gateway.next().await {
            match message.map_err(|_| Broken)? {
                Message::Text(text) if text.starts_with(NOTIFICATION) => {
                    shared.push(user, &queue, text);
                }
                Message::Ping(_) | Message::Pong(_) => {}
                message => enqueue(&queue, Instant::now(), Some(message)),
            }
        }
        // The queue ends here, and with it the writing.
        Ok(())
    };
    let write_client = async {
        while let Some(Outgoing { not_before, message }) = queued.recv().await {
            tokio::time::sleep_until(not_before).await;
            shared.tampering.unstalled().await;
            forward(&mut to_client, message.ok_or(Broken)?).await?;
        }
        Ok(())
    };
    let read_client = async {
        while let Some(message) = from_client.next().await {
            let message = message.map_err(|_| Broken)?;
            shared.tampering.unstalled().await;
            if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
                forward(&mut to_gateway, message).await?;
            }
        }
        Ok(())
    };
    // Whoever breaks first takes the others along: dropping both connections is all there is to do.
    let _: Result<_, Broken> = tokio::try_join!(read_gateway, write_client, read_client);
}

async fn forward(
    to: &mut (impl futures_util::Sink<Message> + Unpin),
    message: Message,
) -> Result<(), Broken> {
    let is_close = matches!(message, Message::Close(_));
    // The other side may have closed at the same time.
    to.send(message).await.or(if is_close { Ok(()) } else { Err(Broken) })
}

impl Shared {
    /// Does to a notification what the fault demands.
    fn push(&self, user: &str, queue: &mpsc::UnboundedSender<Outgoing>, text: Utf8Bytes) {
        let not_before = Instant::now() + self.tampering.delay();
        match self.tampering.decide(user, text.clone()) {
            Decision::Deliver(frames) => {
                for frame in frames {
                    enqueue(queue, not_before, Some(Message::Text(frame)));
                }
            }
            Decision::Misdeliver => {
                if let Some(other) = self.socket_of_another(user) {
                    self.tampering.struck();
                    enqueue(&other, not_before, Some(Message::Text(text.clone())));
                }
                enqueue(queue, not_before, Some(Message::Text(text)));
            }
            Decision::Cut => enqueue(queue, not_before, None),
        }
    }

    fn socket_of_another(&self, user: &str) -> Option<mpsc::UnboundedSender<Outgoing>> {
        let sockets = self.sockets.lock().unwrap();
        sockets.iter().filter(|(name, _)| *name != user).find_map(|(_, queue)| queue.upgrade())
    }
}

fn enqueue(queue: &mpsc::UnboundedSender<Outgoing>, not_before: Instant, message: Option<Message>) {
    // The writing may have ended at a broken connection: then the reading is about to end, too.
    let _ = queue.send(Outgoing { not_before, message });
}

/// The target of a client that comes back, as if it had no position and wanted only what is new.
fn without_position(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let parameters: Vec<&str> =
        query.split('&').map(|one| if one.starts_with("after=") { "after=now" } else { one }).collect();
    format!("{path}?{}", parameters.join("&"))
}

mod tests;
