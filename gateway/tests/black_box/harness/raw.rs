//! HTTP by hand, for requests that no decent client sends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::tcp_connection;
use super::{Answer, Gateway, HeaderMap, within};

impl Gateway {
    /// Sends these bytes, which have to ask for `Connection: close`, and reads the answer.
    pub(crate) async fn exchange(&self, request: &[u8]) -> Answer {
        let mut stream = tcp_connection(self.address(), None).await;
        within("the request to be taken", stream.write_all(request)).await.expect("the gateway reads");
        let mut answer = Vec::new();
        within("an answer and its end", stream.read_to_end(&mut answer)).await.expect("an orderly end");
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an HTTP answer");
        let head = std::str::from_utf8(&answer[..end]).expect("a head is ASCII");
        let (status_line, lines) = head.split_once("\r\n").expect("an answer has headers");
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let headers: HeaderMap = lines
            .split("\r\n")
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        Answer::new(status.expect("a status"), headers, &answer[end + 4..])
    }
}
