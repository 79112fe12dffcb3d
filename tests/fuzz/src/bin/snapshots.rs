//! The fuzzer of `kith_fuzz::snapshots`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::snapshots(data));
