//! A wire between clients and a gateway that keeps every byte the gateway says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What was said on one connection.
type Said = Arc<Mutex<Vec<u8>>>;

/// A running wiretap; it ends with its handle.
pub(crate) struct Wiretap {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Said>>>,
    accepting: JoinHandle<()>,
}

impl Wiretap {
    /// Stands before `target`.
    pub(crate) async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<Mutex<Vec<Said>>> = Arc::default();
        let kept = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                let said = Said::default();
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&said));
                tokio::spawn(pass_on(client, target, said));
            }
        });
        Self { address, connections, accepting }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was said so far, connection by connection.
    pub(crate) fn said(&self) -> Vec<Vec<u8>> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.iter().map(|said| said.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Passes bytes on in both directions until both are at their end.
async fn pass_on(client: TcpStream, target: SocketAddr, said: Said) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = async {
        // A connection that breaks is at its end as well.
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let answering = async {
        let mut bytes = vec![0; 16 * 1_024];
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            said.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..length]);
            if to_client.write_all(&bytes[..length]).await.is_err() {
                break;
            }
        }
        let _ = to_client.shutdown().await;
    };
    tokio::join!(asking, answering);
}
