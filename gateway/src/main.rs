//! `gateway`: arguments → configuration → telemetry → [`gateway::app::App`] → exit code.

mod arguments;
mod signals;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use gateway::app::{App, BindError, RunError, copy_log, load_tls};
use gateway::auth::Authenticator;
use gateway::clock::Clock;
use gateway::commands::{self, CommandError};
use gateway::config::{Config, ConfigError, EX_CONFIG, Sources, Values};
use gateway::delivery::{Carried, StartError};
use gateway::log::OpenError;
use gateway::metrics::Metrics;
use gateway::telemetry;

use arguments::{Arguments, Command, KeyCommand, Serve};
use signals::Signals;

/// glibc's allocator keeps what a storm of connections took.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Beside this many, a storm of connects is answered with retransmits.
const RECOMMENDED_SOMAXCONN: u32 = 4_096;

/// Below this many open files a gateway is a toy.
const RECOMMENDED_OPEN_FILES: u64 = 10_000;

/// Between two starts of a gateway whose log changed meanwhile.
const START_AGAIN: Duration = Duration::from_millis(500);

/// How long a start that was told to stop may take to let go of its log.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the process ends with an error.
enum Failure {
    Config(ConfigError),
    Other(String),
    /// The log has said why.
    Told,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::Other(format!("cannot start: {error}"))),
    };
    let ended = runtime.block_on(run(arguments));
    // What was cut may hang in a call to the system: it ends with the process.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    let (message, code) = match failure {
        Failure::Config(error) => (error.to_string(), EX_CONFIG),
        Failure::Other(message) => (message.clone(), 1),
        Failure::Told => return ExitCode::FAILURE,
    };
    // Nobody reads it when standard error is closed; the exit code still tells.
    let _ = writeln!(std::io::stderr(), "gateway: {message}");
    ExitCode::from(code)
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        None => serve(arguments.serve).await,
        Some(Command::Serve(options)) => serve(options).await,
        Some(Command::Listen(options)) => {
            let mut remarks = std::io::stderr();
            Ok(commands::listen::run(options.try_into()?, &mut std::io::stdout(), &mut remarks).await?)
        }
        Some(Command::Send { url, from, credential_file, user, text }) => {
            let credential = credential_file.as_deref().map(commands::read_credential).transpose()?;
            let (text, from) = (text.join(" "), from.as_deref());
            let sent = commands::send::run(&url, &user, &text, from, credential.as_ref()).await?;
            print(&format!("{sent}\n"))
        }
        Some(Command::Key { command: KeyCommand::New { name, scopes } }) => {
            print(&commands::key::new(&name, &scopes)?)
        }
        Some(Command::Token(mut options)) => {
            let (values, warnings) = settle(&Serve::of_file(options.config.take()))?;
            warn_about(&warnings);
            let config = Config::from_values(&values)?;
            let (token, warning) = commands::token::run(&options.into(), &config.auth, &Clock::system())?;
            warn_about(warning.as_slice());
            print(&format!("{token}\n"))
        }
        Some(Command::Openapi) => print(&format!("{}\n", commands::openapi())),
        Some(Command::CheckConfig { print: whole, options }) => {
            let (values, warnings) = settle(&options)?;
            let config = Config::from_values(&values)?;
            telemetry::check(&config.telemetry)?;
            load_tls(&config).map_err(BindError::from)?;
            Authenticator::load(&config, Clock::system(), Arc::new(Metrics::new()))?;
            warn_about(&warnings);
            print(if whole { commands::check_config::describe(&values) } else { "ok\n".to_owned() }.as_str())
        }
        Some(Command::CopyLog { from, to, config }) => {
            let open = |log: String| -> Result<Config, ConfigError> {
                let (values, warnings) = settle(&Serve::of_file_with_log(config.clone(), log))?;
                warn_about(&warnings);
                Config::from_values(&values)
            };
            let carried = Box::pin(copy_log(&open(from)?, &open(to)?)).await;
            let Carried { notifications, recipients, memberships } =
                carried.map_err(|error| Failure::Other(error.to_string()))?;
            print(&format!(
                "copied {notifications} notifications that wait for {recipients} recipients, and {memberships} memberships\n"
            ))
        }
        Some(Command::Healthcheck { ops_url }) => Ok(commands::healthcheck::run(&ops_url).await?),
    }
}

/// Collects the settings from their sources.
fn settle(options: &Serve) -> Result<(Values, Vec<String>), ConfigError> {
    let mut sources = Sources::default();
    if let Some((path, text)) = options.read_file()? {
        sources.file(&path, &text)?;
    }
    // A variable that is not UTF-8 is none of ours.
    sources.variables(
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    for (key, value) in options.flags() {
        sources.flag(key, value);
    }
    sources.resolve()
}

async fn serve(options: Serve) -> Result<(), Failure> {
    let (values, warnings) = settle(&options)?;
    let mut config = Config::from_values(&values)?;
    config.new_epoch = options.new_epoch;
    let tracing = telemetry::install(&config)?;
    log_panics();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let sees_plain_text =
        config.http.tls_certificate_file.is_none() && config.http.trusted_proxies.is_empty();
    if !config.is_open() && sees_plain_text && !config.http.listen.ip().is_loopback() {
        tracing::warn!(
            "credentials come unencrypted: set http.tls_certificate_file, or http.trusted_proxies if a proxy does TLS"
        );
    }
    if config.is_open() && config.http.open_on_any_address {
        tracing::warn!("open mode on any address: whoever reaches this gateway may send and listen");
    }
    prepare_limits();
    // There may be a long log to read: whoever sends a signal meanwhile is heeded, even where the gateway is process 1.
    let signals =
        Signals::listen().map_err(|error| Failure::Other(format!("cannot catch signals: {error}")))?;
    let mut greeted = false;
    let ended = loop {
        let metrics = Arc::new(Metrics::new());
        metrics.register_process();
        let binding = App::bind_counting(config.clone(), Clock::system(), tracing.clone(), metrics);
        let mut binding = Box::pin(binding);
        let bound = tokio::select! {
            biased;
            () = signals.stop.cancelled() => None,
            bound = &mut binding => Some(bound),
        };
        let Some(bound) = bound else {
            // It may hold a log whose disk hangs.
            let dropping = tokio::task::spawn_blocking(move || drop(binding));
            let _ = tokio::time::timeout(DROP_TIMEOUT, dropping).await;
            break Ok(());
        };
        let app = match bound {
            Err(BindError::Start(error @ StartError::Changed(_))) => {
                tracing::warn!(%error, "starting over");
                // It is in the log.
                config.new_epoch = false;
                tokio::time::sleep(START_AGAIN).await;
                continue;
            }
            bound => bound?,
        };
        if !greeted {
            // A courtesy: a closed standard output must not keep a gateway from serving.
            let _ = print(&arguments::greeting(&app));
            greeted = true;
        }
        // Whoever found it there finds it there again; what was declared once is in the log.
        (config.http.listen, config.ops.listen) = (app.addresses().http, app.addresses().ops);
        (config.new_epoch, config.starts_over) = (false, true);
        let stop = async {
            signals.stop.cancelled().await;
            tracing::info!("stopping; a second signal ends at once");
        };
        let ended = app.run_until_cut(stop, signals.cut.cancelled()).await;
        if ended != Err(RunError::Outdated) || signals.stop.is_cancelled() {
            break ended;
        }
        tracing::warn!("starting over: the log is not what it was");
    };
    // Last: the spans of the end are spans, too.
    tracing.shut_down().await;
    match ended {
        // Nobody wants a supervisor to restart what was told to stop; that some were cut stands in the log.
        Ok(()) | Err(RunError::Unfinished | RunError::Outdated) => Ok(()),
        Err(RunError::Crashed) => Err(Failure::Told),
    }
}

/// Makes every panic one log line in the configured format, whoever catches and counts it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let reason = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text");
        let location = panic.location().map(ToString::to_string);
        // Only if RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(location, backtrace, reason, "something panicked: this is a bug of the gateway");
    }));
}

/// Raises the soft limit of open files to the hard one and warns once if what the system allows is small.
fn prepare_limits() {
    let open_files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(0);
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    let somaxconn: u32 = somaxconn.and_then(|text| text.trim().parse().ok()).unwrap_or(RECOMMENDED_SOMAXCONN);
    if open_files < RECOMMENDED_OPEN_FILES || somaxconn < RECOMMENDED_SOMAXCONN {
        tracing::warn!(
            open_files,
            somaxconn,
            "small system limits: at most open_files - 256 sockets, and bursts of connects beyond somaxconn are delayed"
        );
    }
}

fn warn_about(warnings: &[String]) {
    for warning in warnings {
        // A courtesy: a closed standard error changes nothing.
        let _ = writeln!(std::io::stderr(), "gateway: warning: {warning}");
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Other(error.to_string()))
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Config(error) => Self::Config(error),
            // Starting again does not help: the same code as for a configuration that cannot be used.
            BindError::Tls(_) | BindError::Open(OpenError::NewerFormat { .. }) => {
                Self::Config(ConfigError(error.to_string()))
            }
            BindError::Nats(error) if error.is_final() => Self::Config(ConfigError(error.to_string())),
            error => Self::Other(error.to_string()),
        }
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self::Other(error.to_string())
    }
}
