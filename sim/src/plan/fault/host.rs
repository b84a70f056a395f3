//! Processes and machines that stop, for a while.

use super::super::parse::name;
use super::Family;

/// What happens to processes and machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostFault {
    /// The machine loses its power, and with it what its disk has not synced. The others hear nothing of it.
    Crash(String),
    /// The process is killed; the machine goes on, so nothing that was written is lost, and connections are closed.
    Bounce(String),
    /// The server is told to stop, and starts again when it ends.
    Stop(String),
    /// All servers lose their power at once.
    PowerCut,
    /// The process stands still, and then goes on as if nothing had been.
    Pause(String),
}

impl Family for HostFault {
    fn kind(&self) -> &'static str {
        match self {
            Self::Crash(_) => "crash",
            Self::Bounce(_) => "bounce",
            Self::Stop(_) => "stop",
            Self::PowerCut => "power-cut",
            Self::Pause(_) => "pause",
        }
    }

    fn who(&self) -> String {
        match self {
            Self::Crash(host) | Self::Bounce(host) | Self::Stop(host) | Self::Pause(host) => host.clone(),
            Self::PowerCut => String::new(),
        }
    }

    fn parse(kind: &str, who: &str) -> Option<Result<Self, String>> {
        Some(match kind {
            "crash" => name(who).map(Self::Crash),
            "bounce" => name(who).map(Self::Bounce),
            "stop" => name(who).map(Self::Stop),
            "pause" => name(who).map(Self::Pause),
            "power-cut" if who.is_empty() => Ok(Self::PowerCut),
            "power-cut" => Err("`power-cut` is of all servers and names none".to_owned()),
            _ => return None,
        })
    }

    fn visit_names(&mut self, f: &mut dyn FnMut(&mut String)) {
        match self {
            Self::Crash(host) | Self::Bounce(host) | Self::Stop(host) | Self::Pause(host) => f(host),
            Self::PowerCut => {}
        }
    }
}
