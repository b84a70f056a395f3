//! What is logged, and how it looks.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::failure::{Exit, Failure};

/// Settings of the log, which goes to the standard error.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct Logging {
    /// What to log: a level (error, warn, info, debug, trace), or a list of TARGET=LEVEL
    ///
    /// Servers log `info` by default, the other commands `error`. Example: --log info,restante::raft=debug
    #[arg(long, value_name = "FILTER", env = "RESTANTE_LOG", global = true)]
    pub log: Option<String>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", env = "RESTANTE_LOG_FORMAT", default_value = "human", global = true)]
    pub log_format: Format,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: one line per event.
    Human,
    /// For programs: one JSON object per line.
    Json,
}

impl Format {
    /// The value of `--log-format` that means this.
    pub fn as_argument(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

impl Logging {
    /// Starts logging to the standard error.
    ///
    /// # Errors
    /// The filter does not parse.
    pub fn start(&self, serves: bool) -> Result<(), Failure> {
        // openraft narrates each heartbeat at `info`.
        let filter = self.log.as_deref().unwrap_or(if serves { "info,openraft=off" } else { "error" });
        let filter = EnvFilter::try_new(filter).map_err(|error| {
            Failure::new(Exit::Usage, format!("the log filter {filter:?} does not parse: {error}"))
                .hint("Give a level (error, warn, info, debug, trace) or a list like info,restante::raft=debug.")
        })?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let started = match self.log_format {
            Format::Human => builder.with_ansi(console::colors_enabled_stderr()).with_target(false).try_init(),
            Format::Json => builder.json().flatten_event(true).try_init(),
        };
        started.map_err(|error| Failure::new(Exit::Failed, format!("cannot start the log: {error}")))
    }
}
