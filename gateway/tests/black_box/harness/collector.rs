//! An OTLP collector inside the test: it keeps every span it receives, and it can come late, say nothing, die and come back.
//!
//! It runs on threads of its own, so that its death takes every connection with it and a test's own runtime never delays it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span as ReceivedSpan, TracesData};
use serde_json::{Map, Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::process_harness::{PATIENCE, until_some};

/// A port that nobody else gets. Connections to it are refused while no collector listens.
pub(crate) struct CollectorPort {
    address: SocketAddr,
    _held: TcpSocket,
}

/// A collector that listens.
pub(crate) struct Collector {
    endpoint: String,
    address: SocketAddr,
    spans: watch::Receiver<Vec<Span>>,
    // Taken when it dies.
    runtime: Option<Runtime>,
}

/// What a collector knows about a span.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// 32 hexadecimal digits.
    pub(crate) trace: String,
    /// 16 hexadecimal digits.
    pub(crate) id: String,
    /// `None` for a root.
    pub(crate) parent: Option<String>,
    /// Nanoseconds since the Unix epoch.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// As JSON: numbers stay numbers and texts stay texts.
    pub(crate) attributes: Map<String, Value>,
    /// Names of attributes that came more than once, which no span may have.
    pub(crate) repeated: Vec<String>,
    /// Trace id and span id of each link.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) status: StatusCode,
    /// Attributes of the process that made it.
    pub(crate) resource: Arc<Map<String, Value>>,
    pub(crate) scope: String,
}

impl Span {
    /// An attribute's value, `null` without the attribute.
    pub(crate) fn attribute(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or(&Value::Null)
    }

    /// How others name it: trace id and span id.
    pub(crate) fn context(&self) -> (String, String) {
        (self.trace.clone(), self.id.clone())
    }

    /// What a frame says of it.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }

    pub(crate) fn is_child_of(&self, parent: &Self) -> bool {
        self.trace == parent.trace && self.parent.as_deref() == Some(parent.id.as_str())
    }

    pub(crate) fn failed(&self) -> bool {
        self.status == StatusCode::Error
    }
}

impl CollectorPort {
    /// Takes a port without listening on it.
    pub(crate) fn reserve() -> Self {
        let held = shared_socket("127.0.0.1:0".parse().unwrap());
        Self { address: held.local_addr().unwrap(), _held: held }
    }

    /// What the gateway is told.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Begins to listen.
    pub(crate) fn listen(&self) -> Collector {
        Collector::listen_at(self.address, Manner::Answers)
    }
}

impl Collector {
    /// One that is there from the start.
    pub(crate) fn start() -> Self {
        Self::listen_at("127.0.0.1:0".parse().unwrap(), Manner::Answers)
    }

    /// One that takes connections and requests, keeps what they say, and never answers.
    pub(crate) fn start_silent() -> Self {
        Self::listen_at("127.0.0.1:0".parse().unwrap(), Manner::IsSilent)
    }

    fn listen_at(address: SocketAddr, manner: Manner) -> Self {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = threads.worker_threads(1).enable_all().build().unwrap();
        let (keep, spans) = watch::channel(Vec::new());
        let listener = {
            let _reactor = runtime.enter();
            shared_socket(address).listen(64).unwrap()
        };
        let address = listener.local_addr().unwrap();
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(TraceServiceServer::new(Keeper { keep, manner }))
                .serve_with_incoming(TcpIncoming::from(listener)),
        );
        Self { endpoint: format!("http://{address}"), address, spans, runtime: Some(runtime) }
    }

    /// The variables that make a gateway report here, soon after each span, and `more`.
    pub(crate) fn variables<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        reporting_to(&self.endpoint, more)
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Everything that came so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.borrow().clone()
    }

    /// Waits until what came so far contains what `look` looks for.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut(&[Span]) -> Option<T>) -> T {
        let (mut spans, mut found) = (self.spans.clone(), None);
        let looking = spans.wait_for(|spans| {
            found = look(spans);
            found.is_some()
        });
        let ended = tokio::time::timeout(PATIENCE, looking).await.map(|seen| seen.is_ok());
        found.unwrap_or_else(|| panic!("{ended:?}: no {what} among {}", self.overview()))
    }

    /// Waits for a span of this name that has these attributes.
    pub(crate) async fn span(&self, name: &str, attributes: &Value) -> Span {
        self.until(&format!("{name} with {attributes}"), |spans| {
            spans.iter().find(|span| span.name == name && has(span, attributes)).cloned()
        })
        .await
    }

    /// Waits until exactly so many spans of this name and with these attributes are there, sorted by their start.
    pub(crate) async fn spans_of(&self, name: &str, attributes: &Value, count: usize) -> Vec<Span> {
        let mut found = self
            .until(&format!("{count} {name} with {attributes}"), |spans| {
                let found: Vec<Span> =
                    spans.iter().filter(|span| span.name == name && has(span, attributes)).cloned().collect();
                (found.len() >= count).then_some(found)
            })
            .await;
        assert_eq!(found.len(), count, "{name} with {attributes}: {found:#?}");
        found.sort_by_key(|span| span.start);
        found
    }

    /// Ends it with all its connections; returns once connections are refused.
    pub(crate) async fn die(mut self) {
        let runtime = self.runtime.take().expect("it dies once");
        runtime.shutdown_background();
        until_some("connections to be refused", async || TcpStream::connect(self.address).await.err()).await;
    }

    fn overview(&self) -> String {
        let mut counts = BTreeMap::new();
        for span in self.spans.borrow().iter() {
            *counts.entry(format!("{} {:?}", span.name, span.kind)).or_insert(0) += 1;
        }
        format!("{counts:#?}")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The variables that make a gateway report to this endpoint, soon after each span, and `more`.
pub(crate) fn reporting_to<'a>(endpoint: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")], more].concat()
}

fn has(span: &Span, attributes: &Value) -> bool {
    let wanted = attributes.as_object().expect("attributes are an object");
    wanted.iter().all(|(name, value)| span.attribute(name) == value)
}

/// A socket that others of the same user may bind, too: one holds the port while another listens, dies and comes back.
fn shared_socket(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

#[derive(Clone, Copy)]
enum Manner {
    Answers,
    IsSilent,
}

struct Keeper {
    keep: watch::Sender<Vec<Span>>,
    manner: Manner,
}

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let received = TracesData { resource_spans: request.into_inner().resource_spans };
        self.keep.send_modify(|spans| spans.extend(understand(received)));
        if let Manner::IsSilent = self.manner {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn understand(received: TracesData) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_process in received.resource_spans {
        let resource = of_process.resource.map(|resource| attributes(resource.attributes).0);
        let resource = Arc::new(resource.unwrap_or_default());
        for of_scope in of_process.scope_spans {
            let scope = of_scope.scope.unwrap_or_else(InstrumentationScope::default).name;
            spans.extend(of_scope.spans.into_iter().map(|span| kept(span, &resource, &scope)));
        }
    }
    spans
}

fn kept(span: ReceivedSpan, resource: &Arc<Map<String, Value>>, scope: &str) -> Span {
    let (kind, status) =
        (span.kind(), span.status.as_ref().map_or(StatusCode::Unset, |status| status.code()));
    let (attributes, repeated) = attributes(span.attributes);
    Span {
        name: span.name,
        kind,
        trace: digits(&span.trace_id, 16),
        id: digits(&span.span_id, 8),
        parent: (!span.parent_span_id.is_empty()).then(|| digits(&span.parent_span_id, 8)),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes,
        repeated,
        links: span.links.iter().map(|link| (digits(&link.trace_id, 16), digits(&link.span_id, 8))).collect(),
        status,
        resource: Arc::clone(resource),
        scope: scope.to_owned(),
    }
}

/// An id as it is written; ids of another length or of zeros only are invalid.
fn digits(id: &[u8], length: usize) -> String {
    assert_eq!(id.len(), length, "{id:?}");
    assert!(id.iter().any(|byte| *byte != 0), "{id:?}");
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The attributes by name, and the names that came more than once.
fn attributes(pairs: Vec<KeyValue>) -> (Map<String, Value>, Vec<String>) {
    let (mut attributes, mut repeated) = (Map::new(), Vec::new());
    for pair in pairs {
        let value = match pair.value.and_then(|value| value.value) {
            Some(AnyValue::StringValue(text)) => json!(text),
            Some(AnyValue::BoolValue(bool)) => json!(bool),
            Some(AnyValue::IntValue(number)) => json!(number),
            Some(AnyValue::DoubleValue(number)) => json!(number),
            other => json!(format!("{other:?}")),
        };
        if attributes.insert(pair.key.clone(), value).is_some() {
            repeated.push(pair.key);
        }
    }
    (attributes, repeated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reserved_port_refuses_until_somebody_listens_and_again_after_its_death() {
        let port = CollectorPort::reserve();
        let connect = async || TcpStream::connect(port.address).await;
        for _ in 0..3 {
            connect().await.expect_err("nobody listens");
            let collector = port.listen();
            let connection = connect().await.expect("it listens");
            collector.die().await;
            // Its connections died with it.
            until_some("the end of a connection", async || {
                let ended = connection.try_read(&mut [0; 64]);
                matches!(ended, Ok(0)).then_some(())
            })
            .await;
        }
    }
}
