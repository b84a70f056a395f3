//! A query's parameters, each of its type. Pure.

use std::time::Duration;

use crate::limits;
use crate::wire::{BadName, Epoch, Id, Name, Position, RegistrationId};

/// Largest whole number that is taken: many languages have none that is larger.
pub(super) const WHOLE_MAX: u64 = i64::MAX as u64;

/// A query that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadQuery {
    /// A parameter is missing.
    #[error("the query needs `{0}`")]
    Missing(&'static str),
    /// A parameter comes twice.
    #[error("the query has `{0}` twice")]
    Twice(&'static str),
    /// A parameter is not what it should be.
    #[error("the query's `{name}` is no {what}")]
    Value {
        /// Which.
        name: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// A name that cannot be.
    #[error("the query's `{name}`: {why}")]
    Name {
        /// Which.
        name: &'static str,
        /// What is wrong.
        why: BadName,
    },
}

/// The parameters of a query, decoded. Those that nobody asks for are passed over.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    pub fn read(query: Option<&str>) -> Self {
        let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decoded(name), decoded(value))
        };
        Self(parts.map(pair).collect())
    }

    /// A parameter as text.
    pub fn text(&self, name: &'static str) -> Result<Option<&str>, BadQuery> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() { Err(BadQuery::Twice(name)) } else { Ok(first) }
    }

    /// A parameter as a client's or a server's name.
    pub fn name(&self, name: &'static str) -> Result<Option<Name>, BadQuery> {
        let read = |text: &str| Name::new(text).map_err(|why| BadQuery::Name { name, why });
        self.text(name)?.map(read).transpose()
    }

    /// The same, of one that is needed.
    pub fn needed_name(&self, name: &'static str) -> Result<Name, BadQuery> {
        self.name(name)?.ok_or(BadQuery::Missing(name))
    }

    /// A parameter as a whole number.
    pub fn whole(&self, name: &'static str) -> Result<Option<u64>, BadQuery> {
        let read = |text: &str| {
            // `+5` would be one, too.
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|number| digits && *number <= WHOLE_MAX);
            number.ok_or(BadQuery::Value { name, what: "whole number" })
        };
        self.text(name)?.map(read).transpose()
    }

    /// A parameter as a number from 1 to `most`.
    pub fn count(&self, name: &'static str, most: usize) -> Result<Option<usize>, BadQuery> {
        match self.whole(name)?.map(usize::try_from) {
            None => Ok(None),
            Some(Ok(count)) if (1..=most).contains(&count) => Ok(Some(count)),
            Some(_) => Err(BadQuery::Value { name, what: "number within its bounds: see /v1/docs" }),
        }
    }

    /// A parameter as yes or no.
    pub fn flag(&self, name: &'static str) -> Result<bool, BadQuery> {
        match self.text(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(BadQuery::Value { name, what: "`true` or `false`" }),
        }
    }

    /// A parameter as one of two words.
    pub fn choice(&self, name: &'static str, words: [&'static str; 2]) -> Result<Option<&'static str>, BadQuery> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let known = words.into_iter().find(|word| *word == text);
        known.map(Some).ok_or(BadQuery::Value { name, what: "word that is known here: see /v1/docs" })
    }

    /// `wait`, in seconds.
    pub fn wait(&self) -> Result<Duration, BadQuery> {
        let most = limits::HTTP_WAIT_MAX.as_secs_f64();
        let bad = BadQuery::Value { name: "wait", what: "number of seconds from 0 to 60" };
        let Some(text) = self.text("wait")? else { return Ok(Duration::ZERO) };
        let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=most).contains(seconds)).ok_or(bad)?;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// `after`: a position.
    pub fn after(&self) -> Result<Position, BadQuery> {
        Ok(Position(self.whole("after")?.unwrap_or(0)))
    }

    /// `reader`: a registration and an epoch of it, as `REGISTRATION:EPOCH`.
    pub fn reader(&self) -> Result<Option<(RegistrationId, Epoch)>, BadQuery> {
        let bad = BadQuery::Value { name: "reader", what: "registration and epoch, as in `reader=65536:1`" };
        let Some(text) = self.text("reader")? else { return Ok(None) };
        let whole = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let (registration, epoch) = text.split_once(':').ok_or(bad.clone())?;
        match (whole(registration), whole(epoch)) {
            (Some(registration), Some(epoch)) => Ok(Some((Id(registration), Epoch(epoch)))),
            _ => Err(bad),
        }
    }
}

/// Decodes a part of a query or a path. What does not decode is left as it is.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let hex = behind.get(..2).filter(|hex| byte == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let value = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        rest = if value.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_types_and_bounds() {
        let query = |text: &str| Query::read(Some(text));
        assert_eq!(query("from=a%2Eb&x=1").needed_name("from").unwrap().as_str(), "a.b");
        assert_eq!(query("").needed_name("from"), Err(BadQuery::Missing("from")));
        assert!(matches!(query("from=a+b").name("from"), Err(BadQuery::Name { .. })));
        assert_eq!(query("after=1&after=2").after(), Err(BadQuery::Twice("after")));
        for bad in ["limit=0", "limit=1001", "limit=", "limit=-1", "limit=%2B1", "limit=1.0"] {
            assert!(query(bad).count("limit", 1000).is_err(), "{bad}");
        }
        assert_eq!(query("limit=1000").count("limit", 1000), Ok(Some(1000)));
        for bad in ["wait=-1", "wait=61", "wait=NaN", "wait="] {
            assert!(query(bad).wait().is_err(), "{bad}");
        }
        assert_eq!(query("wait=0.5").wait(), Ok(Duration::from_millis(500)));
        for bad in ["reader=2", "reader=2:", "reader=a:1", "reader=%2B2:1"] {
            assert!(query(bad).reader().is_err(), "{bad}");
        }
        assert_eq!(query("reader=2:1").reader(), Ok(Some((Id(2), Epoch(1)))));
        assert_eq!((query("local=true").flag("local"), query("").flag("local")), (Ok(true), Ok(false)));
        assert!(query("local=yes").flag("local").is_err());
    }
}
