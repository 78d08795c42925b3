//! How often each function was called, by reading every event once.
//!
//! Invariant: calls are counted, returns and exceptions are not, so that a missed return changes nothing.

use ada_format::layout::{EventKind, IndexEvent};
use ada_format::read::SessionReader;

use crate::cli::names::IdMap;

/// What reading every event tells.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// (function id, number of calls), the most called first.
    pub(super) by_function: Vec<(u64, u64)>,
    /// Calls of all functions.
    pub(super) total: u64,
    /// Files that are not what they were when they were finished.
    pub(super) damage: Vec<String>,
}

impl Calls {
    /// Counts the calls of a session, and compares its files with their checksums.
    pub(super) fn count(session: &SessionReader) -> Self {
        let mut counts = IdMap::default();
        let mut damage = Vec::new();
        for thread in session.threads() {
            add(&mut counts, thread.index().events());
            damage.extend(thread.detail_error().map(ToString::to_string));
            damage.extend(thread.verify().err().map(|error| error.to_string()));
        }
        let total = counts.values().sum();
        let mut by_function: Vec<(u64, u64)> = counts.into_iter().collect();
        by_function.sort_unstable_by_key(|&(id, calls)| (std::cmp::Reverse(calls), id));
        Self { by_function, total, damage }
    }
}

/// Runs of one function are looked up once.
fn add(counts: &mut IdMap<u64>, events: &[IndexEvent]) {
    let calls = events.iter().filter(|event| event.event_kind.get() == EventKind::Call.raw());
    let mut run = (0, 0);
    for event in calls {
        let id = event.function_id.get();
        if id != run.0 {
            post(counts, run);
            run = (id, 0);
        }
        run.1 += 1;
    }
    post(counts, run);
}

fn post(counts: &mut IdMap<u64>, (id, calls): (u64, u64)) {
    if calls > 0 {
        *counts.entry(id).or_default() += calls;
    }
}
