//! Recordings that begin and end in the middle of a call: what is there is right, and the target goes on unharmed.

use std::path::Path;

use tests::expected;
use tests::fixture;
use tests::need;
use tests::process::Signal;
use tests::recorder::{ATTACHES, Attach, Recorder, Trace, exe};
use tests::scratch::Scratch;

/// A recording that began within `before`, of a target that is now within `after`.
fn within(scratch: &Scratch, attach: Attach) -> (tests::process::Process, Recorder) {
    let program = fixture::build("midway.c", &[]);
    let mut target = fixture::waiting(&program, &[], Path::new("/dev/null"), scratch.path());
    let recorder = Trace::new(scratch, exe(&["before", "after", "inner"])).attach(attach).pid(target.pid());
    target.tell("go");
    target.said("within");
    (target, recorder)
}

#[test]
fn a_recording_that_begins_within_a_call() {
    if need::root() {
        for attach in ATTACHES {
            let scratch = Scratch::new();
            let (mut target, recorder) = within(&scratch, attach);
            target.tell("go on");
            drop(target.end().success());
            expected::check("midway", &recorder.session().complete().tree());
        }
    }
}

#[test]
fn a_recording_that_ends_within_a_call() {
    if need::root() {
        for attach in ATTACHES {
            let scratch = Scratch::new();
            let (mut target, recorder) = within(&scratch, attach);
            recorder.process.signal(Signal::INT);
            expected::check("midway-ended", &recorder.session().complete().tree());
            target.tell("go on");
            drop(target.end().success());
        }
    }
}

/// What the recorder leaves behind when it is killed is the kernel's to clear up.
#[test]
fn a_recorder_killed_within_a_call() {
    if need::root() {
        for attach in ATTACHES {
            let scratch = Scratch::new();
            let (mut target, recorder) = within(&scratch, attach);
            recorder.process.signal(Signal::KILL);
            drop(recorder.end().killed_by(Signal::KILL));
            target.tell("go on");
            drop(target.end().success());
        }
    }
}
