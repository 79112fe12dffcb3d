//! The fuzzer of `kith_fuzz::ratchet_tree`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kith_fuzz::ratchet_tree(data));
