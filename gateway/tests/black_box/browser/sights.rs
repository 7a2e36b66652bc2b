//! What a browser's developer tools saw: the console, and the network as far as pages used it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;
use thirtyfour::BrowserLogEntry;

/// Words of a page's policy that was violated; no test expects that.
const VIOLATIONS: [&str; 4] =
    ["Content Security Policy", "Content-Security-Policy", "TrustedHTML", "Trusted Type"];

/// Addresses that lead to nobody.
const NOWHERE: [&str; 4] = ["data:", "blob:", "about:", "chrome:"];

/// Everything from the start of the browser until now, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sights {
    /// Warnings and errors, with where they come from.
    pub(crate) console: Vec<String>,
    /// The address of each request and of each WebSocket.
    pub(crate) requests: Vec<String>,
    /// The frames of WebSockets that pages sent.
    pub(crate) sent: Vec<Value>,
    /// The frames of WebSockets that pages received.
    pub(crate) received: Vec<Value>,
}

impl Sights {
    /// Takes in what two logs say that was not said before.
    pub(super) fn add(&mut self, console: &[BrowserLogEntry], network: &[BrowserLogEntry]) {
        let complaints = console.iter().filter(|entry| matches!(entry.level.as_str(), "WARNING" | "SEVERE"));
        self.console.extend(complaints.map(|entry| format!("{} {}", entry.level, entry.message)));
        for entry in network {
            let event: Value = serde_json::from_str(&entry.message).expect("an event is JSON");
            self.add_event(&event["message"]);
        }
    }

    fn add_event(&mut self, event: &Value) {
        let parameters = &event["params"];
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        match event["method"].as_str().expect("an event has a name") {
            "Network.requestWillBeSent" => self.requests.push(text(&parameters["request"]["url"])),
            "Network.webSocketCreated" => self.requests.push(text(&parameters["url"])),
            "Network.webSocketFrameSent" => self.sent.extend(frame(parameters)),
            "Network.webSocketFrameReceived" => self.received.extend(frame(parameters)),
            _ => {}
        }
    }

    /// Fails unless the console was silent, but for lines with one of the `expected` texts, and requests went to `hosts` only.
    #[track_caller]
    pub(crate) fn check(&self, hosts: &[SocketAddr], expected: &[&str]) {
        let violates = |line: &&String| VIOLATIONS.iter().any(|words| line.contains(words));
        let violations: Vec<_> = self.console.iter().filter(violates).collect();
        assert!(violations.is_empty(), "a page broke its policy: {violations:#?}");
        let is_expected = |line: &&String| expected.iter().any(|text| line.contains(text));
        let surprises: Vec<_> = self.console.iter().filter(|line| !is_expected(line)).collect();
        assert!(surprises.is_empty(), "the console should be silent: {surprises:#?}");

        let allowed = |url: &String| {
            let authority = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next());
            NOWHERE.iter().any(|scheme| url.starts_with(scheme))
                || hosts.iter().any(|host| authority == Some(host.to_string().as_str()))
        };
        let strangers: BTreeSet<_> = self.requests.iter().filter(|url| !allowed(url)).collect();
        assert!(strangers.is_empty(), "requests to others than {hosts:?}: {strangers:#?}");
        assert!(!self.requests.is_empty(), "at least the page was asked for");
    }
}

/// The text frame of an event, if it is one of this protocol.
fn frame(parameters: &Value) -> Option<Value> {
    serde_json::from_str(parameters["response"]["payloadData"].as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> [SocketAddr; 1] {
        [SocketAddr::from(([127, 0, 0, 1], 8000))]
    }

    fn sights(console: &[&str], requests: &[&str]) -> Sights {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Sights { console: texts(console), requests: texts(requests), ..Sights::default() }
    }

    #[test]
    fn a_silent_console_and_requests_to_known_hosts_are_fine() {
        sights(&[], &["http://127.0.0.1:8000/", "ws://127.0.0.1:8000/ws/bob?ack=client", "data:,x"])
            .check(&here(), &[]);
        sights(&["SEVERE net::ERR_FAILED"], &["http://127.0.0.1:8000"]).check(&here(), &["net::ERR"]);
    }

    #[test]
    #[should_panic(expected = "the console should be silent")]
    fn an_unexpected_line_in_the_console_is_noticed() {
        sights(&["SEVERE Uncaught"], &["http://127.0.0.1:8000/"]).check(&here(), &["net::ERR"]);
    }

    #[test]
    #[should_panic(expected = "a page broke its policy")]
    fn a_violated_policy_is_never_expected() {
        let line = "SEVERE Refused to load because it violates the Content Security Policy net::ERR";
        sights(&[line], &["http://127.0.0.1:8000/"]).check(&here(), &["net::ERR"]);
    }

    #[test]
    #[should_panic(expected = "requests to others")]
    fn a_request_to_another_port_is_noticed() {
        sights(&[], &["http://127.0.0.1:8000/", "http://127.0.0.1:8001/127.0.0.1:8000"]).check(&here(), &[]);
    }
}
