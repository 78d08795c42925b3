//! The live status line on a terminal.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use ada_user::session::TraceSession;

use super::summary::{bytes, count};

/// A line that is written over itself on stderr; nothing where that is no terminal.
#[derive(Debug)]
pub(super) struct StatusLine {
    shown: bool,
    enabled: bool,
    last: (u64, Duration),
}

impl StatusLine {
    /// A line, unless `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        let enabled = !quiet && io::stderr().is_terminal();
        Self { shown: false, enabled, last: (0, Duration::ZERO) }
    }

    /// Shows how far the recording is after `elapsed`.
    pub(super) fn update(&mut self, session: &TraceSession, elapsed: Duration) {
        if !self.enabled {
            return;
        }
        let stats = session.stats();
        let (events_before, before) = std::mem::replace(&mut self.last, (stats.delivered, elapsed));
        let seconds = elapsed.saturating_sub(before).as_secs_f64();
        let rate = if seconds > 0.0 { (stats.delivered - events_before) as f64 / seconds } else { 0.0 };
        let live = stats.ledger.threads.values().filter(|thread| !thread.finished).count();
        let mut line = format!(
            "{:>6.1}s  {} events  {}/s  {} threads  {}",
            elapsed.as_secs_f64(),
            count(stats.delivered),
            count(rate as u64),
            live,
            bytes(stats.ledger.bytes()),
        );
        let lost = stats.ledger.lost();
        if lost > 0 {
            line.push_str(&format!("  {} LOST", count(lost)));
        }
        // Nothing can be done about a terminal that is gone.
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
        self.shown = true;
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
