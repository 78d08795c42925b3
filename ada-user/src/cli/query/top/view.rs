//! The picture of `top`.
//!
//! Invariant: draws what the model holds, into whatever room there is.

use ada_query::live::Standing;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};

use super::model::{Model, Row, View};
use crate::cli::query::args::TopSort;
use crate::cli::query::words::{exact, rough};
use crate::cli::summary::{count, plural};

const KEYS: &str = "q quit  p pause  h threads/functions  sort: c calls/s  s self  t total  9 p99  ↑↓ scroll";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let rows = [Constraint::Length(2), Constraint::Min(1), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(vec![title(model), numbers(model)]), head);
    frame.render_widget(table(model), body);
    let foot_text = model.complaint.as_deref().unwrap_or(KEYS);
    frame.render_widget(Paragraph::new(foot_text).style(Style::new().add_modifier(Modifier::DIM)), foot);
}

fn title(model: &Model) -> Line<'static> {
    let state = match (model.standing, model.is_behind) {
        (Standing::Recorded, true) => "reading what is recorded",
        (Standing::Recorded, false) => "being recorded",
        (Standing::Ended, _) => "finished",
        (Standing::Abandoned, _) => "its recorder was killed",
    };
    let mut spans = vec![Span::styled(model.title.clone(), Style::new().add_modifier(Modifier::BOLD))];
    spans.push(Span::raw(format!("  {state}")));
    if model.is_paused {
        spans.push(Span::styled("  PAUSED", Style::new().add_modifier(Modifier::REVERSED)));
    }
    Line::from(spans)
}

fn numbers(model: &Model) -> Line<'static> {
    let (functions, threads) = (model.functions.len() as u64, model.threads.len() as u64);
    let rate: f64 = model.threads.iter().filter_map(|row| row.calls_per_s).sum();
    let counts = format!(
        "{}, {rate:.0} calls/s, {}, {}, ",
        plural(model.calls, "call"),
        plural(functions, "function"),
        plural(threads, "thread")
    );
    let style = if model.events_lost > 0 { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
    Line::from(vec![Span::raw(counts), Span::styled(format!("{} lost", plural(model.events_lost, "event")), style)])
}

fn table(model: &Model) -> Table<'_> {
    let last = if model.view == View::Functions { "FUNCTION" } else { "PID/TID NAME" };
    let mark = |sort: TopSort, title: &str| if model.sort == sort { format!("{title}▼") } else { title.to_owned() };
    let titles = [
        mark(TopSort::Rate, "CALLS/S"),
        "CALLS".to_owned(),
        mark(TopSort::SelfTime, "SELF"),
        mark(TopSort::Total, "TOTAL"),
        mark(TopSort::P99, "P99"),
        "MAX".to_owned(),
    ];
    let titles = titles.into_iter().map(right).chain([Cell::from(last), Cell::from("MODULE")]);
    let head = TableRow::new(titles).style(Style::new().add_modifier(Modifier::BOLD));
    let widths = [10, 12, 10, 10, 9, 9].map(Constraint::Length).into_iter();
    let widths = widths.chain([Constraint::Fill(3), Constraint::Fill(1)]);
    Table::new(model.rows().iter().skip(model.scroll).map(line), widths).header(head).column_spacing(1)
}

fn line(row: &Row) -> TableRow<'_> {
    let known = |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |time| rough(time as f64));
    let cells = [
        row.calls_per_s.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}")),
        count(row.calls),
        rough(row.self_ns as f64),
        rough(row.total_ns as f64),
        known(row.p99_ns),
        row.max_ns.map_or_else(|| "-".to_owned(), exact),
    ];
    let names = [Cell::from(row.name.as_str()), Cell::from(row.place.as_str())];
    TableRow::new(cells.into_iter().map(right).chain(names).collect::<Vec<_>>())
}

fn right<'a>(text: String) -> Cell<'a> {
    Cell::from(Line::from(text).right_aligned())
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    use super::super::model::Wish;
    use super::*;

    fn model() -> Model {
        let mut model = Model::new("ada_traces/s".into(), TopSort::SelfTime);
        let row = |name: &str, calls, self_ns| Row {
            name: name.into(),
            place: "app".into(),
            calls_per_s: Some(calls as f64),
            calls,
            total_ns: 2 * self_ns,
            self_ns,
            p99_ns: Some(1_500),
            max_ns: None,
        };
        model.functions = vec![row("parse", 1_000, 5_000_000), row("emit", 9, 70)];
        model.threads = vec![Row { place: String::new(), ..row("7/8 worker", 1_009, 5_000_070) }];
        (model.calls, model.events_lost) = (1_009, 3);
        model
    }

    fn drawn(model: &Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(width.into());
        lines
            .map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned())
            .collect()
    }

    #[test]
    fn the_picture() {
        assert_eq!(
            drawn(&model(), 100, 6),
            [
                "ada_traces/s  being recorded",
                "1 009 calls, 1009 calls/s, 2 functions, 1 thread, 3 events lost",
                "   CALLS/S        CALLS      SELF▼      TOTAL       P99       MAX FUNCTION                  MODULE",
                "      1000        1 000    5.00 ms    10.0 ms   1.50 us         - parse                     app",
                "         9            9      70 ns     140 ns   1.50 us         - emit                      app",
                "q quit  p pause  h threads/functions  sort: c calls/s  s self  t total  9 p99  ↑↓ scroll",
            ]
        );
    }

    #[test]
    fn keys_sort_pause_switch_and_quit() {
        let mut model = model();
        let press = |model: &mut Model, code: KeyCode| model.key(KeyEvent::from(code));
        assert_eq!(press(&mut model, KeyCode::Char('h')), Wish::Draw);
        assert!(drawn(&model, 100, 6).join("\n").contains("7/8 worker"));
        press(&mut model, KeyCode::Tab);
        press(&mut model, KeyCode::Char('p'));
        press(&mut model, KeyCode::Char('9'));
        let text = drawn(&model, 100, 6).join("\n");
        assert!(text.contains("PAUSED") && text.contains("P99▼"), "{text}");
        press(&mut model, KeyCode::Down);
        assert!(!drawn(&model, 100, 6).join("\n").contains("parse"));
        assert_eq!(press(&mut model, KeyCode::Char('x')), Wish::Nothing);
        assert_eq!(press(&mut model, KeyCode::Esc), Wish::Quit);
    }

    #[test]
    fn no_room_is_no_panic() {
        for (width, height) in [(1, 1), (3, 2), (200, 1), (10, 50)] {
            drawn(&model(), width, height);
        }
    }
}
