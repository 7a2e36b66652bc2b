//! The chat server that many start with: `POST /send-message` and `/ws/{user_id}` (see `examples/fastapi`).
//!
//! There is no protocol on its socket: a frame is whatever the sender's text became, so a frame in which one of our texts
//! is found is a notification and every other is a sign of life. It has no positions, topics, keys or goodbyes; scenarios
//! that need them are skipped.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Abilities, Adapter, Answer, Destination, Incoming, Request};
use crate::payload::Payload;

/// Speaks to a chat server with `POST /send-message` and `/ws/{user_id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FastApi;

/// The body of a send.
#[derive(Serialize)]
struct Message<'a> {
    user_id: &'a str,
    message: &'a str,
}

/// The two ways in which such servers say with a 200 that nothing was delivered.
#[derive(Deserialize)]
struct Said<'a> {
    delivered: Option<bool>,
    #[serde(borrow, default)]
    status: Cow<'a, str>,
}

impl Adapter for FastApi {
    fn name(&self) -> &'static str {
        "fastapi"
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            resume: false,
            topics: false,
            several_recipients: false,
            idempotency: false,
            gaps: false,
            drain: false,
        }
    }

    /// There is nothing to resume: `after` means nothing here.
    fn socket_path(&self, user: &str, _after: Option<&str>) -> String {
        format!("/ws/{}", utf8_percent_encode(user, NON_ALPHANUMERIC))
    }

    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    fn welcomes(&self) -> bool {
        false
    }

    /// Of several users only the first is sent to, and a topic is sent to as if it were a user: a scenario that needs more
    /// than one user at a time is skipped by [`Adapter::abilities`] before it comes to that.
    fn send(&self, to: &Destination, text: &str, _key: Option<&str>) -> Request {
        let user = match to {
            Destination::User(user) | Destination::Topic(user) => user,
            Destination::Users(users) => users.first().map(String::as_str).unwrap_or_default(),
        };
        let message = Message { user_id: user, message: text };
        Request {
            method: Method::POST,
            path: "/send-message".to_owned(),
            headers: Vec::new(),
            body: serde_json::to_vec(&message).expect("texts always serialize").into(),
        }
    }

    /// By status: 2xx is accepted, 429 and 503 are not now, other 4xx are refused, the rest is unknown. A 2xx is refused if
    /// its JSON says `"delivered": false` or has a `status` that contains `not connected`: there it was for nobody.
    fn answer(&self, status: StatusCode, body: &[u8]) -> Answer {
        let reason = || status.to_string();
        match status {
            status if status.is_success() => said(body),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Answer::NotNow(reason()),
            status if status.is_client_error() => Answer::Refused(reason()),
            _ => Answer::Unknown(reason()),
        }
    }

    fn decode<'a>(&self, frame: &'a str) -> Incoming<'a> {
        match Payload::find(frame) {
            Some(_) => Incoming::Notification { payload: Cow::Borrowed(frame), position: None, trace: None },
            None => Incoming::Other,
        }
    }

    fn ack(&self, _position: &str, _traceparent: Option<&str>) -> Option<String> {
        None
    }

    /// Never: there are no positions.
    fn reached(&self, _a: &str, _b: &str) -> bool {
        false
    }

    fn subscribe(&self, _topic: &str, _users: &[String]) -> Vec<Request> {
        Vec::new()
    }

    fn clean_up(&self, _topic: Option<&str>, _users: &[String]) -> Vec<Request> {
        Vec::new()
    }
}

/// What the body of a success says; whatever is not understood says nothing against it.
fn said(body: &[u8]) -> Answer {
    match serde_json::from_slice::<Said<'_>>(body) {
        Ok(Said { delivered: Some(false), .. }) => Answer::Refused("delivered: false".to_owned()),
        Ok(Said { status, .. }) if status.contains("not connected") => Answer::Refused(status.into_owned()),
        _ => Answer::Accepted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_send_names_one_user() {
        let request = FastApi.send(&Destination::User("bob".to_owned()), "say \"hi\"", Some("ignored"));
        assert_eq!((&request.method, &*request.path), (&Method::POST, "/send-message"));
        assert_eq!(request.headers, []);
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body, json!({"user_id": "bob", "message": "say \"hi\""}));
    }

    #[test]
    fn a_socket_has_no_query() {
        assert_eq!(FastApi.socket_path("a/b", Some("e-1")), "/ws/a%2Fb");
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let answer =
            |status: u16, body: &str| FastApi.answer(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        for body in
            ["", "ok", "[]", "null", r#"{"delivered":true}"#, r#"{"status":"sent"}"#, r#"{"status":1}"#]
        {
            assert_eq!(answer(200, body), Answer::Accepted, "{body}");
        }
        assert_eq!(answer(201, ""), Answer::Accepted);
        assert!(matches!(answer(200, r#"{"delivered":false}"#), Answer::Refused(_)));
        let away = r#"{"status":"user not connected"}"#;
        assert_eq!(answer(200, away), Answer::Refused("user not connected".to_owned()));
        assert_eq!(answer(404, ""), Answer::Refused("404 Not Found".to_owned()));
        assert!(matches!(answer(429, ""), Answer::NotNow(_)));
        assert!(matches!(answer(503, ""), Answer::NotNow(_)));
        assert!(matches!(answer(500, "Internal Server Error"), Answer::Unknown(_)));
    }

    #[test]
    fn our_text_is_a_notification_in_whatever_wrapping() {
        let payload = Payload { run: "r1", stream: 7, number: 42, intended: 1_000, begun: 1_020 };
        for frame in
            [payload.to_text(120), format!("{{\"from\":\"x\",\"message\":\"{}\"}}", payload.to_text(1))]
        {
            let heard = FastApi.decode(&frame);
            let Incoming::Notification { payload: text, position: None, trace: None } = heard else {
                panic!("{frame}")
            };
            assert_eq!(Payload::find(&text), Some(payload));
        }
        for frame in ["", "hello", "alice joined", "loadtest|r1|"] {
            assert_eq!(FastApi.decode(frame), Incoming::Other, "{frame}");
        }
    }
}
