//! Runs [`gateway_fuzz::forwarded_for`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway_fuzz::forwarded_for(input));
