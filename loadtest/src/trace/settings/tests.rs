//! Tests of what the environment may say.

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
    Settings::read(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

const COLLECTOR: (&str, &str) = (ENDPOINT, "http://127.0.0.1:4317");

#[test]
fn without_a_collector_there_are_no_traces() {
    for variables in [
        &[][..],
        &[(ENDPOINT, "")],
        &[(ENDPOINT, " ")],
        &[(SAMPLER, "always_on")],
        &[COLLECTOR, ("OTEL_SDK_DISABLED", "TRUE")],
        &[COLLECTOR, ("OTEL_TRACES_EXPORTER", "none")],
        // What is not used may be wrong.
        &[(ENDPOINT, "https://collector:4317"), ("OTEL_SDK_DISABLED", "true")],
    ] {
        assert!(read(variables).unwrap().is_none(), "{variables:?}");
    }
    for variable in [("OTEL_SDK_DISABLED", "no"), ("OTEL_TRACES_EXPORTER", "otlp")] {
        assert!(read(&[COLLECTOR, variable]).unwrap().is_some(), "{variable:?}");
    }
}

#[test]
fn the_address_for_traces_comes_first() {
    let settings = read(&[COLLECTOR, (TRACES_ENDPOINT, "http://collector:1")]).unwrap().unwrap();
    assert_eq!(settings.endpoint, "http://collector:1");
    assert_eq!(read(&[COLLECTOR, (TRACES_ENDPOINT, "")]).unwrap().unwrap().endpoint, COLLECTOR.1);
    let bare = [(ENDPOINT, "collector:4317"), (INSECURE, "true")];
    assert_eq!(read(&bare).unwrap().unwrap().endpoint, "http://collector:4317");
}

#[test]
fn what_cannot_be_followed_is_refused_with_the_variables_name_and_without_its_address() {
    for (variables, name) in [
        (&[(ENDPOINT, "https://user:secret@collector:4317")][..], ENDPOINT),
        (&[COLLECTOR, (TRACES_ENDPOINT, "https://user:secret@collector:4317")], TRACES_ENDPOINT),
        (&[(ENDPOINT, "collector:4317")], ENDPOINT),
        (&[(ENDPOINT, "collector:4317"), (INSECURE, "true"), (TRACES_INSECURE, "false")], ENDPOINT),
        (&[(ENDPOINT, "https://collector:4317"), (INSECURE, "true")], ENDPOINT),
        (&[(ENDPOINT, "127.0.0.1:4317")], ENDPOINT),
        (&[(ENDPOINT, "unix:///run/collector")], ENDPOINT),
        (&[COLLECTOR, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (
            &[
                COLLECTOR,
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ],
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        ),
        (&[COLLECTOR, (SAMPLER, "xray")], SAMPLER),
        (&[COLLECTOR, (SAMPLER, "traceidratio"), (SAMPLER_ARGUMENT, "2")], SAMPLER_ARGUMENT),
        (&[COLLECTOR, (SAMPLER_ARGUMENT, "NaN")], SAMPLER_ARGUMENT),
        (&[COLLECTOR, (QUEUE, "0")], QUEUE),
        (&[COLLECTOR, (QUEUE, "-1")], QUEUE),
        (&[COLLECTOR, (DELAY, "1s")], DELAY),
    ] {
        let why = read(variables).unwrap_err();
        assert!(why.contains(name), "{why}");
        assert!(!why.contains("secret") && !why.contains('\n'), "{why}");
    }
    assert!(read(&[COLLECTOR, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap().is_some());
}

#[test]
fn one_trace_in_a_hundred_is_recorded_unless_the_environment_says_otherwise() {
    let sampler = |variables: &[(&str, &str)]| {
        let variables = [&[COLLECTOR], variables].concat();
        format!("{:?}", read(&variables).unwrap().unwrap().sampler)
    };
    assert_eq!(sampler(&[]), "ParentBased(TraceIdRatioBased(0.01))");
    assert_eq!(sampler(&[(SAMPLER_ARGUMENT, "0.5")]), "ParentBased(TraceIdRatioBased(0.5))");
    // The specification's default where the kind is given.
    assert_eq!(sampler(&[(SAMPLER, "parentbased_traceidratio")]), "ParentBased(TraceIdRatioBased(1.0))");
    assert_eq!(sampler(&[(SAMPLER, "traceidratio"), (SAMPLER_ARGUMENT, "0.25")]), "TraceIdRatioBased(0.25)");
    assert_eq!(sampler(&[(SAMPLER, "always_on")]), "AlwaysOn");
    assert_eq!(sampler(&[(SAMPLER, "always_off")]), "AlwaysOff");
    assert_eq!(sampler(&[(SAMPLER, "parentbased_always_on")]), "ParentBased(AlwaysOn)");
    assert_eq!(sampler(&[(SAMPLER, "parentbased_always_off")]), "ParentBased(AlwaysOff)");
}

#[test]
fn queue_and_delay_are_those_of_a_load_test() {
    let settings = read(&[COLLECTOR]).unwrap().unwrap();
    assert_eq!((settings.queue_spans, settings.export_every), (8_192, Duration::from_secs(1)));
    let settings = read(&[COLLECTOR, (QUEUE, "16"), (DELAY, "20")]).unwrap().unwrap();
    assert_eq!((settings.queue_spans, settings.export_every), (16, Duration::from_millis(20)));
}

#[test]
fn the_service_is_the_load_test_unless_it_is_named() {
    let is_named =
        |variables: &[(&str, &str)]| read(&[&[COLLECTOR], variables].concat()).unwrap().unwrap().is_named;
    assert!(is_named(&[(SERVICE_NAME, "mine")]));
    assert!(is_named(&[(RESOURCE_ATTRIBUTES, "a=b, service.name = mine")]));
    for unnamed in [(SERVICE_NAME, ""), (RESOURCE_ATTRIBUTES, "service.namespace=x,service.name")] {
        assert!(!is_named(&[unnamed]), "{unnamed:?}");
    }
}

#[test]
fn a_gateway_of_the_run_follows_its_decisions_and_keeps_its_name() {
    let variables = [COLLECTOR, (SERVICE_NAME, "mine"), (RESOURCE_ATTRIBUTES, "a=b"), (QUEUE, "7")];
    let shared = read(&variables).unwrap().unwrap().shared();
    let expected =
        [(ENDPOINT, "http://127.0.0.1:4317"), (SAMPLER, "parentbased_always_off"), (GATEWAY_TRUST, "true")];
    assert_eq!(shared, expected.map(|(name, value)| (name, value.to_owned())));
}
