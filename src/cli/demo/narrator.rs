//! Tells the story: lines with the time in front, and a progress bar while traffic runs.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use restante::world::{Instant, RealWorld, World};

use super::super::output::grouped;

/// Writes the story's lines to the standard output, or to the standard error when the output is for a program.
#[derive(Debug)]
pub struct Narrator {
    began: Instant,
    to_stderr: bool,
    bar: Option<ProgressBar>,
    /// Without a bar, a line at each quarter says how far it is.
    quarters: u64,
}

impl Narrator {
    /// Begins now.
    pub fn new(to_stderr: bool) -> Self {
        Self { began: RealWorld::now(), to_stderr, bar: None, quarters: 0 }
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Something happened.
    pub fn say(&self, text: &str) {
        let at = self.began.elapsed().as_secs_f64();
        self.line(&format!("{} {text}", console::style(format!("{at:6.2} s")).dim()));
    }

    /// A line without the time.
    pub fn line(&self, text: &str) {
        let write = || {
            // The story goes on if nobody reads it any more: what was begun is to be cleaned up all the same.
            drop(if self.to_stderr { writeln!(io::stderr(), "{text}") } else { writeln!(io::stdout(), "{text}") });
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Traffic of so many messages begins.
    pub fn begin_traffic(&mut self, messages: u64) {
        if !io::stdout().is_terminal() || !io::stderr().is_terminal() {
            return;
        }
        let template = "         {bar:40} {human_pos} of {human_len} delivered";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar = Some(ProgressBar::new(messages).with_style(style));
    }

    /// So many of them were delivered.
    pub fn progress(&mut self, delivered: u64, of: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(delivered);
        } else if let Some(quarter) = (delivered * 4).checked_div(of)
            && quarter > self.quarters
        {
            self.quarters = quarter;
            self.say(&format!("{} of {} messages delivered", grouped(delivered), grouped(of)));
        }
    }

    /// Traffic is over.
    pub fn end_traffic(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
