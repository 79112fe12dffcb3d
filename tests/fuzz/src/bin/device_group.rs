//! The fuzzer of `kith_fuzz::device_group`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::device_group(data));
