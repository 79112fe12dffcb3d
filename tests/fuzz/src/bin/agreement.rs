//! The fuzzer of `kith_fuzz::agreement`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::agreement(data));
