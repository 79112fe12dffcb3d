//! The fuzzer of `kith_fuzz::mls_framing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::mls_framing(data));
