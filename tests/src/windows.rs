//! The windows of a flight recorder's session, and whether the details are exactly those that lie in them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use ada_format::layout::{EventKind, NO_DETAIL};
use ada_format::read::{SessionReader, ThreadReader};
use serde_json::Value;

use crate::session::number;

/// Details of a session by the ordinal of their thread.
pub type Counts = BTreeMap<u32, u64>;

/// Holds every detail against its event and both against the windows: calls and returns have a detail if they lie in a window and
/// have none otherwise, whatever has a detail lies in one, and a thread without details has no file for them. For recordings
/// with `--detail` of every function. Gives how many details each thread has.
///
/// # Panics
/// If something is missing, too much, or linked wrongly.
#[must_use]
pub fn check(folder: &Path, manifest: &Value) -> Counts {
    let windows: Vec<_> = all(manifest).iter().map(span).collect();
    assert!(windows.is_sorted_by(|a, b| a.end() < b.start()), "windows overlap: {windows:?}");
    let reader = SessionReader::open(folder).expect("a session");
    let counts: Counts = reader.threads().iter().map(|thread| (thread.id(), check_thread(thread, &windows))).collect();
    let claimed: u64 = all(manifest).iter().map(|window| number(window, "details")).sum();
    assert_eq!(claimed, counts.values().sum::<u64>(), "the windows' counts are those of the files");
    counts
}

/// The windows that the manifest lists.
#[must_use]
pub fn all(manifest: &Value) -> &[Value] {
    manifest["windows"].as_array().map_or(&[], Vec::as_slice)
}

/// Its first and last moment, in ns.
#[must_use]
pub fn span(window: &Value) -> RangeInclusive<u64> {
    number(window, "start_ns")..=number(window, "end_ns")
}

/// The kinds of what fired.
///
/// # Panics
/// If the window lists no triggers.
#[must_use]
pub fn kinds(window: &Value) -> Vec<&str> {
    let triggers = window["triggers"].as_array().expect("triggers");
    triggers.iter().map(|trigger| trigger["kind"].as_str().expect("a kind")).collect()
}

fn check_thread(thread: &ThreadReader, windows: &[RangeInclusive<u64>]) -> u64 {
    let mut details = 0;
    for (position, event) in thread.index().events().iter().enumerate() {
        let detail = thread.detail_of(position as u64).expect("sound links");
        let inside = windows.iter().any(|window| window.contains(&event.timestamp_ns.get()));
        let wanted = inside && !matches!(event.kind(), Some(EventKind::Exception | EventKind::Switch));
        assert!(!wanted || detail.is_some(), "event {position} of thread {} lacks its detail: {event:?}", thread.id());
        let Some(detail) = detail else {
            assert_eq!(event.detail_seq.get(), NO_DETAIL, "{event:?}");
            continue;
        };
        assert!(inside, "event {position} of thread {} has a detail outside the windows {windows:?}", thread.id());
        assert_eq!((u64::from(detail.index_seq()), detail.timestamp_ns()), (position as u64, event.timestamp_ns.get()));
        assert_eq!(u64::from(event.detail_seq.get()), details, "details are in the order of their events");
        details += 1;
    }
    let file = thread.folder().join("detail.atf");
    assert_eq!(file.exists(), details > 0, "{}", file.display());
    assert_eq!(thread.detail().map_or(0, ada_format::read::DetailReader::len), details, "each detail has its event");
    details
}
