//! A session cut at any byte of any file: the reader shows exactly the whole events, and `recover` keeps the same.

use std::fs;
use std::path::Path;

use ada_format::layout::EventKind;
use ada_format::manifest::{Manifest, SessionStatus};
use ada_format::read::{SessionReader, ThreadReader};
use ada_format::session::{self, RecoverReport};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::model::{self, Event};

/// Every event but the third has detail.
fn events() -> Vec<Event> {
    let event = |number: u8| Event {
        time: 1_000 + u64::from(number),
        function: number.into(),
        kind: if number == 4 { EventKind::Exception } else { EventKind::Call },
        depth: number.into(),
        detail: (number != 2).then(|| vec![number; 3 + usize::from(number)]),
    };
    (0..6).map(event).collect()
}

/// Where each detail event ends in a file of these events.
fn detail_ends(events: &[Event]) -> Vec<usize> {
    let length = |event: &Event| {
        let bytes = event.detail.as_ref()?.len();
        Some(24 + if event.kind == EventKind::Exception { 20 + 8 * bytes } else { 100 + bytes })
    };
    let mut end = 64;
    let add = |length| {
        end += length;
        end
    };
    events.iter().filter_map(length).map(add).collect()
}

/// A session of one thread; finished or not.
fn write(dir: &Path, events: &[Event], finish: bool) {
    Manifest::default().write_atomic(dir).unwrap();
    let writer = model::write(&dir.join("thread_0"), 1, events);
    if finish {
        writer.finish().unwrap();
    }
}

fn cut(dir: &Path, file: &str, length: u64) {
    fs::OpenOptions::new().write(true).open(dir.join("thread_0").join(file)).unwrap().set_len(length).unwrap();
}

/// Checks what a reader shows, recovers, and checks that it is the same and stays so.
fn check_recovery(dir: &Path, events: &[Event], details: usize) -> RecoverReport {
    model::check(&ThreadReader::open(&dir.join("thread_0")).unwrap(), events, details);
    let report = session::recover(dir).unwrap();
    let kept = &report.threads[0];
    assert_eq!((kept.event_count, kept.detail_count), (events.len() as u64, details as u64));
    assert!(kept.error.is_none());

    let session = SessionReader::open(dir).unwrap();
    let thread = &session.threads()[0];
    assert!(!thread.recovered());
    model::check(thread, events, details);
    thread.verify().unwrap();
    let manifest = session.manifest();
    assert_eq!(manifest.session.status, SessionStatus::Recovered);
    assert_eq!(manifest.event_count, events.len() as u64);
    assert_eq!(manifest.threads[0].detail_count, details as u64);
    assert_eq!(session.time_range().unwrap_or_default(), (manifest.time_start_ns, manifest.time_end_ns));

    let before = contents(dir);
    assert!(session::recover(dir).unwrap().already_complete);
    assert_eq!(contents(dir), before);
    report
}

fn contents(dir: &Path) -> Vec<Option<Vec<u8>>> {
    let files = ["manifest.json", ".lock", "thread_0/index.atf", "thread_0/detail.atf"];
    files.iter().map(|file| fs::read(dir.join(file)).ok()).collect()
}

#[test]
fn an_index_cut_at_any_byte() {
    let events = events();
    let end = 64 + 32 * events.len();
    for (finish, length) in [(false, end), (true, end + 64)] {
        for cut_at in 64..=length {
            let dir = model::folder();
            write(dir.path(), &events, finish);
            cut(dir.path(), "index.atf", cut_at as u64);
            let whole = (cut_at.min(end) - 64) / 32;
            let report = check_recovery(dir.path(), &events[..whole], 5);
            let cut_off = if cut_at == end + 64 { None } else { Some((cut_at - 64 - 32 * whole) as u64) };
            assert_eq!(report.threads[0].index.map(|lane| lane.bytes_cut), cut_off, "{finish} {cut_at}");
        }
    }
}

#[test]
fn an_index_whose_header_was_not_rewritten_cut_at_any_byte_of_its_footer() {
    let events = events();
    let end = 64 + 32 * events.len();
    for cut_at in end..=end + 64 {
        let dir = model::folder();
        write(dir.path(), &events, false);
        let file = dir.path().join("thread_0/index.atf");
        let header = fs::read(&file).unwrap()[..64].to_vec();
        session::recover(dir.path()).unwrap();
        let finished = fs::read(&file).unwrap();
        fs::write(&file, [&header, &finished[64..cut_at]].concat()).unwrap();
        check_recovery(dir.path(), &events, 5);
        assert_eq!(fs::read(&file).unwrap(), finished);
    }
}

#[test]
fn detail_cut_at_any_byte() {
    let events = events();
    let ends = detail_ends(&events);
    let end = ends[ends.len() - 1];
    for (finish, length) in [(false, end), (true, end + 64)] {
        for cut_at in 0..=length {
            let dir = model::folder();
            write(dir.path(), &events, finish);
            cut(dir.path(), "detail.atf", cut_at as u64);
            let whole = ends.iter().filter(|&&end| end <= cut_at).count();
            let report = check_recovery(dir.path(), &events, whole);
            assert_eq!(report.threads[0].has_detail, cut_at >= 64);
            assert_eq!(dir.path().join("thread_0/detail.atf").exists(), cut_at >= 64);
        }
    }
}

#[test]
fn an_index_without_its_header_is_reported_and_left_alone() {
    for length in 0..64 {
        let dir = model::folder();
        write(dir.path(), &events(), false);
        model::write(&dir.path().join("thread_1"), 2, &events()).finish().unwrap();
        cut(dir.path(), "index.atf", length);
        let report = session::recover(dir.path()).unwrap();
        let error = report.threads[0].error.as_ref().unwrap().to_string();
        let expected = format!("thread_0/index.atf ends at byte {length}, within its header of 64 bytes");
        assert!(error.ends_with(&expected), "{error}");
        assert_eq!(report.threads[1].event_count, 6);
        assert_eq!(fs::metadata(dir.path().join("thread_0/index.atf")).unwrap().len(), length);
        let session = SessionReader::open(dir.path()).unwrap();
        assert_eq!((session.threads().len(), session.broken()[0].id), (1, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_session_cut_anywhere(events in model::thread(60), index_cut: Index, detail_cut: Index) {
        let dir = model::folder();
        write(dir.path(), &events, false);
        let ends = detail_ends(&events);
        let at = |cut: Index, length: usize| 64 + cut.index(length - 63);
        let index_cut = at(index_cut, 64 + 32 * events.len());
        cut(dir.path(), "index.atf", index_cut as u64);
        let mut details = 0;
        if let Some(&end) = ends.last() {
            let detail_cut = at(detail_cut, end);
            cut(dir.path(), "detail.atf", detail_cut as u64);
            details = ends.iter().filter(|&&end| end <= detail_cut).count();
        }
        check_recovery(dir.path(), &model::clamped(&events)[..(index_cut - 64) / 32], details);
    }
}

#[test]
fn a_stack_that_looks_like_a_footer_is_a_stack() {
    let mut footer = vec![0; 64];
    footer[..4].copy_from_slice(b"2DTA");
    footer[8] = 1;
    footer[16..18].copy_from_slice(&124_u16.to_le_bytes());
    let event = Event { time: 1, function: 1, kind: EventKind::Call, depth: 0, detail: Some(footer) };
    let dir = model::folder();
    write(dir.path(), std::slice::from_ref(&event), false);
    check_recovery(dir.path(), &[event], 1);
}

#[test]
fn events_that_look_like_a_footer_are_events() {
    let time = u64::from(u32::from_le_bytes(*b"2ITA"));
    let event = |function| Event { time, function, kind: EventKind::Call, depth: 0, detail: None };
    for count in 0..4 {
        // The function is what would be the footer's count.
        let events = vec![event(count); 4];
        let dir = model::folder();
        write(dir.path(), &events, false);
        check_recovery(dir.path(), &events, 0);
    }
}

#[test]
fn a_session_that_ended_is_left_alone() {
    let dir = model::folder();
    write(dir.path(), &events(), true);
    let mut manifest = Manifest::read(dir.path()).unwrap();
    manifest.session.status = SessionStatus::Complete;
    manifest.write_atomic(dir.path()).unwrap();
    let before = contents(dir.path());
    let report = session::recover(dir.path()).unwrap();
    assert!(report.already_complete);
    assert_eq!(report.threads[0].event_count, 6);
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_session_without_a_manifest_gets_one() {
    let dir = model::folder();
    write(dir.path(), &events(), false);
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    fs::create_dir(dir.path().join("thread_x")).unwrap();
    fs::remove_file(dir.path().join("manifest.json")).unwrap();
    check_recovery(dir.path(), &events(), 5);
    assert_eq!(fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "mine");
}

#[test]
fn a_manifest_that_is_no_json_is_named_after_the_threads_are_safe() {
    let dir = model::folder();
    write(dir.path(), &events(), false);
    fs::write(dir.path().join("manifest.json"), "{").unwrap();
    let error = session::recover(dir.path()).unwrap_err().to_string();
    assert!(error.contains("manifest.json is not a manifest"), "{error}");
    assert!(!ThreadReader::open(&dir.path().join("thread_0")).unwrap().recovered());
}

#[test]
fn a_session_that_is_being_recorded_is_refused_and_readable() {
    let dir = model::folder();
    let lock = session::lock(dir.path()).unwrap();
    Manifest::default().write_atomic(dir.path()).unwrap();
    let mut writer = model::write(&dir.path().join("thread_0"), 1, &events());
    let error = session::recover(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("is still being recorded; stop the recording first"), "{error}");
    assert_eq!(SessionReader::open(dir.path()).unwrap().event_count(), 0);
    writer.flush().unwrap();
    let live = SessionReader::open(dir.path()).unwrap();
    assert_eq!((live.event_count(), live.threads()[0].recovered()), (6, true));
    drop(writer);
    drop(lock);
    check_recovery(dir.path(), &events(), 5);
}
