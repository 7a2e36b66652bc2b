//! The gateway under measurement: a process of its own, and what the kernel says of it.

use std::path::Path;
use std::process::Command;

use crate::running::{Running, processor_seconds};

/// A running gateway; killed when dropped.
pub(crate) struct Process {
    running: Running,
    pub(crate) http: String,
    pub(crate) ops: String,
}

/// Processor time used so far, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessorTime {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Process {
    /// Starts the release build on free ports, with its log in memory.
    pub(crate) fn start() -> Self {
        Self::start_with("memory", &[])
    }

    /// Starts the release build on free ports, with its log in memory and these variables.
    pub(crate) fn start_with_variables(variables: &[(&str, &str)]) -> Self {
        Self::start_with("memory", variables)
    }

    /// Starts the release build on free ports, with its log in this directory.
    pub(crate) fn start_on_disk(directory: &Path) -> Self {
        Self::start_with(&format!("disk:{}", directory.display()), &[])
    }

    /// Starts the release build on free ports, with this log and these variables.
    pub(crate) fn start_with(log: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log", log]);
        let running = Running::start(command.envs(variables.iter().copied()));
        let (http, ops) = (running.http.clone(), running.ops.clone());
        Self { running, http, ops }
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.running.status_bytes("VmRSS:")
    }

    /// Seconds on a processor of all its threads, to the nanosecond; not told apart into user and system.
    pub(crate) fn seconds_on_processor(&self) -> f64 {
        let threads = std::fs::read_dir(format!("{}/task", self.running.place())).expect("it runs");
        let nanoseconds = threads.filter_map(|thread| {
            // A thread may end between the listing and the look.
            let times = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<u64>().ok()
        });
        nanoseconds.sum::<u64>() as f64 / 1e9
    }

    /// Processor time of all its threads.
    pub(crate) fn processor_time(&self) -> ProcessorTime {
        let (user, system) = processor_seconds(&self.running.place());
        ProcessorTime { user, system }
    }
}

impl std::ops::Sub for ProcessorTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}
