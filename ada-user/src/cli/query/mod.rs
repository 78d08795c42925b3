//! The commands that answer questions about a session, by way of ada-query.
//!
//! Invariant: what could not be read, was lost or is not known is said: in the output, or on stderr with exit status 2.

mod args;
pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod follow;
pub(crate) mod graph;
pub(crate) mod merge;
mod notes;
mod progress;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod timeline;
pub(crate) mod top;
mod unfinished;
mod values;
pub(crate) mod verify;
mod words;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ada_query::QueryError;
use ada_query::run::Outcome;
use ada_query::select::{Pattern, Selection, matching};
use ada_query::span::Accounting;
use ada_query::trace::Trace;
use ada_user::suggest;
use anyhow::{Result, anyhow, bail};

pub(crate) use self::args::{
    DiffArgs, ExportArgs, FollowArgs, GraphArgs, MergeArgs, ReplayArgs, ReportArgs, SelectArgs, TimelineArgs, TopArgs,
    VerifyArgs,
};
use self::progress::Progress;
use super::REFUSED;
use super::dump::range::Range;
use super::names::printable;
use super::open::{chosen, cut, open, tell_abandoned};

/// A session and the part of it that was asked for.
struct Question {
    trace: Arc<Trace>,
    selection: Selection,
    range: Range,
    paint: Paint,
}

impl Question {
    fn new(session: Option<&Path>, args: &SelectArgs) -> Result<Self> {
        let question = Self::unchecked(&chosen(session)?, args)?;
        question.selection.check(&question.trace).map_err(|error| explain(error, &question.trace))?;
        Ok(question)
    }

    /// One of several sessions that `args` hold for: what they name need not be in all of them.
    fn unchecked(dir: &Path, args: &SelectArgs) -> Result<Self> {
        let trace = Trace::new(open(dir)?);
        let range = Range::new(args.from.as_deref(), args.to.as_deref(), trace.session())?;
        check_range(&range, &trace)?;
        let selection = selection(args, &range)?;
        Ok(Self { trace: Arc::new(trace), selection, range, paint: Paint::new() })
    }

    /// Of a session that goes on: the time range may lie in the future.
    fn of_recording(dir: &Path, args: &SelectArgs) -> Result<Self> {
        let trace = Trace::new(open(dir)?);
        let range = Range::new(args.from.as_deref(), args.to.as_deref(), trace.session())?;
        let selection = selection(args, &range)?;
        selection.check(&trace).map_err(|error| explain(error, &trace))?;
        Ok(Self { trace: Arc::new(trace), selection, range, paint: Paint::new() })
    }

    /// Fails if what is named is in none of these sessions.
    fn check_any(questions: &[&Self]) -> Result<()> {
        let mut last = Ok(());
        for question in questions {
            last = question.selection.check(&question.trace).map_err(|error| explain(error, &question.trace));
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Shows how far reading is, until what is returned is dropped.
    fn progress(&self) -> Progress {
        Progress::of(&self.trace)
    }

    /// One line: how much was looked at.
    fn head(&self, accounting: &Accounting) -> String {
        let threads = self.selection.threads(&self.trace).count();
        let (first, last) = self.trace.time_range().unwrap_or_default();
        let from = self.range.from.map_or(first, |from| from.max(first));
        let until = self.range.until.map_or(last, |until| until.min(last));
        notes::head(accounting, threads, until.saturating_sub(from))
    }

    /// The functions that `text` means.
    fn functions(&self, text: &str) -> Result<std::collections::HashSet<u32>> {
        let found = Pattern::new(text).and_then(|pattern| matching(&pattern, self.trace.functions()));
        found.map_err(|error| explain(error, &self.trace))
    }

    /// What is said at the end of a command, and its exit status.
    fn complain(&self, outcome: &Outcome) -> ExitCode {
        let wanted = |id: u32| self.selection.threads.is_empty() || self.selection.threads.contains(&id);
        let broken = self.trace.broken().filter(|thread| wanted(thread.id)).map(|thread| thread.error.to_string());
        let session = self.trace.session();
        let cut: Vec<_> = cut(session).into_iter().filter(|(id, _)| wanted(*id)).collect();
        let is_told = |part: u32| cut.iter().any(|(id, _)| *id == part);
        let failed = outcome.failed.iter().filter(|(part, _)| !is_told(*part)).map(|(_, error)| error.to_string());
        let complaints: Vec<String> = broken.chain(failed).chain(cut.iter().map(|(_, text)| text.clone())).collect();
        tell_abandoned(session);
        complaints.iter().for_each(|complaint| eprintln!("ada-trace: {complaint}"));
        if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
    }
}

fn selection(args: &SelectArgs, range: &Range) -> Result<Selection> {
    let patterns =
        |texts: &[String]| texts.iter().map(|text| Pattern::new(text)).collect::<Result<Vec<_>, QueryError>>();
    Ok(Selection {
        from_ns: range.from,
        until_ns: range.until,
        threads: args.thread.clone(),
        pids: args.pid.clone(),
        include: patterns(&args.function)?,
        exclude: patterns(&args.without)?,
        min_duration_ns: args.min_duration.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
    })
}

/// Refuses a time range in which there can be nothing.
fn check_range(range: &Range, trace: &Trace) -> Result<()> {
    match trace.time_range() {
        Some((first, last)) if !range.touches(first, last) => bail!("no events: {}", range.about(trace.session())),
        _ => Ok(()),
    }
}

/// An error with what would have been right.
fn explain(error: QueryError, trace: &Trace) -> anyhow::Error {
    match &error {
        QueryError::NoFunction { text } => {
            let names = trace.functions().known().iter().flat_map(|function| {
                [Some(function.name.as_str()), function.demangled.as_deref()].into_iter().flatten()
            });
            let near = suggest::near(text.trim_matches(['/', '*']), names);
            match near.as_slice() {
                [] => anyhow!("{error}; `ada-trace report --limit 0` lists them"),
                near => anyhow!("{error}; did you mean {}?", printable(&near.join(", "))),
            }
        }
        QueryError::NoThread { .. } => {
            let ids = trace.threads().iter().map(|thread| thread.id.to_string());
            anyhow!("{error}: it has {}", some(ids))
        }
        QueryError::NoProcess { .. } => {
            let mut pids: Vec<u32> = trace.threads().iter().filter_map(|thread| thread.pid).collect();
            pids.sort_unstable();
            pids.dedup();
            anyhow!("{error}: it has {}", some(pids.iter().map(u32::to_string)))
        }
        _ => error.into(),
    }
}

/// The first of a list, and how many more there are.
fn some(items: impl Iterator<Item = String>) -> String {
    const LISTED: usize = 20;
    let items: Vec<String> = items.collect();
    match items.len() {
        0 => "none at all".to_owned(),
        many if many > LISTED => {
            format!("{} and {} more", items.get(..LISTED).unwrap_or_default().join(", "), many - LISTED)
        }
        _ => items.join(", "),
    }
}

/// Emphasis, where a terminal shows it.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    /// For stdout; none if NO_COLOR is set.
    fn new() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests;
