//! A file of settings: `name = value` in TOML, with the names of the options.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::failure::{Exit, Failure};
use super::schema::Setting;

/// What a file sets.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// As it was named.
    pub path: String,
    /// The values, as options would have them, and the lines they are on.
    pub values: BTreeMap<String, (String, usize)>,
}

/// Something that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or everything that is wrong with it.
    pub fn read(path: &Path, settings: &[Setting]) -> Result<Self, Failure> {
        let text = super::super::files::read_text(path)?;
        let shown = path.display().to_string();
        match parse(&text, settings) {
            Ok(values) => Ok(Self { path: shown, values }),
            Err(problems) => Err(failure(&shown, &problems)),
        }
    }

    /// The values alone.
    pub fn values(&self) -> BTreeMap<String, String> {
        self.values.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
    }
}

fn failure(path: &str, problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(|problem| format!("{path}:{problem}")).collect();
    let errors = if lines.len() == 1 { "an error".to_owned() } else { format!("{} errors", lines.len()) };
    Failure::new(Exit::Usage, format!("{path} has {errors}")).hint(lines.join("\n"))
}

/// The values of a text, with the lines they are on, or everything that is wrong with it.
///
/// # Errors
/// What is wrong, in the order of the text.
pub fn parse(text: &str, settings: &[Setting]) -> Result<BTreeMap<String, (String, usize)>, Vec<Problem>> {
    let at = |offset: usize, what: String| {
        let (line, column) = place(text, offset);
        Problem { line, column, text: what }
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = Vec::new();
    problems.extend(errors.iter().map(|e| at(e.span().map_or(0, |span| span.start), e.message().to_owned())));
    let mut values = BTreeMap::new();
    // What the parser made of a text that is no TOML says nothing: one error at a time, then.
    for (key, value) in table.get_ref().iter().filter(|_| errors.is_empty()) {
        let name = key.get_ref().as_ref();
        let Some(setting) = settings.iter().find(|setting| setting.name == name) else {
            problems.push(at(key.span().start, unknown(name, value.get_ref().is_table(), settings)));
            continue;
        };
        let taken = as_option(setting, value).and_then(|value| setting.check(&value).map(|()| value));
        match taken {
            Ok(taken) => drop(values.insert(name.to_owned(), (taken, place(text, key.span().start).0))),
            Err(what) => problems.push(at(value.span().start, what)),
        }
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

/// A value as the option would have it.
fn as_option(setting: &Setting, value: &Spanned<DeValue<'_>>) -> Result<String, String> {
    let Setting { name, is_switch, .. } = setting;
    match value.get_ref() {
        DeValue::Boolean(on) if *is_switch => Ok(on.to_string()),
        _ if *is_switch => Err(format!("{name} is true or false")),
        DeValue::Boolean(_) => Err(format!("{name} is not something to be switched on or off")),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| scalar(name, item.get_ref())).collect::<Result<Vec<_>, _>>()?;
            Ok(items.join(","))
        }
        DeValue::Table(entries) => {
            let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Ok::<_, String>(format!("{key}={}", scalar(name, value.get_ref())?))
            };
            Ok(entries.iter().map(entry).collect::<Result<Vec<_>, _>>()?.join(","))
        }
        other => scalar(name, other),
    }
}

fn scalar(name: &str, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|error| format!("{name}: {error}")),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        other => Err(format!("{name} takes a text or a number, not a {}", other.type_str())),
    }
}

fn unknown(name: &str, is_table: bool, settings: &[Setting]) -> String {
    let what = if is_table { "there is no section" } else { "there is no setting" };
    match nearest(name, settings.iter().map(|setting| setting.name.as_str())) {
        Some(near) => format!("{what} {name:?}; did you mean {near:?}?"),
        None => format!("{what} {name:?}; `restante config example` prints all there are"),
    }
}

/// The name that was meant, if one is near enough.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase().replace('_', "-");
    let rated = names.map(|known| (strsim::damerau_levenshtein(&wanted, known), known));
    rated.min().filter(|(distance, known)| *distance <= (known.len() / 3).max(1)).map(|(_, known)| known)
}

/// Line and column of a byte.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_begins = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_begins..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::super::Arguments;
    use super::super::schema;
    use super::*;

    fn parsed(text: &str) -> Result<BTreeMap<String, (String, usize)>, Vec<String>> {
        let settings = schema::settings(&Arguments::command());
        parse(text, &settings).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn values_are_what_options_would_be() {
        let text = "heartbeat = \"50ms\"\nconnections = 7\ninsecure = true\nsegment = \"64MiB\"\nclients = 0x10\n\
                    servers = [\"h:1\", \"h:2\"]\nports = [1, 2]\n[cluster]\na = \"h:1\"\nb = \"h:2\"\n";
        let values = parsed(text).unwrap();
        let value = |name: &str| values[name].0.as_str();
        assert_eq!([value("heartbeat"), value("connections"), value("insecure")], ["50ms", "7", "true"]);
        assert_eq!([value("servers"), value("ports"), value("cluster")], ["h:1,h:2", "1,2", "a=h:1,b=h:2"]);
        assert_eq!(value("clients"), "16");
        assert_eq!(values["segment"].1, 4);
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_place() {
        let problems = parsed("hartbeat = \"1s\"\n  heartbeat = 50\nlog_format = \"human\"\ninsecure = 1\n[zebra]\n");
        let problems = problems.unwrap_err();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert_eq!(problems[0], "1:1: there is no setting \"hartbeat\"; did you mean \"heartbeat\"?");
        assert!(problems[1].starts_with("2:15: ") && problems[1].contains("with its unit"), "{problems:#?}");
        assert!(problems[2].starts_with("3:1: ") && problems[2].contains("did you mean \"log-format\"?"));
        assert_eq!(problems[3], "4:12: insecure is true or false");
        assert!(problems[4].starts_with("5:2: there is no section \"zebra\"; `restante config example`"));
        assert!(parsed("log-format = \"xml\"").unwrap_err()[0].contains("human, json"), "what there is to choose from");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_place() {
        assert!(parsed("name = \"a\"\nname = \"b\"\n").unwrap_err()[0].starts_with("2:1: "), "set twice");
        assert!(parsed("\nname = \n").unwrap_err()[0].starts_with("2:"), "{:?}", parsed("\nname = \n"));
        assert!(parsed("when = 2020-01-01").is_err());
        assert!(parsed("name = 2020-01-01").unwrap_err()[0].contains("takes a text or a number"));
    }

    #[test]
    fn a_name_is_near_or_it_is_not() {
        let names = ["heartbeat", "data", "name"];
        assert_eq!(nearest("Heart_beat", names.into_iter()), Some("heartbeat"));
        assert_eq!(nearest("dta", names.into_iter()), Some("data"));
        assert_eq!(nearest("quorum", names.into_iter()), None);
    }
}
