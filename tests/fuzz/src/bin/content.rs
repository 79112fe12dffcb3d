//! The fuzzer of `kith_fuzz::content`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::content(data));
