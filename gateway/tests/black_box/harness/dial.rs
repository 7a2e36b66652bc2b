//! Opening a socket, in every way a client may.

use std::net::SocketAddr;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::receiver::Receiver;
use super::{Answer, segment, within};

/// A socket that is about to be opened.
pub(crate) struct Dial {
    address: SocketAddr,
    user: String,
    query: Vec<String>,
    headers: HeaderMap,
    receive_buffer: Option<u32>,
}

impl Dial {
    pub(crate) fn new(address: SocketAddr, user: &str) -> Self {
        Self {
            address,
            user: user.to_owned(),
            query: Vec::new(),
            headers: HeaderMap::new(),
            receive_buffer: None,
        }
    }

    /// Where to start: a position, `start` or `now`.
    pub(crate) fn after(mut self, position: &str) -> Self {
        self.query.push(format!("after={}", segment(position)));
        self
    }

    /// Adds a parameter to the query, as it stands in the address.
    pub(crate) fn parameter(mut self, pair: &str) -> Self {
        self.query.push(pair.to_owned());
        self
    }

    /// Connects to this address instead: something stands in between.
    pub(crate) fn through(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// The client acks by frames: its pongs mean nothing.
    pub(crate) fn acks_itself(mut self) -> Self {
        self.query.push("ack=client".to_owned());
        self
    }

    /// Adds a header to the handshake, or replaces one of its own.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header of the test's own");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// Offers subprotocols, separated by commas.
    pub(crate) fn subprotocol(self, protocols: &str) -> Self {
        self.header("sec-websocket-protocol", protocols)
    }

    /// Lets the client's kernel hold only about so many bytes that nobody read.
    pub(crate) fn receive_buffer(self, bytes: u32) -> Self {
        Self { receive_buffer: Some(bytes), ..self }
    }

    /// Opens the socket and reads its welcome.
    pub(crate) async fn open(self) -> Receiver {
        let (mut receiver, _) = self.connect().await.expect("the socket is not refused");
        receiver.read_welcome().await;
        receiver
    }

    /// Opens the socket and reads nothing; returns what the server selected in the handshake, or how it refused.
    pub(crate) async fn connect(self) -> Result<(Receiver, HeaderMap), Answer> {
        let url = format!("ws://{}/ws/{}?{}", self.address, segment(&self.user), self.query.join("&"));
        let mut request = url.as_str().into_client_request().expect("a well-formed URL");
        request.headers_mut().extend(self.headers);
        let stream = tcp_connection(self.address, self.receive_buffer).await;
        match within("the handshake", client_async(request, stream)).await {
            Ok((socket, response)) => Ok((Receiver::new(self.user, socket), response.headers().clone())),
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err(Answer::new(response.status().as_u16(), response.headers().clone(), body))
            }
            Err(error) => panic!("the handshake failed without an answer: {error}"),
        }
    }
}

/// A plain connection, for a client that speaks for itself.
pub(crate) async fn tcp_connection(address: SocketAddr, receive_buffer: Option<u32>) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a descriptor is free");
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).expect("before connecting the size may be chosen");
    }
    within("a connection", socket.connect(address)).await.expect("the gateway listens")
}
