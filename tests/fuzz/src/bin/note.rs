//! The fuzzer of `kith_fuzz::note`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::note(data));
