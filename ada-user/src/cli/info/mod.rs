//! `ada-trace info SESSION`: when, what, how much, what was lost.
//!
//! Invariant: counts come from the files, not from the manifest, which lags behind while a session is recorded.

mod calls;
mod facts;
mod json;
mod state;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use self::calls::Calls;
use self::facts::Facts;
use super::REFUSED;
use super::args::{Format, InfoArgs};
use super::open::{broken, chosen, open};

/// Sessions up to this size are read in whole, which takes a second or so, for the calls of each function.
const COUNTED: u64 = 200_000_000;

/// Prints what `args` ask for.
pub(crate) fn run(args: &InfoArgs) -> Result<ExitCode> {
    let session = open(&chosen(args.session.as_deref())?)?;
    let calls = (args.full || session.event_count() <= COUNTED).then(|| Calls::count(&session));
    let facts = Facts::new(&session, calls);
    let text = match args.format {
        Format::Text => text::text(&facts),
        Format::Jsonl => format!("{}\n", json::object(&facts)),
    };
    io::stdout().write_all(text.as_bytes())?;
    let unreadable = broken(&session).map(|thread| thread.error.to_string());
    let known = |text: &String| facts.damage().contains(text);
    let cut = session.cut().map(|error| error.to_string()).filter(|text| !known(text));
    let complaints: Vec<String> = unreadable.chain(facts.damage().iter().cloned()).chain(cut).collect();
    complaints.iter().for_each(|complaint| eprintln!("ada-trace: {complaint}"));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}
