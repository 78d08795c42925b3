//! Results: tables as text, and where full runs keep them.
//!
//! Invariant: a kept result says which kind of machine, kernel and day it is from, and no machine's name.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cmd;

/// A table whose columns are aligned, in Markdown's form; the first column to the left, the others to the right.
pub(super) fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(header).chain(rows.iter().map(Vec::as_slice));
    let width =
        |column: usize| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for (number, row) in all().enumerate() {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(
            |(column, (cell, width))| if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") },
        );
        let _ = writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "));
        if number == 0 {
            let rule = |(column, width): (usize, &usize)| "-".repeat(width + 1) + if column == 0 { "-" } else { ":" };
            let _ = writeln!(text, "|{}|", widths.iter().enumerate().map(rule).collect::<Vec<_>>().join("|"));
        }
    }
    text
}

/// Writes `docs/bench/<machine>-<date>-<name>.md` and `.json`.
pub(super) fn keep(name: &str, text: &str, numbers: &Value) -> Result<()> {
    let date = cmd::output(&mut cmd::command("date", &["-u", "+%F"]))?.trim().to_owned();
    let machine = machine()?;
    let stem = cmd::root().join("docs/bench").join(format!("{machine}-{date}-{name}"));
    fs::create_dir_all(cmd::root().join("docs/bench"))?;
    let command = format!("cargo xtask bench {name}");
    let page = format!("# `{command}` on {machine}, {date}\n\n{}\n\n{}\n", processor(), text.trim_end());
    let whole =
        json!({ "command": command, "machine": machine, "date": date, "processor": processor(), "results": numbers });
    fs::write(format!("{}.md", stem.display()), page)?;
    fs::write(format!("{}.json", stem.display()), serde_json::to_string_pretty(&whole)? + "\n")?;
    println!("kept in docs/bench/{machine}-{date}-{name}.md and .json");
    Ok(())
}

/// What the machine is like: processors, architecture, system, kernel series.
fn machine() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let series: Vec<&str> = release.trim().split(['.', '-']).take(2).collect();
    let cpus = std::thread::available_parallelism()?;
    Ok(format!("{cpus}vcpu-{}-{}-{}", std::env::consts::ARCH, std::env::consts::OS, series.join(".")))
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    model.map_or_else(|| "Processor unknown".to_owned(), |(_, model)| model.to_owned())
}

/// The middle of some numbers; of none, not a number.
pub(super) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let text = table(&["a".to_owned(), "ns".to_owned()], &[vec!["long".to_owned(), "1".to_owned()]]);
        assert_eq!(text, "| a    | ns |\n|------|---:|\n| long |  1 |\n");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[1.0, 2.0]) - 1.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
