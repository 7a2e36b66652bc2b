//! Runs [`gateway_fuzz::record`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway_fuzz::record(input));
