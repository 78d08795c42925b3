//! `ada-trace merge SESSION… -o DIR`: several sessions as one.
//!
//! Invariant: what is there afterwards is whole, or is not there.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use ada_query::merge::{Merged, merge};
use anyhow::Result;

use super::args::MergeArgs;
use super::unfinished::Unfinished;
use super::words::exact;
use crate::cli::names::printable;
use crate::cli::open::open;
use crate::cli::summary::plural;

/// Does what `args` ask for.
pub(crate) fn run(args: &MergeArgs) -> Result<ExitCode> {
    let sessions = args.sessions.iter().map(|dir| open(dir)).collect::<Result<Vec<_>>>()?;
    let unfinished = watched(&args.output)?;
    let merged = merge(sessions, &args.output)?;
    drop(unfinished);
    io::stdout().write_all(text(&merged, args).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What a signal is to remove. Of a folder that has something in it nothing may go; it is refused.
fn watched(output: &Path) -> io::Result<Option<Unfinished>> {
    let is_free = match std::fs::read_dir(output) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    is_free.then(|| Unfinished::at(output, output)).transpose()
}

fn text(merged: &Merged, args: &MergeArgs) -> String {
    let mut text = String::new();
    for (from, dir) in merged.from.iter().zip(&args.sessions) {
        let host = printable(&from.host);
        let (sign, offset) = (if from.offset_ns < 0 { "-" } else { "+" }, exact(from.offset_ns.unsigned_abs()));
        text += &format!(
            "{}: {} of {}, host {host}, clock {sign}{offset} (known to {})\n",
            dir.display(),
            plural(from.events, "event"),
            plural(from.threads, "thread"),
            exact(from.uncertainty_ns),
        );
    }
    let events = merged.from.iter().map(|from| from.events).sum();
    text + &format!("{}: {}\n", args.output.display(), plural(events, "event"))
}
