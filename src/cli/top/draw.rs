//! How it looks.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, Wrap};

use super::super::output::{grouped, printable, size};
use super::view::{Server, View};

/// The one colour: for what leads and for what passes.
const ACCENT: Color = Color::Cyan;
/// Lines of the line of the last minute.
const SPARK: u16 = 4;

/// Lines that everything takes.
pub fn height(view: &View) -> u16 {
    let problems = view.problems().len();
    let wrong = if problems > 0 { problems + 2 } else { 0 };
    2 + 3 + SPARK + 2 + 2 + (view.servers.len() + wrong) as u16
}

/// Draws the cluster.
pub fn draw(frame: &mut Frame<'_>, view: &View) {
    let servers = view.servers.len() as u16;
    let [head, numbers, spark, table, wrong] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(3),
        Constraint::Length(SPARK + 1),
        Constraint::Length(servers + 2),
        Constraint::Min(0),
    ])
    .areas(frame.area());
    draw_head(frame, head, view);
    draw_numbers(frame, numbers, view);
    let block = Block::new().borders(Borders::TOP).title(" accepted a second ".dim());
    let width = usize::from(spark.width);
    let shown = &view.history[view.history.len().saturating_sub(width)..];
    frame.render_widget(Sparkline::default().block(block).data(shown).style(Style::new().fg(ACCENT)), spark);
    draw_servers(frame, table, view);
    let problems = view.problems();
    if !problems.is_empty() {
        let lines: Vec<Line<'_>> = problems.iter().map(|problem| Line::from(printable(problem))).collect();
        let block = Block::new().borders(Borders::TOP).title(" wrong ".red());
        frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }).block(block), wrong);
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let best = view.best();
    let words = match best.map(|status| (status.leader.as_deref(), status.term)) {
        None => Span::from("no server answers").red().bold(),
        Some((None, term)) => Span::from(format!("no leader since term {term}: nothing is accepted")).red().bold(),
        Some((Some(leader), term)) => Span::from(format!("{leader} leads, in term {term}")).bold(),
    };
    let of = format!("   {} of {} servers answer", view.answering(), view.servers.len());
    let line = Line::from(vec![Span::from("Restante  ").fg(ACCENT).bold(), words, Span::from(of).dim()]);
    frame.render_widget(Paragraph::new(line), area);
    let keys = Line::from("q ends it ").dim().right_aligned();
    frame.render_widget(Paragraph::new(keys), area);
}

fn draw_numbers(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let total = view.total();
    let best = view.best();
    let boxes = [
        ("accepted", format!("{}/s", rate(total.accepted))),
        ("delivered", format!("{}/s", rate(total.delivered))),
        ("acknowledged", format!("{}/s", rate(total.acknowledged))),
        ("waiting", best.map_or("-".to_owned(), |s| format!("{} ({})", grouped(s.waiting), size(s.waiting_bytes)))),
        ("clients", best.map_or("-".to_owned(), |s| grouped(s.clients))),
        ("traffic", format!("{}/s", size(total.bytes as u64))),
    ];
    let areas = Layout::horizontal([Constraint::Fill(1); 6]).split(area);
    for ((what, value), area) in boxes.into_iter().zip(areas.iter()) {
        let lines = vec![Line::from(what).dim(), Line::from(value).bold()];
        frame.render_widget(Paragraph::new(lines), *area);
    }
}

fn draw_servers(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let heads =
        ["SERVER", "ADDRESS", "ROLE", "CLIENTS", "APPLIED", "LAG", "ACC/S", "DEL/S", "TRAFFIC", "LOG", "FREE", "DISK"];
    let head = Row::new(heads.map(|head| Cell::from(head).style(Style::new().add_modifier(Modifier::DIM))));
    let widths = [6, 16, 17, 7, 9, 5, 7, 7, 9, 8, 8, 6].map(Constraint::Min);
    let table = Table::new(view.servers.iter().map(|server| row(view, server)), widths).header(head).column_spacing(1);
    frame.render_widget(table.block(Block::new().borders(Borders::TOP).title(" servers ".dim())), area);
}

fn row<'a>(view: &View, server: &'a Server) -> Row<'a> {
    let name = server.name.clone().unwrap_or_else(|| "?".to_owned());
    let listed = view.best().and_then(|best| best.servers.iter().find(|row| Some(&row.name) == server.name.as_ref()));
    let lag = listed.and_then(|row| row.lag).map_or("-".to_owned(), |lag| lag.to_string());
    let Ok(status) = &server.answer else {
        let cells = [name, server.address.clone(), "no answer".to_owned(), "-".to_owned(), "-".to_owned(), lag];
        return Row::new(cells).style(Style::new().fg(Color::Red));
    };
    let drained = listed.is_some_and(|row| row.drained);
    let role = match status.role.as_str() {
        "leader" if status.leader.is_none() => "cut off".to_owned(),
        role if drained => format!("{role}, drained"),
        role => role.to_owned(),
    };
    let disk = status.disk.as_ref();
    let condition = disk.map_or("-", |disk| disk.condition.as_str());
    let style =
        if status.role == "leader" { Style::new().fg(ACCENT).add_modifier(Modifier::BOLD) } else { Style::new() };
    let condition_style = if matches!(condition, "good" | "-") { Style::new() } else { Style::new().fg(Color::Red) };
    Row::new([
        Cell::from(name),
        Cell::from(server.address.clone()),
        Cell::from(role).style(style),
        Cell::from(status.sessions.to_string()),
        Cell::from(status.applied_index.to_string()),
        Cell::from(lag),
        Cell::from(rate(server.rates.accepted)),
        Cell::from(rate(server.rates.delivered)),
        Cell::from(format!("{}/s", size(server.rates.bytes as u64))),
        Cell::from(size(status.log_bytes + disk.map_or(0, |disk| disk.checkpoint_bytes))),
        Cell::from(disk.and_then(|disk| disk.free_bytes).map_or("-".to_owned(), size)),
        Cell::from(condition.to_owned()).style(condition_style),
    ])
}

fn rate(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { grouped(value.round() as u64) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use restante::world::{RealWorld, World as _};

    use super::super::fetch::{Answer, Status};
    use super::*;

    fn status(name: &str, role: &str, accepted: u64, uptime_ms: u64) -> Answer {
        let servers: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .zip(1u64..)
            .map(|(name, n)| serde_json::json!({ "name": name, "address": format!("127.0.0.1:{n}"), "lag": n - 1, "drained": name == "b" }))
            .collect();
        let status: Status = serde_json::from_value(serde_json::json!({
            "server": name, "role": role, "leader": "a", "term": 7, "applied_index": 41, "clients": 12_000, "waiting": 1234,
            "waiting_bytes": 2048, "sessions": 5, "log_bytes": 1 << 20,
            "disk": { "condition": if name == "b" { "full" } else { "good" }, "free_bytes": 3_u64 << 30, "checkpoint_bytes": 1 << 20 },
            "servers": servers, "problems": [],
            "counts": { "uptime_ms": uptime_ms, "accepted": accepted, "delivered": accepted / 2, "acknowledged": 0, "received_bytes": 0, "sent_bytes": 2048 },
        })).expect("a status");
        Ok(status)
    }

    fn shown(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, view)).expect("a frame");
        terminal.backend().to_string()
    }

    fn view() -> View {
        // The third one is only known from the others' lists.
        let mut view = View::new(vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()]);
        let begin = RealWorld::now();
        for (second, accepted) in [(0_u64, 1000_u64), (1, 3000), (2, 7000)] {
            let mut answers = vec![
                ("127.0.0.1:1".to_owned(), status("a", "leader", accepted, 1000 + 1000 * second)),
                ("127.0.0.1:2".to_owned(), status("b", "follower", 0, 500 + 1000 * second)),
            ];
            if second > 0 {
                answers.push(("127.0.0.1:3".to_owned(), Err("does not answer".to_owned())));
            }
            view.take(answers, begin + Duration::from_secs(second));
        }
        view
    }

    #[test]
    fn everything_that_matters_is_on_the_screen() {
        let view = view();
        assert_eq!(view.history, [2000, 4000]);
        let screen = shown(&view, 120, height(&view));
        for text in [
            "a leads, in term 7",
            "2 of 3 servers answer",
            "4,000/s",
            "2,000/s",
            "1,234 (2.0 KiB)",
            "12,000",
            "leader",
            "follower, drained",
            "no answer",
            "full",
            "c at 127.0.0.1:3: does not answer",
        ] {
            assert!(screen.contains(text), "{text:?} is not on the screen\n{screen}");
        }
    }

    #[test]
    fn a_small_terminal_and_a_cluster_that_is_gone_are_drawn_too() {
        shown(&view(), 40, 5);
        shown(&view(), 1, 1);
        let nobody = View::new(vec!["127.0.0.1:1".to_owned()]);
        let screen = shown(&nobody, 80, 20);
        assert!(screen.contains("no server answers") && screen.contains("was not asked yet"), "{screen}");
    }

    #[test]
    fn a_server_that_was_started_again_counts_from_the_beginning() {
        let mut view = view();
        let later = RealWorld::now() + Duration::from_secs(60);
        view.take(vec![("127.0.0.1:1".to_owned(), status("a", "leader", 10, 100))], later);
        assert_eq!(view.total().accepted, 0.0);
    }
}
