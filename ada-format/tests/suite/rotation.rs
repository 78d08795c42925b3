//! Sessions of which only the newest part is kept: folders that are gone are missed by nobody.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ada_format::layout::EventKind;
use ada_format::manifest::{Manifest, Process, Session, SessionStatus, Thread};
use ada_format::read::{SessionReader, ThreadReader};
use ada_format::session;
use proptest::prelude::*;

use crate::model::{self, Event};

fn event(time: u64, kind: EventKind, depth: u32) -> Event {
    Event { time, function: 7, kind, depth, detail: (time % 2 == 1).then(|| vec![1; 3]) }
}

/// The part of a thread that begins in the middle: with returns from frames whose calls are gone.
fn part(start: u64) -> Vec<Event> {
    use EventKind::{Call, Return};
    vec![event(start, Return, 3), event(start + 1, Return, 2), event(start + 2, Call, 2), event(start + 3, Call, 3)]
}

fn entry(id: u32, tid: u32, continues: Option<u32>) -> Thread {
    Thread { id, pid: 40, tid, name: format!("worker {tid}"), continues, ..Thread::default() }
}

/// Two threads that went on and on, and of which only the newest folders are left; 4 is in the manifest still.
fn write(dir: &Path, finish: bool) {
    for (id, tid, start) in [(5, 41, 100), (9, 42, 103), (12, 41, 110)] {
        let writer = model::write(&session::thread_folder(dir, id), tid, &part(start));
        if finish {
            writer.finish().unwrap();
        }
    }
    let threads = vec![entry(4, 42, Some(2)), entry(5, 41, Some(3)), entry(9, 42, Some(4)), entry(12, 41, Some(5))];
    Manifest { threads, complete_from_ns: Some(103), ..Manifest::default() }.write_atomic(dir).unwrap();
}

fn check(session: &SessionReader) {
    assert!(session.broken().is_empty(), "{:?}", session.broken());
    let ids: Vec<u32> = session.threads().iter().map(ThreadReader::id).collect();
    assert_eq!(ids, [5, 9, 12]);
    assert_eq!((session.event_count(), session.time_range()), (12, Some((100, 113))));
    assert!(session.thread(4).is_none() && session.thread(9).is_some());
    let order: Vec<_> = session.merged().map(|event| (event.event.timestamp_ns.get(), event.thread.id())).collect();
    assert!(order.is_sorted());
    assert_eq!(order.len(), 12);
    for (thread, start) in session.threads().iter().zip([100, 103, 110]) {
        model::check(thread, &part(start), 2);
        thread.verify().unwrap();
        assert_eq!(thread.index().get(0).unwrap().call_depth.get(), 3);
    }
    assert_eq!(session.manifest().complete_from_ns, Some(103));
}

#[test]
fn recovering_finishes_a_deletion_that_the_manifest_counts() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write(dir, false);
    // Of these, neither is in the manifest: one was about to be deleted, the other is younger than it.
    for (id, start) in [(7, 90), (13, 120)] {
        model::write(&session::thread_folder(dir, id), 42, &part(start)).finish().unwrap();
    }
    let report = session::recover(dir).unwrap();
    assert_eq!(report.threads.iter().map(|thread| thread.id).collect::<Vec<_>>(), [5, 9, 12, 13]);
    assert!(!session::thread_folder(dir, 7).exists());
    let listed: Vec<u32> = Manifest::read(dir).unwrap().threads.iter().map(|thread| thread.id).collect();
    assert_eq!(listed, [5, 9, 12, 13]);
    assert!(session::recover(dir).unwrap().already_complete);
}

#[test]
fn what_is_left_reads_like_any_session() {
    for finish in [false, true] {
        let dir = model::folder();
        write(dir.path(), finish);
        check(&SessionReader::open(dir.path()).unwrap());
    }
}

#[test]
fn a_folder_that_is_missing_is_an_error_only_where_none_was_deleted() {
    let dir = model::folder();
    write(dir.path(), true);
    let manifest = Manifest::read(dir.path()).unwrap();
    Manifest { complete_from_ns: None, ..manifest.clone() }.write_atomic(dir.path()).unwrap();
    assert_eq!(SessionReader::open(dir.path()).unwrap().broken()[0].id, 4);
    manifest.write_atomic(dir.path()).unwrap();
    // A folder that is there, but without its index, is broken in any session.
    fs::create_dir(session::thread_folder(dir.path(), 4)).unwrap();
    assert_eq!(SessionReader::open(dir.path()).unwrap().broken()[0].id, 4);
}

#[test]
fn recover_keeps_what_is_left_and_clears_away_what_was_being_deleted() {
    let dir = model::folder();
    write(dir.path(), false);
    // The newest folder is not in the manifest yet, and one was half deleted.
    let mut manifest = Manifest::read(dir.path()).unwrap();
    manifest.threads.pop();
    manifest.process = vec![Process { pid: 1, ..Process::default() }, Process::default()];
    manifest.write_atomic(dir.path()).unwrap();
    fs::create_dir(dir.path().join(".deleted_3")).unwrap();
    fs::write(dir.path().join(".deleted_3/detail.atf"), "rest").unwrap();
    for foreign in [".deleted_x", ".deleted_", ".deleted_03"] {
        fs::create_dir(dir.path().join(foreign)).unwrap();
    }
    check(&SessionReader::open(dir.path()).unwrap());
    let report = session::recover(dir.path()).unwrap();
    let kept: Vec<_> = report.threads.iter().map(|thread| (thread.id, thread.event_count)).collect();
    assert_eq!(kept, [(5, 4), (9, 4), (12, 4)]);
    assert!(report.threads.iter().all(|thread| thread.error.is_none()));

    let session = SessionReader::open(dir.path()).unwrap();
    check(&session);
    let manifest = session.manifest();
    assert_eq!((manifest.event_count, manifest.time_start_ns, manifest.time_end_ns), (12, 100, 113));
    let shown: Vec<_> = manifest.threads.iter().map(|thread| (thread.id, thread.pid, thread.name.as_str())).collect();
    assert_eq!(shown, [(5, 40, "worker 41"), (9, 40, "worker 42"), (12, 40, "worker 41")]);
    assert_eq!(manifest.threads[1].continues, Some(4));
    assert!(!dir.path().join(".deleted_3").exists() && dir.path().join(".deleted_x").exists());
    assert!(dir.path().join(".deleted_").exists() && dir.path().join(".deleted_03").exists());
    assert!(session::recover(dir.path()).unwrap().already_complete);
}

#[test]
fn a_deleted_thread_is_gone_at_once_and_twice_is_fine() {
    let dir = model::folder();
    write(dir.path(), true);
    session::delete_thread(dir.path(), 5).unwrap();
    session::delete_thread(dir.path(), 5).unwrap();
    session::delete_thread(dir.path(), 4).unwrap();
    let session = SessionReader::open(dir.path()).unwrap();
    assert!(session.broken().is_empty());
    assert_eq!(session.event_count(), 8);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_session_is_readable_at_every_moment_of_its_rotation() {
    const ROTATIONS: u32 = 300;
    let dir = model::folder();
    let dir = dir.path();
    let mut manifest =
        Manifest { session: Session { status: SessionStatus::Recording, ..Session::default() }, ..Manifest::default() };
    manifest.write_atomic(dir).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let session = SessionReader::open(dir).unwrap();
                let newest = session.manifest().threads.last().map(|thread| thread.id);
                // A folder that was only just begun has no header yet.
                let broken = session.broken().iter().find(|broken| newest.is_some_and(|newest| broken.id <= newest));
                assert!(broken.is_none(), "{broken:?}");
                session.threads().iter().for_each(|thread| thread.verify().unwrap());
                looks += 1;
            }
            looks
        });
        for id in 0..ROTATIONS {
            let start = 10 * u64::from(id);
            model::write(&session::thread_folder(dir, id), 1, &part(start)).finish().unwrap();
            manifest.threads.push(entry(id, 1, id.checked_sub(1)));
            let deleted = (manifest.threads.len() > 2).then(|| manifest.threads.remove(0));
            if deleted.is_some() {
                manifest.complete_from_ns = Some(start);
            }
            manifest.write_atomic(dir).unwrap();
            deleted.iter().for_each(|thread| session::delete_thread(dir, thread.id).unwrap());
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    let session = SessionReader::open(dir).unwrap();
    assert_eq!((session.event_count(), session.threads()[0].id()), (8, ROTATIONS - 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_folders_may_be_gone(
        parts in prop::collection::vec((model::thread(30), any::<bool>(), any::<bool>()), 1..8),
    ) {
        let dir = model::folder();
        // Nothing is older than that: no folder is on its way to be deleted.
        let mut manifest = Manifest { complete_from_ns: Some(0), ..Manifest::default() };
        let mut left = Vec::new();
        for (id, (events, gone, named)) in (0..).zip(&parts) {
            drop(model::write(&session::thread_folder(dir.path(), id), 1, events));
            if *named {
                manifest.threads.push(entry(id, 1, id.checked_sub(1)));
            }
            if *gone {
                session::delete_thread(dir.path(), id).unwrap();
            } else {
                left.push((id, model::clamped(events)));
            }
        }
        manifest.write_atomic(dir.path()).unwrap();
        for recovered in [false, true] {
            let session = SessionReader::open(dir.path()).unwrap();
            prop_assert!(session.broken().is_empty());
            prop_assert_eq!(session.threads().len(), left.len());
            let all: usize = left.iter().map(|(_, events)| events.len()).sum();
            prop_assert_eq!(session.merged().count(), all);
            for (thread, (id, events)) in session.threads().iter().zip(&left) {
                prop_assert_eq!((thread.id(), thread.recovered()), (*id, !recovered));
                model::check(thread, events, usize::MAX);
                thread.verify().unwrap();
            }
            if recovered {
                let ids: std::collections::BTreeSet<u32> = session.manifest().threads.iter().map(|entry| entry.id).collect();
                prop_assert!(ids.into_iter().eq(left.iter().map(|(id, _)| *id)));
                prop_assert_eq!(session.manifest().event_count, all as u64);
            } else {
                prop_assert!(!session::recover(dir.path()).unwrap().already_complete);
            }
        }
    }
}
