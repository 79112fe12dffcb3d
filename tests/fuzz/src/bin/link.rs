//! The fuzzer of `kith_fuzz::link`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::link(data));
