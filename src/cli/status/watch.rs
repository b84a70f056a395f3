//! `restante status --watch`: the same place of the terminal again and again, or a block whenever something changed.

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use restante::world::{RealWorld, World};

use super::super::failure::Failure;
use super::super::interrupt::Interrupt;
use super::super::output::{self, Output};
use super::text::text;
use super::view::View;

/// To a screen of its own, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// And back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Looks every `interval`, until Ctrl-C.
///
/// # Errors
/// The standard output cannot be written to.
pub async fn watch<L: Future<Output = Result<View, Failure>>>(
    output: Output,
    interval: Duration,
    look: impl Fn() -> L,
) -> Result<(), Failure> {
    let mut interrupt = Interrupt::new()?;
    let in_place = io::stdout().is_terminal() && !output.json;
    let mut last = None;
    let screen = if in_place { Some(Screen::enter()?) } else { None };
    let ended = tokio::select! {
        biased;
        _ = interrupt.next() => Ok(()),
        ended = refresh(output, interval, &look, screen.as_ref(), &mut last) => ended,
    };
    drop(screen);
    // What was seen last stays.
    match last.filter(|_| in_place) {
        Some(shown) => ended.and(output::print(&shown)),
        None => ended,
    }
}

async fn refresh<L: Future<Output = Result<View, Failure>>>(
    output: Output,
    interval: Duration,
    look: &impl Fn() -> L,
    screen: Option<&Screen>,
    last: &mut Option<String>,
) -> Result<(), Failure> {
    loop {
        let shown = match look().await {
            Ok(view) if output.json => output::json(&view) + "\n",
            Ok(view) => text(&view),
            // That nobody answers is something to be seen, and no reason to end.
            Err(failure) if output.json => output::json(&serde_json::json!({ "error": failure.text })) + "\n",
            Err(failure) => format!("{}\n\n{}\n", failure.text, failure.hint.unwrap_or_default()),
        };
        match screen {
            Some(screen) => screen.draw(&shown, interval)?,
            None if last.as_ref() != Some(&shown) => {
                let apart = if last.is_some() && !output.json { "\n" } else { "" };
                output::print(&format!("{apart}{shown}"))?;
            }
            None => {}
        }
        *last = Some(shown);
        RealWorld::sleep(interval).await;
    }
}

/// The terminal's other screen, which is left when this is dropped.
struct Screen(console::Term);

impl Screen {
    fn enter() -> Result<Self, Failure> {
        output::print(ENTER)?;
        Ok(Self(console::Term::stdout()))
    }

    /// Draws over what is there, in one write: a screen that is wiped first flickers.
    fn draw(&self, text: &str, interval: Duration) -> Result<(), Failure> {
        let (height, width) = self.0.size();
        output::print(&frame(text, &format!("every {interval:?}; Ctrl-C ends"), height, width))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that went away needs no tidying.
        drop(output::print(LEAVE));
    }
}

/// What draws `text` and a last line on a screen of that size: from its top, each line to its end, the rest wiped.
fn frame(text: &str, foot: &str, height: u16, width: u16) -> String {
    let mut frame = "\x1b[H".to_owned();
    let room = usize::from(height.max(2)) - 1;
    let lines: Vec<&str> = text.lines().chain(["", foot]).collect();
    let hidden = lines.len().saturating_sub(room);
    for line in &lines[..lines.len() - hidden] {
        let line = console::truncate_str(line, usize::from(width), "…");
        frame.push_str(&line);
        frame.push_str("\x1b[K\r\n");
    }
    if hidden > 0 {
        frame.push_str(&format!("({hidden} more lines: the terminal is too low)\x1b[K"));
    }
    frame.push_str("\x1b[J");
    frame
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn a_frame_fits_the_screen_and_wipes_what_was_there() {
        let drawn = frame("one\ntwo and more\n", "foot", 10, 5);
        assert_eq!(drawn, "\x1b[Hone\x1b[K\r\ntwo …\x1b[K\r\n\x1b[K\r\nfoot\x1b[K\r\n\x1b[J");
        let low = frame("one\ntwo\nthree\n", "foot", 3, 80);
        assert!(low.contains("two") && !low.contains("three") && low.contains("3 more lines"), "{low:?}");
    }
}
