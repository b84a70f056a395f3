//! How a command fails: a text for the person, an exit code for the script.

use std::fmt;
use std::io;
use std::process::ExitCode;

use restante::client;

/// Exit codes. They are listed in `restante --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Whoever reads our output has read enough: no failure, and nothing to say.
    Unread = 0,
    /// Anything that has no code of its own.
    Failed = 1,
    /// The arguments make no sense together.
    Usage = 2,
    /// The cluster refused.
    Refused = 3,
    /// No server answered, or none could.
    Unavailable = 4,
    /// The address to listen on is taken.
    AddressInUse = 5,
    /// The data directory is taken, or not empty where it must be.
    DirectoryInUse = 6,
    /// The data directory is of another version or cluster, or damaged.
    BadData = 7,
    /// The demo or a benchmark counted something that must not be.
    CountsOff = 8,
    /// The disk of a server failed.
    DiskFailed = 9,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// The code that the process ends with.
    pub fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Why a command failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure that speaks for itself.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), hint: None }
    }

    /// The same, with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with what was being done in front.
    #[must_use]
    pub fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }

    /// Ctrl-C, or a request to terminate.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// Writes it to the standard error.
    pub fn print(&self) {
        if self.exit == Exit::Unread {
            return;
        }
        // Nobody is left to be told if this fails.
        use io::Write as _;
        let mut stderr = io::stderr().lock();
        let label = console::style("restante:").for_stderr().red().bold();
        let _ = writeln!(stderr, "{label} {}", self.text);
        if let Some(hint) = &self.hint {
            for line in hint.lines() {
                let _ = writeln!(stderr, "  {line}");
            }
        }
    }
}

/// A failure to write to the standard output.
pub fn unwritten(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::new(Exit::Unread, "")
    } else {
        Failure::new(Exit::Failed, format!("cannot write to the standard output: {error}"))
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        use client::Error;
        let exit = match error {
            Error::NoServers
            | Error::BadName(_)
            | Error::TooLarge { .. }
            | Error::BadWindow { .. }
            | Error::BadRecipients { .. }
            | Error::KeepsTooMany { .. }
            | Error::BadPattern { .. }
            | Error::NoSuchHome { .. } => Exit::Usage,
            Error::Refused(_) | Error::Fenced { .. } | Error::RegistrationEnded { .. } => Exit::Refused,
            Error::Unreachable { .. } | Error::TimedOut { .. } | Error::Unknown { .. } => Exit::Unavailable,
            Error::WrongCluster { .. } => Exit::BadData,
            Error::StreamLost { .. } | Error::Closed => Exit::Failed,
        };
        let failure = Failure::new(exit, with_causes(&error));
        match error {
            Error::Unreachable { .. } | Error::TimedOut { .. } => {
                failure.hint("`restante status` shows what can be reached; --servers names other servers.")
            }
            _ => failure,
        }
    }
}

impl From<client::SendError> for Failure {
    fn from(error: client::SendError) -> Self {
        use client::{Doubt, SendError};
        let exit = match &error {
            SendError::Refused(_) | SendError::Failed(_) => Exit::Refused,
            SendError::Unknown(_) => Exit::Unavailable,
            SendError::NotSent(Doubt::Ended(ended)) => return Failure::from((**ended).clone()).while_doing("not sent"),
            SendError::NotSent(_) => Exit::Failed,
        };
        Failure::new(exit, with_causes(&error))
    }
}

impl From<client::NoDelivery> for Failure {
    fn from(error: client::NoDelivery) -> Self {
        match error {
            client::NoDelivery::NotAccepted(error) => error.into(),
            error => Failure::new(Exit::Unavailable, with_causes(&error)),
        }
    }
}

/// An error's text with those of its causes that it does not repeat already.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let its = error.to_string();
        if !text.contains(&its) {
            text = format!("{text}: {its}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot start")]
    struct Outer(#[source] io::Error);

    #[test]
    fn causes_are_told_once() {
        let error = Outer(io::Error::new(io::ErrorKind::AddrInUse, "port 8080 is taken"));
        assert_eq!(with_causes(&error), "cannot start: port 8080 is taken");
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start: {0}")]
        struct Repeating(#[source] io::Error);
        let error = Repeating(io::Error::other("port 8080 is taken"));
        assert_eq!(with_causes(&error), "cannot start: port 8080 is taken");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert_eq!(unwritten(&io::ErrorKind::BrokenPipe.into()).exit, Exit::Unread);
        assert_eq!(unwritten(&io::ErrorKind::StorageFull.into()).exit, Exit::Failed);
    }
}
