//! A line on stderr while a question takes more than a second.
//!
//! Invariant: nothing is written where stderr is no terminal, or before that second; the line is gone at the end.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ada_query::trace::Trace;

use crate::cli::summary::count;

/// How long nothing is shown, and how often the line changes then.
const PATIENCE: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(100);
/// Characters of the bar.
const WIDTH: usize = 30;

/// Shows how far reading is, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Progress {
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Watches a trace that is read once.
    pub(super) fn of(trace: &Arc<Trace>) -> Self {
        Self::of_readings(trace, 1)
    }

    /// Watches a trace that is read several times.
    pub(super) fn of_readings(trace: &Arc<Trace>, readings: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self::default();
        }
        let (stop, stopped) = channel();
        let (trace, before) = (Arc::clone(trace), trace.events_read());
        let watch = move || {
            let (mut wait, mut shown) = (PATIENCE, false);
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                (wait, shown) = (EVERY, true);
                let line = line(trace.events_read().saturating_sub(before) / readings.max(1), trace.event_count());
                let _ = write!(io::stderr(), "\r\x1b[K{line}");
            }
            if shown {
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        };
        Self { running: Some((stop, std::thread::spawn(watch))) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, watch)) = self.running.take() {
            drop(stop);
            let _ = watch.join();
        }
    }
}

fn line(read: u64, all: u64) -> String {
    let share = read.min(all) as f64 / all.max(1) as f64;
    let full = (share * WIDTH as f64) as usize;
    let bar = "█".repeat(full) + &" ".repeat(WIDTH.saturating_sub(full));
    format!("│{bar}│ {:>3.0} %  {} of {} events", share * 100.0, count(read), count(all))
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_bar_is_full_at_the_end() {
        assert_eq!(line(0, 0).matches('█').count(), 0);
        assert_eq!(line(50, 100).matches('█').count(), 15);
        assert_eq!(line(200, 100).matches('█').count(), 30);
    }
}
