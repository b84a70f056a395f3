//! See `restante_fuzz::plan`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::plan(data));
