//! A client of server-sent events (HTML Living Standard §9.2): takes events apart, remembers the last id.

use reqwest::Method;
use serde_json::Value;

use super::{Answer, Gateway, segment, within};

/// An open stream of one user.
#[derive(Debug)]
pub(crate) struct EventSource {
    response: reqwest::Response,
    unread: Vec<u8>,
    /// The `id` of the last event that had one.
    pub(crate) last_id: String,
    /// What the gateway said about coming back, in milliseconds.
    pub(crate) retry: Option<u64>,
}

/// One event with data.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) id: Option<String>,
    pub(crate) frame: Value,
}

impl Gateway {
    /// Opens a stream for `user` and reads its welcome.
    pub(crate) async fn stream(&self, user: &str) -> EventSource {
        let request = self.request(Method::GET, &format!("/sse/{}", segment(user)));
        let mut stream = EventSource::open(request).await.expect("the stream is not refused");
        assert_eq!(stream.next().await.expect("a welcome").kind, "welcome");
        stream
    }
}

impl EventSource {
    /// Opens a stream and reads nothing; returns how the gateway refused if it did.
    pub(crate) async fn open(request: reqwest::RequestBuilder) -> Result<Self, Answer> {
        let response = within("an answer", request.send()).await.expect("the gateway answers");
        if response.status() != 200 {
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let bytes = within("the refusal", response.bytes()).await.expect("the body arrives whole");
            return Err(Answer::new(status, headers, &bytes));
        }
        Ok(Self { response, unread: Vec::new(), last_id: String::new(), retry: None })
    }

    /// A header of the answer.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().expect("headers here are ASCII"))
    }

    /// The next event, `None` when the stream is at its end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                if let Some(event) = self.understand(std::str::from_utf8(&block).expect("events are UTF-8")) {
                    return Some(event);
                }
                continue;
            }
            let chunk = within("an event", self.response.chunk()).await;
            match chunk.expect("the stream does not break") {
                Some(chunk) => self.unread.extend_from_slice(&chunk),
                None => {
                    assert!(self.unread.is_empty(), "the stream ended within an event");
                    return None;
                }
            }
        }
    }

    /// The next event that is no heartbeat.
    pub(crate) async fn event(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("the stream is still open");
            if event.kind != "heartbeat" {
                return event;
            }
        }
    }

    /// The code in the last event of a stream that the gateway ends; nothing comes behind it.
    pub(crate) async fn expect_closed(&mut self) -> u64 {
        let close = self.event().await;
        assert_eq!((close.kind.as_str(), &close.id), ("close", &None), "{close:?}");
        assert!(close.frame["reason"].is_string(), "{close:?}");
        assert!(self.next().await.is_none(), "the stream ends");
        close.frame["code"].as_u64().expect("a code")
    }

    /// The next notifications' texts; each id is the notification's position.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::with_capacity(count);
        for _ in 0..count {
            let event = self.event().await;
            assert_eq!(event.kind, "notification", "{event:?}");
            assert_eq!(event.id.as_deref(), event.frame["position"].as_str(), "{event:?}");
            texts.push(event.frame["body"].as_str().expect("the test sends texts").to_owned());
        }
        texts
    }

    fn understand(&mut self, block: &str) -> Option<Event> {
        let (mut kind, mut id, mut data) = (None, None, Vec::new());
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}")) {
                ("event", value) => kind = Some(value.to_owned()),
                ("id", value) => id = Some(value.to_owned()),
                ("data", value) => data.push(value),
                ("retry", value) => self.retry = Some(value.parse().expect("milliseconds")),
                (field, _) => panic!("an unknown field: {field}"),
            }
        }
        self.last_id = id.clone().unwrap_or_else(|| std::mem::take(&mut self.last_id));
        if data.is_empty() {
            return None;
        }
        assert_eq!(data.len(), 1, "a frame is one line: {block:?}");
        let frame: Value = serde_json::from_str(data[0]).expect("a frame is JSON");
        let kind = kind.expect("every event has a type");
        assert_eq!(frame["type"], kind, "the event is named after its frame");
        Some(Event { kind, id, frame })
    }
}
