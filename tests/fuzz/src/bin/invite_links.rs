//! The fuzzer of `kith_fuzz::invite_links`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::invite_links(data));
