//! `ada-trace dump SESSION`: every event in time order over all threads.
//!
//! Invariant: names come from the manifest alone, and what is lost or damaged is said: in place, or on stderr with
//! exit status 2.

mod gaps;
pub(super) mod jsonl;
mod places;
pub(super) mod range;
mod selection;
pub(super) mod signals;
mod text;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use ada_format::layout::EventKind;
use ada_format::manifest::Gap;
use ada_format::read::{DetailEvent, MergedEvent, SessionReader};
use anyhow::Result;

use self::gaps::Gaps;
use self::range::Range;
use self::selection::Selection;
use super::REFUSED;
use super::args::{DumpArgs, Format};
use super::names::Who;
use super::open::{chosen, open, tell_abandoned};
use super::out::Out;

/// How events are put into lines. `thread` is a place in the selection.
trait Style {
    /// What comes before the first event.
    fn begin<W: Write>(&self, out: &mut Out<W>) -> io::Result<()>;

    /// One event.
    fn event<W: Write>(&self, out: &mut Out<W>, thread: usize, event: &Event<'_>) -> io::Result<()>;

    /// A place where events are missing.
    fn lost<W: Write>(&self, out: &mut Out<W>, gap: &Gap, who: &Who) -> io::Result<()>;
}

/// An event with all that is known of it.
struct Event<'a> {
    time_ns: u64,
    function_id: u64,
    kind: Option<EventKind>,
    depth: u32,
    /// Its position in its thread's index.
    position: u64,
    detail: Option<DetailEvent<'a>>,
}

/// Prints what `args` ask for.
pub(crate) fn run(args: &DumpArgs) -> Result<ExitCode> {
    let session = open(&chosen(args.session.as_deref())?)?;
    let selection = Selection::new(&session, &args.thread)?;
    let range = Range::new(args.from.as_deref(), args.to.as_deref(), &session)?;
    let out = Out::new(io::stdout().lock());
    let dump = Dump { session: &session, selection: &selection, range: &range, limit: args.limit };
    let Outcome { printed, mut damage } = match args.format {
        Format::Text => dump.print(&text::Text::new(&session, &selection), out)?,
        Format::Jsonl => dump.print(&jsonl::Jsonl::new(&session, &selection), out)?,
    };
    if printed == 0 && args.limit != Some(0) {
        eprintln!("ada-trace: no events: {}", range.about(&session));
    }
    if range.is_all() && args.limit.is_none_or(|limit| printed < limit) {
        selection.verify(&mut damage);
    }
    tell_abandoned(&session);
    let complaints = selection.broken.iter().chain(damage.values());
    complaints.clone().for_each(|complaint| eprintln!("ada-trace: {complaint}"));
    Ok(if complaints.count() == 0 { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// What is to be printed.
struct Dump<'a> {
    session: &'a SessionReader,
    selection: &'a Selection<'a>,
    range: &'a Range,
    limit: Option<u64>,
}

/// What was printed.
struct Outcome {
    printed: u64,
    /// The first thing wrong with each thread, by its place in the selection.
    damage: BTreeMap<usize, String>,
}

impl Dump<'_> {
    fn print<S: Style, W: Write>(&self, style: &S, mut out: Out<W>) -> io::Result<Outcome> {
        let mut outcome = Outcome { printed: 0, damage: BTreeMap::new() };
        let limit = self.limit.unwrap_or(u64::MAX);
        let mut gaps = Gaps::new(self.session.manifest(), self.selection, self.range);
        for merged in self.session.merged_between(self.range.from, self.range.until) {
            let Some(thread) = self.selection.place(merged.thread.id()) else { continue };
            if outcome.printed >= limit {
                out.finish()?;
                return Ok(outcome);
            }
            if outcome.printed == 0 {
                style.begin(&mut out)?;
            }
            let event = event(&merged, thread, &mut outcome.damage);
            // After the event was read, so that it is one.
            if let Err(error) = merged.thread.intact() {
                outcome.damage.insert(thread, error.to_string());
                continue;
            }
            while let Some((gap, who)) = gaps.due(event.time_ns) {
                style.lost(&mut out, gap, who)?;
            }
            style.event(&mut out, thread, &event)?;
            outcome.printed += 1;
        }
        while let Some((gap, who)) = gaps.due(u64::MAX) {
            style.lost(&mut out, gap, who)?;
        }
        out.finish()?;
        Ok(outcome)
    }
}

#[inline]
fn event<'a>(merged: &MergedEvent<'a>, thread: usize, damage: &mut BTreeMap<usize, String>) -> Event<'a> {
    let MergedEvent { event, position, .. } = *merged;
    let detail = event.detail().and_then(|_| detail(merged, thread, damage));
    Event {
        time_ns: event.timestamp_ns.get(),
        function_id: event.function_id.get(),
        kind: event.kind(),
        depth: event.call_depth.get(),
        position,
        detail,
    }
}

fn detail<'a>(
    merged: &MergedEvent<'a>,
    thread: usize,
    damage: &mut BTreeMap<usize, String>,
) -> Option<DetailEvent<'a>> {
    merged.thread.detail_of(merged.position).unwrap_or_else(|error| {
        damage.entry(thread).or_insert_with(|| error.to_string());
        None
    })
}

#[cfg(test)]
mod tests;
