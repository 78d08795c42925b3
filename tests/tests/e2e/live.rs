//! Recordings that are watched while they go on: `follow`, `top`.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tests::fixture;
use tests::need;
use tests::process::{Process, Stray, child_of};
use tests::recorder::{Trace, ada, ada_trace, exe};
use tests::scratch::Scratch;
use tests::wait;

const THREADS: usize = 2;
const CALLS: usize = 50;

fn follow(folder: &std::path::Path, options: &[&str], scratch: &Scratch) -> Process {
    Process::start(Command::new(ada_trace()).arg("follow").arg(folder).args(options), scratch.path())
}

#[test]
fn calls_are_shown_before_the_recording_ends() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let program = fixture::build("threads.c", &[]);
    let arguments = [THREADS.to_string(), CALLS.to_string()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut target = fixture::waiting(&program, &arguments, &scratch.join("report"), scratch.path());
    let recorder = Trace::new(&scratch, exe(&["work"])).pid(target.pid());
    let mut text = follow(&recorder.folder, &[], &scratch);
    let lines = follow(&recorder.folder, &["--format", "jsonl", "--from", "@0"], &scratch);
    wait::until("follow has begun", || text.out().contains("TID   CALL").then_some(()));
    target.tell("go");
    target.said("end");
    let shown = |process: &Process, what: &str| process.out().matches(what).count() >= THREADS * CALLS;
    wait::until("all calls are shown", || shown(&text, "work();").then_some(()));
    wait::until("all calls are shown as JSON", || shown(&lines, "\"leaf\"").then_some(()));
    assert!(text.running(), "{}", text.err());
    target.tell("go");
    drop(target.end().success());
    let folder = recorder.folder.clone();
    drop(recorder.end().success());
    let text = text.end().success();
    assert_eq!(text.out.matches("work();").count(), THREADS * CALLS, "{}", text.out);
    let mut rows = text.out.lines();
    let tid_ends = rows.next().and_then(|head| head.find("TID")).expect("a head") + "TID".len();
    assert!(rows.all(|row| row.find(']') == Some(tid_ends)), "{}", text.out);
    let lines = lines.end().success();
    let last = lines.out.lines().last().expect("a line");
    let last: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert_eq!((&last["kind"], &last["spans"]), (&"accounting".into(), &(THREADS * CALLS).into()));
    // It is finished now.
    let refused = ada(&scratch, ["follow", folder.to_str().expect("UTF-8")]).code(2);
    assert!(refused.err.contains("is finished: `ada-trace replay"), "{}", refused.err);
}

/// What `middle` was given, in lines of `replay` or `follow`.
fn given(lines: &str) -> Vec<u64> {
    let object = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    let begun = |line: &serde_json::Value| ["enter", "leaf"].contains(&line["kind"].as_str().expect("a kind"));
    let calls = lines.lines().map(object).filter(begun);
    calls.map(|line| line["args"]["leaves"].as_u64().unwrap_or_else(|| panic!("nothing given: {line}"))).collect()
}

#[test]
fn arguments_are_shown_as_replay_shows_them() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let program = fixture::build("nested.c", &["-g"]);
    let mut target = fixture::waiting(&program, &[], &scratch.join("report"), scratch.path());
    let recorder = Trace::new(&scratch, exe(&["middle"])).arg("--args").pid(target.pid());
    let text = follow(&recorder.folder, &["--from", "@0"], &scratch);
    let lines = follow(&recorder.folder, &["--from", "@0", "--format", "jsonl"], &scratch);
    target.tell("go");
    drop(target.end().success());
    let folder = recorder.folder.clone();
    drop(recorder.end().success());
    let (text, lines) = (text.end().success(), lines.end().success());
    for leaves in [0, 2] {
        assert_eq!(text.out.matches(&format!("middle(leaves={leaves})")).count(), 2, "{}", text.out);
    }
    let replayed = ada(&scratch, ["replay", folder.to_str().expect("UTF-8"), "--format", "jsonl"]).success();
    assert_eq!(given(&lines.out), given(&replayed.out));
    assert_eq!(given(&lines.out), [2, 0, 2, 0]);
}

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ada-format/tests/golden/v2_1");
/// How a terminal leaves the screen that is another program's.
const LEAVE: &str = "\x1b[?1049l";

/// `top` in a terminal of its own.
fn top(scratch: &Scratch) -> (Child, std::path::PathBuf) {
    let out = scratch.join("screen");
    let mut script = Command::new("script");
    script.args(["-qefc"]).arg(format!("stty rows 24 cols 100; exec {} top {GOLDEN}", ada_trace().display())).arg(&out);
    let child = script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("script");
    (child, out)
}

fn screen(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

#[test]
fn top_gives_the_terminal_back() {
    if !need::program("script") {
        return;
    }
    for quit in [&b"q"[..], b"\x1b", b"\x03"] {
        let scratch = Scratch::new();
        let (mut child, out) = top(&scratch);
        wait::until("top has drawn", || screen(&out).contains("malloc").then_some(()));
        let text = screen(&out);
        assert!(text.contains("3 events lost") && text.contains("finished") && !text.contains(LEAVE), "{text}");
        child.stdin.as_mut().expect("stdin").write_all(quit).expect("a key");
        assert!(child.wait().expect("script").success());
        assert!(screen(&out).contains(LEAVE));
    }
}

#[test]
fn top_gives_the_terminal_back_after_a_signal() {
    if !need::program("script") {
        return;
    }
    let scratch = Scratch::new();
    let (mut child, out) = top(&scratch);
    wait::until("top has drawn", || screen(&out).contains("malloc").then_some(()));
    let top = Stray::new(child_of(child.id()));
    top.signal(Signal::TERM);
    child.wait().expect("script");
    assert!(screen(&out).contains(LEAVE));
}

#[test]
fn top_without_a_terminal_says_so() {
    let refused = ada(&Scratch::new(), ["top", GOLDEN]).code(2);
    assert!(refused.err.contains("needs a terminal"), "{}", refused.err);
}
