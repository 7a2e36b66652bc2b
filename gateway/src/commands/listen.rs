//! `gateway listen USER`: a receiver for the terminal.
//!
//! It does what the protocol asks of any client: keeps a position, moves it only as the frames allow, acks what it has
//! printed, resumes behind its position after a break, and heeds the close codes.

use std::io::Write;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{CommandError, path_segment};
use crate::domain::Secret;
use crate::protocol::SUBPROTOCOL;

/// The first pause before coming back; doubled up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(15);

/// How long the gateway may take to answer the goodbye: with it, the last ack has arrived.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// What to listen to and how to show it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway, `http://…`.
    pub url: String,
    /// Whose notifications.
    pub user: String,
    /// `start`, `now` or a position.
    pub after: Option<String>,
    /// Whether to print frames as they come instead of lines for people.
    pub json: bool,
    /// Stop after so many notifications.
    pub count: Option<u64>,
    /// What to show to a gateway that wants to know who listens.
    pub credential: Option<Secret>,
}

/// How one connection ended.
enum Ended {
    /// As many notifications came as were asked for.
    Enough,
    /// The gateway said not to come back.
    Fatal(String),
    /// Come back, after this pause if the gateway named one.
    Broken { why: String, pause: Option<Duration> },
}

/// What the client remembers from connection to connection.
struct Receiver {
    options: Options,
    position: Option<String>,
    received: u64,
    /// The pause a `drain` frame asked for.
    advised_pause: Option<Duration>,
}

/// Listens until enough notifications came or the gateway says not to come back; prints to `out`, remarks to `remarks`.
///
/// # Errors
/// When the first connection cannot be made, the gateway closes for good, or `out` cannot be written.
pub async fn run(
    options: Options,
    out: &mut impl Write,
    remarks: &mut impl Write,
) -> Result<(), CommandError> {
    let mut receiver =
        Receiver { position: options.after.clone(), options, received: 0, advised_pause: None };
    let mut backoff = MIN_BACKOFF;
    let mut ever_connected = false;
    loop {
        let before = receiver.received;
        let ended = match receiver.connect().await {
            Ok(socket) => {
                ever_connected = true;
                receiver
                    .receive(socket, out, remarks)
                    .await
                    .map_err(|error| CommandError(error.to_string()))?
            }
            Err(why) if ever_connected => Ended::Broken { why, pause: None },
            Err(why) => return Err(CommandError(why)),
        };
        match ended {
            Ended::Enough => return Ok(()),
            Ended::Fatal(why) => return Err(CommandError(why)),
            Ended::Broken { why, pause } => {
                if receiver.received > before {
                    backoff = MIN_BACKOFF;
                }
                let pause = pause.unwrap_or(backoff);
                backoff = (backoff * 2).min(MAX_BACKOFF);
                // Remarks are a courtesy: a closed standard error must not end the listening.
                let _ = writeln!(remarks, "-- {why}; coming back in {:.1} s", pause.as_secs_f64());
                tokio::time::sleep(pause).await;
            }
        }
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

impl Receiver {
    async fn connect(&self) -> Result<Socket, String> {
        let base = self.options.url.trim_end_matches('/').replacen("http", "ws", 1);
        let mut url = format!("{base}/ws/{}?ack=client", path_segment(&self.options.user));
        if let Some(position) = &self.position {
            url = format!("{url}&after={}", path_segment(position));
        }
        let mut request = url.as_str().into_client_request().map_err(|error| format!("{url}: {error}"))?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        if let Some(credential) = &self.options.credential {
            let mut value = HeaderValue::try_from(format!("Bearer {}", credential.expose()))
                .map_err(|_| "the credential is no header's value".to_owned())?;
            value.set_sensitive(true);
            request.headers_mut().insert("authorization", value);
        }
        match Box::pin(tokio_tungstenite::connect_async(request)).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                let problem: Value = serde_json::from_slice(body).unwrap_or_default();
                let detail = problem["detail"].as_str().unwrap_or("no reason given");
                Err(format!("refused with {}: {detail}", response.status()))
            }
            Err(error) => Err(format!("cannot reach {base} ({error}); is a gateway running there?")),
        }
    }

    async fn receive(
        &mut self,
        mut socket: Socket,
        out: &mut impl Write,
        remarks: &mut impl Write,
    ) -> std::io::Result<Ended> {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    if self.frame(text.as_str(), out, remarks)?
                        && let Some(position) = &self.position
                    {
                        let ack = serde_json::json!({"type": "ack", "position": position}).to_string();
                        // If the connection broke, the next read says so.
                        let _ = socket.send(Message::text(ack)).await;
                    }
                    if self.options.count.is_some_and(|count| self.received >= count) {
                        say_goodbye(socket).await;
                        return Ok(Ended::Enough);
                    }
                }
                Some(Ok(Message::Close(frame))) => return Ok(self.closed(frame)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Ok(Ended::Broken { why: error.to_string(), pause: None }),
                None => return Ok(Ended::Broken { why: "the connection ended".to_owned(), pause: None }),
            }
        }
    }

    fn closed(&mut self, frame: Option<CloseFrame>) -> Ended {
        let Some(frame) = frame else { return Ended::Broken { why: "closed".to_owned(), pause: None } };
        let why = format!("closed with {} {}", u16::from(frame.code), frame.reason);
        match u16::from(frame.code) {
            4000..=4099 | 1002 | 1003 | 1007 | 1008 | 1009 => Ended::Fatal(why),
            4200..=4299 => Ended::Broken { why, pause: Some(Duration::ZERO) },
            _ => Ended::Broken { why, pause: self.advised_pause.take() },
        }
    }

    /// Shows a frame; returns whether the position moved.
    fn frame(&mut self, text: &str, out: &mut impl Write, remarks: &mut impl Write) -> std::io::Result<bool> {
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        let field = |name: &str| frame[name].as_str().unwrap_or_default();
        let kind = field("type");
        let before = self.position.clone();
        match kind {
            "welcome" => {
                self.position = Some(field("position").to_owned());
                let _ = writeln!(remarks, "-- listening as {} behind {}", field("user"), field("position"));
            }
            // To everybody who is connected: it has no position.
            "notification" if frame["position"].is_null() => self.received += 1,
            "notification" => {
                // After a break the gateway may not know that this one had arrived.
                if !self.is_new(field("position")) {
                    return Ok(false);
                }
                if self.is_new(field("prev")) {
                    let _ = writeln!(
                        remarks,
                        "-- something is missing before the next one, and no gap announced it"
                    );
                }
                self.position = Some(field("position").to_owned());
                self.received += 1;
            }
            "gap" => self.position = Some(field("until").to_owned()),
            "drain" => self.advised_pause = frame["reconnect_in_ms"].as_u64().map(Duration::from_millis),
            _ => {}
        }
        if self.options.json {
            writeln!(out, "{text}")?;
        } else if kind == "notification" {
            writeln!(out, "{}", for_people(&frame))?;
        } else if kind == "gap" {
            let count = frame["count"].as_u64().map_or("some".to_owned(), |count| count.to_string());
            writeln!(out, "-- {count} missing ({})", field("reason"))?;
        }
        out.flush()?;
        Ok(kind != "welcome" && self.position != before)
    }

    fn is_new(&self, position: &str) -> bool {
        let parse = |text: &str| text.parse::<crate::domain::Position>().ok();
        match (self.position.as_deref().and_then(parse), parse(position)) {
            (Some(known), Some(new)) => known.epoch != new.epoch || new.number > known.number,
            _ => true,
        }
    }
}

/// Closes and waits for the answer: what was said before has arrived then.
async fn say_goodbye(mut socket: Socket) {
    let goodbye = async {
        socket.send(Message::Close(None)).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), Error>(())
    };
    // Whether it is answered changes nothing for whoever listened.
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
}

fn for_people(frame: &Value) -> String {
    let text = |name: &str| frame[name].as_str();
    let time =
        text("sent_at").and_then(|at| at.split('T').nth(1)).map_or("", |time| &time[..time.len().min(8)]);
    let from = text("from").map(|from| format!("{from}: ")).unwrap_or_default();
    let title = text("title").map(|title| format!("{title} - ")).unwrap_or_default();
    let data = frame.get("data").map(|data| format!(" {data}")).unwrap_or_default();
    // A terminal must not obey what a sender wrote.
    let line = format!("{time} {from}{title}{}{data}", text("body").unwrap_or_default());
    line.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}
