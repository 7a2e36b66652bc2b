//! What the environment says of traces: the standard variables of OpenTelemetry, read once before a run.
//!
//! Of a variable that cannot be followed the SDK would write a log line that nobody sees, and then do something else, as
//! recording every span. Here it is a mistake in the command line.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::Sampler;

/// The part of the traces that is recorded if nobody said otherwise: 2,000 sends a second would bury any collector.
const DEFAULT_RATIO: &str = "0.01";

/// Spans that may wait for the collector if nobody said otherwise. The SDK's default of 2,048 is a second of a small load.
const DEFAULT_QUEUE_SPANS: usize = 8_192;

/// How long a span waits for others, milliseconds, if nobody said otherwise; the SDK's default is 5,000.
const DEFAULT_DELAY_MS: u64 = 1_000;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
/// The gateway's own setting: a sender's decision counts.
const GATEWAY_TRUST: &str = "GATEWAY_TRACE_TRUST_REMOTE_SAMPLING";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";

const INSECURE: &str = "OTEL_EXPORTER_OTLP_INSECURE";
const TRACES_INSECURE: &str = "OTEL_EXPORTER_OTLP_TRACES_INSECURE";

/// What a gateway that is started for the run is told as well, as it is: the way to the collector.
const SHARED: [&str; 8] = [
    ENDPOINT,
    TRACES_ENDPOINT,
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    INSECURE,
    TRACES_INSECURE,
];

/// Where spans go and which are recorded.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The collector's address: `http://…`.
    pub(super) endpoint: String,
    /// Which traces are recorded.
    pub(super) sampler: Sampler,
    /// Spans that may wait for the collector.
    pub(super) queue_spans: usize,
    /// How long a span waits for others.
    pub(super) export_every: Duration,
    /// Whether the environment names the service.
    is_named: bool,
    /// Variables for a gateway that is started for the run.
    shared: Vec<(&'static str, String)>,
}

impl Settings {
    /// Asks for each variable by its name. `None`: there is no collector, or the SDK is disabled.
    ///
    /// # Errors
    /// When a variable cannot be followed, in one line that names it and quotes no address, which may hold a password.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        // An empty variable is as good as none, as the specification has it.
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let is =
            |name: &str, wanted: &str| variable(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
        let is_disabled = is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none");
        let endpoint = [TRACES_ENDPOINT, ENDPOINT].into_iter().find_map(|name| Some((name, variable(name)?)));
        let Some((name, endpoint)) = endpoint.filter(|_| !is_disabled) else { return Ok(None) };
        // It speaks of addresses that do not say it themselves.
        let insecure = variable(TRACES_INSECURE).or_else(|| variable(INSECURE));
        let scheme = match insecure {
            Some(value) if value.eq_ignore_ascii_case("true") && !endpoint.contains("://") => "http://",
            _ => "",
        };
        let endpoint = format!("{scheme}{endpoint}");
        check_endpoint(name, &endpoint)?;
        check_protocol(&variable)?;
        let (kind, argument) = match (variable(SAMPLER), variable(SAMPLER_ARGUMENT)) {
            (Some(kind), argument) => (kind, argument.unwrap_or_else(|| "1".to_owned())),
            (None, argument) => {
                ("parentbased_traceidratio".to_owned(), argument.unwrap_or_else(|| DEFAULT_RATIO.to_owned()))
            }
        };
        let sampler = sampler(&kind, &argument)?;
        let queue_spans = number(QUEUE, variable(QUEUE))?.unwrap_or(DEFAULT_QUEUE_SPANS);
        let delay = number(DELAY, variable(DELAY))?.unwrap_or(DEFAULT_DELAY_MS);
        let is_named = variable(SERVICE_NAME).is_some()
            || variable(RESOURCE_ATTRIBUTES).is_some_and(|attributes| names_a_service(&attributes));
        let shared = SHARED.into_iter().filter_map(|name| Some((name, variable(name)?)));
        // A gateway of the run's own records what the run does, and nothing else.
        let following = [(SAMPLER, "parentbased_always_off"), (GATEWAY_TRUST, "true")];
        let shared = shared.chain(following.map(|(name, value)| (name, value.to_owned()))).collect();
        let export_every = Duration::from_millis(delay);
        Ok(Some(Self { endpoint, sampler, queue_spans, export_every, is_named, shared }))
    }

    /// Variables that let a gateway that is started for the run record the same traces and bring them to the same
    /// collector, under a name of its own.
    #[must_use]
    pub fn shared(&self) -> Vec<(&'static str, String)> {
        self.shared.clone()
    }

    /// Who made the spans: `loadtest`, unless the environment says otherwise, and what else it says.
    pub(super) fn resource(&self) -> Resource {
        let resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if self.is_named { resource.build() } else { resource.with_service_name("loadtest").build() }
    }
}

fn check_endpoint(name: &str, endpoint: &str) -> Result<(), String> {
    let wanted = "an address like http://127.0.0.1:4317";
    match endpoint.parse::<reqwest::Url>() {
        Ok(url) if url.scheme() == "http" && url.host_str().is_some() => Ok(()),
        Ok(url) if url.scheme() == "https" => {
            Err(format!("{name} is an https:// address, and traces are sent without TLS: {wanted} is needed"))
        }
        _ => Err(format!("{name} is not {wanted}")),
    }
}

fn check_protocol(variable: &impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    match names.into_iter().find_map(|name| Some((name, variable(name)?))) {
        Some((name, protocol)) if protocol != "grpc" => {
            Err(format!("{name} is {protocol:?}, and traces are sent by grpc only"))
        }
        _ => Ok(()),
    }
}

fn sampler(kind: &str, argument: &str) -> Result<Sampler, String> {
    let ratio = || match argument.trim().parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Sampler::TraceIdRatioBased(ratio)),
        _ => Err(format!("{SAMPLER_ARGUMENT} is {argument:?}, not a ratio from 0 to 1")),
    };
    let of_parent = |root: Sampler| Sampler::ParentBased(Box::new(root));
    match kind {
        "always_on" => Ok(Sampler::AlwaysOn),
        "always_off" => Ok(Sampler::AlwaysOff),
        "traceidratio" => ratio(),
        "parentbased_always_on" => Ok(of_parent(Sampler::AlwaysOn)),
        "parentbased_always_off" => Ok(of_parent(Sampler::AlwaysOff)),
        "parentbased_traceidratio" => ratio().map(of_parent),
        _ => Err(format!(
            "{SAMPLER} is {kind:?}, not always_on, always_off, traceidratio or one of these with parentbased_ before it"
        )),
    }
}

/// A number above 0, if there is one.
fn number<N: std::str::FromStr + PartialOrd + Default>(
    name: &str,
    value: Option<String>,
) -> Result<Option<N>, String> {
    let Some(value) = value else { return Ok(None) };
    match value.trim().parse::<N>() {
        Ok(number) if number > N::default() => Ok(Some(number)),
        _ => Err(format!("{name} is {value:?}, not a whole number above 0")),
    }
}

fn names_a_service(attributes: &str) -> bool {
    attributes.split(',').filter_map(|pair| pair.split_once('=')).any(|(key, _)| key.trim() == "service.name")
}

#[cfg(test)]
mod tests;
