//! The command line: what can be asked for, and how it becomes a plan and a target.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use loadtest::gate::Gate;
use loadtest::nodes::{Nodes, http_url};
use loadtest::plan::Plan;
use loadtest::scenario::{Kind, Scenario};
use loadtest::spawn::SpawnLog;
use loadtest::target::Kind as TargetKind;

/// Where a gateway listens if nobody said otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8000";
/// Where its metrics are then.
pub(crate) const DEFAULT_OPS_URL: &str = "http://127.0.0.1:9464";
/// Where this tool's own metrics are.
pub(crate) const DEFAULT_METRICS: &str = "127.0.0.1:9465";

/// Opens sockets, sends at a chosen rate, measures the push, judges the delivery.
///
/// Exit codes: 0 passed, 1 usage, 2 cannot be set up or skipped, 3 too slow, 4 something was lost, doubled, swapped or
/// misdirected, 5 the run says nothing about the target.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, max_term_width = 100, args_override_self = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Does a notification arrive at once under the load of an ordinary day?
    Steady(Options),
    /// How many notifications a second are too many?
    Ramp(Options),
    /// How long does one notification take to reach everybody?
    Fanout(Options),
    /// What if everybody connects in the same second, and again after a network break?
    Storm(Options),
    /// Does a client that stops reading harm anybody but itself?
    Slow(Options),
    /// Does a client whose connection breaks miss or see twice anything?
    Resume(Options),
    /// Is anything lost when the gateway is restarted under load?
    Drain(Options),
    /// Is anything lost when parts of a cluster die?
    Failover(Options),
    /// Does anything grow or slow down over hours?
    Soak(Options),
    /// Explains the scenarios and everything a gate can be about.
    List,
    /// Makes one summary out of the parts of a run that several processes shared.
    Merge {
        /// Where the summary is written.
        output: PathBuf,
        /// What each process wrote by --json.
        #[arg(required = true)]
        parts: Vec<PathBuf>,
        /// A page with plots.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Runs a scenario against several targets in turns and prints medians and ratios.
    Compare(Compare),
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// A target by a name of its own: NAME=URL, NAME=fastapi:URL, or NAME=spawn for a gateway that each run starts anew. The
    /// first is what the others are compared with.
    #[arg(long = "target", value_name = "NAME=URL", required = true)]
    pub(crate) targets: Vec<String>,
    /// The process behind a target on this machine, for its memory and processor time.
    #[arg(long = "pid", value_name = "NAME=PID")]
    pub(crate) processes: Vec<String>,
    /// How often each target has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Where the summaries of all runs are written, one file each.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) keep: Option<PathBuf>,
    /// The scenario and its options, as for a run.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "SCENARIO")]
    pub(crate) run: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The target; of several gateways that share one log all of them, separated by commas: sockets and senders are spread
    /// over them, and go to the next one when one fails.
    #[arg(long, default_value = DEFAULT_URL, value_name = "URL,…", help_heading = "Target")]
    pub(crate) url: Nodes,
    /// The target's metrics (of several nodes: the first one's), for its memory and processor time [default for the default --url: http://127.0.0.1:9464].
    #[arg(long, value_parser = http_url, help_heading = "Target")]
    pub(crate) ops_url: Option<reqwest::Url>,
    /// What kind of server it is.
    #[arg(long, default_value = "gateway", help_heading = "Target")]
    pub(crate) adapter: TargetKind,
    /// Its process on this machine, for its memory and processor time.
    #[arg(long, help_heading = "Target")]
    pub(crate) pid: Option<i32>,
    /// Start a gateway on free ports for this run.
    #[arg(long, conflicts_with_all = ["url", "ops_url", "pid"], help_heading = "Target")]
    pub(crate) spawn: bool,
    /// The gateway to start [default: the one beside this program].
    #[arg(long, requires = "spawn", value_name = "FILE", help_heading = "Target")]
    pub(crate) gateway_binary: Option<PathBuf>,
    /// Where the log of the started gateway is.
    #[arg(long, requires = "spawn", default_value = "disk", help_heading = "Target")]
    pub(crate) spawn_log: SpawnLog,
    /// A further argument of the started gateway.
    #[arg(
        long = "gateway-argument",
        requires = "spawn",
        allow_hyphen_values = true,
        help_heading = "Target"
    )]
    pub(crate) gateway_arguments: Vec<String>,
    /// drain: a command that restarts the target.
    #[arg(long, conflicts_with = "spawn", value_name = "COMMAND", help_heading = "Target")]
    pub(crate) restart_command: Option<String>,
    /// failover: a command that does harm; without one somebody else does.
    #[arg(long, value_name = "COMMAND", help_heading = "Target")]
    pub(crate) fault_command: Option<String>,
    /// A file with an API key that may send.
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// A file with the key that signs a token for each simulated user: a secret (HS256) or a private key in PEM.
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(crate) jwt_key_file: Option<PathBuf>,
    /// A file with the certificate authority to trust, in PEM.
    #[arg(long, value_name = "FILE", help_heading = "Target")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Load a target that is not on this machine.
    #[arg(long, help_heading = "Target")]
    pub(crate) yes: bool,

    /// Sockets to open.
    #[arg(long, value_parser = at_least_one, help_heading = "Load")]
    pub(crate) sockets: Option<usize>,
    /// Notifications a second; ramp: at the beginning.
    #[arg(long, value_parser = positive, help_heading = "Load")]
    pub(crate) rate: Option<f64>,
    /// How long notifications are offered.
    #[arg(long, value_parser = humantime::parse_duration, help_heading = "Load")]
    pub(crate) duration: Option<Duration>,
    /// What of that counts for delivery and not for latency.
    #[arg(long, value_parser = humantime::parse_duration, help_heading = "Load")]
    pub(crate) warm_up: Option<Duration>,
    /// Bytes of text in a notification.
    #[arg(long, default_value_t = 128, help_heading = "Load")]
    pub(crate) size: usize,
    /// Senders, each with one POST in flight [default: one for each socket, at most 512].
    #[arg(long, value_parser = at_least_one, help_heading = "Load")]
    pub(crate) senders: Option<usize>,
    /// Connects in flight at the same time.
    #[arg(long, default_value_t = 512, value_parser = at_least_one, help_heading = "Load")]
    pub(crate) connects_at_once: usize,
    /// How long a POST may take.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, help_heading = "Load")]
    pub(crate) send_timeout: Duration,
    /// Nothing has arrived for so long: nothing more will. A target that stalls longer at the very end seems to lose.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, help_heading = "Load")]
    pub(crate) settle: Duration,
    /// The longest wait for stragglers.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, help_heading = "Load")]
    pub(crate) drain_timeout: Duration,
    /// fanout: name all recipients in each send instead of a topic.
    #[arg(long, help_heading = "Load")]
    pub(crate) by_list: bool,
    /// slow: the part of the sockets that stop reading, in per cent [default: 5].
    #[arg(long, value_parser = per_cent, help_heading = "Load")]
    pub(crate) slow_share: Option<f64>,
    /// resume: how often connections are cut [default: 1s].
    #[arg(long, value_parser = humantime::parse_duration, help_heading = "Load")]
    pub(crate) cut_every: Option<Duration>,
    /// resume: the part of the connections that is cut each time, in per cent [default: 10].
    #[arg(long, value_parser = per_cent, help_heading = "Load")]
    pub(crate) cut_share: Option<f64>,
    /// ramp: how long each rate is kept, in whole seconds [default: 5s].
    #[arg(long, value_parser = humantime::parse_duration, help_heading = "Load")]
    pub(crate) step: Option<Duration>,
    /// ramp: the last rate [default: 50000].
    #[arg(long, value_parser = positive, help_heading = "Load")]
    pub(crate) max_rate: Option<f64>,
    /// ramp: the push p99 from which the target does not keep up [default: 50ms].
    #[arg(long, value_parser = humantime::parse_duration, help_heading = "Load")]
    pub(crate) knee_p99: Option<Duration>,

    /// A criterion, as push_p99<50ms; in place of the scenario's own on the same metric. `loadtest list` names the metrics.
    #[arg(long = "gate", value_name = "METRIC<VALUE", help_heading = "Verdict")]
    pub(crate) gates: Vec<Gate>,
    /// An earlier --json to compare with: prints ratios, and gates may say push_p99<=1.5x.
    #[arg(long, value_name = "FILE", help_heading = "Verdict")]
    pub(crate) baseline: Option<PathBuf>,
    /// A page with plots that needs no network.
    #[arg(long, value_name = "FILE", help_heading = "Verdict")]
    pub(crate) report: Option<PathBuf>,
    /// Everything that was measured.
    #[arg(long, value_name = "FILE", help_heading = "Verdict")]
    pub(crate) json: Option<PathBuf>,
    /// What goose itself counted: .html, .json or .md.
    #[arg(long, value_name = "FILE", help_heading = "Verdict")]
    pub(crate) goose_report: Vec<PathBuf>,
    /// No line that shows how far it is.
    #[arg(long, help_heading = "Verdict")]
    pub(crate) quiet: bool,

    /// Where Prometheus finds this tool: an address, or off.
    #[arg(long, default_value = DEFAULT_METRICS, value_name = "ADDRESS", help_heading = "Metrics")]
    pub(crate) metrics_listen: String,
    /// How long to wait after the verdict for one more scrape, if there were any.
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration, help_heading = "Metrics")]
    pub(crate) linger: Duration,

    /// Take the i-th of n parts of the sockets and of the rate; the others are other processes with the same --run-id.
    #[arg(long, value_name = "i/n", value_parser = shard, requires = "run_id", help_heading = "Several processes")]
    pub(crate) shard: Option<(usize, usize)>,
    /// Names the run [default: random].
    #[arg(long, value_parser = run_id, help_heading = "Several processes")]
    pub(crate) run_id: Option<String>,
    /// When the offering begins (RFC 3339), so that all parts begin together.
    #[arg(long, value_name = "TIME", help_heading = "Several processes")]
    pub(crate) start_at: Option<jiff::Timestamp>,
}

impl Command {
    /// The scenario and its options, if it is a run.
    pub(crate) fn run(&self) -> Option<(Kind, &Options)> {
        Some(match self {
            Self::Steady(options) => (Kind::Steady, options),
            Self::Ramp(options) => (Kind::Ramp, options),
            Self::Fanout(options) => (Kind::Fanout, options),
            Self::Storm(options) => (Kind::Storm, options),
            Self::Slow(options) => (Kind::Slow, options),
            Self::Resume(options) => (Kind::Resume, options),
            Self::Drain(options) => (Kind::Drain, options),
            Self::Failover(options) => (Kind::Failover, options),
            Self::Soak(options) => (Kind::Soak, options),
            Self::List | Self::Merge { .. } | Self::Compare(_) => return None,
        })
    }
}

impl Options {
    /// Settles what will be done.
    ///
    /// # Errors
    /// When options contradict one another, in words.
    pub(crate) fn plan(&self, kind: Kind, arguments: Vec<String>) -> Result<Plan, String> {
        self.check_belongs(kind)?;
        let scenario = Scenario::of(kind);
        let (part, parts) = self.shard.unwrap_or((1, 1));
        let all = self.sockets.unwrap_or(scenario.sockets);
        let sockets = all / parts + usize::from(part <= all % parts);
        if sockets == 0 {
            return Err(format!("{all} sockets are too few for {parts} parts"));
        }
        #[expect(clippy::cast_precision_loss, reason = "a part of a rate")]
        let rate = self.rate.unwrap_or(scenario.rate) * sockets as f64 / all as f64;
        let streams = if kind == Kind::Fanout { 1 } else { sockets };
        let given = self.duration.unwrap_or(scenario.duration());
        let warm_up = self.warm_up.unwrap_or(scenario.warm_up().min(given / 10));
        let mut plan = Plan {
            scenario,
            run: self
                .run_id
                .clone()
                .unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string()[..8].to_owned()),
            sockets,
            senders: self.senders.unwrap_or(512).min(streams),
            rate,
            duration: given,
            warm_up,
            size: self.size,
            slow_share: self.slow_share.unwrap_or(0.05),
            by_list: self.by_list,
            cut_every: self.cut_every.unwrap_or(Duration::from_secs(1)),
            cut_share: self.cut_share.unwrap_or(0.1),
            step: self.step.unwrap_or(Duration::from_secs(5)),
            max_rate: self.max_rate.unwrap_or(50_000.0),
            #[expect(clippy::cast_precision_loss, reason = "seconds as microseconds")]
            knee_p99: self.knee_p99.unwrap_or(Duration::from_millis(50)).as_micros() as f64,
            connects_at_once: self.connects_at_once,
            settle: self.settle,
            drain_timeout: self.drain_timeout,
            send_timeout: self.send_timeout,
            gates: scenario.gates(),
            flag_gates: self.gates.clone(),
            baseline: None,
            shard: self.shard,
            goose_reports: self.goose_report.clone(),
            started_at: jiff::Timestamp::now()
                .round(jiff::Unit::Second)
                .map_err(|error| error.to_string())?
                .to_string(),
            start_at: self.start_at,
            arguments,
        };
        if kind == Kind::Ramp {
            plan.duration =
                plan.step * u32::try_from(plan.ramp().len()).map_err(|error| error.to_string())?;
            plan.warm_up = Duration::ZERO;
        }
        self.check(kind, &plan)?;
        Ok(plan)
    }

    /// An option that another scenario understands would change nothing here.
    fn check_belongs(&self, kind: Kind) -> Result<(), String> {
        let ramp = kind == Kind::Ramp;
        for (given, name, belongs) in [
            (self.restart_command.is_some(), "--restart-command", kind == Kind::Drain),
            (self.fault_command.is_some(), "--fault-command", kind == Kind::Failover),
            (self.by_list, "--by-list", kind == Kind::Fanout),
            (self.slow_share.is_some(), "--slow-share", kind == Kind::Slow),
            (self.cut_every.is_some(), "--cut-every", kind == Kind::Resume),
            (self.cut_share.is_some(), "--cut-share", kind == Kind::Resume),
            (self.step.is_some(), "--step", ramp),
            (self.max_rate.is_some(), "--max-rate", ramp),
            (self.knee_p99.is_some(), "--knee-p99", ramp),
            (self.duration.is_some(), "--duration", !ramp),
            (self.warm_up.is_some(), "--warm-up", !ramp),
            (self.shard.is_some(), "--shard", !matches!(kind, Kind::Ramp | Kind::Drain) && !self.spawn),
            (self.spawn, "--spawn", self.adapter == TargetKind::Gateway && kind != Kind::Failover),
        ] {
            if given && !belongs {
                let name_of_kind = Scenario::of(kind).name;
                return Err(format!("{name} means nothing to {name_of_kind} with these options"));
            }
        }
        Ok(())
    }

    /// What would make a run of nothing.
    fn check(&self, kind: Kind, plan: &Plan) -> Result<(), String> {
        let second = Duration::from_secs(1);
        if plan.duration.is_zero() || plan.cut_every.is_zero() || plan.step.is_zero() {
            return Err("a duration of nothing measures nothing".to_owned());
        }
        if plan.warm_up >= plan.duration && kind != Kind::Ramp {
            return Err("the warm-up leaves nothing to measure".to_owned());
        }
        if kind == Kind::Ramp && (plan.max_rate < plan.rate || plan.step.subsec_nanos() > 0) {
            return Err("a ramp grows from --rate to --max-rate, in steps of whole seconds".to_owned());
        }
        if kind == Kind::Resume && plan.duration < plan.cut_every + second {
            return Err(
                "nothing is cut in so short a time: --duration is less than --cut-every and a second"
                    .to_owned(),
            );
        }
        if plan.start_at.is_some_and(|moment| moment <= jiff::Timestamp::now()) {
            return Err("--start-at is past".to_owned());
        }
        Ok(())
    }

    /// Where the target's metrics are, as far as that is known.
    pub(crate) fn metrics_of_target(&self) -> Option<String> {
        let given = self.ops_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
        let first = self.url.first().as_str().trim_end_matches('/');
        let is_default = self.adapter == TargetKind::Gateway && first == DEFAULT_URL;
        given.or_else(|| is_default.then(|| DEFAULT_OPS_URL.to_owned()))
    }
}

/// The names of the kinds of target, for `compare`.
pub(crate) fn target_kinds() -> Vec<String> {
    TargetKind::value_variants()
        .iter()
        .filter_map(|kind| Some(kind.to_possible_value()?.get_name().to_owned()))
        .collect()
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("not a whole number".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.trim_end_matches("/s").parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("not a number above 0".to_owned()),
    }
}

fn per_cent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 100.0 => Ok(number / 100.0),
        _ => Err("not a number above 0 and up to 100".to_owned()),
    }
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parsed =
        text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    match parsed {
        Some((part, parts)) if (1..=parts).contains(&part) => Ok((part, parts)),
        _ => Err("not i/n with i from 1 to n".to_owned()),
    }
}

fn run_id(text: &str) -> Result<String, String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || character == '-';
    if text.is_empty() || text.len() > 32 || !text.chars().all(plain) {
        return Err("1 to 32 letters, digits and hyphens".to_owned());
    }
    Ok(text.to_owned())
}
