//! The gateway under attack: a process of its own, perhaps with few descriptors.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::running::{Running, processor_seconds};

/// A running gateway; killed when dropped.
pub(crate) struct Process {
    running: Running,
    pub(crate) http: SocketAddr,
    pub(crate) ops: SocketAddr,
}

impl Process {
    /// Starts the release build on free ports with its log in memory, and with so many file descriptors if a number is given.
    pub(crate) fn start(variables: &[(&str, String)], open_files: Option<u32>) -> Self {
        let limit = open_files.map_or(String::new(), |open_files| format!("ulimit -n {open_files}; "));
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!("{limit}exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_gateway"))
            .args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log", "memory"])
            .envs(variables.iter().map(|(key, value)| (*key, value.as_str())))
            // Refusals and closed sessions are not what is measured, and thousands of them would hide the table.
            .env("GATEWAY_TELEMETRY_FILTER", "error");
        let running = Running::start(&mut command);
        let [http, ops] = [&running.http, &running.ops].map(|address| address.parse().expect("with a port"));
        Self { running, http, ops }
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.running.status_bytes("VmRSS:")
    }

    /// The most it ever was.
    pub(crate) fn highest_resident_bytes(&self) -> u64 {
        self.running.status_bytes("VmHWM:")
    }

    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("{}/fd", self.running.place())).map_or(0, Iterator::count)
    }

    /// Processor time of all its threads, in user space and in the kernel.
    pub(crate) fn processor_time(&self) -> Duration {
        sum(processor_seconds(&self.running.place()))
    }
}

/// That of this process.
pub(crate) fn own_processor_time() -> Duration {
    sum(processor_seconds("/proc/self"))
}

fn sum((user, system): (f64, f64)) -> Duration {
    Duration::from_secs_f64(user + system)
}
