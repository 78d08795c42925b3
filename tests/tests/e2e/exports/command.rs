//! The command: what it refuses, replaces, and leaves behind.
//!
//! Invariant: after a failure there is what was there before.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::need;
use tests::process::{Process, Signal, run};
use tests::recorder::{ada, ada_trace};
use tests::scratch::Scratch;
use tests::wait;

use super::session::{Faults, write};

fn session(scratch: &Scratch, events: u64) -> String {
    let session = scratch.join("session");
    write(&session, 2, events, Faults::Many);
    session.to_str().expect("UTF-8").to_owned()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a folder").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // What the processes of the test have said.
    names.retain(|name| !name.starts_with("process-"));
    names.sort();
    names
}

#[test]
fn a_target_that_exists_is_refused_unless_forced() {
    let scratch = Scratch::new();
    let session = session(&scratch, 100);
    for (format, target) in [("csv", "out.csv"), ("ctf", "out.ctf")] {
        let target = scratch.join(target);
        let line = ["export", &session, "--as", format, "-o", target.to_str().unwrap()];
        drop(ada(&scratch, line).success());
        let refused = ada(&scratch, line);
        assert_eq!(refused.status.code(), Some(2));
        assert_eq!(refused.err, format!("ada-trace: {} exists: --force replaces it\n", target.display()));
        drop(ada(&scratch, line.iter().chain(&["--force"])).success());
    }
    assert_eq!(names(scratch.path()), ["out.csv", "out.ctf", "session"]);
}

#[test]
fn a_folder_with_something_else_in_it_is_never_replaced() {
    let scratch = Scratch::new();
    let session = session(&scratch, 100);
    let target = scratch.join("mine");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("letter.txt"), "dear").unwrap();
    let line = ["export", &session, "--as", "ctf", "--force", "-o", target.to_str().unwrap()];
    let refused = ada(&scratch, line);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.err.contains("holds letter.txt"), "{}", refused.err);
    assert_eq!(names(&target), ["letter.txt"]);
}

#[test]
fn a_full_disk_is_one_sentence_and_leaves_nothing() {
    let scratch = Scratch::new();
    let session = session(&scratch, 20_000);
    for format in ["perfetto", "chrome", "ctf", "atf4"] {
        let target = scratch.join("full");
        // The shell's limit of 64 blocks stands for a full disk; its signal is ignored, so that writing fails.
        let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
        let mut command = Command::new("bash");
        command.args(["-c", script]).arg(ada_trace()).args(["export", &session, "--as", format, "-o"]).arg(&target);
        let ended = run(&mut command, scratch.path());
        assert_eq!(ended.status.code(), Some(2), "{format}: {}", ended.err);
        assert!(ended.err.starts_with("ada-trace: cannot write ") && ended.err.contains("is removed"), "{}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
        assert_eq!(names(scratch.path()), ["session"]);
    }
    // Whatever has room for nothing says so itself.
    let ended = ada(&scratch, ["export", &session, "--as", "csv", "--force", "-o", "/dev/full"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.err.contains("No space left on device"), "{}", ended.err);
}

/// Ends a command that writes below the scratch folder once `begun` holds, and returns what is there then.
fn interrupted(scratch: &Scratch, line: &[&str], signal: Signal, begun: impl Fn() -> bool) -> Vec<String> {
    let mut command = Command::new(ada_trace());
    let process = Process::start(command.args(line), scratch.path());
    wait::until("something is written", || begun().then_some(()));
    // So that it cannot end before the signal comes.
    process.signal(Signal::STOP);
    process.signal(signal);
    process.signal(Signal::CONT);
    let ended = process.end();
    assert_eq!(ended.status.code(), Some(128 + signal.as_raw()), "{line:?}: {}", ended.err);
    assert!(ended.err.starts_with("ada-trace: interrupted; what was written of "), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    names(scratch.path())
}

#[test]
fn what_a_signal_interrupts_is_removed() {
    let _alone = need::the_machine();
    let scratch = Scratch::new();
    let session = session(&scratch, 1_500_000);
    for (format, signal) in [("jsonl", Signal::INT), ("ctf", Signal::TERM), ("atf4", Signal::HUP)] {
        let target = scratch.join("out");
        fs::write(&target, "before").unwrap();
        if ["ctf", "atf4"].contains(&format) {
            fs::remove_file(&target).unwrap();
            fs::create_dir(&target).unwrap();
        }
        let line = ["export", &session, "--as", format, "--force", "-o", target.to_str().unwrap()];
        let is_partial = |name: &String| name.ends_with(".partial");
        let begun = || names(scratch.path()).iter().any(is_partial);
        assert_eq!(interrupted(&scratch, &line, signal, begun), ["out", "session"], "{format}");
        if target.is_dir() {
            fs::remove_dir(&target).unwrap();
        } else {
            assert_eq!(fs::read_to_string(&target).unwrap(), "before");
        }
    }
}

#[test]
fn a_merge_that_a_signal_interrupts_is_removed() {
    let _alone = need::the_machine();
    let scratch = Scratch::new();
    let (first, second) = (session(&scratch, 1000), scratch.join("second"));
    write(&second, 1, 6_000_000, Faults::None);
    let manifest = fs::read_to_string(second.join("manifest.json")).unwrap();
    fs::write(second.join("manifest.json"), manifest.replace("\"exported\"", "\"another\"")).unwrap();
    for is_there in [false, true] {
        let target = scratch.join("merged");
        if is_there {
            fs::create_dir(&target).unwrap();
        }
        let line = ["merge", &first, second.to_str().unwrap(), "-o", target.to_str().unwrap()];
        let begun = || target.join("thread_2").exists();
        let left = interrupted(&scratch, &line, Signal::INT, begun);
        assert_eq!(left.contains(&"merged".to_owned()), is_there);
        assert!(!is_there || names(&target).is_empty());
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let scratch = Scratch::new();
    let session = session(&scratch, 100_000);
    for format in ["perfetto", "jsonl"] {
        let mut command = Command::new(ada_trace());
        command.args(["export", &session, "--as", format, "-o", "-"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("started");
        drop(child.stdout.take());
        assert!(child.wait().expect("its end").success(), "{format}");
    }
}

#[test]
fn what_cannot_be_is_said_in_a_sentence() {
    let scratch = Scratch::new();
    let session = session(&scratch, 100);
    let table: [(&[&str], &str); 4] = [
        (&["--as", "ctf", "-o", "-"], "ctf is a folder of several files: name one with -o"),
        (&["--as", "flamegraph", "--weight", "total"], "a flame graph adds up weights: choose calls or self"),
        (&["-F", "parze"], "no function of this session is called 'parze'"),
        (&["-o", "/nowhere/at/all"], "cannot write /nowhere/at/all"),
    ];
    for (options, want) in table {
        let ended = ada(&scratch, ["export", &session].iter().chain(options));
        assert_eq!(ended.status.code(), Some(2), "{options:?}");
        assert!(ended.err.contains(want) && ended.err.lines().count() == 1, "{}", ended.err);
    }
}

#[test]
fn a_broken_thread_is_named_and_the_others_exported() {
    let scratch = Scratch::new();
    let session = session(&scratch, 1000);
    fs::write(Path::new(&session).join("thread_0/index.atf"), "broken").unwrap();
    let target = scratch.join("out.jsonl");
    let ended = ada(&scratch, ["export", &session, "--as", "jsonl", "-o", target.to_str().unwrap()]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.err.contains("thread_0"), "{}", ended.err);
    assert!(fs::read_to_string(target).unwrap().lines().count() > 300);
}
