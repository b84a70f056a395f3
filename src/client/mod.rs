//! scaffolding
mod error;
mod message;
mod session;
mod settings;
pub use self::error::{Doubt, Error, SendError};
pub use self::message::{Delivery, Message, Receipt, Registration};
pub use self::settings::ClientSettings;
