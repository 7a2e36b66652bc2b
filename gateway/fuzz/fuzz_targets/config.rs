//! Runs [`gateway_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway_fuzz::config(input));
