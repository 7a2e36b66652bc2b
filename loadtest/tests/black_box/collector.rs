//! A collector of spans in this process: it speaks OTLP over gRPC and keeps what it is sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// A span and the service that made it.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) service: String,
    pub(crate) span: Span,
}

impl Received {
    /// An attribute's value in words.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        text_of(&self.span.attributes, name)
    }

    /// Trace and span, as a `traceparent` of a recorded span names them.
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-01", hex(&self.span.trace_id), hex(&self.span.span_id))
    }

    /// Trace and parent, likewise.
    pub(crate) fn parent(&self) -> String {
        format!("00-{}-{}-01", hex(&self.span.trace_id), hex(&self.span.parent_span_id))
    }

    /// What it is linked to, likewise.
    pub(crate) fn links(&self) -> Vec<String> {
        let name = |trace: &[u8], span: &[u8]| format!("00-{}-{}-01", hex(trace), hex(span));
        self.span.links.iter().map(|link| name(&link.trace_id, &link.span_id)).collect()
    }
}

/// A running collector, ended when dropped.
pub(crate) struct Collector {
    address: SocketAddr,
    spans: Spans,
    serving: AbortHandle,
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Received>>>);

impl Collector {
    /// Starts one on a port that the system chooses. Its test needs a runtime of several threads.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let spans = Spans::default();
        let service = Server::builder().add_service(TraceServiceServer::new(spans.clone()));
        let serving = tokio::spawn(service.serve_with_incoming(TcpIncoming::from(listener))).abort_handle();
        Self { address, spans, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has come so far under this name.
    pub(crate) fn named(&self, name: &str) -> Vec<Received> {
        let spans = self.spans.0.lock().unwrap();
        spans.iter().filter(|received| received.span.name == name).cloned().collect()
    }

    /// How many spans have come so far.
    pub(crate) fn count(&self) -> usize {
        self.spans.0.lock().unwrap().len()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let mut spans = self.0.lock().unwrap();
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.unwrap_or_default();
            let service = text_of(&resource.attributes, "service.name").unwrap_or_default();
            for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
                spans.push(Received { service: service.clone(), span });
            }
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text_of(attributes: &[KeyValue], name: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == name)?;
    Some(match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
