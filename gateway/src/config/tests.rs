//! Where values come from, which are refused, and how that is said.

use super::*;

fn resolve(sources: Sources) -> Result<Config, ConfigError> {
    Config::from_values(&sources.resolve()?.0)
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let mut sources = Sources::default();
    assert_eq!(resolve(sources.clone()).unwrap().http.listen.port(), 8000);
    sources.file("gateway.toml", "[http]\nlisten = \"127.0.0.1:1\"").unwrap();
    assert_eq!(resolve(sources.clone()).unwrap().http.listen.port(), 1);
    sources.variables([("GATEWAY_HTTP_LISTEN".to_owned(), "127.0.0.1:2".to_owned())]);
    assert_eq!(resolve(sources.clone()).unwrap().http.listen.port(), 2);
    sources.flag("http.listen", "127.0.0.1:3");
    assert_eq!(resolve(sources).unwrap().http.listen.port(), 3);
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest() {
    let mut sources = Sources::default();
    sources.file("gateway.toml", "[mailbox]\nmax_notificatons = 3").unwrap();
    let error = resolve(sources).unwrap_err().to_string();
    assert_eq!(
        error,
        "gateway.toml: unknown key `mailbox.max_notificatons`; did you mean `mailbox.max_notifications`?"
    );
}

#[test]
fn an_unknown_variable_is_a_warning_unless_kubernetes_injected_it() {
    let mut sources = Sources::default();
    let names = ["GATEWAY_HTTP_LISTN", "GATEWAY_PORT_8000_TCP", "GATEWAY_SERVICE_HOST", "HOME"];
    sources.variables(names.map(|name| (name.to_owned(), "x".to_owned())));
    let (_, warnings) = sources.resolve().unwrap();
    assert_eq!(
        warnings,
        ["environment variable GATEWAY_HTTP_LISTN sets nothing; did you mean `GATEWAY_HTTP_LISTEN`?"]
    );
}

#[test]
fn a_value_that_does_not_parse_is_named_with_its_source_in_one_line() {
    let mut sources = Sources::default();
    sources.variables([("GATEWAY_SESSIONS_HEARTBEAT".to_owned(), "often".to_owned())]);
    let error = resolve(sources).unwrap_err().to_string();
    assert_eq!(
        error,
        "sessions.heartbeat = \"often\" (from GATEWAY_SESSIONS_HEARTBEAT) is not valid: expected a duration with its unit, \
         for example 25s or 24h"
    );
}

#[test]
fn a_file_that_is_no_toml_is_refused_in_one_line() {
    let error = Sources::default().file("gateway.toml", "[http\nlisten=").unwrap_err().to_string();
    assert!(error.starts_with("gateway.toml: "));
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn what_stands_in_a_file_cannot_look_like_a_line_of_ours() {
    for (text, expected) in [
        ("http.listen = \"a\\nb\"", "http.listen = \"a\\nb\" (from gateway.toml) is not valid: "),
        ("\"a\\nb\" = 1", "gateway.toml: unknown key `a\\nb`"),
        ("\"a\\u001b\".x = 1.5", "gateway.toml: `a\\u{1b}.x` must be "),
    ] {
        let mut sources = Sources::default();
        let error =
            sources.file("gateway.toml", text).and_then(|()| resolve(sources).map(|_| ())).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    for (key, value) in [
        ("mailbox.max_bytes", "1KiB"),
        ("mailbox.max_notifications", "0"),
        ("notification.default_ttl", "8d"),
        ("notification.max_bytes", "1MiB"),
        ("sessions.heartbeat", "200years"),
        ("log.memory_max_bytes", "2EiB"),
        ("http.listen", "0.0.0.0:8000"),
        ("ops.listen", "0.0.0.0:9464"),
        ("http.allowed_origins", "app.example"),
        ("http.allowed_origins", "https://app.example/page"),
        ("http.allowed_origins", "*"),
    ] {
        let mut sources = Sources::default();
        sources.flag(key, value);
        let error = resolve(sources).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key} = \"{value}\" (from the command line) ")), "{error}");
    }
}

#[test]
fn keys_that_got_lost_do_not_open_a_gateway_that_others_reach() {
    for (key, value) in [("http.allowed_hosts", "push.example"), ("http.trusted_proxies", "10.0.0.0/8")] {
        let mut sources = Sources::default();
        sources.flag(key, value);
        // As an empty variable does it.
        sources.file("gateway.toml", "[auth]\napi_keys_file = \"keys.toml\"").unwrap();
        assert!(resolve(sources.clone()).is_ok(), "{key}");
        sources.variables([("GATEWAY_AUTH_API_KEYS_FILE".to_owned(), String::new())]);
        let error = resolve(sources.clone()).unwrap_err().to_string();
        assert!(error.starts_with(key) && error.contains("without keys"), "{error}");
        sources.flag("http.open_on_any_address", "true");
        assert!(resolve(sources).is_ok(), "{key}");
    }
}

#[test]
fn a_rate_says_how_many_in_which_time_and_how_many_at_once() {
    let rate = |text: &str| {
        text.parse::<Rate>().map(|rate| (rate.tokens.get(), rate.period.as_secs(), rate.burst.get()))
    };
    assert_eq!(rate("100/s"), Ok((100, 1, 100)));
    assert_eq!(rate("600/m burst 50"), Ok((600, 60, 50)));
    assert_eq!(rate("1/h burst 8000"), Ok((1, 3_600, 8_000)));
    for wrong in [
        "",
        "100",
        "0/s",
        "1/d",
        "1/s burst",
        "1/s burst 0",
        "1/s of 3",
        "1/h burst 9000",
        "-1/s",
        "1/h burst 10000000",
    ] {
        assert!(rate(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_an_address_hides_is_not_printed() {
    for (text, printed) in [
        ("https://keys.example/set", "https://keys.example/set"),
        ("https://bob:secret@keys.example/set?key=secret", "https://***@keys.example/set?***"),
        ("https://keys.example/set?key=secret", "https://keys.example/set?***"),
        ("./keys/set.json", "./keys/set.json"),
    ] {
        assert_eq!(shown(text), printed);
    }
}

#[test]
fn being_open_to_the_world_has_to_be_asked_for() {
    let mut sources = Sources::default();
    sources.flag("http.listen", "0.0.0.0:8000");
    sources.flag("http.open_on_any_address", "true");
    assert!(resolve(sources).is_ok());
}

#[test]
fn the_example_file_lists_every_setting_with_its_default_and_nothing_else() {
    let text = include_str!("../../gateway.example.toml");
    // Every setting stands there commented out; without the comment signs the file must be a whole configuration.
    let uncommented: String =
        text.lines().map(|line| format!("{}\n", line.strip_prefix("#: ").unwrap_or(line))).collect();
    let mut sources = Sources::default();
    sources.file("gateway.example.toml", &uncommented).unwrap();
    let (values, _) = sources.resolve().unwrap();
    for (key, value, source) in values.iter() {
        let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
        assert_ne!(*source, Source::Default, "{key} is missing in the example file");
        assert_eq!(value, setting.default, "{key}");
    }
}

#[test]
fn no_setting_has_a_name_that_kubernetes_injects() {
    for setting in SETTINGS {
        let name = setting.key.rsplit('.').next().unwrap();
        assert!(name != "port" && !name.starts_with("service_"), "{}", setting.key);
    }
}
