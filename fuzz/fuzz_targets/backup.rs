//! See `restante_fuzz::backup`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::backup(data));
