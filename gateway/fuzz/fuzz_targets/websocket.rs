//! Runs [`gateway_fuzz::websocket`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| gateway_fuzz::websocket(input));
