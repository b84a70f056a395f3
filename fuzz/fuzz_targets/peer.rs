//! See `restante_fuzz::peer`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::peer(data));
