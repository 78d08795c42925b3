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
    let dir = model::folder();
    let mut recorder = start(dir.path());
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
        assert!(check_session(dir.path()) >= last);
    }
    assert!(matches!(session::recover(dir.path()), Err(SessionError::Locked { .. })));
    drop(recorder);

    let before = check_session(dir.path());
    assert!(before >= last);
    let report = session::recover(dir.path()).unwrap();
    assert_eq!((report.already_complete, report.threads[0].event_count), (false, before));
    assert_eq!(check_session(dir.path()), before);
    assert!(!SessionReader::open(dir.path()).unwrap().threads()[0].recovered());
}

fn start(dir: &Path) -> Recorder {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "killed::child", "--nocapture"]).env(SESSION, dir);
    Recorder(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

/// Checks every event and link; returns how many events there are.
fn check_session(dir: &Path) -> u64 {
    let session = SessionReader::open(dir).unwrap();
    assert!(session.broken().is_empty());
    let thread: &ThreadReader = &session.threads()[0];
    assert!(thread.detail_error().is_none());
    for (position, event) in (0..).zip(thread.index().events()) {
        assert_eq!((event.timestamp_ns.get(), event.function_id.get()), (position, position));
        let detail = thread.detail_of(position).unwrap();
        assert_eq!(detail.is_some(), position % 10 == 0, "{position} of {}", thread.index().len());
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
    for number in 0.. {
        if number % 10 == 0 {
            writer.append_with_detail(number, number, EventKind::Call, 0, &detail).unwrap();
        } else {
            writer.append(number, number, EventKind::Call, 0).unwrap();
        }
        if number % 3_000 == 2_999 {
            writer.flush().unwrap();
            // Without its reader it has no purpose.
            if writeln!(std::io::stdout(), "flushed {}", number + 1).is_err() {
                return;
            }
        }
    }
}
