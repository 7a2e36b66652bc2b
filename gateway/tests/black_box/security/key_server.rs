//! A server of a set of keys at a URL: it counts who asks, and it can change its mind, fail and fall silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How it answers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// 200 with this text.
    Set(String),
    /// This status and no set.
    Status(u16),
    /// 302 to this address.
    Elsewhere(String),
    /// Nothing at all.
    Silence,
}

/// A running server; it ends with its handle.
pub(crate) struct KeyServer {
    address: SocketAddr,
    reply: watch::Sender<Reply>,
    fetched: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl KeyServer {
    pub(crate) async fn start(set: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (reply, replies) = watch::channel(Reply::Set(set.to_owned()));
        let fetched = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&fetched);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(answer(stream, replies.clone(), Arc::clone(&count)));
            }
        });
        Self { address, reply, fetched, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/keys.json", self.address)
    }

    /// From now on it answers so.
    pub(crate) fn say(&self, reply: Reply) {
        self.reply.send(reply).unwrap();
    }

    /// How many requests came.
    pub(crate) fn fetched(&self) -> usize {
        self.fetched.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request, one answer, and the end.
async fn answer(mut stream: TcpStream, mut replies: watch::Receiver<Reply>, count: Arc<AtomicUsize>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        // Whoever goes before asking is not counted.
        if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    count.fetch_add(1, Ordering::SeqCst);
    let (status, headers, body) = loop {
        let reply = replies.borrow_and_update().clone();
        match reply {
            Reply::Set(text) => break (200, "Content-Type: application/json\r\n".to_owned(), text),
            Reply::Status(status) => break (status, String::new(), "{}".to_owned()),
            Reply::Elsewhere(url) => break (302, format!("Location: {url}\r\n"), String::new()),
            Reply::Silence => {
                if replies.changed().await.is_err() {
                    return;
                }
            }
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // The gateway may have given up.
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}
