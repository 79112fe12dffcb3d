//! The fuzzer of `kith_fuzz::proof`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::proof(data));
