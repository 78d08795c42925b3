//! What `top` shows: rows, their order, and what the keys have chosen.
//!
//! Invariant: drawing needs nothing else; while it is paused no number changes.

use std::collections::HashMap;
use std::time::Instant;

use ada_query::live::{Look, Standing};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::counts::{Count, Counts};
use crate::cli::names::{printable, short_module};
use crate::cli::query::args::TopSort;
use crate::cli::query::words;

/// A function or a thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) name: String,
    /// The module of a function.
    pub(super) place: String,
    /// Since the last time; none in a finished session.
    pub(super) calls_per_s: Option<f64>,
    pub(super) calls: u64,
    pub(super) total_ns: u64,
    pub(super) self_ns: u64,
    pub(super) p99_ns: Option<u64>,
    pub(super) max_ns: Option<u64>,
}

/// What the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Functions,
    Threads,
}

/// All that is drawn.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) title: String,
    pub(super) standing: Standing,
    pub(super) functions: Vec<Row>,
    pub(super) threads: Vec<Row>,
    pub(super) calls: u64,
    pub(super) events_lost: u64,
    /// Whether what was recorded before is still being read.
    pub(super) is_behind: bool,
    pub(super) sort: TopSort,
    pub(super) view: View,
    pub(super) is_paused: bool,
    pub(super) scroll: usize,
    /// What could not be read.
    pub(super) complaint: Option<String>,
    /// Calls by function and by thread when they were counted last, and when that was.
    before: (HashMap<u64, u64>, Instant),
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Draw,
    Quit,
    Nothing,
}

/// Threads share a map with functions, whose ids have fewer modules than this.
const THREADS: u64 = 1 << 63;

impl Model {
    pub(super) fn new(title: String, sort: TopSort) -> Self {
        Self {
            title,
            standing: Standing::Recorded,
            functions: Vec::new(),
            threads: Vec::new(),
            calls: 0,
            events_lost: 0,
            is_behind: false,
            sort,
            view: View::Functions,
            is_paused: false,
            scroll: 0,
            complaint: None,
            before: (HashMap::new(), Instant::now()),
        }
    }

    /// Counts anew.
    pub(super) fn update(&mut self, look: &Look<'_, '_, Counts>) {
        let seconds = self.before.1.elapsed().as_secs_f64();
        let is_live = look.standing == Standing::Recorded;
        let known = std::mem::take(&mut self.before.0);
        let mut now = HashMap::new();
        let mut rate = |id: u64, calls: u64| {
            now.insert(id, calls);
            let more = calls.saturating_sub(known.get(&id).copied().unwrap_or(0));
            (is_live && !known.is_empty() && seconds > 0.0).then(|| more as f64 / seconds)
        };
        self.functions.clear();
        for (index, count) in sums(look).into_iter().enumerate().filter(|(_, count)| count.calls > 0) {
            let about = look.functions.about(u32::try_from(index).unwrap_or(u32::MAX));
            let place = about.module.map_or_else(|| "?".to_owned(), |path| short_module(path).into_owned());
            let calls_per_s = rate(about.id, count.calls);
            self.functions.push(Row { place, calls_per_s, ..row(words::name(&about, false), &count) });
        }
        self.threads.clear();
        for lane in look.lanes.iter() {
            let mut sum = Count::default();
            lane.visitor.functions.iter().for_each(|count| sum.add(count));
            let pid = lane.thread.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
            let name = format!("{pid}/{} {}", lane.thread.tid, printable(&lane.thread.name));
            let calls_per_s = rate(THREADS | u64::from(lane.thread.id), sum.calls);
            self.threads.push(Row { calls_per_s, ..row(name.trim_end().to_owned(), &sum) });
        }
        self.calls = look.lanes.iter().map(|lane| lane.visitor.calls).sum();
        self.events_lost = look.manifest.lost.total;
        (self.standing, self.is_behind) = (look.standing, look.is_behind);
        self.before = (now, Instant::now());
        self.order();
    }

    /// The rows of what is looked at.
    pub(super) fn rows(&self) -> &[Row] {
        match self.view {
            View::Functions => &self.functions,
            View::Threads => &self.threads,
        }
    }

    /// Does what a key asks for.
    pub(super) fn key(&mut self, key: KeyEvent) -> Wish {
        let last = self.rows().len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Wish::Quit,
            KeyCode::Char('c') => self.sort = TopSort::Rate,
            KeyCode::Char('s') => self.sort = TopSort::SelfTime,
            KeyCode::Char('t') => self.sort = TopSort::Total,
            KeyCode::Char('9') => self.sort = TopSort::P99,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('h') | KeyCode::Tab => {
                self.view = if self.view == View::Functions { View::Threads } else { View::Functions };
                self.scroll = 0;
            }
            KeyCode::Down => self.scroll = (self.scroll + 1).min(last),
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll = (self.scroll + 20).min(last),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(20),
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = last,
            _ => return Wish::Nothing,
        }
        self.order();
        Wish::Draw
    }

    fn order(&mut self) {
        let sort = self.sort;
        let key = |row: &Row| match sort {
            // Calls per second are no order where there are none.
            TopSort::Rate => row.calls_per_s.map_or(row.calls, |rate| (rate * 1000.0) as u64),
            TopSort::SelfTime => row.self_ns,
            TopSort::Total => row.total_ns,
            TopSort::P99 => row.p99_ns.unwrap_or(0),
        };
        for rows in [&mut self.functions, &mut self.threads] {
            rows.sort_by(|a, b| (key(b), b.calls, &a.name).cmp(&(key(a), a.calls, &b.name)));
        }
    }
}

fn row(name: String, count: &Count) -> Row {
    Row {
        name,
        calls: count.calls,
        total_ns: count.total_ns,
        self_ns: count.self_ns,
        p99_ns: count.latency.quantile(0.99),
        max_ns: count.latency.max(),
        ..Row::default()
    }
}

/// By function, over all threads.
fn sums(look: &Look<'_, '_, Counts>) -> Vec<Count> {
    let mut sums: Vec<Count> = Vec::new();
    for lane in look.lanes.iter() {
        let more = &lane.visitor.functions;
        sums.resize_with(sums.len().max(more.len()), Count::default);
        sums.iter_mut().zip(more).filter(|(_, more)| more.calls > 0).for_each(|(sum, more)| sum.add(more));
    }
    sums
}
