//! Writing to a disk that is full and to a file that may not grow, for real.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ada_format::layout::EventKind;
use ada_format::read::ThreadReader;
use ada_format::write::{Detail, FunctionDetail, ThreadWriter, WriteError};

use crate::model;

/// Names the folder to fill, to a child of this test.
const FOLDER: &str = "ADA_TEST_FILL_FOLDER";

/// Appends until it fails, flushing now and then; checks that nothing is lost that was called safe.
fn fill(folder: &Path, every: u64) -> (u64, String) {
    let mut writer = ThreadWriter::create(folder, &model::meta(1)).unwrap();
    let mut flushed = 0;
    let error = loop {
        match append(&mut writer, every) {
            Ok(count) if count % 1_000 == 0 => match writer.flush() {
                Ok(()) => flushed = count,
                Err(error) => break error,
            },
            Ok(_) => {}
            Err(error) => break error,
        }
        assert!(writer.event_count() < 10_000_000, "this was to fail");
    };
    let safe = error.safe_events().expect("a write error");
    assert!(safe >= flushed && safe > 0, "{safe} of {flushed}");
    check(folder, safe);
    assert!(matches!(append(&mut writer, every), Err(WriteError::Stopped { .. })));
    let summary = writer.finish();
    check(folder, safe);
    if let Ok(summary) = summary {
        assert_eq!(summary.event_count, safe);
    }
    (safe, error.to_string())
}

/// Appends an event; one of `every` has detail.
fn append(writer: &mut ThreadWriter, every: u64) -> Result<u64, WriteError> {
    let number = writer.event_count();
    if number.is_multiple_of(every) {
        let detail = Detail::Function(FunctionDetail { stack: &[9; 200], ..FunctionDetail::default() });
        writer.append_with_detail(number, number, EventKind::Call, 0, &detail)?;
    } else {
        writer.append(number, number, EventKind::Call, 0)?;
    }
    Ok(number + 1)
}

fn check(folder: &Path, events: u64) {
    let thread = ThreadReader::open(folder).unwrap();
    assert_eq!(thread.index().len(), events);
    thread.verify().unwrap();
    for (position, event) in (0..).zip(thread.index().events()) {
        assert_eq!((event.timestamp_ns.get(), event.function_id.get()), (position, position));
        assert_eq!(thread.detail_of(position).unwrap().is_some(), event.detail().is_some());
    }
}

/// A file system of its own, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn tmpfs(path: &Path, size: &str) -> Option<Tmpfs> {
    let options = format!("size={size}");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(path).output();
    mounted.is_ok_and(|output| output.status.success()).then(|| Tmpfs(path.to_owned()))
}

#[test]
fn a_disk_without_room() {
    for (every, size) in [(u64::MAX, "256k"), (10, "512k"), (1, "300k"), (3, "1m")] {
        let dir = tempfile::tempdir().unwrap();
        let Some(disk) = tmpfs(dir.path(), size) else {
            assert!(env::var_os("ADA_REQUIRE_ROOT").is_none(), "ADA_REQUIRE_ROOT is set, but mount(8) fails");
            println!("skipped: needs root, to mount a small tmpfs");
            return;
        };
        let (_, error) = fill(&dir.path().join("thread_0"), every);
        assert!(error.contains("No space left on device"), "{error}");
        drop(disk);
    }
}

#[test]
fn a_file_that_may_not_grow() {
    for (blocks, folder) in [(1, "one"), (300, "more"), (1_001, "odd")] {
        let dir = model::folder();
        // SIGXFSZ is ignored, as a recorder must: what is left is EFBIG.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact disk_full::child --nocapture");
        let child = Command::new("sh")
            .arg("-c")
            .arg(script)
            .arg(env::current_exe().unwrap())
            .env(FOLDER, dir.path().join(folder))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{text}{}", String::from_utf8_lossy(&child.stderr));
        assert!(text.contains("File too large"), "{text}");
        assert!(fs::metadata(dir.path().join(folder).join("index.atf")).unwrap().len() <= blocks * 1024);
    }
}

/// What `a_file_that_may_not_grow` runs; nothing by itself.
#[test]
fn child() {
    if let Some(folder) = env::var_os(FOLDER) {
        let (safe, error) = fill(Path::new(&folder), 7);
        println!("{safe} safe: {error}");
    }
}
