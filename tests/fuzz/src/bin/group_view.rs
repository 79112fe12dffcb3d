//! The fuzzer of `kith_fuzz::group_view`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::group_view(data));
