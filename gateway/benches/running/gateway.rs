//! A gateway in a process of its own, and what the kernel says of it: what every measurement from outside begins with.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The kernel's clock ticks a second in `/proc`, fixed on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running gateway; killed when dropped.
pub(crate) struct Running {
    child: Child,
    /// Its public listener, `host:port`.
    pub(crate) http: String,
    /// Its operators' listener, likewise.
    pub(crate) ops: String,
}

impl Running {
    /// Starts a command that runs a gateway, and waits for its greeting.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the gateway starts");
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

    /// Where the kernel speaks of it.
    pub(crate) fn place(&self) -> String {
        format!("/proc/{}", self.child.id())
    }

    /// A size that `status` (proc(5)) names, in bytes.
    pub(crate) fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("{}/status", self.place())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel says so");
        let kibibytes: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kibibytes * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of all threads of the process that `place` is about, in user space and in the kernel, in seconds.
pub(crate) fn processor_seconds(place: &str) -> (f64, f64) {
    let stat = std::fs::read_to_string(format!("{place}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let seconds = |index: usize| fields[index].parse::<f64>().expect("ticks") / TICKS_PER_SECOND;
    (seconds(11), seconds(12))
}
