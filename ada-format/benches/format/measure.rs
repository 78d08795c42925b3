//! Timing, and the table that shows it.
//!
//! Invariant: of several rounds the best counts, because what else the machine does only adds; and two things that
//! are compared take turns.

use std::fmt::Write;
use std::time::{Duration, Instant};

/// One measured thing.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What the value is held against: its name and the value's ratio to it.
    pub(crate) against: Option<(&'static str, f64)>,
    /// What was to be reached, for people.
    pub(crate) target: &'static str,
    pub(crate) met: bool,
}

impl Row {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.against.map(|against| against.0),
            "ratio": self.against.map(|against| against.1),
            "target": self.target,
            "met": self.met,
        })
    }
}

/// The rows as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = format!("{:<34} {:>18}  {:>6}  {:<30} {}\n", "what", "value", "ratio", "to", "target");
    for row in rows {
        let value = format!("{:.2} {}", row.value, row.unit);
        let (to, ratio) = row
            .against
            .map_or((String::new(), String::new()), |(name, ratio)| (name.to_owned(), format!("{ratio:.2}")));
        let met = if row.met { "met" } else { "MISSED" };
        let _ = writeln!(out, "{:<34} {value:>18}  {ratio:>6}  {to:<30} {} ({met})", row.name, row.target);
    }
    out
}

/// How long `work` takes.
pub(crate) fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    std::hint::black_box(work());
    start.elapsed()
}

/// Runs both in turns and returns the best time of each.
pub(crate) fn compare<E>(
    rounds: usize,
    mut first: impl FnMut() -> Result<Duration, E>,
    mut second: impl FnMut() -> Result<Duration, E>,
) -> Result<(Duration, Duration), E> {
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        firsts.push(first()?);
        seconds.push(second()?);
    }
    Ok((best(firsts), best(seconds)))
}

/// The shortest one.
pub(crate) fn best(times: Vec<Duration>) -> Duration {
    times.into_iter().min().unwrap_or_default()
}
