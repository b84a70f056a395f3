//! What is made of the command line's own definition: completions for shells, and man pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::failure::{Exit, Failure};
use super::{Arguments, files, output};

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante completions bash > ~/.local/share/bash-completion/completions/restante
  restante completions zsh > \"${fpath[1]}/_restante\"
  restante completions fish > ~/.config/fish/completions/restante.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Write man pages, one for each command.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  restante man ~/.local/share/man/man1 && man restante-serve")]
pub struct Man {
    /// Where to; made if it is not there
    directory: PathBuf,
}

impl Completions {
    /// Prints them.
    ///
    /// # Errors
    /// The standard output cannot be written to.
    pub fn run(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "restante", &mut script);
        output::print(&String::from_utf8_lossy(&script))
    }
}

impl Man {
    /// Writes them.
    ///
    /// # Errors
    /// The system's.
    pub fn run(&self) -> Result<(), Failure> {
        files::create(&self.directory)?;
        clap_mangen::generate_to(Arguments::command(), &self.directory).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot write to {}: {error}", self.directory.display()))
        })
    }
}
