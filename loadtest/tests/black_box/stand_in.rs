//! Servers of other kinds than the gateway, as far as a load test sees them: requests, sockets, and what is said on them.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;

use crate::wire::{self, Head, Socket};

/// The way to a socket.
pub(crate) type Queue = mpsc::UnboundedSender<Message>;

/// How a kind of server behaves.
pub(crate) trait Manners: Send + Sync + 'static {
    /// Answers a request: status and JSON.
    fn answer(&self, head: &Head, body: &[u8]) -> (u16, String);

    /// Takes in a socket and says which subprotocol it selects; a close in the queue ends it.
    fn join(&self, head: &Head, queue: Queue) -> Option<&'static str>;

    /// Hears what a client says on a socket.
    fn hear(&self, _text: &str) {}
}

/// A running server, ended when dropped.
pub(crate) struct StandIn {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl StandIn {
    /// Starts one on a port that the system chooses.
    pub(crate) async fn start(manners: Arc<impl Manners>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&manners)));
            }
        });
        Self { address, accepting: accepting.abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, manners: Arc<impl Manners>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = BufReader::new(stream);
    while let Some(head) = Head::read(&mut connection).await? {
        if head.is_upgrade() {
            let (queue, queued) = mpsc::unbounded_channel();
            let subprotocol = manners.join(&head, queue);
            converse(wire::upgrade(connection, &head, subprotocol).await?, queued, &*manners).await;
            return Ok(());
        }
        let body = head.body(&mut connection).await?;
        let (status, json) = manners.answer(&head, &body);
        wire::answer(&mut connection, status, &json).await?;
    }
    Ok(())
}

/// Writes what is queued and reads what comes, until the client is gone.
async fn converse(socket: Socket, mut queued: mpsc::UnboundedReceiver<Message>, manners: &impl Manners) {
    let (mut to_client, mut from_client) = socket.split();
    let write = async {
        while let Some(message) = queued.recv().await {
            if to_client.send(message).await.is_err() {
                break;
            }
        }
        // Without a queue the socket stays open until its client closes it.
        std::future::pending::<()>().await;
    };
    let read = async {
        while let Some(Ok(message)) = from_client.next().await {
            if let Message::Text(text) = message {
                manners.hear(text.as_str());
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}
