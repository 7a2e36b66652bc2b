//! Runs [`gateway_fuzz::batch`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway_fuzz::batch(input));
