//! What holds of every finalised session, whatever was recorded: files, footers and manifest tell the same story.

use std::collections::BTreeSet;

use ada_format::read::{SessionReader, ThreadReader};
use serde_json::Value;

use crate::session::{Event, Session, Thread, number};

/// Checks it all.
///
/// # Panics
/// If something contradicts something.
pub(crate) fn check(session: &Session) {
    let reader = SessionReader::open(&session.folder).unwrap_or_else(|error| panic!("{error}"));
    for thread in reader.threads() {
        check_files(thread);
    }
    for thread in &session.threads {
        check_events(session, thread);
        check_entry(thread);
        // What tells a thread's name, its end, may be among what was lost.
        let named = thread.entry["name"].as_str().is_some_and(|name| !name.is_empty());
        assert!(named || session.lost() > 0 || session.status() == "recovered", "{}", thread.entry);
    }
    check_manifest(session);
    check_folders(session, &reader);
}

fn check_files(thread: &ThreadReader) {
    thread.verify().unwrap_or_else(|error| panic!("{error}"));
    assert!(!thread.recovered(), "{} is not finalised", thread.folder().display());
    let (header, footer) = (thread.index().header(), thread.index().footer().expect("a footer"));
    assert_eq!(u64::from(header.event_count.get()), footer.event_count.get());
    assert_eq!(footer.event_count.get(), thread.index().len());
    assert_eq!(header.time_start_ns, footer.time_start_ns);
    assert_eq!(header.time_end_ns, footer.time_end_ns);
}

fn check_events(session: &Session, thread: &Thread) {
    let sorted = thread.events.is_sorted_by_key(|event| event.time_ns);
    assert!(sorted, "the events of thread {} are not in the order of time", thread.id);
    for event in &thread.events {
        assert_eq!(event.tid, thread.tid, "{event:?} in the folder of another thread");
        assert!(event.is_outside_functions() || !session.name(event.function).is_empty());
    }
}

fn check_entry(thread: &Thread) {
    let time = |event: Option<&Event>| event.expect("an event").time_ns;
    assert_eq!(number(&thread.entry, "tid"), u64::from(thread.tid));
    assert_eq!(number(&thread.entry, "event_count"), thread.events.len() as u64);
    assert_eq!(number(&thread.entry, "time_start_ns"), time(thread.events.first()));
    assert_eq!(number(&thread.entry, "time_end_ns"), time(thread.events.last()));
}

fn check_manifest(session: &Session) {
    let manifest = &session.manifest;
    assert_eq!(manifest["format_version"], "2.1");
    assert_eq!(manifest["os"], "linux");
    assert_eq!(manifest["tool"]["name"], "ada-trace");
    assert_eq!(manifest["clock"]["type"], "boottime");
    let events: u64 = session.threads.iter().map(|thread| thread.events.len() as u64).sum();
    assert_eq!(number(manifest, "event_count"), events);
    let starts = session.threads.iter().map(|thread| thread.events[0].time_ns);
    let ends = session.threads.iter().filter_map(|thread| Some(thread.events.last()?.time_ns));
    if let (Some(start), Some(end)) = (starts.min(), ends.max()) {
        assert_eq!((number(manifest, "time_start_ns"), number(manifest, "time_end_ns")), (start, end));
        check_anchors(manifest, start);
    }
    let modules: BTreeSet<u64> =
        manifest["modules"].as_array().expect("modules").iter().map(|module| number(module, "module_id")).collect();
    let events = session.threads.iter().flat_map(|thread| &thread.events);
    for event in events.filter(|event| !event.is_outside_functions()) {
        assert!(modules.contains(&(event.function >> 32)), "no module for {event:?}");
    }
}

/// The first pair of clocks was read before the first event.
fn check_anchors(manifest: &Value, start: u64) {
    let anchors = manifest["clock"]["anchors"].as_array().expect("anchors");
    assert!(anchors.len() >= 2 || manifest["session"]["status"] == "recovered", "{anchors:?}");
    assert!(number(&anchors[0], "boottime_ns") <= start, "{anchors:?} begin after the first event at {start}");
    assert!(anchors.iter().all(|anchor| number(anchor, "realtime_ns") > 0));
}

/// Folders and manifest name the same threads.
fn check_folders(session: &Session, reader: &SessionReader) {
    let listed = session.manifest["threads"].as_array().expect("threads").iter().map(|entry| number(entry, "id"));
    let there = reader.threads().iter().map(|thread| u64::from(thread.id()));
    assert_eq!(listed.collect::<BTreeSet<_>>(), there.collect());
}
