//! Signals, exec and exit: recorded whatever the load, each once, and never those of ada-trace itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ada_format::layout::EventKind;
use ada_format::read::{Payload, SessionReader};
use tests::process::{Signal, Stray, child_of};
use tests::recorder::{ATTACHES, Trace, exe};
use tests::scratch::Scratch;
use tests::session::{Kind, Session, number};
use tests::{fixture, need, wait};

/// How often each signal was delivered, by the details of the EXCEPTION events.
fn signals(folder: &Path) -> BTreeMap<u32, u64> {
    let reader = SessionReader::open(folder).expect("a session");
    let mut counts = BTreeMap::new();
    for thread in reader.threads() {
        for (position, event) in thread.index().events().iter().enumerate() {
            let detail = thread.detail_of(position as u64).expect("sound links");
            if let Some(Payload::Signal(signal)) = detail.and_then(|detail| detail.payload()) {
                assert_eq!(event.kind(), Some(EventKind::Exception));
                *counts.entry(signal.fixed.number.get()).or_insert(0) += 1;
            }
        }
    }
    counts
}

/// A collector that cannot keep up, and a target at full speed: calls are lost, signals are not.
#[test]
fn signals_are_never_lost() {
    if !need::root() {
        return;
    }
    let _alone = need::the_machine();
    for attach in ATTACHES {
        let scratch = Scratch::in_memory();
        let report = scratch.join("report");
        let program = fixture::build("busy.c", &[]);
        let mut target = fixture::waiting(&program, &["300", "kill"], &report, scratch.path());
        let trace = Trace::new(&scratch, exe(&["work"])).attach(attach).args(["--buffer-size", "4K", "-f"]);
        let recorder = trace.pid(target.pid());
        // Nobody empties the rings, which hold some forty calls.
        recorder.process.signal(Signal::STOP);
        target.tell("go");
        wait::until("the signals are over", || fs::read_to_string(&report).ok().filter(|text| text.ends_with('\n')));
        recorder.process.signal(Signal::CONT);
        drop(target.end().killed_by(Signal::KILL));
        let session = recorder.session();
        assert_eq!(fs::read_to_string(&report).expect("a report"), "raised 300\n");
        assert!(session.lost() > 0, "the rings were large enough: nothing is tested");
        assert_eq!(signals(&session.folder), BTreeMap::from([(9, 1), (10, 300)]));
        assert_eq!(session.count(Kind::Exception), 301);
        check_ends(&session);
    }
}

/// Its exec is known, and its end.
fn check_ends(session: &Session) {
    let processes = session.manifest["process"].as_array().expect("processes");
    let last = processes.last().expect("a process");
    assert_eq!(last["signal"].as_u64(), Some(9), "{processes:?}");
    assert!(last["executable"].as_str().expect("a path").contains("sh"), "{processes:?}");
    assert!(processes.iter().all(|process| process["end_ns"].is_u64()), "{processes:?}");
}

#[test]
fn a_handler_on_another_stack() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let functions = exe(&["leaf", "handler_work", "interrupted"]);
        let trace = Trace::new(&scratch, functions).attach(attach).args(["--detail", "--returns", "ret"]);
        let session = trace.launch(&fixture::build("sigalt.c", &[]), [""; 0]).session().complete();
        assert_eq!(signals(&session.folder), BTreeMap::from([(10, 2)]));
        assert_eq!((session.calls("interrupted"), session.calls("handler_work"), session.calls("leaf")), (2, 2, 7));
        assert_eq!(session.count(Kind::Return), 11);
    }
}

/// ada-trace stops and continues processes to follow them; nobody wants to see that.
#[test]
fn only_the_targets_own_signals_are_shown() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let script = ["raise:3", "fork:2", "raise:4", "quick:5", "fork:1", "exit:0", "quick:1"];
        let trace = Trace::new(&scratch, exe(&["quick"])).attach(attach).args(["-f", "--detail"]);
        let session = trace.launch(&fixture::build("moments.c", &[]), script).session().complete();
        // SIGUSR1 has a handler; the SIGCHLD of two children has none, and is thrown away.
        let mut seen = signals(&session.folder);
        seen.remove(&17);
        assert_eq!(seen, BTreeMap::from([(10, 7)]));
        assert_eq!(session.calls("quick"), 6);
    }
}

#[test]
fn a_kill_from_outside() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let recorder = Trace::new(&scratch, exe(&["quick"]))
        .arg("--detail")
        .launch(&fixture::build("moments.c", &[]), ["quick:3", "wait"]);
    let mut recorder = recorder.recording();
    recorder.process.said("waits");
    let target = Stray::new(child_of(recorder.process.pid()));
    target.signal(Signal::KILL);
    let session = recorder.session_after(128 + 9).complete();
    assert_eq!(session.calls("quick"), 3);
    assert_eq!(signals(&session.folder).len(), 1);
    assert_eq!(number(&session.manifest["process"][0], "signal"), 9);
}

/// Frames that longjmp or an exception leaves: each call has its return, or the event that says it was left.
#[test]
fn every_call_has_its_end() {
    if !need::root() {
        return;
    }
    let longjmp = ("longjmp.c", exe(&["leaf", "jumper", "deep", "same_place", "out_of_many", "leave"]));
    let thrown = ("exceptions.cc", exe(&["leaf", "thrower", "passer", "catcher", "plain"]));
    for attach in ATTACHES {
        for (source, functions) in [&longjmp, &thrown] {
            for returns in ["auto", "ret"] {
                let scratch = Scratch::new();
                let trace = Trace::new(&scratch, functions).attach(attach).args(["--detail", "--returns", returns]);
                let session = trace.launch(&fixture::build(source, &[]), [""; 0]).session().complete();
                let ends = session.count(Kind::Return) + session.count(Kind::Exception);
                assert!(session.count(Kind::Exception) >= 8, "{source} {returns}: {}", session.tree());
                assert_eq!(session.count(Kind::Call), ends, "{source} {returns}: {}", session.tree());
            }
        }
    }
}

/// A jump to a function of another file, in the place of a call and a return, ends a function as a return does.
#[test]
fn a_jump_out_of_the_program_is_a_return() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let program = fixture::build("outward.c", &["-O2"]);
    assert!(fixture::disassembled(&program, "outward").contains("jmp"), "the fixture makes no tail call");
    let trace = Trace::new(&scratch, exe(&["outward", "caller"])).args(["--returns", "ret"]);
    let session = trace.launch(&program, [""; 0]).session().complete();
    assert_eq!(session.tree(), "thread:\n5x caller {\n  outward;\n}\n\n");
}
