//! Everywhere a receiver can show a token, and what comes of it.

use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Answer, Dial, EventSource, Gateway, segment};

/// A way to show a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Reading the mailbox over HTTP.
    Pull,
    /// Acking over HTTP.
    Ack,
    /// A WebSocket of a client that knows no subprotocol.
    Socket,
    /// A WebSocket of a client that offers `notify.v1` and shows its token in a header.
    NamedSocket,
    /// A WebSocket as browsers open it.
    BrowserSocket,
    /// Server-sent events.
    Stream,
    /// Sending, with a token whose scope says so.
    Send,
}

/// How a door answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Open,
    /// 401 or, at a socket that offers `notify.v1`, 4001.
    Unauthorized,
    /// 403, or 4003.
    Forbidden,
    /// Anything else, which no test expects.
    Odd(u16),
}

/// Whose doors they are.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) user: String,
    /// Something to ack.
    pub(crate) position: String,
    /// What stands in the query beside what the door needs.
    pub(crate) parameter: Option<String>,
}

impl Door {
    pub(crate) const ALL: [Self; 7] = [
        Self::Pull,
        Self::Ack,
        Self::Socket,
        Self::NamedSocket,
        Self::BrowserSocket,
        Self::Stream,
        Self::Send,
    ];

    /// Those that belong to one user.
    pub(crate) const RECEIVING: [Self; 6] =
        [Self::Pull, Self::Ack, Self::Socket, Self::NamedSocket, Self::BrowserSocket, Self::Stream];
}

impl Place<'_> {
    /// The same place with something more in the address.
    pub(crate) fn with_parameter(&self, pair: String) -> Self {
        Self { parameter: Some(pair), ..self.clone() }
    }

    /// Shows the credential at one door.
    pub(crate) async fn knock(&self, door: Door, credential: Option<&str>) -> Verdict {
        let header = credential.map(|text| format!("Bearer {text}"));
        let user = segment(&self.user);
        match door {
            Door::Pull => {
                self.ask(Method::GET, &format!("/v1/users/{user}/notifications"), header, None).await
            }
            Door::Ack => {
                let body = json!({"position": self.position});
                self.ask(Method::POST, &format!("/v1/users/{user}/acks"), header, Some(body)).await
            }
            Door::Send => {
                let body = json!({"to": ["nobody"], "body": "knock", "ttl_seconds": 1});
                self.ask(Method::POST, "/v1/notifications", header, Some(body)).await
            }
            Door::Stream => {
                let request = self.request(Method::GET, &format!("/sse/{user}"), header);
                match EventSource::open(request).await {
                    Ok(_) => Verdict::Open,
                    Err(answer) => of_answer(&answer),
                }
            }
            Door::Socket => self.dial(self.dialling(header)).await,
            Door::NamedSocket => self.dial(self.dialling(header).subprotocol("notify.v1")).await,
            Door::BrowserSocket => {
                let bearer = credential.map(|text| format!(", bearer.{text}")).unwrap_or_default();
                self.dial(self.dialling(None).subprotocol(&format!("notify.v1{bearer}"))).await
            }
        }
    }

    /// What is wrong if a credential shown at these doors does not get this verdict everywhere.
    pub(crate) async fn unlike(
        &self,
        verdict: Verdict,
        doors: &[Door],
        what: &str,
        credential: Option<&str>,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for door in doors {
            let got = self.knock(*door, credential).await;
            if got != verdict {
                wrong.push(format!("{what} at {door:?}: {got:?} instead of {verdict:?}"));
            }
        }
        wrong
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        header: Option<String>,
        body: Option<serde_json::Value>,
    ) -> Verdict {
        let request = self.request(method, path, header);
        let request = body.iter().fold(request, |request, body| request.json(body));
        of_answer(&Answer::of(request).await)
    }

    fn request(&self, method: Method, path: &str, header: Option<String>) -> reqwest::RequestBuilder {
        let query = self.parameter.as_ref().map(|pair| format!("?{pair}")).unwrap_or_default();
        let request = self.gateway.request(method, &format!("{path}{query}"));
        header.into_iter().fold(request, |request, value| request.header("authorization", value))
    }

    fn dialling(&self, header: Option<String>) -> Dial {
        let dial = self.gateway.dial(&self.user);
        let dial = self.parameter.iter().fold(dial, |dial, pair| dial.parameter(pair));
        header.into_iter().fold(dial, |dial, value| dial.header("authorization", &value))
    }

    async fn dial(&self, dial: Dial) -> Verdict {
        verdict_on(dial).await
    }
}

/// Opens a socket and says how it went; a client that is told by a close frame is told nothing else before.
pub(crate) async fn verdict_on(dial: Dial) -> Verdict {
    let (mut receiver, selected) = match dial.connect().await {
        Ok(opened) => opened,
        Err(answer) => return of_answer(&answer),
    };
    let selected: Vec<_> = selected.get_all("sec-websocket-protocol").iter().collect();
    assert!(selected.is_empty() || selected == ["notify.v1"], "{selected:?}");
    match receiver.next_message().await {
        Some(Message::Text(text)) if text.as_str().contains(r#""type":"welcome""#) => Verdict::Open,
        Some(Message::Close(Some(frame))) => {
            let (code, reason): (u16, _) = (frame.code.into(), frame.reason.as_str());
            match (code, reason) {
                (4001, "invalid_token") => Verdict::Unauthorized,
                (4003, "forbidden") => Verdict::Forbidden,
                (code, _) => Verdict::Odd(code),
            }
        }
        other => panic!("neither a welcome nor a close: {other:?}"),
    }
}

/// An answer's verdict; a refusal has to look like one.
pub(crate) fn of_answer(answer: &Answer) -> Verdict {
    match answer.status {
        200..=299 => Verdict::Open,
        401 => {
            answer.refused(401, None);
            let challenge = answer.header("www-authenticate");
            assert!(challenge.starts_with("Bearer"), "RFC 9110 §11.6.1: {challenge:?}");
            Verdict::Unauthorized
        }
        403 => {
            answer.refused(403, None);
            Verdict::Forbidden
        }
        status => Verdict::Odd(status),
    }
}
