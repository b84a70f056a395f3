//! Disks that are slow, or gone.

use super::super::Millis;
use super::super::parse::{millis, name};
use super::Family;

/// What happens to a server's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskFault {
    /// Every sync of this server takes so much longer.
    SlowSync(String, Millis),
    /// The process is killed, and its disk is empty when it comes back.
    LostDisk(String),
}

impl DiskFault {
    /// Whether a server may lose what its disk held, and come back as another member.
    pub(super) fn loses_data(&self) -> bool {
        match self {
            Self::SlowSync(..) => false,
            Self::LostDisk(_) => true,
        }
    }
}

impl Family for DiskFault {
    fn kind(&self) -> &'static str {
        match self {
            Self::SlowSync(..) => "slow-sync",
            Self::LostDisk(_) => "lost-disk",
        }
    }

    fn who(&self) -> String {
        match self {
            Self::SlowSync(host, by) => format!("{host} {by}"),
            Self::LostDisk(host) => host.clone(),
        }
    }

    fn parse(kind: &str, who: &str) -> Option<Result<Self, String>> {
        Some(match kind {
            "lost-disk" => name(who).map(Self::LostDisk),
            "slow-sync" => match who.split_once(' ') {
                Some((host, by)) => name(host).and_then(|host| Ok(Self::SlowSync(host, millis(by)?))),
                None => Err("`slow-sync` is `slow-sync WHO TIME`".to_owned()),
            },
            _ => return None,
        })
    }

    fn visit_names(&mut self, f: &mut dyn FnMut(&mut String)) {
        match self {
            Self::SlowSync(host, _) | Self::LostDisk(host) => f(host),
        }
    }
}
