//! The gateway as others see it: a process with two ports, signals and an exit code.

#![cfg(test)]

mod commands;
mod drain;
mod exposition;
mod hostile;
mod metrics;
mod process;
mod process_harness;
mod raw_socket;
mod saturation;
mod slow_requests;
