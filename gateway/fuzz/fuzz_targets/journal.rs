//! Runs [`gateway_fuzz::journal`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway_fuzz::journal(input));
