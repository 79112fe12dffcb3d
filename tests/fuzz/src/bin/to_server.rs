//! The fuzzer of `kith_fuzz::to_server`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::to_server(data));
