//! `loadtest`: arguments → plan and target → run → what people see → exit code.

mod arguments;
mod output;
mod turns;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use loadtest::compare::{self, Runs};
use loadtest::exporter::{Exporter, Served};
use loadtest::judge;
use loadtest::merge::merge;
use loadtest::metric::{METRICS, Metric};
use loadtest::nodes::Nodes;
use loadtest::plan::Plan;
use loadtest::progress::Progress;
use loadtest::report;
use loadtest::restart::Restarter;
use loadtest::run::{self, Target};
use loadtest::scenario::{Kind, SCENARIOS};
use loadtest::security::Security;
use loadtest::set_up::SetUpError;
use loadtest::spawn::{SpawnOptions, Spawned};
use loadtest::summary::{FORMAT, SERIES, Summary};
use loadtest::timeline::Watched;
use loadtest::trace::{Settings, Traces};
use loadtest::usage::Source;

use tokio::signal::unix::{SignalKind, signal};

use arguments::{Arguments, Command, DEFAULT_METRICS, Options};
use output::print;

/// Thousands of sockets come and go; glibc's allocator would keep what they took.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The command line asks for something that cannot be.
pub(crate) const USAGE: u8 = 1;
/// What is asked for cannot be set up.
const SET_UP: u8 = 2;

/// Why there is no verdict.
pub(crate) enum Failure {
    /// The command line contradicts itself.
    Usage(String),
    /// It cannot be set up.
    SetUp(String),
}

impl From<SetUpError> for Failure {
    fn from(error: SetUpError) -> Self {
        Self::SetUp(error.0)
    }
}

fn main() -> ExitCode {
    if let Err(error) = output::take_stdout() {
        return fail(&Failure::SetUp(format!("no standard output: {error}")));
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            // Nobody reads it when standard error is closed.
            let _ = error.print();
            return ExitCode::from(USAGE);
        }
        Err(help) => {
            let text = help.render();
            print(&if output::is_terminal() { text.ansi().to_string() } else { text.to_string() });
            return ExitCode::SUCCESS;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::SetUp(format!("cannot start: {error}"))),
    };
    let performed = runtime.block_on(async {
        tokio::spawn(end_when_told());
        perform(arguments.command).await
    });
    match performed {
        Ok(code) => ExitCode::from(code),
        Err(failure) => fail(&failure),
    }
}

/// SIGTERM ends a run as an interrupt does, which goose takes for itself: in order, with a verdict.
async fn end_when_told() {
    if let Ok(mut told) = signal(SignalKind::terminate())
        && told.recv().await.is_some()
    {
        goose::trigger_killswitch("SIGTERM");
    }
}

fn fail(failure: &Failure) -> ExitCode {
    let (message, code) = match failure {
        Failure::Usage(message) => (message, USAGE),
        Failure::SetUp(message) => (message, SET_UP),
    };
    // Nobody reads it when standard error is closed; the exit code still tells.
    let _ = writeln!(std::io::stderr(), "loadtest: {message}");
    ExitCode::from(code)
}

async fn perform(command: Command) -> Result<u8, Failure> {
    if let Some((kind, options)) = command.run() {
        return run_scenario(kind, options).await;
    }
    match command {
        Command::Merge { output, parts, report } => {
            let parts: Vec<Summary> = parts.iter().map(|part| read(part)).collect::<Result<_, _>>()?;
            let whole = merge(&parts).map_err(Failure::Usage)?;
            show(&whole, None, report.as_deref(), Some(&output))?;
            Ok(whole.verdict.exit_code())
        }
        Command::Compare(compare) => turns::take_turns(&compare).await,
        _ => {
            print(&list());
            Ok(0)
        }
    }
}

async fn run_scenario(kind: Kind, options: &Options) -> Result<u8, Failure> {
    let mut plan = options.plan(kind, std::env::args().skip(1).collect()).map_err(Failure::Usage)?;
    if !options.spawn && !options.url.are_on_loopback() && !options.yes {
        let url = &options.url;
        return Err(Failure::Usage(format!(
            "{url} is not on this machine: say --yes if you may put it under load"
        )));
    }
    let tracing = Settings::read(|name| std::env::var(name).ok()).map_err(Failure::Usage)?;
    let baseline = options.baseline.as_deref().map(read).transpose()?;
    plan.baseline = baseline.as_ref().map(|baseline| baseline.values.clone());
    if let Some(gate) = plan.flag_gates.iter().find(|gate| gate.needs_a_baseline() && baseline.is_none()) {
        return Err(Failure::Usage(format!("{gate} compares with an earlier run: say --baseline")));
    }
    let adapter = options.adapter.adapter();
    let can_restart = options.spawn || options.restart_command.is_some();
    if let Some(why) = plan.scenario.missing(&adapter.abilities(), plan.by_list, can_restart) {
        let summary = judge::skipped(&plan, adapter.name(), &options.url, why);
        show(&summary, None, options.report.as_deref(), options.json.as_deref())?;
        return Ok(summary.verdict.exit_code());
    }
    for path in options.report.iter().chain(&options.json) {
        check_writable(path)?;
    }
    let shared = tracing.as_ref().map(Settings::shared).unwrap_or_default();
    let target = target(&plan, options, shared).await?;
    let exporter = Arc::new(Exporter::new(&plan.run, plan.scenario.name, target.nodes.first().as_str()));
    let served = serve(&exporter, &options.metrics_listen).await?;
    let traces =
        tracing.map(|settings| Traces::start(&settings, &plan.run, plan.scenario.name, target.nodes.first()));
    let traces = traces.transpose()?.map(Arc::new);
    let progress = if options.quiet { Progress::Quiet } else { Progress::Shown };
    let ended = run::run(&plan, target, exporter, traces.clone(), progress).await;
    let losses = match traces {
        Some(traces) => traces.end().await,
        None => None,
    };
    let mut summary = ended?;
    summary.notes.extend(losses);
    show(&summary, baseline.as_ref(), options.report.as_deref(), options.json.as_deref())?;
    if let Some(served) = served {
        served.linger(options.linger).await;
    }
    Ok(summary.verdict.exit_code())
}

/// Finds the target, or starts it with these variables in its environment.
async fn target(
    plan: &Plan,
    options: &Options,
    environment: Vec<(&'static str, String)>,
) -> Result<Target, Failure> {
    let security = Security::load(
        options.api_key_file.as_deref(),
        options.jwt_key_file.as_deref(),
        options.ca_file.as_deref(),
    )?
    .with_token_lifetime(plan.duration + std::time::Duration::from_secs(3_600));
    let adapter = options.adapter.adapter();
    if options.spawn {
        let spawned = Spawned::start(&SpawnOptions {
            binary: options.gateway_binary.clone(),
            log: options.spawn_log,
            arguments: options.gateway_arguments.clone(),
            environment,
        })
        .await?;
        let watched = Watched::new(Some(Source::Process(spawned.process_id())));
        let url: reqwest::Url = spawned
            .url()
            .parse()
            .map_err(|error| Failure::SetUp(format!("the gateway's address: {error}")))?;
        let ops_url = Some(spawned.ops_url());
        let restarter = Restarter::Spawned(Box::new(spawned), watched.clone());
        let nodes = Nodes::one(url);
        return Ok(Target { nodes, ops_url, adapter, security: Arc::new(security), watched, restarter });
    }
    let ops_url = options.metrics_of_target();
    let source = match (options.pid, &ops_url) {
        (Some(id), _) => Some(Source::Process(id)),
        (None, Some(url)) => {
            Some(Source::Ops { client: security.http_client(plan.send_timeout)?, url: url.clone() })
        }
        (None, None) => None,
    };
    let command = options.restart_command.as_ref().or(options.fault_command.as_ref());
    let restarter = command.cloned().map_or(Restarter::Nobody, Restarter::Command);
    let (nodes, security) = (options.url.clone(), Arc::new(security));
    Ok(Target { nodes, ops_url, adapter, security, watched: Watched::new(source), restarter })
}

/// Serves this tool's metrics. That the usual port is taken, by another run, is no reason not to run.
async fn serve(exporter: &Arc<Exporter>, listen: &str) -> Result<Option<Served>, Failure> {
    if listen == "off" {
        return Ok(None);
    }
    let address = listen
        .parse()
        .map_err(|_| Failure::Usage(format!("{listen:?} is no address like {DEFAULT_METRICS}")))?;
    match exporter.serve(address).await {
        Ok(served) => {
            remark(&format!("metrics  http://{}/metrics", served.address));
            Ok(Some(served))
        }
        Err(error) if listen == DEFAULT_METRICS => {
            remark(&format!("no metrics of this run: {}", error.0));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Prints and writes what came of a run.
fn show(
    summary: &Summary,
    baseline: Option<&Summary>,
    report: Option<&Path>,
    json: Option<&Path>,
) -> Result<(), Failure> {
    print(&report::terminal::render(summary, output::is_terminal()));
    if let Some(baseline) = baseline {
        let runs =
            |name: &str, summary: &Summary| Runs { name: name.to_owned(), summaries: vec![summary.clone()] };
        print(&format!("\n{}", compare::table(&[runs("baseline", baseline), runs("now", summary)])));
        for difference in compare::differences(baseline, summary) {
            print(&format!("note: {difference}\n"));
        }
    }
    if let Some(path) = json {
        let text =
            serde_json::to_string_pretty(summary).map_err(|error| Failure::SetUp(error.to_string()))?;
        write(path, &text)?;
    }
    if let Some(path) = report {
        write(path, &report::html::render(summary))?;
    }
    Ok(())
}

/// Better now than after hours. Leaves nothing behind.
fn check_writable(path: &Path) -> Result<(), Failure> {
    let is_new = !path.exists();
    let opened = std::fs::File::options().append(true).create(true).open(path);
    opened.map_err(|error| Failure::SetUp(format!("cannot write {}: {error}", path.display())))?;
    if is_new {
        // Whoever removed it meanwhile did the same.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::SetUp(format!("cannot write {}: {error}", path.display())))
}

/// Reads a summary.
pub(crate) fn read(path: &Path) -> Result<Summary, Failure> {
    let failed = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let summary: Summary =
        serde_json::from_str(&text).map_err(|error| failed(format!("no summary of a run: {error}")))?;
    if summary.format != FORMAT {
        return Err(failed(format!("it is of format {}, this tool reads {FORMAT}", summary.format)));
    }
    Ok(summary)
}

fn list() -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for scenario in &SCENARIOS {
        let gates: Vec<String> = scenario.gates().iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "{}\n  {}\n  Does: {}.\n  Read: {}.\n  By default: {} sockets, {}/s{}.\n  Holds: {}\n",
            scenario.name,
            scenario.question,
            scenario.does,
            scenario.read,
            scenario.sockets,
            scenario.rate,
            if scenario.seconds > 0 { format!(", {} s", scenario.seconds) } else { String::new() },
            gates.join("  "),
        );
    }
    let _ = writeln!(text, "A gate may be about:");
    for (name, explanation) in SERIES {
        let _ = writeln!(text, "  {:<26} {explanation}", format!("{name}_p50 … _p9999, _max"));
    }
    for (name, _, _, explanation) in METRICS {
        let units = Metric::find(name).map(|metric| metric.unit().names()).unwrap_or_default();
        let units: Vec<&str> = units.iter().map(|(unit, _)| *unit).filter(|unit| !unit.is_empty()).collect();
        let units = if units.is_empty() { String::new() } else { format!(" ({})", units.join(", ")) };
        let _ = writeln!(text, "  {name:<26} {explanation}{units}");
    }
    text
}

/// Says something beside the result.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
