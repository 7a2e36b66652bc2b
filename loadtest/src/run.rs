//! A run from its first socket to its summary: connect, offer, wait for stragglers, judge.
//!
//! Reading order: [`run`] → [`crate::attack`] (sockets and senders) → [`crate::pacer`] → [`crate::scenario::script`] →
//! [`crate::judge`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::attack::Attack;
use crate::clock::Clock;
use crate::collector::Collector;
use crate::context::{Context, Orders, Spread};
use crate::exporter::Exporter;
use crate::judge::{self, Evidence};
use crate::nodes::Nodes;
use crate::pacer::{self, Tick};
use crate::plan::Plan;
use crate::progress::{Phase, Progress};
use crate::restart::Restarter;
use crate::scenario::script::{self, Findings, Stagehand};
use crate::security::Security;
use crate::set_up::SetUpError;
use crate::socket::Connector;
use crate::summary::{Interval, Summary};
use crate::target::{Adapter, Request};
use crate::timeline::{self, Watched};
use crate::trace::Traces;
use crate::usage::{Buckets, Reading, scrape};

/// How many intervals a run is drawn in, at most.
const MAX_INTERVALS: u64 = 300;

/// How often a count without an event of its own is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What arrives after everything is there, for example twice, is waited for so long.
const AFTERMATH: Duration = Duration::from_millis(250);

/// Between the last welcome and the reading of what the sockets cost.
const BREATH: Duration = Duration::from_millis(300);

/// The target of a run.
#[derive(Debug)]
pub struct Target {
    /// Its addresses.
    pub nodes: Nodes,
    /// The address of the first one's metrics.
    pub ops_url: Option<String>,
    /// How it is spoken to.
    pub adapter: Arc<dyn Adapter>,
    /// Credentials and trust.
    pub security: Arc<Security>,
    /// The processes that are watched.
    pub watched: Watched,
    /// Who can restart it.
    pub restarter: Restarter,
}

/// Runs a plan against a target.
///
/// # Errors
/// When it cannot be run at all: no descriptors, no connection, a target that does not come back.
pub async fn run(
    plan: &Plan,
    target: Target,
    exporter: Arc<Exporter>,
    traces: Option<Arc<Traces>>,
    progress: Progress,
) -> Result<Summary, SetUpError> {
    allow_descriptors(plan.descriptors())?;
    let clock = Clock::start();
    let longest = u64::try_from(plan.duration.as_micros()).expect("a run's length");
    let interval = longest.div_ceil(MAX_INTERVALS).div_ceil(1_000_000).max(1) * 1_000_000;
    let collector = Arc::new(Collector::new(clock, interval));
    let (streams, receivers) = plan.people();
    let context = Arc::new(Context {
        marker: plan.part(),
        nonce: uuid::Uuid::new_v4().simple().to_string(),
        adapter: target.adapter.clone(),
        collector: collector.clone(),
        exporter,
        traces,
        spread: (streams.len() < receivers.len()).then(Spread::default),
        streams,
        receivers,
        retry: plan.scenario.retries() && target.adapter.abilities().idempotency,
        orders: watch::Sender::new(Orders::default()),
        give_up: CancellationToken::new(),
    });
    let http = target.security.http_client(plan.send_timeout)?;
    let shard = plan.shard.map_or(0, |(number, _)| number);
    let connector = Connector::new(
        &target.nodes,
        target.adapter.clone(),
        target.security.clone(),
        plan.connects_at_once,
        plan.sockets,
        shard,
    );
    let connector = Arc::new(connector.await?);
    let authorization = target.security.authorization();
    let (attack, channels) = Attack::new(
        &target.nodes,
        http.clone(),
        authorization,
        connector,
        plan.senders,
        plan.goose_reports.clone(),
    );
    let run = Run { plan, context, attack: Arc::new(attack), target, http, progress };
    run.go(channels).await
}

struct Run<'a> {
    plan: &'a Plan,
    context: Arc<Context>,
    attack: Arc<Attack>,
    target: Target,
    http: reqwest::Client,
    progress: Progress,
}

impl Run<'_> {
    async fn go(mut self, channels: Vec<mpsc::UnboundedSender<Tick>>) -> Result<Summary, SetUpError> {
        let collector = self.context.collector.clone();
        let clock = collector.clock();
        let watched = self.target.watched.clone();
        if let Err(error) = self.prepare().await {
            return Err(self.give_up(error).await);
        }
        let before = self.read().await;
        let done = CancellationToken::new();
        let exporter = self.context.exporter.clone();
        let watching =
            tokio::spawn(timeline::watch(collector.clone(), exporter, watched.clone(), done.clone()));
        tokio::spawn(timeline::probe(collector.clone(), done.clone()));
        let shown = self.progress.show(self.context.clone());

        let mut goose = tokio::spawn(self.attack.clone().run(self.context.clone()));
        shown.phase(Phase::Connecting);
        if let Err(error) = self.connected(&mut goose).await {
            drop(shown);
            goose.abort();
            return Err(self.give_up(error).await);
        }
        tokio::time::sleep(BREATH).await;
        let connected = self.read().await;
        let appends = self.appends().await;

        shown.phase(Phase::Offering);
        let (offered_from, mut findings) = self.offer(channels).await?;
        let offered = self.read().await;
        let offered_until = clock.now();
        self.let_senders_end(goose).await;
        shown.phase(Phase::Waiting);
        self.settle().await;
        let settled = self.read().await;
        let missing_sockets = self.context.missing_sockets();
        done.cancel();
        let timeline: Vec<Interval> = watching.await.unwrap_or_default();
        let ledger = self.ledger().await;
        let appends = self.appends().await.zip(appends).and_then(|(now, then)| now.since(&then, 0.99));
        shown.phase(Phase::Closing);
        self.end().await;
        let gateway_source = watched.describe().await;
        let ended_early = self.target.restarter.ended_early().await;
        let stopped = self.target.restarter.end().await;
        findings.failures.extend(ended_early.or(stopped.err().map(|error| error.0)));
        drop(shown);
        let readings = Readings { before, connected, offered, settled };
        let summary = judge::judge(Evidence {
            plan: self.plan,
            nodes: &self.target.nodes,
            context: &self.context,
            findings,
            timeline,
            missing_sockets,
            readings,
            restarted: watched.generation() > 0,
            gateway_source,
            offered_from,
            offered_until,
            ledger,
            log_append_p99: appends.map(|seconds| seconds * 1e6),
            interrupted: goose::is_killswitch_triggered(),
        });
        let exporter = &self.context.exporter;
        let (lost, announced) = (summary.deliveries.lost, summary.deliveries.announced);
        exporter.missing.announced.inc_by(announced);
        exporter.missing.silent.inc_by(lost.saturating_sub(announced));
        exporter.order_violations.inc_by(summary.deliveries.out_of_order);
        exporter.verdict.set(f64::from(summary.verdict.exit_code()));
        Ok(summary)
    }

    /// What both processes use now.
    async fn read(&self) -> Both {
        let watched = &self.target.watched;
        Both { gateway: watched.gateway().await, generator: watched.generator().await }
    }

    /// Leaves nothing behind of a run that did not come about; gives the reason back.
    async fn give_up(self, error: SetUpError) -> SetUpError {
        self.end().await;
        match self.target.restarter.end().await {
            Ok(()) => error,
            Err(more) => SetUpError(format!("{}; {}", error.0, more.0)),
        }
    }

    /// Does what has to be done before anything can be sent.
    async fn prepare(&self) -> Result<(), SetUpError> {
        if let Some(topic) = self.plan.topic() {
            for request in self.target.adapter.subscribe(&topic, &self.plan.users()) {
                self.request(&request)
                    .await
                    .map_err(|why| SetUpError(format!("cannot subscribe the users: {why}")))?;
            }
        }
        Ok(())
    }

    async fn request(&self, request: &Request) -> Result<(), String> {
        let response = self.attack.addressed(request, 0).send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{status} {}", response.text().await.unwrap_or_default()))
    }

    /// Waits until every socket has connected or failed.
    async fn connected(
        &self,
        goose: &mut JoinHandle<Result<(), goose::GooseError>>,
    ) -> Result<(), SetUpError> {
        let counters = &self.context.collector.counters;
        let asked = self.context.receivers.len() as u64;
        loop {
            let connected = counters.connected.load(Ordering::Relaxed);
            let failed = counters.connects_failed.load(Ordering::Relaxed);
            if connected + failed >= asked && connected > 0 {
                return Ok(());
            }
            if connected + failed >= asked {
                let why = self
                    .context
                    .collector
                    .errors()
                    .first()
                    .map_or_else(String::new, |(why, _)| format!(": {why}"));
                return Err(SetUpError(format!(
                    "none of the {asked} sockets could be opened at {}{why}",
                    self.target.nodes
                )));
            }
            if goose.is_finished() {
                let why = match goose.await {
                    Ok(Ok(())) => "it ended by itself".to_owned(),
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                };
                return Err(SetUpError(format!("goose launches no users: {why}")));
            }
            if goose::is_killswitch_triggered() {
                return Err(SetUpError("interrupted before all sockets were connected".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Offers what was planned while the script plays; gives when the first was due.
    async fn offer(
        &mut self,
        channels: Vec<mpsc::UnboundedSender<Tick>>,
    ) -> Result<(u64, Findings), SetUpError> {
        let collector = self.context.collector.clone();
        let clock = collector.clock();
        // At the beginning of an interval, so that intervals and steps are as long as they say.
        let soon = clock.now() + micros(BREATH) + self.plan.start_at.map_or(0, until);
        let begin = soon.next_multiple_of(1_000_000.min(collector.interval()));
        collector.measure_from(begin + micros(self.plan.warm_up));
        let (stop, ended, interrupted) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let exporter = self.context.exporter.clone();
        let pacer =
            pacer::start(collector.clone(), exporter, &self.plan.lanes(), begin, channels, stop.clone())
                .map_err(|error| SetUpError(format!("no thread for the pacer: {error}")))?;
        collector.mark_at(begin, "offering begins");
        let watcher = tokio::spawn(watch_for_interrupt(interrupted.clone(), stop.clone()));
        // The schedule ends by itself, or when it is stopped; a late one is not cut short.
        let joined = ended.clone();
        let joining = tokio::task::spawn_blocking(move || {
            let outcome = pacer.join();
            joined.cancel();
            outcome
        });
        let stagehand = Stagehand {
            plan: self.plan,
            context: self.context.clone(),
            begin,
            stop,
            interrupted,
            restarter: &mut self.target.restarter,
        };
        let end_of_offer = async {
            ended.cancelled().await;
            collector.mark("offering ends");
        };
        let (mut findings, ()) = tokio::join!(script::play(stagehand), end_of_offer);
        watcher.abort();
        if !matches!(joining.await, Ok(Ok(()))) {
            findings.failures.push("the schedule has crashed".to_owned());
        }
        Ok((begin, findings))
    }

    /// Waits for what senders still have to send, but not for ever.
    async fn let_senders_end(&self, mut goose: JoinHandle<Result<(), goose::GooseError>>) {
        let ended = match tokio::time::timeout(self.plan.drain_timeout, &mut goose).await {
            Ok(ended) => Some(ended),
            Err(_) => {
                self.context.give_up.cancel();
                self.context.collector.note_error("senders had not caught up when the run ended");
                tokio::time::timeout(self.plan.send_timeout + Duration::from_secs(2), goose).await.ok()
            }
        };
        match ended {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => self.context.collector.note_error(&format!("goose: {error}")),
            Some(Err(error)) => self.context.collector.note_error(&format!("goose: {error}")),
            None => self.context.collector.note_error("a send never ended"),
        }
    }

    /// Waits until everything owed has arrived and every socket is back, or until nothing has arrived for a while.
    async fn settle(&self) {
        let counters = &self.context.collector.counters;
        let clock = self.context.collector.clock();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let deadline = clock.now() + micros(self.plan.drain_timeout);
        let (mut arrived, mut quiet_since) = (get(&counters.arrived), clock.now());
        while clock.now() < deadline {
            // What nobody can say of may come too, so it does not stand for what is owed.
            let all_there = get(&counters.received) >= get(&counters.expected) + get(&counters.possible);
            let all_back = self.context.missing_sockets() == 0;
            let now = get(&counters.arrived);
            if now != arrived || !all_back {
                (arrived, quiet_since) = (now, clock.now());
            }
            let quiet = clock.now() - quiet_since >= micros(self.plan.settle);
            if all_back && (all_there || quiet) {
                return tokio::time::sleep(AFTERMATH).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// How long the gateway's appends to its log have taken so far.
    async fn appends(&self) -> Option<Buckets> {
        Buckets::scrape(&self.http, self.target.ops_url.as_deref()?, "gateway_log_append_seconds").await
    }

    /// What the gateway says its books are out by.
    async fn ledger(&self) -> Option<f64> {
        const NAME: &str = "gateway_ledger_imbalance";
        let ops_url = self.target.ops_url.as_deref()?;
        scrape(&self.http, ops_url, &[NAME]).await?.get(NAME).copied()
    }

    /// Lets the sockets go and leaves nothing behind.
    async fn end(&self) {
        self.context.orders.send_modify(|orders| orders.finish = true);
        self.attack.tasks.close();
        // Whoever does not end in time is let go with the process.
        let _ = tokio::time::timeout(Duration::from_secs(10), self.attack.tasks.wait()).await;
        for request in self.target.adapter.clean_up(self.plan.topic().as_deref(), &self.plan.users()) {
            if let Err(why) = self.request(&request).await {
                self.context.collector.note_error(&format!("cleaning up: {why}"));
            }
        }
    }
}

/// What both processes used at one moment, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Both {
    /// The target's.
    pub gateway: Option<Reading>,
    /// This one.
    pub generator: Option<Reading>,
}

/// What both processes used in the course of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Readings {
    /// Before the first socket.
    pub before: Both,
    /// With all sockets, before the first send.
    pub connected: Both,
    /// When nothing more was offered.
    pub offered: Both,
    /// When everything had arrived.
    pub settled: Both,
}

/// Goose takes the interrupt for itself; the run has to notice.
async fn watch_for_interrupt(interrupted: CancellationToken, stop: CancellationToken) {
    while !goose::is_killswitch_triggered() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    interrupted.cancel();
    stop.cancel();
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("a run is shorter than half a million years")
}

/// Microseconds until a moment; 0 when it is past.
fn until(moment: jiff::Timestamp) -> u64 {
    u64::try_from(jiff::Timestamp::now().duration_until(moment).as_micros()).unwrap_or(0)
}

/// Makes sure that so many file descriptors can be open.
fn allow_descriptors(needed: u64) -> Result<(), SetUpError> {
    let allowed = rlimit::increase_nofile_limit(needed).map_err(|error| SetUpError(error.to_string()))?;
    if allowed >= needed {
        return Ok(());
    }
    Err(SetUpError(format!(
        "this needs {needed} open files and {allowed} are allowed: raise the limit (ulimit -n {needed}), or share the sockets \
         between several processes (--shard)"
    )))
}
