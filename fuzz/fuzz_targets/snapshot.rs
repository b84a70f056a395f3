//! See `restante_fuzz::snapshot`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::snapshot(data));
