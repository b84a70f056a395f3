//! One file per target, and [`wild`] with replies for one.

mod backup;
mod checkpoint;
mod http;
mod log;
mod model;
mod peer;
mod plan;
mod post_office;
mod records;
mod session;
mod snapshot;
mod wild;
mod wire;

pub use self::backup::backup;
pub use self::checkpoint::checkpoint;
pub use self::http::http;
pub use self::log::log;
pub use self::model::model;
pub use self::peer::peer;
pub use self::plan::plan;
pub use self::post_office::post_office;
pub use self::records::records;
pub use self::session::session;
pub use self::snapshot::snapshot;
pub use self::wire::wire;

/// A target's name, and what it does with its input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 12] = [
    ("wire", wire),
    ("peer", peer),
    ("post_office", post_office),
    ("model", model),
    ("records", records),
    ("checkpoint", checkpoint),
    ("snapshot", snapshot),
    ("backup", backup),
    ("log", log),
    ("session", session),
    ("plan", plan),
    ("http", http),
];
