//! `restante config`, and the file of settings that every command reads: options go before the environment, that before
//! the file, and that before the defaults.

mod example;
mod file;
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _, FromArgMatches as _, Subcommand};
use serde::Serialize;

use self::file::File;
use self::schema::Setting;
use super::failure::{Exit, Failure};
use super::output::{self, Output};
use super::table::{Side, render};
use super::{Arguments, Command as Chosen};

/// Check a file of settings, show what is in force, or print an example.
///
/// Every option that can be given by a variable of the environment can be given in a file, under the option's own name:
/// options go before the environment, that before the file, and that before the defaults.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante config example > restante.toml
  restante config check restante.toml
  restante serve --config restante.toml
  RESTANTE_CONFIG=restante.toml restante serve --name b

A file, e.g.:
  name = \"a\"
  data = \"/var/lib/restante\"
  heartbeat = \"50ms\"

  [cluster]
  a = \"10.0.0.1:8080\"
  b = \"10.0.0.2:8080\"
  c = \"10.0.0.3:8080\"")]
pub struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a file: what would be in force with it and where each value came from, or everything that is wrong
    Check {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Show what is in force with --config and the environment, and where each value came from
    Show {
        #[command(flatten)]
        output: Output,
    },
    /// Print a file with every setting, its meaning and its default
    Example,
}

/// The arguments of this process, with what the file sets in the place of the defaults. Ends the process like any command
/// that is given wrong arguments.
///
/// # Errors
/// The file cannot be read, or everything that is wrong with it.
pub fn arguments() -> Result<Arguments, Failure> {
    let given: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let command = Arguments::command();
    // Whoever looks at a file must not be kept from it by that file; nor whoever asks for help.
    let plain = command.clone().try_get_matches_from(&given);
    let unread = |arguments: &Arguments| matches!(arguments.command, Chosen::Config(_));
    match plain.as_ref().map(Arguments::from_arg_matches) {
        Ok(Ok(arguments)) if arguments.config.is_none() || unread(&arguments) => return Ok(arguments),
        Err(error) if !error.use_stderr() => error.exit(),
        _ => {}
    }
    let Some(path) = named(&given) else { return parse(command, &given) };
    let file = File::read(&path, &schema::settings(&command))?;
    parse(schema::with_defaults(command, &file.values()), &given)
}

fn parse(command: Command, given: &[std::ffi::OsString]) -> Result<Arguments, Failure> {
    let mut matches = command.clone().get_matches_from(given);
    Arguments::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command.clone()).exit())
}

/// The file that the arguments name, or else the environment. The arguments may not parse without it.
fn named(given: &[std::ffi::OsString]) -> Option<PathBuf> {
    let mut rest = given.iter().skip(1).take_while(|argument| *argument != "--");
    while let Some(argument) = rest.next() {
        if argument == "--config" {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = argument.to_str().and_then(|text| text.strip_prefix("--config=")) {
            return Some(PathBuf::from(path));
        }
    }
    std::env::var_os("RESTANTE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// What is in force.
#[derive(Serialize)]
struct InForce {
    file: Option<String>,
    settings: Vec<Value>,
}

#[derive(Serialize)]
struct Value {
    name: String,
    /// None if it has to be given and is not.
    value: Option<String>,
    /// `environment`, `file`, `default`, or none.
    from: Option<&'static str>,
    /// The variable or the place in the file.
    place: Option<String>,
    /// The commands that it concerns; all if there are none.
    commands: Vec<String>,
}

impl Config {
    /// Carries it out.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn run(&self, named: Option<&Path>) -> Result<(), Failure> {
        let command = Arguments::command();
        let settings = schema::settings(&command);
        match &self.command {
            ConfigCommand::Example => output::print(&example::example(&settings)),
            ConfigCommand::Check { file, output } => show(command, &settings, Some(file), *output),
            ConfigCommand::Show { output } => show(command, &settings, named, *output),
        }
    }
}

fn show(command: Command, settings: &[Setting], path: Option<&Path>, output: Output) -> Result<(), Failure> {
    let file = path.map(|path| File::read(path, settings)).transpose()?;
    let mut values = Vec::new();
    let mut given = BTreeMap::new();
    for setting in settings {
        let variable = std::env::var(&setting.variable).ok();
        let in_file = file.as_ref().and_then(|file| Some((file, file.values.get(&setting.name)?)));
        let (value, from, place) = match (variable, in_file) {
            (Some(value), _) => {
                let wrong = |what: String| Failure::new(Exit::Usage, format!("{}: {what}", setting.variable));
                setting.check(&value).map_err(wrong)?;
                (Some(value), Some("environment"), Some(setting.variable.clone()))
            }
            (None, Some((file, (value, line)))) => {
                (Some(value.clone()), Some("file"), Some(format!("{}:{line}", file.path)))
            }
            (None, None) => (setting.default.clone(), setting.default.as_ref().map(|_| "default"), None),
        };
        if from != Some("default")
            && let Some(value) = &value
        {
            given.insert(setting.name.clone(), value.clone());
        }
        values.push(Value { name: setting.name.clone(), value, from, place, commands: setting.commands.clone() });
    }
    fits_together(command, &given)?;
    let in_force = InForce { file: file.map(|file| file.path), settings: values };
    output.print(&in_force, text)
}

/// Whether the settings of a server fit each other, as far as they are given.
fn fits_together(command: Command, given: &BTreeMap<String, String>) -> Result<(), Failure> {
    let command = schema::with_defaults(command, given);
    let Ok(matches) = command.try_get_matches_from(["restante", "serve"]) else { return Ok(()) };
    match Arguments::from_arg_matches(&matches) {
        Ok(Arguments { command: Chosen::Serve(serve), .. }) => serve.settings().map(drop),
        _ => Ok(()),
    }
}

fn text(in_force: &InForce) -> String {
    let rows: Vec<_> = in_force
        .settings
        .iter()
        .map(|value| {
            let from = match (&value.place, value.from) {
                (Some(place), _) => place.clone(),
                (None, Some(from)) => from.to_owned(),
                (None, None) => "not set".to_owned(),
            };
            let commands = if value.commands.is_empty() { "all".to_owned() } else { value.commands.join(", ") };
            [value.name.clone(), value.value.clone().unwrap_or_else(|| "-".to_owned()), from, commands]
        })
        .collect();
    let heads = [("SETTING", Side::Left), ("VALUE", Side::Left), ("FROM", Side::Left), ("COMMANDS", Side::Left)];
    let head = in_force.file.as_ref().map_or_else(
        || "No file is named: --config or RESTANTE_CONFIG names one.\n\n".to_owned(),
        |file| format!("{file} is good. Options of a command go before all of this.\n\n"),
    );
    head + &render(heads, &rows)
}
