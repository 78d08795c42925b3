//! Files that end in the middle: the recorder was killed, or a copy is not whole.
//!
//! Invariant: what lies before the cut is shown as if nothing followed, and the cut is told.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use tests::board::Board;
use tests::fixture;
use tests::need;
use tests::process::{Ended, Signal};
use tests::recorder::{Recorder, Trace, ada, exe};
use tests::scratch::Scratch;

const INDEX: &str = "thread_0/index.atf";
const HEADER: u64 = 64;
const EVENT: u64 = 32;

/// Runs a recorder along with a ticker until `calls` calls are made, and what `end` does to it.
fn recorded(scratch: &Scratch, calls: u64, end: impl FnOnce(Recorder, &Board)) {
    let board = Board::new(scratch.path());
    let program = fixture::build("ticker.c", &[]);
    let mut target = fixture::waiting(&program, &[board.path(), "100"], &scratch.join("report"), scratch.path());
    let recorder = Trace::new(scratch, exe(&["tick"])).pid(target.pid());
    target.tell("go");
    board.advance(calls);
    end(recorder, &board);
    board.stop();
    drop(target.end().success());
}

/// A copy of a session whose index is `less` bytes shorter, and how many whole events may be in it.
fn cut(folder: &Path, scratch: &Scratch, less: u64) -> (std::path::PathBuf, usize) {
    let copy = scratch.join("cut");
    drop(fs::remove_dir_all(&copy));
    assert!(Command::new("cp").arg("-r").arg(folder).arg(&copy).status().expect("cp").success());
    let index = File::options().write(true).open(copy.join(INDEX)).expect("an index");
    let length = index.metadata().expect("a length").len() - less;
    index.set_len(length).expect("a cut");
    (copy, usize::try_from((length - HEADER) / EVENT).expect("a number"))
}

fn lines(command: &str, folder: &Path, scratch: &Scratch) -> Ended {
    ada(scratch, [command.as_ref(), folder.as_os_str(), "--format".as_ref(), "jsonl".as_ref()])
}

/// The number of events that `replay` counts.
fn counted(ended: &Ended) -> u64 {
    let last: serde_json::Value = serde_json::from_str(ended.out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["kind"], "accounting");
    last["events"].as_u64().expect("a number")
}

/// Checks what is shown of a session that is `less` bytes shorter, and that each command says `what` with exit status `code`.
fn check(folder: &Path, scratch: &Scratch, less: u64, (code, what): (i32, &str)) {
    let whole = lines("dump", folder, scratch).out;
    let (copy, most) = cut(folder, scratch, less);
    let all = whole.lines().count();
    let expected = most.min(all);
    let dumped = lines("dump", &copy, scratch).code(code);
    assert_eq!(dumped.out.lines().count(), expected, "{less} bytes less");
    assert!(whole.starts_with(&dumped.out));
    let replayed = lines("replay", &copy, scratch).code(code);
    assert_eq!(counted(&replayed), expected as u64, "{less} bytes less");
    let told = what.replace("COUNT", &format!("{expected} of {all}"));
    for ended in [dumped, replayed] {
        assert!(ended.err.contains(&told), "{less} bytes less: {} does not say {told}", ended.err);
    }
}

#[test]
fn what_a_killed_recorder_wrote_is_read_up_to_any_byte() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    recorded(&scratch, 2000, |recorder, _| {
        recorder.process.signal(Signal::KILL);
        let folder = recorder.folder.clone();
        drop(recorder.end().killed_by(Signal::KILL));
        for less in [0, 1, 17, 31, 33, 1001] {
            check(&folder, &scratch, less, (0, "was killed: what it wrote until then is read"));
        }
    });
}

#[test]
fn a_finished_session_that_was_cut_is_read_up_to_there_and_the_cut_is_told() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    recorded(&scratch, 2000, |recorder, board| {
        board.stop();
        let folder = recorder.folder.clone();
        drop(recorder.session().complete());
        for less in [1, 63, 64] {
            let told = "thread_0/index.atf was cut behind its last event: its checksum is gone";
            check(&folder, &scratch, less, (2, told));
        }
        for less in [65, 97, 1001] {
            check(&folder, &scratch, less, (2, "thread_0/index.atf was cut: COUNT events are there"));
        }
    });
}
