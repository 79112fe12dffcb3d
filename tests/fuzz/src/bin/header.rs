//! The fuzzer of `kith_fuzz::header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::header(data));
