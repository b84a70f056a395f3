//! What the fuzz targets do: one function each, from bytes to nothing. A panic is a finding.
//!
//! The functions are here, and not in `fuzz_targets/`, so that an ordinary test can run them too.

mod disk;
mod log;
mod peer;
mod post_office;
mod wire;
mod world;

pub use self::log::log;
pub use self::peer::peer;
pub use self::post_office::post_office;
pub use self::wire::wire;

#[cfg(test)]
mod tests;
