//! Files that somebody cuts while they are mapped: errors, and no SIGBUS. What SIGBUS is otherwise for stays as it was.
//!
//! Invariant: each scene plays in a process of its own, for it would end that.

use std::env;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use ada_format::layout::EventKind;
use ada_format::manifest::Manifest;
use ada_format::read::{ReadError, SessionReader};
use ada_format::session;
use ada_format::write::{Detail, FunctionDetail, ThreadWriter};

use crate::model;

const SCENE: &str = "ADA_TEST_CUT_SCENE";
const EVENTS: u64 = 20_000;
const SIGBUS: i32 = 7;

/// How a process ended that played a scene: by a signal, or with a status.
fn played(scene: &str) -> (Option<i32>, Option<i32>) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "cut::child", "--nocapture"]).env(SCENE, scene);
    let output = command.stdin(Stdio::null()).output().unwrap();
    if output.status.code() != Some(0) {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    (output.status.signal(), output.status.code())
}

#[test]
fn an_index_that_is_cut_is_an_error() {
    assert_eq!(played("index"), (None, Some(0)));
}

#[test]
fn a_detail_file_that_is_cut_is_an_error() {
    assert_eq!(played("detail"), (None, Some(0)));
}

#[test]
fn threads_that_read_the_same_cut_file_all_see_it() {
    assert_eq!(played("threads"), (None, Some(0)));
}

#[test]
fn another_mapping_that_is_cut_ends_the_process() {
    assert_eq!(played("foreign"), (Some(SIGBUS), None));
}

#[test]
fn a_file_that_is_closed_is_foreign() {
    assert_eq!(played("closed"), (Some(SIGBUS), None));
}

#[test]
fn a_signal_that_is_sent_ends_the_process() {
    assert_eq!(played("sent"), (Some(SIGBUS), None));
}

#[test]
fn an_earlier_handler_gets_what_is_not_ours() {
    assert_eq!(played("earlier"), (None, Some(42)));
}

/// What the tests above run; nothing by itself.
#[test]
fn child() {
    let Ok(scene) = env::var(SCENE) else { return };
    let temp = model::folder();
    match scene.as_str() {
        "earlier" => handle(exit_with_42 as extern "C" fn(libc::c_int) as libc::sighandler_t),
        // Rust's own handler lets the first one that is sent pass.
        "sent" => handle(libc::SIG_DFL),
        _ => {}
    }
    let session = recorded(temp.path());
    match scene.as_str() {
        "index" => index(&session),
        "detail" => detail(&session),
        "threads" => threads(&session),
        "closed" => {
            drop(session);
            foreign(temp.path());
        }
        "foreign" => foreign(temp.path()),
        "sent" | "earlier" => send(&scene),
        other => panic!("{other}"),
    }
}

fn recorded(dir: &Path) -> SessionReader {
    let mut writer = ThreadWriter::create(&session::thread_folder(dir, 0), &model::meta(1)).unwrap();
    let detail = Detail::Function(FunctionDetail { stack: &[1; 77], ..FunctionDetail::default() });
    for number in 0..EVENTS {
        writer.append_with_detail(number + 1, number, EventKind::Call, 0, &detail).unwrap();
    }
    writer.finish().unwrap();
    Manifest::default().write_atomic(dir).unwrap();
    let session = SessionReader::open(dir).unwrap();
    assert!(session.threads()[0].verify().is_ok() && session.cut().next().is_none());
    session
}

fn cut(session: &SessionReader, file: &str, length: u64) {
    let path = session.threads()[0].folder().join(file);
    File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Checks that it names the file.
fn check(error: &ReadError, file: &str) {
    assert!(matches!(error, ReadError::Truncated { path } if path.ends_with(file)), "{error}");
}

fn index(session: &SessionReader) {
    let thread = &session.threads()[0];
    let mut whole = 0;
    for (number, merged) in (0..).zip(session.merged()) {
        if number == 100 {
            cut(session, "index.atf", 64 * 1024);
        }
        if merged.thread.intact().is_err() {
            break;
        }
        assert_eq!(merged.event.timestamp_ns.get(), number + 1);
        whole = number + 1;
    }
    // The cursor reads an event ahead; what is behind the cut is not in whole pages.
    assert!((64 * 1024 / 32 - 4..=EVENTS).contains(&whole), "{whole}");
    check(&thread.intact().unwrap_err(), "index.atf");
    check(&thread.index().verify().unwrap_err(), "index.atf");
    check(&thread.detail_of(EVENTS - 1).err().unwrap_or_else(|| thread.intact().unwrap_err()), "index.atf");
    assert!(thread.detail().unwrap().intact().is_ok());
    check(&session.cut().next().unwrap(), "index.atf");
    // The file anew is a short one, whatever became of the mapping.
    let again = SessionReader::open(session.dir()).unwrap();
    assert_eq!(again.event_count(), 64 * 1024 / 32 - 2);
    assert!(again.cut().next().is_none());
}

fn detail(session: &SessionReader) {
    let thread = &session.threads()[0];
    assert!(thread.detail_of(5).unwrap().is_some());
    cut(session, "detail.atf", 100_000);
    let error = (0..EVENTS).find_map(|position| thread.detail_of(position).err());
    check(&error.unwrap(), "detail.atf");
    check(&thread.detail().unwrap().verify().unwrap_err(), "detail.atf");
    assert!(thread.index().verify().is_ok());
}

fn threads(session: &SessionReader) {
    let thread = &session.threads()[0];
    cut(session, "index.atf", 0);
    std::thread::scope(|scope| {
        let read = || {
            let events = thread.index().events();
            let first = events.iter().rev().find(|event| event.timestamp_ns.get() == 0);
            assert!(first.is_none() || thread.intact().is_err());
        };
        (0..8).for_each(|_| {
            scope.spawn(read);
        });
    });
    check(&thread.intact().unwrap_err(), "index.atf");
}

/// Reads a mapping that is none of the readers', of a file that is cut.
fn foreign(dir: &Path) {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(dir.join("other")).unwrap();
    file.set_len(1 << 20).unwrap();
    // SAFETY: none; that is the test.
    #[expect(unsafe_code, reason = "there is no safe way to map a file")]
    let map = unsafe { memmap2::Mmap::map(&file).unwrap() };
    file.set_len(0).unwrap();
    let sum: u64 = map.iter().map(|byte| u64::from(*byte)).sum();
    panic!("read {sum}");
}

/// Sends SIGBUS to this process.
fn send(scene: &str) {
    // SAFETY: no memory is involved.
    #[expect(unsafe_code, reason = "libc has no safe raise")]
    unsafe {
        libc::raise(libc::SIGBUS);
    }
    panic!("{scene} went on");
}

extern "C" fn exit_with_42(_signal: libc::c_int) {
    // SAFETY: may be called in a handler.
    #[expect(unsafe_code, reason = "that is what it is")]
    unsafe {
        libc::_exit(42);
    }
}

fn handle(handler: libc::sighandler_t) {
    // SAFETY: the handlers are the default and one that does nothing but to exit.
    #[expect(unsafe_code, reason = "libc has no safe signal")]
    unsafe {
        libc::signal(libc::SIGBUS, handler);
    }
}
