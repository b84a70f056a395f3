//! An operator's work: servers that are added, removed, given leadership, drained and restarted. The operator asks again and
//! again until it is done or the interval has ended.

use super::super::parse::name;
use super::Family;

/// What an operator wants of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipFault {
    /// The server is to belong to the cluster. Its process starts, with an empty disk if it was removed before.
    Add(String),
    /// The server is to belong to the cluster no more.
    Remove(String),
    /// The server is to lead.
    Transfer(String),
    /// The server is to serve nobody and not to lead, until the interval ends.
    Drain(String),
    /// Each server in turn stops in good order and starts again; the interval is that of all together.
    RollingRestart,
}

impl Family for MembershipFault {
    fn kind(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Remove(_) => "remove",
            Self::Transfer(_) => "transfer",
            Self::Drain(_) => "drain",
            Self::RollingRestart => "rolling-restart",
        }
    }

    fn who(&self) -> String {
        match self {
            Self::Add(server) | Self::Remove(server) | Self::Transfer(server) | Self::Drain(server) => server.clone(),
            Self::RollingRestart => String::new(),
        }
    }

    fn parse(kind: &str, who: &str) -> Option<Result<Self, String>> {
        Some(match kind {
            "add" => name(who).map(Self::Add),
            "remove" => name(who).map(Self::Remove),
            "transfer" => name(who).map(Self::Transfer),
            "drain" => name(who).map(Self::Drain),
            "rolling-restart" if who.is_empty() => Ok(Self::RollingRestart),
            "rolling-restart" => Err("`rolling-restart` is of all servers and names none".to_owned()),
            _ => return None,
        })
    }

    fn visit_names(&mut self, f: &mut dyn FnMut(&mut String)) {
        match self {
            Self::Add(server) | Self::Remove(server) | Self::Transfer(server) | Self::Drain(server) => f(server),
            Self::RollingRestart => {}
        }
    }
}
