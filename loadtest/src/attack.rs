//! The senders: goose launches one user for each, which opens its sockets and then sends what the pacer says is due.
//!
//! Goose runs a user's work in order, so a user has one POST in flight; streams are pinned to users, so a stream has one as
//! well, which is what makes its order judgeable. Goose counts its own way, to the millisecond: what is judged comes from
//! [`crate::collector`], and goose's report is a second opinion (`--goose-report`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goose::client::GooseClientBuilder;
use goose::config::GooseConfiguration;
use goose::goose::{GooseMethod, GooseRequest, GooseUser, Scenario, Transaction, TransactionFunction};
use goose::{GooseAttack, GooseError};
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::collector::{Series, locked};
use crate::context::Context;
use crate::nodes::Nodes;
use crate::pacer::Tick;
use crate::payload::Payload;
use crate::sequence::SendOutcome;
use crate::socket::{self, Connector};
use crate::target::{Answer, Request};
use crate::trace::TRACEPARENT;

/// The pause before a send is repeated.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What the senders need beside the context.
pub struct Attack {
    /// The addresses of the target's nodes, without a slash at the end.
    pub urls: Vec<String>,
    /// Shared by all users: a client of its own would cost each of them 100 KiB.
    pub http: reqwest::Client,
    /// Goes with every send.
    pub authorization: Option<HeaderValue>,
    /// Opens the sockets.
    pub connector: Arc<Connector>,
    /// Knows the sockets' tasks.
    pub tasks: TaskTracker,
    /// Where goose writes what it has counted itself; empty: nowhere.
    pub goose_reports: Vec<PathBuf>,
    inboxes: Vec<Mutex<Option<UnboundedReceiver<Tick>>>>,
}

impl std::fmt::Debug for Attack {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Attack")
            .field("urls", &self.urls)
            .field("senders", &self.inboxes.len())
            .finish_non_exhaustive()
    }
}

impl Attack {
    /// Prepares so many senders; what is due for the n-th goes into the n-th channel.
    #[must_use]
    pub fn new(
        nodes: &Nodes,
        http: reqwest::Client,
        authorization: Option<HeaderValue>,
        connector: Arc<Connector>,
        senders: usize,
        goose_reports: Vec<PathBuf>,
    ) -> (Self, Vec<UnboundedSender<Tick>>) {
        let (channels, inboxes) = (0..senders)
            .map(|_| unbounded_channel())
            .map(|(channel, inbox)| (channel, Mutex::new(Some(inbox))))
            .unzip();
        let tasks = TaskTracker::new();
        let urls = nodes.all().iter().map(|url| url.as_str().trim_end_matches('/').to_owned()).collect();
        (Self { urls, http, authorization, connector, tasks, goose_reports, inboxes }, channels)
    }

    /// Lets goose launch the users and waits until all have ended, which they do when their channels are closed and empty.
    ///
    /// # Errors
    /// When goose cannot run, in its words.
    pub async fn run(self: Arc<Self>, context: Arc<Context>) -> Result<(), GooseError> {
        let senders = self.inboxes.len();
        let reports = self.goose_reports.iter().map(|path| path.display().to_string()).collect();
        let mut configuration = GooseConfiguration::default();
        configuration.host = Some(self.urls[0].clone());
        configuration.users = Some(senders);
        // One a turn of goose's own loop.
        configuration.increase_rate = Some("20000".to_owned());
        // Each user's one transaction lasts as long as the run. With it, goose never resets what it has counted.
        configuration.iterations = Some(1);
        configuration.report_file = reports;
        configuration.no_print_metrics = true;
        configuration.no_transaction_metrics = true;
        configuration.no_scenario_metrics = true;
        configuration.no_telnet = true;
        configuration.no_gzip = true;
        configuration.quiet = 3;
        let (attack, shared) = (self.clone(), context.clone());
        let connect: TransactionFunction = Arc::new(move |user| {
            let (attack, context) = (attack.clone(), shared.clone());
            Box::pin(async move {
                attack.connect(user.weighted_users_index, &context).await;
                Ok(())
            })
        });
        let send: TransactionFunction = Arc::new(move |user| {
            let (attack, context) = (self.clone(), context.clone());
            Box::pin(async move {
                attack.send(user, &context).await;
                Ok(())
            })
        });
        let scenario = Scenario::new("loadtest")
            .register_transaction(Transaction::new(connect).set_name("connect").set_on_start())
            .register_transaction(Transaction::new(send).set_name("send"));
        // One for all: a client of its own would cost each user 100 KiB and goose seconds.
        let shared = GooseClientBuilder::new().without_cookies().gzip(false);
        let goose = GooseAttack::initialize_with_config(configuration)?
            .set_client_builder_without_cookies(shared)?
            .register_scenario(scenario);
        Box::pin(goose.execute()).await.map(drop)
    }

    /// An adapter's request as it goes to a node of the target, with the credential.
    pub fn addressed(&self, request: &Request, node: usize) -> reqwest::RequestBuilder {
        let url = format!("{}{}", self.urls[node], request.path);
        let mut builder = self.http.request(request.method.clone(), url).body(request.body.clone());
        builder = builder.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization.clone());
        }
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        builder
    }

    /// Opens the sockets of one user and waits until each has connected or failed.
    async fn connect(&self, sender: usize, context: &Arc<Context>) {
        // Goose has set up its logger by now; what fails is in the summary.
        log::set_max_level(log::LevelFilter::Off);
        let mut waiting = Vec::new();
        for index in (sender..context.receivers.len()).step_by(self.inboxes.len()) {
            let (ready, told) = oneshot::channel();
            self.tasks.spawn(socket::run(index, context.clone(), self.connector.clone(), ready));
            waiting.push(told);
        }
        for told in waiting {
            // A socket whose task is gone has failed and said so.
            let _ = told.await;
        }
    }

    async fn send(&self, user: &mut GooseUser, context: &Context) {
        let inbox = locked(&self.inboxes[user.weighted_users_index]).take();
        let Some(mut inbox) = inbox else { return };
        user.client = self.http.clone();
        let mut numbers: HashMap<usize, u32> = HashMap::new();
        let mut free_since = 0;
        let mut node = user.weighted_users_index % self.urls.len();
        while let Some(tick) = inbox.recv().await {
            if context.give_up.is_cancelled() {
                return;
            }
            let number = numbers.entry(tick.stream).or_default();
            node = self.send_one(user, context, tick, *number, free_since, node).await;
            *number += 1;
            free_since = context.collector.clock().now();
        }
    }

    /// Sends what is due, beginning at this node; gives the one that answered last.
    async fn send_one(
        &self,
        user: &mut GooseUser,
        context: &Context,
        tick: Tick,
        number: u32,
        free_since: u64,
        mut node: usize,
    ) -> usize {
        let collector = &context.collector;
        let (stream, writer) = (&context.streams[tick.stream], tick.stream);
        let begun = collector.clock().now();
        let could = tick.handed_over.max(free_since);
        let waits = [(Series::Queue, could - tick.handed_over), (Series::Dispatch, begun - could)];
        collector.note_due(writer, tick.intended, &waits);
        let stream_number = u32::try_from(tick.stream).expect("fewer streams than 2^32");
        let payload =
            Payload { run: &context.marker, stream: stream_number, number, intended: tick.intended, begun };
        let key = context.retry.then(|| format!("{}-{}-{number}", context.nonce, tick.stream));
        let request = context.adapter.send(&stream.destination, &payload.to_text(tick.size), key.as_deref());
        collector.counters.sent.fetch_add(1, Ordering::Relaxed);
        collector.begin_send();
        // Once one attempt may have been accepted, only an acceptance says more.
        let mut if_given_up = SendOutcome::Refused;
        let mut repetitions = 0;
        let outcome = loop {
            let (why, again) = match self.post(user, context, &request, node, repetitions).await {
                Answer::Accepted => break SendOutcome::Accepted,
                Answer::Refused(why) => (format!("send refused: {why}"), false),
                Answer::NotNow(why) => (format!("send refused for now: {why}"), true),
                Answer::Unknown(why) => {
                    if_given_up = SendOutcome::Unknown;
                    (format!("send without an answer: {why}"), true)
                }
            };
            collector.note_error(&why);
            collector.counters.failed_attempts.fetch_add(1, Ordering::Relaxed);
            if !again || !context.retry || context.give_up.is_cancelled() {
                break if_given_up;
            }
            collector.counters.retried.fetch_add(1, Ordering::Relaxed);
            repetitions += 1;
            node = (node + 1) % self.urls.len();
            tokio::time::sleep(RETRY_AFTER).await;
        };
        collector.end_send(outcome == SendOutcome::Accepted);
        let took = collector.clock().now() - begun;
        collector.note_due(writer, tick.intended, &[(Series::Post, took)]);
        context.settle(tick.stream, number, outcome);
        node
    }

    /// Sends a request, as the beginning of a trace if there are any, and says what the answer means.
    async fn post(
        &self,
        user: &mut GooseUser,
        context: &Context,
        request: &Request,
        node: usize,
        repetitions: u32,
    ) -> Answer {
        let mut builder = self.addressed(request, node);
        let mut sending = None;
        if let Some(traces) = &context.traces {
            let (header, recorded) = traces.send(request, repetitions);
            builder = builder.header(TRACEPARENT, header);
            sending = recorded;
        }
        let (status, answer) = Self::exchange(user, context, request, builder).await;
        if let Some(sending) = sending {
            sending.end(status, &answer);
        }
        answer
    }

    /// Sends a request through goose, which notes it; the status of the answer, if there was one, and what it means.
    async fn exchange(
        user: &mut GooseUser,
        context: &Context,
        request: &Request,
        builder: reqwest::RequestBuilder,
    ) -> (Option<StatusCode>, Answer) {
        let request = GooseRequest::builder()
            .method(GooseMethod::Post)
            .path(request.path.as_str())
            .name("send")
            .set_request_builder(builder)
            .build();
        let response = match user.request(request).await {
            Ok(answered) => answered.response,
            // Goose may have sent it and failed to note it.
            Err(error) => return (None, Answer::Unknown(error.to_string())),
        };
        match response {
            Ok(response) => {
                let status = response.status();
                let answer = match response.bytes().await {
                    Ok(body) => context.adapter.answer(status, &body),
                    Err(error) => Answer::Unknown(transport(&error)),
                };
                (Some(status), answer)
            }
            Err(error) if error.is_connect() => (None, Answer::NotNow(transport(&error))),
            Err(error) => (None, Answer::Unknown(transport(&error))),
        }
    }
}

/// What went wrong on the way, without what differs from send to send.
fn transport(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the connection broke"
    };
    kind.to_owned()
}
