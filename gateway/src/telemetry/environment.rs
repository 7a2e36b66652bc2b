//! The standard variables of OpenTelemetry that decide whether and how spans are exported.
//!
//! Only those that the gateway itself has to judge; the rest (headers, time-outs, compression, the batches' `OTEL_BSP_…`) is
//! read by the SDK. A value that cannot be honoured refuses to start rather than do something else silently.

use opentelemetry_sdk::trace::Sampler;

use crate::config::ConfigError;

/// The endpoint for all signals, and the one for traces, which wins.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const INSECURE: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"];
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const QUEUE_SIZE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";

/// Spans that wait for the collector, at most: four times the SDK's default, so that a burst passes.
const DEFAULT_QUEUE_SPANS: usize = 8_192;

/// Where spans go and which ones are recorded.
#[derive(Debug, Clone)]
pub(super) struct Export {
    /// What decides about a trace that begins here.
    pub(super) sampler: Sampler,
    /// Whether a parent's decision counts at all.
    pub(super) parent_based: bool,
    /// The name that spans carry; `None` if the resource's attributes have one.
    pub(super) service_name: Option<String>,
    /// Spans that may wait to be exported.
    pub(super) queue_spans: usize,
}

impl Export {
    /// Reads the variables; `None` when nothing is to be exported.
    ///
    /// # Errors
    /// When a variable asks for what this build cannot do.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, ConfigError> {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, set(name)?)));
        let is = |name: &str, wanted: &str| set(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted));
        let Some((name, endpoint)) = first(ENDPOINTS) else { return Ok(None) };
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let insecure = first(INSECURE).is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"));
        let whole = if endpoint.contains("://") || !insecure {
            endpoint.clone()
        } else {
            format!("http://{endpoint}")
        };
        let plain = reqwest::Url::parse(&whole).is_ok_and(|url| url.scheme() == "http" && url.has_host());
        if !plain {
            let advice = "spans are exported over plain HTTP/2 (gRPC) only: give an http:// address, of a collector on this \
                          machine or in this network";
            return Err(ConfigError(format!("{name} = \"{endpoint}\" cannot be used: {advice}")));
        }
        if let Some((name, protocol)) = first(PROTOCOLS)
            && protocol != "grpc"
        {
            let advice = "this build speaks grpc only (port 4317 of most collectors)";
            return Err(ConfigError(format!("{name} = \"{protocol}\" cannot be used: {advice}")));
        }
        let (sampler, parent_based) = sampler(set(SAMPLER), set(SAMPLER_ARGUMENT))?;
        let queue_spans = match set(QUEUE_SIZE) {
            None => DEFAULT_QUEUE_SPANS,
            Some(size) => size.trim().parse().ok().filter(|size| *size > 0).ok_or_else(|| {
                ConfigError(format!("{QUEUE_SIZE} = \"{size}\" is not valid: expected a number of spans"))
            })?,
        };
        let attributes = set("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let mut keys = attributes.split(',').filter_map(|pair| pair.split_once('='));
        let named_there = keys.any(|(key, _)| key.trim() == "service.name");
        // Its own variable wins, which the SDK does not see to.
        let service_name = set("OTEL_SERVICE_NAME").or_else(|| (!named_there).then(|| "gateway".to_owned()));
        Ok(Some(Self { sampler, parent_based, service_name, queue_spans }))
    }
}

/// The sampler for traces that begin here, and whether a parent's decision counts.
fn sampler(name: Option<String>, argument: Option<String>) -> Result<(Sampler, bool), ConfigError> {
    // The specification's default.
    let name = name.unwrap_or_else(|| "parentbased_always_on".to_owned());
    let parent_based = name.starts_with("parentbased_");
    let sampler = match name.strip_prefix("parentbased_").unwrap_or(&name) {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => {
            let text = argument.unwrap_or_else(|| "1".to_owned());
            let ratio = text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            Sampler::TraceIdRatioBased(ratio.ok_or_else(|| {
                ConfigError(format!(
                    "{SAMPLER_ARGUMENT} = \"{text}\" is not valid: expected a ratio from 0 to 1"
                ))
            })?)
        }
        _ => {
            let known = "always_on, always_off, traceidratio, or one of them after parentbased_";
            return Err(ConfigError(format!("{SAMPLER} = \"{name}\" is not valid: expected {known}")));
        }
    };
    Ok((sampler, parent_based))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Export>, ConfigError> {
        Export::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");

    #[test]
    fn nothing_is_exported_without_an_endpoint_or_when_switched_off() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap().is_none());
        assert!(read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap().is_none());
        assert!(read(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).unwrap().is_none());
        let export = read(&[ENDPOINT]).unwrap().unwrap();
        assert!(export.parent_based && matches!(export.sampler, Sampler::AlwaysOn));
        assert_eq!(export.service_name.as_deref(), Some("gateway"));
        assert_eq!(export.queue_spans, DEFAULT_QUEUE_SPANS);
    }

    #[test]
    fn the_samplers_of_the_specification_are_known() {
        let with = |name, argument| {
            let export = read(&[ENDPOINT, (SAMPLER, name), (SAMPLER_ARGUMENT, argument)]).unwrap().unwrap();
            (format!("{:?}", export.sampler), export.parent_based)
        };
        assert_eq!(with("always_off", ""), ("AlwaysOff".to_owned(), false));
        assert_eq!(with("parentbased_always_off", "7"), ("AlwaysOff".to_owned(), true));
        assert_eq!(with("traceidratio", "0.25"), ("TraceIdRatioBased(0.25)".to_owned(), false));
        assert_eq!(with("parentbased_traceidratio", ""), ("TraceIdRatioBased(1.0)".to_owned(), true));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for wrong in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:99999"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ] {
            let variables: Vec<_> = [wrong, ENDPOINT].into_iter().collect();
            let ConfigError(message) = read(&variables).unwrap_err();
            assert!(message.starts_with(wrong.0) && message.contains(wrong.1), "{message}");
        }
        let ratio = [ENDPOINT, (SAMPLER, "traceidratio"), (SAMPLER_ARGUMENT, "1.5")];
        assert!(read(&ratio).unwrap_err().0.starts_with(SAMPLER_ARGUMENT));
        let bare =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")];
        assert!(read(&bare).unwrap().is_some());
    }

    #[test]
    fn a_name_from_outside_wins() {
        let named = |variable| read(&[ENDPOINT, variable]).unwrap().unwrap().service_name;
        assert_eq!(named(("OTEL_SERVICE_NAME", "eu-gateway")).as_deref(), Some("eu-gateway"));
        assert_eq!(named(("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=eu")), None);
        assert_eq!(named(("OTEL_RESOURCE_ATTRIBUTES", "peer.service.name=b")).as_deref(), Some("gateway"));
        let both = [
            ENDPOINT,
            ("OTEL_SERVICE_NAME", "eu-gateway"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=us-gateway"),
        ];
        assert_eq!(read(&both).unwrap().unwrap().service_name.as_deref(), Some("eu-gateway"));
    }
}
