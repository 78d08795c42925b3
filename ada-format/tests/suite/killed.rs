//! A recorder that is read while it writes, and is killed: nothing that it has flushed is missing.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ada_format::layout::EventKind;
use ada_format::manifest::Manifest;
use ada_format::read::{SessionReader, ThreadReader};
use ada_format::session::{self, SessionError};
use ada_format::write::{Detail, FunctionDetail, ThreadWriter};

use crate::model;

/// Names the session to record, to a child of this test.
const SESSION: &str = "ADA_TEST_RECORD_SESSION";
/// Tells that child to add detail only later.
const LATE: &str = "ADA_TEST_RECORD_LATE";
/// Events between two flushes.
const BATCH: u64 = 3_000;
/// Batches by which late detail is behind.
const BEHIND: u64 = 4;

/// A recorder that dies with its test.
struct Recorder(Child);

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_was_flushed_outlives_its_recorder() {
    record_and_kill(false);
}

#[test]
fn late_detail_that_was_flushed_outlives_its_recorder() {
    record_and_kill(true);
}

fn record_and_kill(late: bool) {
    let dir = model::folder();
    let mut recorder = start(dir.path(), late);
    let check_session = |dir: &Path, flushed| check_session(dir, if late { behind(flushed) } else { u64::MAX });
    let mut lines = BufReader::new(recorder.0.stdout.take().unwrap()).lines();
    let mut flushed = || {
        let line =
            lines.by_ref().map(|line| line.unwrap()).find_map(|line| line.strip_prefix("flushed ")?.parse().ok());
        line.expect("the recorder goes on")
    };
    let start = Instant::now();
    let mut last: u64 = 0;
    while start.elapsed() < Duration::from_millis(500) {
        last = flushed();
        assert!(check_session(dir.path(), last) >= last);
    }
    assert!(matches!(session::recover(dir.path()), Err(SessionError::Locked { .. })));
    drop(recorder);

    let before = check_session(dir.path(), last);
    assert!(before >= last);
    let report = session::recover(dir.path()).unwrap();
    assert_eq!((report.already_complete, report.threads[0].event_count), (false, before));
    assert_eq!(check_session(dir.path(), last), before);
    assert!(!SessionReader::open(dir.path()).unwrap().threads()[0].recovered());
}

/// How many of the first events have had their late detail flushed, if so many events have.
fn behind(flushed: u64) -> u64 {
    flushed.saturating_sub(BATCH * BEHIND)
}

fn start(dir: &Path, late: bool) -> Recorder {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "killed::child", "--nocapture"]).env(SESSION, dir);
    if late {
        command.env(LATE, "1");
    }
    Recorder(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

/// Checks every event and link, and that the first `detailed` events have what they should; returns how many there are.
fn check_session(dir: &Path, detailed: u64) -> u64 {
    let session = SessionReader::open(dir).unwrap();
    assert!(session.broken().is_empty());
    let thread: &ThreadReader = &session.threads()[0];
    assert!(thread.detail_error().is_none());
    for (position, event) in (0..).zip(thread.index().events()) {
        assert_eq!((event.timestamp_ns.get(), event.function_id.get()), (position, position));
        let detail = thread.detail_of(position).unwrap();
        if position < detailed || position % 10 > 0 {
            assert_eq!(detail.is_some(), position % 10 == 0, "{position} of {}", thread.index().len());
        }
    }
    thread.index().len()
}

/// What the test above runs; nothing by itself.
#[test]
fn child() {
    let Some(dir) = env::var_os(SESSION) else { return };
    let dir = Path::new(&dir);
    let _lock = session::lock(dir).unwrap();
    Manifest::default().write_atomic(dir).unwrap();
    let mut writer = ThreadWriter::create(&session::thread_folder(dir, 0), &model::meta(1)).unwrap();
    let detail = Detail::Function(FunctionDetail { stack: &[1; 77], ..FunctionDetail::default() });
    let late = env::var_os(LATE).is_some();
    for number in 0.. {
        if number % 10 == 0 && !late {
            writer.append_with_detail(number, number, EventKind::Call, 0, &detail).unwrap();
        } else {
            writer.append(number, number, EventKind::Call, 0).unwrap();
        }
        if number % BATCH == BATCH - 1 {
            if late && number >= BATCH * BEHIND {
                add_late(&mut writer, behind(number + 1), &detail);
            }
            writer.flush().unwrap();
            // Without its reader it has no purpose.
            if writeln!(std::io::stdout(), "flushed {}", number + 1).is_err() {
                return;
            }
        }
    }
}

/// Adds the detail of the batch of events that ends at `end`.
fn add_late(writer: &mut ThreadWriter, end: u64, detail: &Detail<'_>) {
    for number in (end - BATCH..end).filter(|number| number % 10 == 0) {
        let position = u32::try_from(number).unwrap();
        writer.add_detail(position, number, number, EventKind::Call, detail).unwrap();
    }
}
