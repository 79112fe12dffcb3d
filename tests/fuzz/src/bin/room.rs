//! The fuzzer of `kith_fuzz::room`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::room(data));
