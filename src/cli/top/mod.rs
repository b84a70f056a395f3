//! `restante top`: the cluster at a glance, in a terminal.

mod draw;
mod fetch;
mod view;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use restante::world::{RealWorld, World};

use self::view::View;
use super::failure::{Exit, Failure};
use super::output;
use super::reach::Reach;

/// A server that is down must not make everybody wait for as long as a request may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Columns of a frame that is printed as text.
const WIDTH: u16 = 130;

/// Show the cluster at a glance, until q or Ctrl-C: what is accepted and delivered, who leads, who lags, what is wrong.
///
/// The same as the console, which every server has at its address, for a terminal. Rates are sums over the servers that
/// answer.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Keys: q, Esc or Ctrl-C ends it.

Examples:
  restante top
  restante top --interval 5s
  restante top --once                  one look, as text: the rates are those of one interval")]
pub struct Top {
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = super::values::duration)]
    interval: Duration,
    /// Look twice, print what is to be seen, and end
    #[arg(long)]
    once: bool,
}

impl Top {
    /// Shows the cluster until it is ended.
    ///
    /// # Errors
    /// The terminal's; with `--once`, that no server answers.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let interval = self.interval.max(Duration::from_millis(100));
        let patience = reach.timeout.min(PATIENCE);
        let mut view = View::new(reach.servers.0.clone());
        if self.once || !io::stdout().is_terminal() {
            self.look(&mut view, patience).await;
            if view.answering() == 0 {
                return Err(Failure::new(Exit::Unavailable, "no server answers")
                    .hint("Is the cluster running? --servers names other servers."));
            }
            <RealWorld as World>::sleep(interval).await;
            self.look(&mut view, patience).await;
            return output::print(&as_text(&view)?);
        }
        let mut terminal = ratatui::try_init().map_err(|error| of_terminal(&error))?;
        let ended = self.show(&mut terminal, &mut view, interval, patience).await;
        ratatui::restore();
        ended
    }

    async fn look(&self, view: &mut View, patience: Duration) {
        let answers = fetch::fetch_all(&view.addresses(), patience).await;
        view.take(answers, RealWorld::now());
    }

    async fn show(
        &self,
        terminal: &mut ratatui::DefaultTerminal,
        view: &mut View,
        interval: Duration,
        patience: Duration,
    ) -> Result<(), Failure> {
        loop {
            let next = RealWorld::now() + interval;
            self.look(view, patience).await;
            terminal.draw(|frame| draw::draw(frame, view)).map_err(|error| of_terminal(&error))?;
            // Nothing else is to be done meanwhile, so that it may block.
            loop {
                let left = next.saturating_duration_since(RealWorld::now());
                if !event::poll(left).map_err(|error| of_terminal(&error))? {
                    break;
                }
                match event::read().map_err(|error| of_terminal(&error))? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => {
                        let interrupted =
                            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                        if interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                            return Ok(());
                        }
                    }
                    Event::Resize(..) => {
                        terminal.draw(|frame| draw::draw(frame, view)).map_err(|error| of_terminal(&error))?;
                    }
                    _ => {}
                }
            }
        }
    }
}

/// One frame as text, for those who have no terminal.
fn as_text(view: &View) -> Result<String, Failure> {
    let size = (WIDTH, draw::height(view));
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).map_err(|_| unreachable_backend())?;
    terminal.draw(|frame| draw::draw(frame, view)).map_err(|_| unreachable_backend())?;
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(size.0)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

fn unreachable_backend() -> Failure {
    Failure::new(Exit::Failed, "a frame cannot be drawn")
}

fn of_terminal(error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot use the terminal: {error}"))
        .hint("`restante top --once` needs none, and `restante status --watch` does with less.")
}
