//! See `restante_fuzz::post_office`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::post_office(data));
