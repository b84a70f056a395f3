//! A file with every setting in it, commented out.

use super::schema::Setting;

/// For settings without a default, which depend on where a server is.
const SAMPLES: [(&str, &str); 6] = [
    ("name", "\"a\""),
    ("listen", "\"127.0.0.1:8080\""),
    ("cluster", "[\"a=127.0.0.1:8080\", \"b=127.0.0.1:8081\", \"c=127.0.0.1:8082\"]"),
    ("data", "\"/var/lib/restante/a\""),
    ("threads", "2"),
    ("log", "\"info,restante::raft=debug\""),
];

/// The example.
pub fn example(settings: &[Setting]) -> String {
    let mut text = "\
# Settings of Restante. A line that begins with #: is a setting at its default, or an example where there is none.
# Options go before the environment, that before this file, and that before the defaults.
# `restante config check FILE` says what is in force, or what is wrong.
"
    .to_owned();
    let mut heading = "";
    for setting in settings {
        if setting.heading != heading {
            heading = &setting.heading;
            text.push_str(&format!("\n# --- {heading}\n"));
        }
        let of = match setting.commands.as_slice() {
            [] => String::new(),
            commands => format!(" ({})", commands.join(", ")),
        };
        text.push_str(&format!("\n# {}{of}.\n# Also {}.\n", setting.help, setting.variable));
        text.push_str(&format!("#: {} = {}\n", setting.name, value(setting)));
    }
    text
}

fn value(setting: &Setting) -> String {
    let sample = SAMPLES.iter().find(|(name, _)| *name == setting.name).map(|(_, sample)| (*sample).to_owned());
    let default = setting.default.as_ref().map(|default| match default {
        plain if setting.is_switch || plain.parse::<u64>().is_ok() => plain.clone(),
        list if list.contains(',') => {
            format!("[{}]", list.split(',').map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", "))
        }
        text => format!("{text:?}"),
    });
    sample.or(default).unwrap_or_else(|| "\"\"".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::super::Arguments;
    use super::super::{file, schema};
    use super::*;

    #[test]
    fn every_setting_is_in_the_example_at_its_default() {
        let settings = schema::settings(&Arguments::command());
        let text = example(&settings);
        assert_eq!(file::parse(&text, &settings).map(|values| values.len()), Ok(0), "all is commented out");
        let values =
            file::parse(&text.replace("#: ", ""), &settings).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert!(settings.len() > 20, "all options that the environment can give");
        for setting in &settings {
            let (value, _) = &values[&setting.name];
            let is_sample = SAMPLES.iter().any(|(name, _)| *name == setting.name);
            assert!(is_sample || setting.default.as_ref() == Some(value), "{}: {value}", setting.name);
        }
    }
}
