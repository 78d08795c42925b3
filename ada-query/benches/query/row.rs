//! A measured thing, and the table that shows it.
//!
//! Invariant: a target is met or missed by the value alone.

use std::fmt::Write;

/// One measured thing.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What was to be reached, for people; empty if nothing was.
    pub(crate) target: &'static str,
    pub(crate) met: bool,
}

impl Row {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "target": self.target,
            "met": self.met,
        })
    }
}

/// The rows as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = format!("{:<38} {:>18}  target\n", "what", "value");
    for row in rows {
        let value = format!("{:.2} {}", row.value, row.unit);
        let met = match (row.target, row.met) {
            ("", _) => String::new(),
            (target, true) => format!("  {target} (met)"),
            (target, false) => format!("  {target} (MISSED)"),
        };
        let _ = writeln!(out, "{:<38} {value:>18}{met}", row.name);
    }
    out
}
