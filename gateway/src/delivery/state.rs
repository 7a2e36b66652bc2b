//! The state that is computed from the log: mailboxes, topics, idempotency, outcomes, settings.
//!
//! Written by the one applying task, read by everybody. Each part has its own lock, held for a moment and never over an
//! await. Equal logs make equal states, whatever clocks, sessions and restarts there were: [`State::digest`].

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use sha2::{Digest, Sha256};

use super::horizon::Horizon;
use super::idempotency::Idempotency;
use super::outcomes::Outcomes;
use super::topics::Topics;
use crate::log::entry::Settings;
use crate::registry::Registry;

/// Everything that the log says, in a form that can be asked.
#[derive(Default)]
pub struct State {
    /// Mailboxes, and the sessions of this node.
    pub registry: Registry,
    topics: Mutex<Topics>,
    idempotency: Mutex<Idempotency>,
    outcomes: Mutex<Outcomes>,
    horizon: Mutex<Horizon>,
    settings: Mutex<Option<(u64, Settings)>>,
    log_time_ms: AtomicU64,
    /// When what holds was said the last time, in seconds of log time.
    held_since_s: AtomicU32,
    /// How much of the log a floor entry says was dropped.
    floor_through: AtomicU64,
}

impl State {
    /// The state of an empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Who is subscribed to what.
    pub fn topics(&self) -> MutexGuard<'_, Topics> {
        lock(&self.topics)
    }

    /// Which requests were made before.
    pub fn idempotency(&self) -> MutexGuard<'_, Idempotency> {
        lock(&self.idempotency)
    }

    /// What became of notifications.
    pub fn outcomes(&self) -> MutexGuard<'_, Outcomes> {
        lock(&self.outcomes)
    }

    /// How much of the log is needed.
    pub fn horizon(&self) -> MutexGuard<'_, Horizon> {
        lock(&self.horizon)
    }

    /// The settings in force and where they stand in the log.
    #[must_use]
    pub fn settings(&self) -> Option<(u64, Settings)> {
        lock(&self.settings).clone()
    }

    /// When the settings, and with them all that holds, were said the last time, in seconds of log time.
    pub(super) fn held_since_s(&self) -> u32 {
        self.held_since_s.load(Ordering::Acquire)
    }

    /// Up to here a floor entry says what was missing.
    pub(super) fn floor_through(&self) -> u64 {
        self.floor_through.load(Ordering::Acquire)
    }

    pub(super) fn set_floor(&self, through: u64) {
        self.floor_through.fetch_max(through, Ordering::AcqRel);
    }

    pub(super) fn set_settings(&self, number: u64, settings: Settings) {
        self.held_since_s.store(seconds(self.log_time_ms()), Ordering::Release);
        *lock(&self.settings) = Some((number, settings));
    }

    /// The log's own time, in milliseconds since the Unix epoch: it never steps back.
    #[must_use]
    pub fn log_time_ms(&self) -> u64 {
        self.log_time_ms.load(Ordering::Acquire)
    }

    pub(super) fn set_log_time(&self, log_time_ms: u64) {
        self.log_time_ms.store(log_time_ms, Ordering::Release);
    }

    /// A SHA-256 over everything that follows from the log alone. Equal for every node that applied the same entries, and for
    /// one that started from what retention leaves of them.
    ///
    /// Walks the whole state: for tests and for comparing nodes, not for every scrape.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let log_time_ms = self.log_time_ms();
        let mut out = log_time_ms.to_le_bytes().to_vec();
        let settings = self.settings().map(|(_, settings)| settings);
        if let Some(settings) = &settings {
            serde_json::to_writer(&mut out, settings).expect("numbers serialize, and a vector takes them");
            self.outcomes().describe(&mut out, settings, seconds(log_time_ms));
        }
        self.topics().describe(&mut out);
        self.idempotency().describe(&mut out, seconds(log_time_ms));
        for (user, description) in self.registry.describe() {
            out.extend(user.as_bytes());
            out.push(0);
            out.extend(description);
        }
        Sha256::digest(&out).into()
    }
}

/// Log time in whole seconds, as expiry counts it.
pub(super) fn seconds(log_time_ms: u64) -> u32 {
    u32::try_from(log_time_ms / 1_000).unwrap_or(u32::MAX)
}

fn lock<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().expect("no code panics while it holds a part of the state")
}
