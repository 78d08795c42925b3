//! `--estimate`: counts exactly, tells what dominates, and leaves nothing behind.

use std::process::Command;

use tests::fixture;
use tests::need;
use tests::process::{Ended, Process};
use tests::recorder::{ada, ada_trace};
use tests::scratch::Scratch;

use crate::filters::tids;
use crate::refusals::check_sentence;

/// Estimates the fixture `durations` until it ends, with an hour to do so.
fn estimated(scratch: &Scratch, options: &[&str], act: &[&str]) -> Ended {
    let program = fixture::build("durations.c", &[]);
    let program = program.to_str().expect("UTF-8");
    let what = ["-e", "exe:task", "-e", "exe:quick", "-e", "exe:nest", "--estimate", "1h"];
    ada(scratch, what.iter().chain(options).chain(&["--", program]).chain(act)).success()
}

/// The lines of the table: (share, what the function is called, all of it).
fn rows(text: &str) -> Vec<(String, String)> {
    let table = text.lines().skip_while(|line| !line.contains("CALLS/S")).skip(1).take_while(|line| !line.is_empty());
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().rev().collect();
        let share = line.split_whitespace().zip(line.split_whitespace().skip(1)).find(|(_, next)| *next == "%");
        (share.expect("a share").0.to_owned(), words[1].to_owned())
    };
    table.map(row).collect()
}

#[test]
fn every_call_is_counted() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    // 2000 calls of quick, and 20 of task with two more each.
    let text = estimated(&scratch, &[], &["hot", "2000"]).out;
    assert!(text.starts_with("2 060 calls of 3 functions in "), "{text}");
    assert!(text.contains("; 2 of them called\n"), "{text}");
    let expected = [("99.0", "quick"), ("1.0", "task")].map(|(share, name)| (share.to_owned(), name.to_owned()));
    assert_eq!(rows(&text), expected, "{text}");
    let advice = text.lines().skip_while(|line| !line.starts_with("half of the calls are of 1 function:"));
    let advice: Vec<&str> = advice.collect();
    assert!(advice[1].contains("--exclude") && advice[1].contains(":quick'"), "{text}");
    assert!(advice[2].contains("--max-rate"), "{text}");
    assert!(!scratch.join("ada_traces").exists() && !text.contains("LOST"));
}

#[test]
fn nothing_called() {
    if need::root() {
        let text = estimated(&Scratch::new(), &[], &["down", "0", "1"]).out;
        // quick alone: by down and slow.
        assert!(text.starts_with("4 calls of 3 functions"), "{text}");
        let text = estimated(&Scratch::new(), &["--entry-only"], &["nest", "0"]).out;
        assert!(text.starts_with("0 calls of 3 functions") && text.contains(" 0 events/s"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}

#[test]
fn one_thread_of_a_running_process() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let program = fixture::build("threads.c", &[]);
    let mut target = fixture::waiting(&program, &["3", "50"], &scratch.join("report"), scratch.path());
    let pid = target.pid();
    let tid = tids(pid).into_iter().find(|tid| *tid != pid).expect("a thread").to_string();
    let mut command = Command::new(ada_trace());
    command.args(["-e", "exe:work", "-p", &pid.to_string(), "--tid", &tid, "--estimate", "1h"]);
    let counter = Process::start(&mut command, scratch.path());
    tests::wait::until("ada-trace counts", || counter.err().contains("counting").then_some(()));
    target.tell("go");
    drop(target.end().success());
    let text = counter.end().success().out;
    assert!(text.starts_with("50 calls of 1 function in "), "{text}");
}

#[test]
fn estimates_that_make_no_sense() {
    let scratch = Scratch::new();
    let start = ["-e", "libc:malloc", "--estimate"];
    let told = |more: &[&str]| ada(&scratch, start.iter().chain(more).chain(&["--", "true"])).code(2).err;
    assert!(told(&["soon"]).contains("'soon'"));
    assert!(told(&["-o", "there"]).contains("--output"));
    assert!(told(&["-d", "1s"]).contains("--duration"));
    if need::root() {
        let ended = ada(&scratch, start.iter().chain(&["--", "/no/such/command"]));
        drop(check_sentence(ended, &["/no/such/command"]));
    }
}
