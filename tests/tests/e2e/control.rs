//! Steering a recording: `ada-trace mark`, `ada-trace control`, SIGUSR1; and who may.

use std::path::Path;
use std::process::Command;

use tests::process::{Ended, Process, Signal, run};
use tests::recorder::{Recorder, Trace, ada, ada_trace, exe};
use tests::scratch::Scratch;
use tests::session::{Json, Session, number};
use tests::{fixture, need, wait, windows};

use crate::refusals::check_sentence;

/// A target that has made a hundred calls of quick() and waits, and its recorder.
struct Steered {
    scratch: Scratch,
    target: Process,
    recorder: Recorder,
}

impl Steered {
    fn start(options: &[&str], rest: &[&str]) -> Self {
        let scratch = Scratch::new();
        let script = [&["quick:100", "wait"], rest].concat();
        let program = fixture::build("moments.c", &[]);
        let mut target = fixture::waiting(&program, &script, &scratch.join("report"), scratch.path());
        let recorder = Trace::new(&scratch, exe(&["quick", "slow", "fire"])).args(options).pid(target.pid());
        target.tell("go");
        target.said("waits");
        let steered = Self { scratch, target, recorder };
        let events = || number(&steered.asked(&["status"]), "events");
        wait::until("all calls are recorded", || (events() == 200).then_some(()));
        steered
    }

    fn control(&self, words: &[&str]) -> Ended {
        let session = self.recorder.folder.to_str().expect("UTF-8");
        ada(&self.scratch, ["control", session].iter().chain(words))
    }

    /// The recorder's answer.
    fn asked(&self, words: &[&str]) -> Json {
        let out = self.control(&[words, &["--format", "jsonl"]].concat()).success().out;
        assert_eq!(out.lines().count(), 1, "{out}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// The target does the rest; the session as it is in the end.
    fn end(mut self) -> Session {
        self.target.tell("go on");
        drop(self.target.end().success());
        let socket = self.recorder.folder.join("control.sock");
        let session = self.recorder.session().complete();
        assert!(!socket.exists(), "the socket is gone");
        drop(windows::check(&session.folder, &session.manifest));
        session
    }
}

/// A flight recorder without any trigger, which keeps nothing by itself.
const QUIET: [&str; 5] = ["--detail", "--pre-roll", "10", "--post-roll", "2"];

#[test]
fn marks_by_hand() {
    if !need::root() {
        return;
    }
    let steered = Steered::start(&QUIET, &["quick:50"]);
    let at_ns = number(&steered.asked(&["mark", "here it is"]), "at_ns");
    let session = steered.recorder.folder.to_str().expect("UTF-8").to_owned();
    let said = ada(&steered.scratch, ["mark", &session, "once more"]).success().out;
    assert!(said.starts_with("marked at @") && said.lines().count() == 1, "{said}");
    let session = steered.end();
    // The second mark's window goes on where the first one's ended.
    let [window] = windows::all(&session.manifest) else { panic!("{}", session.manifest["windows"]) };
    assert_eq!(windows::kinds(window), ["mark", "mark"]);
    assert_eq!(
        (&window["triggers"][0]["what"], &window["triggers"][1]["what"]),
        (&"here it is".into(), &"once more".into())
    );
    assert_eq!(number(&window["triggers"][0], "at_ns"), at_ns);
    assert_eq!(number(window, "details"), 10 + 2);
    assert_eq!(window["complete"], Json::Bool(true));
}

#[test]
fn a_signal_to_the_recorder_marks() {
    if !need::root() {
        return;
    }
    let steered = Steered::start(&QUIET, &["quick:50"]);
    // SIGUSR1
    steered.recorder.process.signal(Signal::USR1);
    wait::until("the mark is there", || (number(&steered.asked(&["status"]), "windows") == 1).then_some(()));
    let session = steered.end();
    assert_eq!(windows::kinds(&windows::all(&session.manifest)[0]), ["mark"]);
    assert_eq!(number(&windows::all(&session.manifest)[0], "details"), 12);
}

#[test]
fn triggers_come_and_go_while_recording() {
    if !need::root() {
        return;
    }
    let options = [&QUIET[..], &["--trigger", "slow=exe:slow>50s"]].concat();
    let steered = Steered::start(&options, &["quick:50", "fire", "quick:50"]);
    assert_eq!(steered.asked(&["list-triggers"])["triggers"].as_array().map(Vec::len), Some(1));
    let wide = steered.asked(&["add-trigger", "symbol=exe:quick"]);
    let added = steered.asked(&["add-trigger", "symbol=exe:fire"]);
    assert_eq!((&added["reply"], number(&added, "id"), number(&added, "functions")), (&"added".into(), 3, 1));
    let removed = steered.asked(&["remove-trigger", &number(&wide, "id").to_string()]);
    assert_eq!((&removed["reply"], &removed["trigger"]), (&"removed".into(), &"symbol=exe:quick".into()));
    let listed = steered.asked(&["list-triggers"]);
    let texts: Vec<_> = listed["triggers"].as_array().expect("triggers").iter().map(|each| &each["trigger"]).collect();
    assert_eq!(texts, ["slow=exe:slow>50s", "symbol=exe:fire"]);
    let status = steered.asked(&["status"]);
    let numbers = ["events", "lost", "details", "windows", "buffered", "buffer_bytes"].map(|key| number(&status, key));
    assert_eq!(numbers, [200, 0, 0, 0, 200, 256 << 20]);
    assert_eq!(status["window_open"], Json::Bool(false));
    let session = steered.end();
    let [window] = windows::all(&session.manifest) else { panic!("{}", session.manifest["windows"]) };
    assert_eq!((windows::kinds(window), number(window, "details")), (vec!["symbol"], 10 + 1 + 2));
}

#[test]
fn stop_ends_the_recording_and_not_the_target() {
    if !need::root() {
        return;
    }
    let mut steered = Steered::start(&QUIET, &["quick:50"]);
    assert_eq!(steered.asked(&["stop"])["reply"], "stopping");
    let folder = steered.recorder.folder.clone();
    assert_eq!(steered.recorder.session().complete().calls("quick"), 100);
    assert!(!folder.join("control.sock").exists());
    assert!(steered.target.running());
    // What comes too late is told so.
    let folder = folder.to_str().expect("UTF-8");
    drop(check_sentence(ada(&steered.scratch, ["mark", folder]), &[folder, "nothing is being recorded"]));
    drop(check_sentence(ada(&steered.scratch, ["control", folder, "stop"]), &[folder, "nothing is being recorded"]));
    steered.target.tell("go on");
    drop(steered.target.end().success());
}

#[test]
fn what_cannot_be_done_is_refused() {
    if !need::root() {
        return;
    }
    let steered = Steered::start(&QUIET, &[]);
    let refused = |words: &[&str], facts: &[&str]| {
        drop(check_sentence(steered.control(words), facts));
        let reply = steered.control(&[words, &["--format", "jsonl"]].concat()).code(2).out;
        let reply: Json = serde_json::from_str(&reply).expect("an object");
        let said = reply["error"].as_str().expect("a sentence");
        assert!(reply["reply"] == "error" && facts.iter().all(|fact| said.contains(fact)), "{said}");
    };
    refused(&["add-trigger", "nonsense"], &["'nonsense'", "slow="]);
    refused(&["add-trigger", "slow=exe:slow"], &["how slow"]);
    refused(&["add-trigger", "symbol=exe:crash"], &["exe:crash", "recorded"]);
    refused(&["add-trigger", "symbol=libc:read"], &["libc:read", "recorded"]);
    refused(&["remove-trigger", "7"], &["7", "list-triggers"]);
    drop(check_sentence(steered.control(&["remove-trigger", "x"]), &["'x'"]));
    drop(check_sentence(steered.control(&["explode"]), &["'explode'", "add-trigger"]));
    let session = steered.end();
    assert!(windows::all(&session.manifest).is_empty());
}

#[test]
fn a_recording_without_flight_recorder() {
    if !need::root() {
        return;
    }
    for options in [&["--detail"][..], &[]] {
        let steered = Steered::start(options, &["quick:1"]);
        for words in [&["mark"][..], &["add-trigger", "signal"], &["list-triggers"], &["remove-trigger", "1"]] {
            drop(check_sentence(steered.control(words), &["without a flight recorder", "--trigger"]));
        }
        assert_eq!(number(&steered.asked(&["status"]), "buffer_bytes"), 0);
        let folder = steered.recorder.folder.clone();
        steered.recorder.process.signal(Signal::USR1);
        wait::until("the signal is told of", || steered.recorder.process.err().contains("SIGUSR1").then_some(()));
        assert_eq!(steered.recorder.process.err().matches("without a flight recorder").count(), 1);
        assert_eq!(steered.asked(&["stop"])["reply"], "stopping");
        drop(steered.recorder.session().complete());
        assert!(!folder.join("control.sock").exists());
    }
}

#[test]
fn nobody_steers_what_is_not_theirs() {
    if !(need::root() && need::program("setpriv")) {
        return;
    }
    let steered = Steered::start(&QUIET, &[]);
    let program = fixture::copied(&ada_trace(), steered.scratch.path());
    let folder = steered.recorder.folder.to_str().expect("UTF-8");
    for words in [&["control", folder, "stop"][..], &["mark", folder]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program).args(words);
        drop(check_sentence(run(&mut command, steered.scratch.path()), &[folder, "another user"]));
    }
    drop(steered.end());
}

#[test]
fn a_mark_without_a_recording() {
    let scratch = Scratch::new();
    let inside = |words: &[&str]| {
        let mut command = Command::new(ada_trace());
        run(command.args(words).current_dir(scratch.path()), scratch.path())
    };
    for words in [&["mark"][..], &["mark", "a text"], &["control", "status"], &["control", "stop"]] {
        drop(check_sentence(inside(words), &["nothing is being recorded"]));
    }
    let gone = scratch.join("gone");
    let gone = gone.to_str().expect("UTF-8");
    drop(check_sentence(inside(&["mark", gone]), &[gone]));
    assert!(!Path::new(gone).exists());
}
