//! One line that says how far something is: redrawn on a terminal, a new line for each change elsewhere.

use std::io::{self, IsTerminal as _, Write as _};

/// See the module. It goes to the standard error, so that the standard output holds the outcome alone.
pub struct Progress {
    in_place: bool,
    last: String,
}

impl Progress {
    /// Nothing is said yet.
    pub fn new() -> Self {
        Self { in_place: io::stderr().is_terminal(), last: String::new() }
    }

    /// Says how far it is, if that is not what was said last.
    pub fn tell(&mut self, text: &str) {
        if self.last == text {
            return;
        }
        text.clone_into(&mut self.last);
        // A terminal that went away is no reason to stop.
        drop(match self.in_place {
            true => {
                let width = usize::from(console::Term::stderr().size().1).saturating_sub(1);
                write!(io::stderr(), "\r{}\x1b[K", console::truncate_str(text, width, "…"))
            }
            false => writeln!(io::stderr(), "{text}"),
        });
    }

    /// There is nothing more to say.
    pub fn end(&mut self) {
        if self.in_place && !self.last.is_empty() {
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
        self.last.clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
