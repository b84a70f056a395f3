//! Which settings there are: every option that may also be given by a variable of the environment. They are read off the
//! command line's own definition, so that names, defaults, checks and descriptions are the same everywhere.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, Command};

/// One setting.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The option's name without dashes, which is the key in a file, too.
    pub name: String,
    /// The variable of the environment.
    pub variable: String,
    /// The commands that have it; empty if all have.
    pub commands: Vec<String>,
    /// Under which heading `--help` has it.
    pub heading: String,
    /// What it means, a sentence.
    pub help: String,
    /// What is in force unless anything is given.
    pub default: Option<String>,
    /// It is on or off.
    pub is_switch: bool,
    arg: Arg,
}

/// All settings of a command line, in the order of its help.
pub fn settings(command: &Command) -> Vec<Setting> {
    let mut all = Vec::new();
    collect(command, None, &mut all);
    // One that several commands have is one setting.
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut settings: Vec<Setting> = Vec::new();
    for setting in all {
        match places.get(&setting.name) {
            Some(place) => settings[*place].commands.extend(setting.commands),
            None => {
                places.insert(setting.name.clone(), settings.len());
                settings.push(setting);
            }
        }
    }
    settings
}

fn collect(command: &Command, of: Option<&str>, into: &mut Vec<Setting>) {
    for arg in command.get_arguments().filter(|arg| is_setting(arg)) {
        let (Some(name), Some(variable)) = (arg.get_long(), arg.get_env()) else { continue };
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let default =
            if is_switch { Some("false".to_owned()) } else { (!defaults.is_empty()).then(|| defaults.join(",")) };
        into.push(Setting {
            name: name.to_owned(),
            variable: variable.to_string_lossy().into_owned(),
            commands: of.into_iter().map(str::to_owned).collect(),
            heading: arg.get_help_heading().unwrap_or("The server").to_owned(),
            help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            default,
            is_switch,
            arg: arg.clone(),
        });
    }
    for subcommand in command.get_subcommands() {
        let name = of.map_or_else(|| subcommand.get_name().to_owned(), |of| format!("{of} {}", subcommand.get_name()));
        collect(subcommand, Some(&name), into);
    }
}

/// The file itself is named by an option, and by nothing in the file.
fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && !arg.is_hide_set() && arg.get_long() != Some("config")
}

impl Setting {
    /// Whether the option takes that text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, value: &str) -> Result<(), String> {
        if self.is_switch {
            return match value {
                "true" | "false" => Ok(()),
                _ => Err(format!("{} is true or false, not {value:?}", self.name)),
            };
        }
        let arg = self.arg.clone().required(false).global(false);
        let command = Command::new("restante").no_binary_name(true).disable_help_flag(true).arg(arg);
        let tried = command.try_get_matches_from([format!("--{}={value}", self.name)]);
        tried.map(drop).map_err(|error| {
            let text = error.to_string();
            let lines = text.lines().take_while(|line| !line.trim().is_empty() || line.contains("possible"));
            let text = lines.map(str::trim).collect::<Vec<_>>().join(" ");
            text.trim_start_matches("error: ").to_owned()
        })
    }
}

/// The command line with `values` in the place of the defaults. Options and the environment still go before.
pub fn with_defaults(command: Command, values: &BTreeMap<String, String>) -> Command {
    let command = command.mut_args(|arg| match arg.get_long().and_then(|name| values.get(name)) {
        Some(value) if is_setting(&arg) => arg.required(false).default_value(value.clone()),
        _ => arg,
    });
    command.mut_subcommands(|subcommand| with_defaults(subcommand, values))
}
