//! Links that are cut, slow, lossy or reset.

use std::ops::RangeInclusive;

use super::super::Millis;
use super::super::parse::{groups, millis, names, no_repeats, range};
use super::{Family, Rate};

/// Hosts in groups: a fault is between hosts of different groups, and hosts in no group are not affected.
pub type Groups = Vec<Vec<String>>;

/// What happens to what hosts send each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkFault {
    /// Segments between groups are lost, in both directions.
    Partition(Groups),
    /// The same, but some servers are in no group: they see both sides, which do not see each other.
    Bridge(Groups),
    /// Segments from the first hosts to the others are lost; the other way they arrive.
    OneWay(Vec<String>, Vec<String>),
    /// One host is cut off from all others, clients too.
    Isolate(String),
    /// Segments between groups wait until it ends, and then arrive at once.
    Hold(Groups),
    /// Segments between groups are lost with this probability. What is lost is never sent again, so a connection that
    /// lost one stays silent from there on.
    Loss(Rate, Groups),
    /// Segments between groups take so long.
    Delay(RangeInclusive<Millis>, Groups),
    /// Connections between groups are reset, when it begins and when it ends.
    Reset(Groups),
}

impl NetworkFault {
    /// Takes a host out of its group, for it is named in another one by what it is.
    pub(super) fn forget(&mut self, host: &str) {
        let lists: Vec<&mut Vec<String>> = match self {
            Self::Partition(groups)
            | Self::Bridge(groups)
            | Self::Hold(groups)
            | Self::Loss(_, groups)
            | Self::Delay(_, groups)
            | Self::Reset(groups) => groups.iter_mut().collect(),
            Self::OneWay(from, to) => vec![from, to],
            Self::Isolate(_) => Vec::new(),
        };
        lists.into_iter().for_each(|names| names.retain(|name| name != host));
    }
}

fn joined(groups: &Groups) -> String {
    groups.iter().map(|group| group.join(" ")).collect::<Vec<_>>().join(" | ")
}

impl Family for NetworkFault {
    fn kind(&self) -> &'static str {
        match self {
            Self::Partition(_) => "partition",
            Self::Bridge(_) => "bridge",
            Self::OneWay(..) => "one-way",
            Self::Isolate(_) => "isolate",
            Self::Hold(_) => "hold",
            Self::Loss(..) => "loss",
            Self::Delay(..) => "delay",
            Self::Reset(_) => "reset",
        }
    }

    fn who(&self) -> String {
        match self {
            Self::Partition(groups) | Self::Bridge(groups) | Self::Hold(groups) | Self::Reset(groups) => joined(groups),
            Self::OneWay(from, to) => format!("{} > {}", from.join(" "), to.join(" ")),
            Self::Isolate(host) => host.clone(),
            Self::Loss(rate, groups) => format!("{rate} {}", joined(groups)),
            Self::Delay(delay, groups) => format!("{}..{} {}", delay.start(), delay.end(), joined(groups)),
        }
    }

    fn parse(kind: &str, who: &str) -> Option<Result<Self, String>> {
        Some(match kind {
            "partition" => groups(who).map(Self::Partition),
            "bridge" => groups(who).map(Self::Bridge),
            "hold" => groups(who).map(Self::Hold),
            "reset" => groups(who).map(Self::Reset),
            "isolate" => super::super::parse::name(who).map(Self::Isolate),
            "one-way" => one_way(who),
            "loss" => with_figure(who, "loss 5% A | B", str::parse).map(|(rate, groups)| Self::Loss(rate, groups)),
            "delay" => with_figure(who, "delay 30ms..2s A | B", |text| range(text, millis))
                .map(|(delay, groups)| Self::Delay(delay, groups)),
            _ => return None,
        })
    }

    fn visit_names(&mut self, f: &mut dyn FnMut(&mut String)) {
        match self {
            Self::Partition(groups)
            | Self::Bridge(groups)
            | Self::Hold(groups)
            | Self::Loss(_, groups)
            | Self::Delay(_, groups)
            | Self::Reset(groups) => groups.iter_mut().flatten().for_each(f),
            Self::OneWay(from, to) => from.iter_mut().chain(to).for_each(f),
            Self::Isolate(host) => f(host),
        }
    }
}

fn one_way(who: &str) -> Result<NetworkFault, String> {
    let (from, to) = who.split_once('>').ok_or("`one-way` is `one-way A B > C`")?;
    let (from, to) = (names(from)?, names(to)?);
    no_repeats(from.iter().chain(&to))?;
    Ok(NetworkFault::OneWay(from, to))
}

fn with_figure<T>(who: &str, shape: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<(T, Groups), String> {
    let (figure, rest) = who.split_once(' ').ok_or_else(|| format!("the shape is `{shape}`"))?;
    Ok((read(figure)?, groups(rest)?))
}
