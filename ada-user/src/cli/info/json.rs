//! A session's facts as one JSON object, for programs.
//!
//! Invariant: bounded: as many functions as a person would read; what the manifest says is there as it says it.

use serde_json::{Value, json};

use super::facts::{Facts, ThreadFacts};
use crate::cli::names;

/// Functions that are listed.
const TOP: usize = 100;

/// All of it.
pub(super) fn object(facts: &Facts<'_>) -> Value {
    let manifest = facts.manifest;
    let wall_clock = facts.wall_clock();
    json!({
        "session": facts.dir.to_string_lossy(),
        "id": manifest.session.id,
        "status": facts.state.word(),
        "complete": manifest.session.complete,
        "started_at": manifest.session.started_at,
        "ended_at": manifest.session.ended_at,
        "duration_ns": wall_clock.map(|(start, end)| end - start),
        "time_start_ns": facts.time_range.map(|(first, _)| first),
        "time_end_ns": facts.time_range.map(|(_, last)| last),
        "complete_from_ns": manifest.complete_from_ns,
        "event_count": facts.events,
        "detail_count": facts.details,
        "bytes": facts.bytes,
        "events_per_second": facts.rate().map(|rate| rate as u64),
        "lost": manifest.lost,
        "missed_returns": facts.missed_returns(),
        "tool": manifest.tool,
        "os": manifest.os,
        "arch": manifest.arch,
        "host": manifest.host,
        "process": manifest.process,
        "probes": manifest.probes,
        "function_count": manifest.functions.len(),
        "modules": manifest.modules,
        "windows": manifest.windows,
        "threads": facts.threads.iter().map(thread).collect::<Vec<_>>(),
        "calls": facts.calls.as_ref().map(|calls| calls.total),
        "functions_by_calls": functions(facts),
        "damage": facts.damage(),
    })
}

fn thread(thread: &ThreadFacts) -> Value {
    json!({
        "id": thread.who.id,
        "pid": thread.who.pid,
        "tid": thread.who.tid,
        "name": thread.who.name,
        "continues": thread.continues,
        "event_count": thread.events,
        "detail_count": thread.details,
        "time_start_ns": thread.time_range.map(|(first, _)| first),
        "time_end_ns": thread.time_range.map(|(_, last)| last),
        "lost": thread.lost,
        "missed_returns": thread.missed_returns,
        "unfinished": thread.unfinished,
    })
}

fn functions(facts: &Facts<'_>) -> Option<Vec<Value>> {
    let calls = facts.calls.as_ref()?;
    let names = names::by_function(facts.manifest, |function, module| {
        (function.name.clone(), function.demangled.clone(), module.map(str::to_owned))
    });
    let function = |(id, number): &(u64, u64)| {
        let (name, demangled, module) = names
            .get(id)
            .map_or((None, None, None), |(name, demangled, module)| (Some(name), demangled.as_ref(), module.as_ref()));
        json!({ "function_id": id, "function": name, "demangled": demangled, "module": module, "calls": number })
    };
    Some(calls.by_function.iter().take(TOP).map(function).collect())
}
