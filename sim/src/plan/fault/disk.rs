//! Disks that are slow, failing or full, that give back something else than was written, or are gone.

use std::fmt;
use std::str::FromStr;

use super::super::Millis;
use super::super::parse::{millis, name, number};
use super::{Family, Rate};

/// What happens to a server's disk.
///
/// Those that [destroy](DiskFault::destroys) something strike once, when they begin. Of these all but `flip` kill the
/// process first, and it starts again when they end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskFault {
    /// Every sync of this server takes so much longer.
    SlowSync(String, Millis),
    /// Syncs that begin stand still until it ends.
    StuckSync(String),
    /// So many syncs fail: what one should have made durable may be there after a power cut, or not.
    SyncErrors(String, Rate),
    /// So many reads or writes fail.
    IoErrors(String, Operation, Rate),
    /// Only so many KiB are left.
    FullDisk(String, u64),
    /// A bit of a file changes under the running process.
    Flip(String, Files),
    /// A bit of a file has changed when the process comes back.
    Rot(String, Files),
    /// A file has lost its end.
    Truncate(String, Files),
    /// A file is gone.
    RemoveFile(String, Files),
    /// A directory is gone, with what was in it.
    LostDirectory(String, Directory),
    /// The process is killed, and its disk is empty when it comes back.
    LostDisk(String),
    /// A bit changes in each snapshot that this server receives.
    FlipSnapshot(String),
}

/// Reading or writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `read`
    Read,
    /// `write`
    Write,
}

/// Which of a server's files: one of them is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Files {
    /// The write-ahead log's segments.
    Log,
    /// The state.
    Checkpoint,
    /// The small files that say whose disk it is.
    Identity,
    /// Any of these.
    Any,
}

/// Which of a server's directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Directory {
    /// `log`
    Log,
    /// `checkpoint`
    Checkpoint,
}

macro_rules! words {
    ($($kind:ident: $($variant:ident = $word:literal),+;)+) => {
        $(impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        impl FromStr for $kind {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is none of {}", [$(concat!("`", $word, "`")),+].join(", "))),
                }
            }
        }

        impl $kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
        })+
    };
}

words! {
    Operation: Read = "read", Write = "write";
    Files: Log = "log", Checkpoint = "checkpoint", Identity = "identity", Any = "any";
    Directory: Log = "log", Checkpoint = "checkpoint";
}

impl Files {
    /// Whether a file is one of these, by its path in the data directory.
    pub fn include(self, path: &str) -> bool {
        match self {
            Self::Log => path.starts_with("log/"),
            Self::Checkpoint => path.starts_with("checkpoint/"),
            Self::Identity => path == "identity" || path == "manifest",
            Self::Any => [Self::Log, Self::Checkpoint, Self::Identity].into_iter().any(|files| files.include(path)),
        }
    }
}

impl DiskFault {
    /// Whose disk.
    pub fn host(&self) -> &str {
        match self {
            Self::SlowSync(host, _)
            | Self::StuckSync(host)
            | Self::SyncErrors(host, _)
            | Self::IoErrors(host, ..)
            | Self::FullDisk(host, _)
            | Self::Flip(host, _)
            | Self::Rot(host, _)
            | Self::Truncate(host, _)
            | Self::RemoveFile(host, _)
            | Self::LostDirectory(host, _)
            | Self::LostDisk(host)
            | Self::FlipSnapshot(host) => host,
        }
    }

    /// Whether a server may lose what its disk held, or end for it, and come back as another member.
    pub(super) fn loses_data(&self) -> bool {
        self.destroys() || matches!(self, Self::SyncErrors(..) | Self::IoErrors(..))
    }

    /// Whether something that was durable is not there any more afterwards. A cluster survives that on a minority of
    /// its servers.
    pub fn destroys(&self) -> bool {
        match self {
            Self::SlowSync(..)
            | Self::StuckSync(_)
            | Self::SyncErrors(..)
            | Self::IoErrors(..)
            | Self::FullDisk(..)
            | Self::FlipSnapshot(_) => false,
            Self::Flip(..)
            | Self::Rot(..)
            | Self::Truncate(..)
            | Self::RemoveFile(..)
            | Self::LostDirectory(..)
            | Self::LostDisk(_) => true,
        }
    }
}

impl Family for DiskFault {
    fn kind(&self) -> &'static str {
        match self {
            Self::SlowSync(..) => "slow-sync",
            Self::StuckSync(_) => "stuck-sync",
            Self::SyncErrors(..) => "sync-errors",
            Self::IoErrors(..) => "io-errors",
            Self::FullDisk(..) => "full-disk",
            Self::Flip(..) => "flip",
            Self::Rot(..) => "rot",
            Self::Truncate(..) => "truncate",
            Self::RemoveFile(..) => "remove-file",
            Self::LostDirectory(..) => "lost-directory",
            Self::LostDisk(_) => "lost-disk",
            Self::FlipSnapshot(_) => "flip-snapshot",
        }
    }

    fn who(&self) -> String {
        match self {
            Self::SlowSync(host, by) => format!("{host} {by}"),
            Self::SyncErrors(host, rate) => format!("{host} {rate}"),
            Self::IoErrors(host, operation, rate) => format!("{host} {operation} {rate}"),
            Self::FullDisk(host, kib) => format!("{host} {kib}"),
            Self::Flip(host, files)
            | Self::Rot(host, files)
            | Self::Truncate(host, files)
            | Self::RemoveFile(host, files) => format!("{host} {files}"),
            Self::LostDirectory(host, directory) => format!("{host} {directory}"),
            Self::StuckSync(host) | Self::LostDisk(host) | Self::FlipSnapshot(host) => host.clone(),
        }
    }

    fn parse(kind: &str, who: &str) -> Option<Result<Self, String>> {
        let files = |make: fn(String, Files) -> Self| with(who, kind, "log|checkpoint|identity|any", str::parse, make);
        Some(match kind {
            "slow-sync" => with(who, kind, "TIME", millis, Self::SlowSync),
            "stuck-sync" => name(who).map(Self::StuckSync),
            "sync-errors" => with(who, kind, "5%", str::parse, Self::SyncErrors),
            "io-errors" => with(who, kind, "read|write 5%", operation_and_rate, |host, (operation, rate)| {
                Self::IoErrors(host, operation, rate)
            }),
            "full-disk" => with(who, kind, "KIB", number, Self::FullDisk),
            "flip" => files(Self::Flip),
            "rot" => files(Self::Rot),
            "truncate" => files(Self::Truncate),
            "remove-file" => files(Self::RemoveFile),
            "lost-directory" => with(who, kind, "log|checkpoint", str::parse, Self::LostDirectory),
            "lost-disk" => name(who).map(Self::LostDisk),
            "flip-snapshot" => name(who).map(Self::FlipSnapshot),
            _ => return None,
        })
    }

    fn visit_names(&mut self, f: &mut dyn FnMut(&mut String)) {
        match self {
            Self::SlowSync(host, _)
            | Self::StuckSync(host)
            | Self::SyncErrors(host, _)
            | Self::IoErrors(host, ..)
            | Self::FullDisk(host, _)
            | Self::Flip(host, _)
            | Self::Rot(host, _)
            | Self::Truncate(host, _)
            | Self::RemoveFile(host, _)
            | Self::LostDirectory(host, _)
            | Self::LostDisk(host)
            | Self::FlipSnapshot(host) => f(host),
        }
    }
}

/// A host, and behind it something of the shape `what`.
fn with<T>(
    who: &str,
    kind: &str,
    what: &str,
    read: impl Fn(&str) -> Result<T, String>,
    make: impl Fn(String, T) -> DiskFault,
) -> Result<DiskFault, String> {
    let (host, rest) = who.split_once(' ').ok_or_else(|| format!("`{kind}` is `{kind} WHO {what}`"))?;
    Ok(make(name(host)?, read(rest.trim())?))
}

fn operation_and_rate(text: &str) -> Result<(Operation, Rate), String> {
    let (operation, rate) = text.split_once(' ').ok_or("`io-errors` is `io-errors WHO read 5%` or `… write 5%`")?;
    Ok((operation.parse()?, rate.trim().parse()?))
}
