//! What a run will do, settled before anything is opened: who receives, who sends, what is offered when.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::context::{Receiver, Stream};
use crate::gate::{Gate, Values};
use crate::pacer::{Lane, Step};
use crate::scenario::{Kind, Scenario};
use crate::sequence::{Received, Sent};
use crate::target::Destination;

/// Each slow socket gets so many notifications a second …
const SLOW_RATE: f64 = 6.0;
/// … of so many bytes: more than any buffer on the way holds, and soon more than its mailbox.
const SLOW_SIZE: usize = 16 * 1024;

/// The factor from one step of a growing rate to the next.
const RAMP_FACTOR: f64 = 1.4;

/// Everything that is settled.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// Names the run; part of every user's name.
    pub run: String,
    /// Sockets.
    pub sockets: usize,
    /// Goose's users, each with one POST in flight.
    pub senders: usize,
    /// Notifications a second.
    pub rate: f64,
    /// For so long.
    pub duration: Duration,
    /// Of that, what does not count for a latency.
    pub warm_up: Duration,
    /// Bytes of text.
    pub size: usize,
    /// The part of the sockets that stop reading.
    pub slow_share: f64,
    /// `fanout`: by a list of recipients and not by a topic.
    pub by_list: bool,
    /// `resume`: how often some are cut.
    pub cut_every: Duration,
    /// `resume`: the part of the sockets that is cut each time.
    pub cut_share: f64,
    /// `ramp`: how long each rate is kept.
    pub step: Duration,
    /// `ramp`: where it ends at the latest.
    pub max_rate: f64,
    /// `ramp`: a push p99 from which the target does not keep up, microseconds.
    pub knee_p99: f64,
    /// Connects at the same time.
    pub connects_at_once: usize,
    /// Nothing has arrived for so long: nothing more will.
    pub settle: Duration,
    /// The longest wait for stragglers.
    pub drain_timeout: Duration,
    /// How long a POST may take.
    pub send_timeout: Duration,
    /// The scenario's gates.
    pub gates: Vec<Gate>,
    /// Those of the command line.
    pub flag_gates: Vec<Gate>,
    /// What an earlier run measured.
    pub baseline: Option<Values>,
    /// Which part of a run that several processes share, from 1, and how many.
    pub shard: Option<(usize, usize)>,
    /// Goose's own reports.
    pub goose_reports: Vec<PathBuf>,
    /// When it begins, RFC 3339, UTC.
    pub started_at: String,
    /// When the offering begins, RFC 3339, so that several processes begin together; absent: when all are connected.
    pub start_at: Option<jiff::Timestamp>,
    /// How it was called, without the program.
    pub arguments: Vec<String>,
}

impl Plan {
    /// How many sockets stop reading: the last ones.
    #[must_use]
    pub fn slow_sockets(&self) -> usize {
        if self.scenario.kind != Kind::Slow {
            return 0;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a count"
        )]
        let part = (self.sockets as f64 * self.slow_share).round() as usize;
        part.clamp(1, self.sockets)
    }

    /// Names the run and this part of it.
    #[must_use]
    pub fn part(&self) -> String {
        let Self { run, .. } = self;
        self.shard.map_or_else(|| run.clone(), |(number, _)| format!("{run}-{number}"))
    }

    /// The topic that everybody is subscribed to, if there is one.
    #[must_use]
    pub fn topic(&self) -> Option<String> {
        (self.scenario.kind == Kind::Fanout && !self.by_list).then(|| format!("loadtest-{}", self.part()))
    }

    /// The users, one for each socket.
    #[must_use]
    pub fn users(&self) -> Vec<String> {
        let part = self.part();
        (0..self.sockets).map(|number| format!("loadtest-{part}-{number}")).collect()
    }

    /// Streams and receivers: one stream for each socket, or one for all of them.
    #[must_use]
    pub fn people(&self) -> (Vec<Stream>, Vec<Receiver>) {
        let users = self.users();
        let stream = |destination: Destination, receivers: usize| Stream {
            destination,
            receivers: AtomicU64::new(receivers as u64),
            sent: Mutex::new(Sent::default()),
        };
        let together = self.scenario.kind == Kind::Fanout;
        let streams = if together {
            let everybody = match self.topic() {
                Some(topic) => Destination::Topic(topic),
                None => Destination::Users(Arc::from(users.clone())),
            };
            vec![stream(everybody, users.len())]
        } else {
            users.iter().map(|user| stream(Destination::User(user.clone()), 1)).collect()
        };
        let healthy = self.sockets - self.slow_sockets();
        let receiver = |(index, user): (usize, String)| Receiver {
            user,
            stream: if together { 0 } else { index },
            slow: index >= healthy,
            gone: AtomicBool::new(false),
            received: Mutex::new(Received::default()),
        };
        (streams, users.into_iter().enumerate().map(receiver).collect())
    }

    /// What is offered.
    #[must_use]
    pub fn lanes(&self) -> Vec<Lane> {
        let seconds = self.duration.as_secs_f64();
        let streams = if self.scenario.kind == Kind::Fanout { 1 } else { self.sockets };
        let healthy = streams - self.slow_sockets();
        let steps = match self.scenario.kind {
            Kind::Ramp => self.ramp(),
            _ => vec![Step { rate: self.rate, seconds }],
        };
        let mut lanes = vec![Lane { streams: 0..healthy, size: self.size, steps }];
        if healthy < streams {
            #[expect(clippy::cast_precision_loss, reason = "a count of sockets")]
            let rate = SLOW_RATE * (streams - healthy) as f64;
            lanes.push(Lane {
                streams: healthy..streams,
                size: SLOW_SIZE,
                steps: vec![Step { rate, seconds }],
            });
        }
        lanes
    }

    /// The steps of a growing rate.
    #[must_use]
    pub fn ramp(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut rate = self.rate;
        while rate < self.max_rate {
            steps.push(Step { rate, seconds: self.step.as_secs_f64() });
            rate *= RAMP_FACTOR;
        }
        steps.push(Step { rate: self.max_rate, seconds: self.step.as_secs_f64() });
        steps
    }

    /// File descriptors that this process needs: sockets, a connection for each sender, and what libraries open.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        (self.sockets + self.senders + 128) as u64
    }
}
