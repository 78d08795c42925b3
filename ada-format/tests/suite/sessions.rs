//! Session folders: creating, locking, listing, and reading what is half there.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ada_format::layout::EventKind;
use ada_format::manifest::{Manifest, Session, SessionStatus, Thread};
use ada_format::read::{ReadError, SessionReader, ThreadReader};
use ada_format::session::{self, SessionError};

use crate::model::{self, Event};

fn event(time: u64) -> Event {
    Event { time, function: 1, kind: EventKind::Call, depth: 0, detail: None }
}

#[test]
fn a_new_session_needs_an_empty_folder() {
    let dir = model::folder();
    session::create(dir.path()).unwrap();
    session::create(&dir.path().join("a/b")).unwrap();
    let error = session::create(dir.path()).unwrap_err();
    assert!(matches!(&error, SessionError::NotEmpty { found, .. } if found == "a"), "{error}");
    assert!(error.to_string().contains("is not empty"), "{error}");
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(matches!(session::create(&dir.path().join("file")), Err(SessionError::Io { .. })));
}

#[test]
fn only_one_may_hold_the_lock() {
    let dir = model::folder();
    let lock = session::lock(dir.path()).unwrap();
    assert!(matches!(session::lock(dir.path()), Err(SessionError::Locked { .. })));
    drop(lock);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    drop(session::lock(dir.path()).unwrap());
    assert!(matches!(session::lock(&dir.path().join("none")), Err(SessionError::Io { .. })));
}

#[test]
fn a_lock_that_is_taken_and_released_all_the_time_is_never_held_twice() {
    let dir = model::folder();
    let held = AtomicBool::new(false);
    let taken = AtomicU32::new(0);
    let take_often = || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(200) {
            if let Ok(lock) = session::lock(dir.path()) {
                assert!(!held.swap(true, Ordering::SeqCst), "held twice");
                taken.fetch_add(1, Ordering::Relaxed);
                held.store(false, Ordering::SeqCst);
                drop(lock);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(take_often);
        }
    });
    assert!(taken.into_inner() > 10);
}

#[test]
fn a_list_shows_every_session_once() {
    let dir = model::folder();
    let put = |name: &str, status, started_at: &str| {
        let path = dir.path().join(name);
        session::create(&path).unwrap();
        let session = Session { status, started_at: started_at.into(), ..Session::default() };
        Manifest { session, ..Manifest::default() }.write_atomic(&path).unwrap();
    };
    put("session_b/pid_1", SessionStatus::Complete, "2026-01-02T00:00:00Z");
    put("session_a/pid_2", SessionStatus::Recording, "2026-01-03T00:00:00Z");
    put("named", SessionStatus::Recovered, "2026-01-01T00:00:00Z");
    session::create(&dir.path().join("broken")).unwrap();
    fs::write(dir.path().join("broken/manifest.json"), "?").unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
    let found = session::list(dir.path()).unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|entry| (entry.path.strip_prefix(dir.path()).unwrap().to_str().unwrap(), entry.status()))
        .collect();
    let expected = [
        ("broken", None),
        ("named", Some(SessionStatus::Recovered)),
        ("session_b/pid_1", Some(SessionStatus::Complete)),
        ("session_a/pid_2", Some(SessionStatus::Recording)),
    ];
    assert_eq!(shown, expected);
    assert_eq!(session::list(&dir.path().join("named")).unwrap().len(), 1);
    assert!(session::list(&dir.path().join("none")).is_err());
}

#[test]
fn a_broken_thread_hides_no_other() {
    let dir = model::folder();
    let threads = (0..4).map(|id| Thread { id, ..Thread::default() }).collect();
    Manifest { threads, ..Manifest::default() }.write_atomic(dir.path()).unwrap();
    for id in [0, 1, 3, 10] {
        model::write(&session::thread_folder(dir.path(), id), 100 + id, &[event(5)]).finish().unwrap();
    }
    fs::write(dir.path().join("thread_1/index.atf"), "ATI1 is something else, and long enough for a header of 64")
        .unwrap();
    fs::write(dir.path().join("thread_3/detail.atf"), [0; 64]).unwrap();
    for foreign in ["thread_", "thread_01", "thread_x", "thread_-1", "thread_99999999999"] {
        fs::create_dir(dir.path().join(foreign)).unwrap();
    }
    let session = SessionReader::open(dir.path()).unwrap();
    let ids: Vec<u32> = session.threads().iter().map(ThreadReader::id).collect();
    assert_eq!(ids, [0, 3, 10]);
    assert_eq!(session.thread(10).unwrap().tid(), 110);
    assert!(session.thread(1).is_none());
    let broken: Vec<_> = session.broken().iter().map(|broken| (broken.id, broken.error.to_string())).collect();
    assert!(broken[0].1.ends_with("thread_1/index.atf ends at byte 58, within its header of 64 bytes"), "{broken:?}");
    assert!(broken[1].1.contains("thread_2/index.atf: No such file"), "{broken:?}");
    assert_eq!((broken[0].0, broken[1].0, broken.len()), (1, 2, 2));
    let detail_error = session.thread(3).unwrap().detail_error().unwrap().to_string();
    assert!(detail_error.ends_with(r#"at byte 0: found "\\x00\\x00\\x00\\x00", expected "ATD2""#), "{detail_error}");
}

#[test]
fn a_session_needs_a_manifest() {
    let dir = model::folder();
    let error = SessionReader::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("manifest.json: No such file"), "{error}");
    fs::write(dir.path().join("manifest.json"), "not JSON").unwrap();
    let error = SessionReader::open(dir.path()).unwrap_err();
    assert!(matches!(error, ReadError::Manifest(_)), "{error}");
    assert!(error.to_string().contains("manifest.json is not a manifest"), "{error}");
}

#[test]
fn thousands_of_threads_can_be_written_and_open() {
    let dir = model::folder();
    Manifest::default().write_atomic(dir.path()).unwrap();
    for id in 0..3_000 {
        model::write(&session::thread_folder(dir.path(), id), id, &[event(id.into())]).finish().unwrap();
    }
    let session = SessionReader::open(dir.path()).unwrap();
    assert_eq!((session.threads().len(), session.event_count()), (3_000, 3_000));
    assert_eq!(session.merged().count(), 3_000);
}
