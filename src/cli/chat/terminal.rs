//! Where lines come from and where they are printed: an editor of lines on a terminal, plain lines elsewhere.
#![expect(
    clippy::disallowed_methods,
    reason = "the editor waits for keys on a thread of its own, and no simulation has it"
)]

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::sync::mpsc;

use super::super::failure::{Exit, Failure};
use super::super::output;

/// Lines that were typed and are not taken yet.
const TYPED_MAX: usize = 64;

/// Prints.
pub struct Terminal {
    /// Prints above the line that is being typed.
    editor: Option<Box<dyn ExternalPrinter + Send>>,
    /// How the terminal was before the editor changed it.
    before: Option<Termios>,
}

/// Gives lines.
pub enum Input {
    /// Of the editor's thread.
    Typed(mpsc::Receiver<Result<String, Failure>>),
    /// Of anything else.
    Piped(Lines<BufReader<Stdin>>),
}

/// Opens what there is: an editor with that prompt if somebody sits there.
///
/// # Errors
/// The terminal's.
pub fn open(prompt: &str) -> Result<(Terminal, Input), Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let input = Input::Piped(BufReader::new(tokio::io::stdin()).lines());
        return Ok((Terminal { editor: None, before: None }, input));
    }
    let failed = |error: ReadlineError| Failure::new(Exit::Failed, format!("cannot use the terminal: {error}"));
    let before = tcgetattr(io::stdin().as_fd()).ok();
    let config = Config::builder().auto_add_history(true).build();
    let history = MemHistory::with_config(&config);
    let mut editor = Editor::<(), _>::with_history(config, history).map_err(failed)?;
    let printer = editor.create_external_printer().map_err(failed)?;
    let (lines, input) = mpsc::channel(TYPED_MAX);
    let prompt = prompt.to_owned();
    // It waits for keys, which nothing can interrupt: it is not waited for at the end.
    tokio::task::spawn_blocking(move || {
        loop {
            let line = match editor.readline(&prompt) {
                Ok(line) => Ok(line),
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => return,
                // The window has another size, say.
                Err(ReadlineError::Signal(_)) => continue,
                Err(error) => Err(failed(error)),
            };
            let ends = line.is_err();
            if lines.blocking_send(line).is_err() || ends {
                return;
            }
        }
    });
    Ok((Terminal { editor: Some(Box::new(printer)), before }, Input::Typed(input)))
}

impl Input {
    /// The next line; `None` at the end. Dropped while it waits, it has taken nothing.
    pub async fn next(&mut self) -> Option<Result<String, Failure>> {
        match self {
            Self::Typed(lines) => lines.recv().await,
            Self::Piped(lines) => {
                let line = lines.next_line().await;
                line.map_err(|error| Failure::new(Exit::Failed, format!("cannot read the lines: {error}"))).transpose()
            }
        }
    }
}

impl Terminal {
    /// Whether somebody sits there.
    pub fn is_interactive(&self) -> bool {
        self.before.is_some() || self.editor.is_some()
    }

    /// Prints a line, above the one that is being typed.
    ///
    /// # Errors
    /// The standard output cannot be written to, or nobody reads it any more.
    pub fn print(&mut self, line: &str) -> Result<(), Failure> {
        let line = format!("{}\n", line.trim_end_matches('\n'));
        match &mut self.editor {
            Some(editor) => editor
                .print(line)
                .map_err(|error| Failure::new(Exit::Failed, format!("cannot write to the terminal: {error}"))),
            None => output::print(&line),
        }
    }

    /// Says something of our own: on the terminal only, since what reads a pipe wants deliveries.
    ///
    /// # Errors
    /// As [`Terminal::print`].
    pub fn note(&mut self, text: &str) -> Result<(), Failure> {
        if self.is_interactive() {
            self.print(&console::style(format!("-- {text}")).dim().to_string())
        } else {
            eprintln!("-- {text}");
            Ok(())
        }
    }

    /// Nobody types any more: the terminal is as it was before, though the editor may still wait for a key.
    pub fn close(&mut self) {
        self.editor = None;
        if let Some(before) = &self.before {
            // A terminal that went away needs no tidying.
            let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, before);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.close();
    }
}
