//! The fuzzer of `kith_fuzz::to_member`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::to_member(data));
