//! The fuzzer of `kith_fuzz::terms`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::terms(data));
