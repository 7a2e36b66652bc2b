//! The gateway under attack: a process of its own, and what the kernel says of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running gateway; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) ops: SocketAddr,
}

impl Process {
    /// Starts the release build on free ports with its log in memory, and with so many file descriptors if a number is given.
    pub(crate) fn start(variables: &[(&str, String)], open_files: Option<u32>) -> Self {
        let limit = open_files.map_or(String::new(), |open_files| format!("ulimit -n {open_files}; "));
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("{limit}exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_gateway"))
            .args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log", "memory"])
            .envs(variables.iter().map(|(key, value)| (*key, value.as_str())))
            // Refusals and closed sessions are not what is measured, and thousands of them would hide the table.
            .env("GATEWAY_TELEMETRY_FILTER", "error")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut address = |marker: &str| loop {
            let line = lines.next().expect("it prints its addresses").expect("as text");
            if line.contains(marker) {
                let behind = line.split("http://").nth(1).expect("an address");
                break behind.split('/').next().expect("a host").parse().expect("with a port");
            }
        };
        let http = address("manual");
        let ops = address("metrics");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, http, ops }
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most it ever was.
    pub(crate) fn highest_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// Processor time of all its threads, in user space and in the kernel.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(&self.child.id().to_string())
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel says so");
        let kibibytes: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kibibytes * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of a process, `self` for this one.
pub(crate) fn processor_time(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("ticks");
    // The kernel reports hundredths of a second to user space.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
