//! Clocks that are wrong.

use super::super::Millis;
use super::super::parse::{millis, name};
use super::{Family, Rate};

/// What happens to a host's clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClockFault {
    /// The wall clock is so much ahead (or behind), and then right again.
    Jump {
        /// Whose.
        host: String,
        /// Whether it is behind.
        behind: bool,
        /// By how much.
        by: Millis,
    },
    /// All clocks of a host, its timers among them, run so much faster (or slower).
    Drift {
        /// Whose.
        host: String,
        /// Whether it is slower.
        slower: bool,
        /// By how much.
        by: Rate,
    },
}

fn sign(minus: bool) -> char {
    if minus { '-' } else { '+' }
}

impl Family for ClockFault {
    fn kind(&self) -> &'static str {
        match self {
            Self::Jump { .. } => "clock-jump",
            Self::Drift { .. } => "clock-drift",
        }
    }

    fn who(&self) -> String {
        match self {
            Self::Jump { host, behind, by } => format!("{host} {}{by}", sign(*behind)),
            Self::Drift { host, slower, by } => format!("{host} {}{by}", sign(*slower)),
        }
    }

    fn parse(kind: &str, who: &str) -> Option<Result<Self, String>> {
        let read = || {
            let (host, rest) = who.split_once(' ').ok_or("the shape is `clock-jump A +30s`, `clock-drift A -5%`")?;
            let minus = match rest.trim().chars().next() {
                Some('+') => false,
                Some('-') => true,
                _ => return Err("a clock is ahead (`+`) or behind (`-`)".to_owned()),
            };
            Ok((name(host)?, minus, rest.trim()[1..].to_owned()))
        };
        Some(match kind {
            "clock-jump" => read().and_then(|(host, behind, by)| Ok(Self::Jump { host, behind, by: millis(&by)? })),
            "clock-drift" => read().and_then(|(host, slower, by)| match by.parse()? {
                by @ Rate(0..=5_000) => Ok(Self::Drift { host, slower, by }),
                _ => Err("a clock drifts by at most 50%".to_owned()),
            }),
            _ => return None,
        })
    }

    fn visit_names(&mut self, f: &mut dyn FnMut(&mut String)) {
        match self {
            Self::Jump { host, .. } | Self::Drift { host, .. } => f(host),
        }
    }
}
