//! The gateway under measurement: a process of its own, and what the kernel says of it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running gateway; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) http: String,
    pub(crate) ops: String,
}

/// Processor time used so far, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessorTime {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

/// The kernel's clock ticks a second in `/proc`, fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

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

    fn start_with(log: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log", log])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut address = |marker: &str| loop {
            let line = lines.next().expect("it prints its addresses").expect("as text");
            if line.contains(marker) {
                let behind = line.split("http://").nth(1).expect("an address");
                break behind.split('/').next().expect("a host").to_owned();
            }
        };
        let http = address("manual");
        let ops = address("metrics");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, http, ops }
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel says so");
        let kibibytes: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kibibytes * 1024
    }

    /// Seconds on a processor of all its threads, to the nanosecond; not told apart into user and system.
    pub(crate) fn seconds_on_processor(&self) -> f64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let nanoseconds = threads.filter_map(|thread| {
            // A thread may end between the listing and the look.
            let times = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<u64>().ok()
        });
        nanoseconds.sum::<u64>() as f64 / 1e9
    }

    /// Processor time of all its threads.
    pub(crate) fn processor_time(&self) -> ProcessorTime {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        let seconds = |index: usize| fields[index].parse::<f64>().expect("ticks") / TICKS_PER_SECOND;
        ProcessorTime { user: seconds(11), system: seconds(12) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl std::ops::Sub for ProcessorTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}
