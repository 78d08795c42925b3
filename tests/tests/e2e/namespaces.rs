//! Inside a pid namespace, and with targets in another mount namespace: the same trees, pids as the tracer sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::expected;
use tests::fixture::{self, LIBRARY};
use tests::need;
use tests::process::{Process, child_of};
use tests::recorder::{ATTACHES, Attach, Recorder, Trace, exe};
use tests::scratch::Scratch;
use tests::session::Session;
use tests::wait;

const OWN_PIDS: [&str; 5] = ["unshare", "--kill-child", "--pid", "--fork", "--mount-proc"];

/// Whether this machine lets root make namespaces.
fn possible() -> bool {
    need::root() && need::works("pid namespaces", Command::new(OWN_PIDS[0]).args(&OWN_PIDS[1..]).arg("true"))
}

/// Pid of the traced process, by the manifest.
fn pid(session: &Session) -> u64 {
    session.manifest["process"][0]["pid"].as_u64().expect("a pid")
}

/// The first process of a pid namespace: with it, the kernel would end the recorder too. Runs a target beside it (whose stdin, in
/// the background, would be /dev/null).
const FIRST: &str = r#"exec 3<&0; "$@" <&3 & echo "pid $!"; wait $! && read line"#;

/// The fixture `threads` in a pid namespace, and its pids there and outside.
fn inside(scratch: &Scratch) -> (Process, u32, u32) {
    let mut command = Command::new(OWN_PIDS[0]);
    command.args(&OWN_PIDS[1..]).args(["sh", "-c", FIRST, "sh"]);
    command.arg(fixture::build("threads.c", &[])).args(["5", "3"]).env("ADA_WAIT", "1");
    let mut unshare = Process::start(&mut command, scratch.path());
    unshare.said("ready");
    let said = wait::until("its pid is known", || {
        unshare.out().lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok())
    });
    let outside = child_of(child_of(unshare.pid()));
    (unshare, said, outside)
}

/// Lets the fixture work and checks what was recorded of it.
fn check(mut target: Process, recorder: Recorder, seen_as: u32) {
    target.tell("go");
    target.tell("end");
    let session = recorder.session().complete();
    expected::check("threads", &session.tree());
    assert_eq!(pid(&session), u64::from(seen_as));
    target.tell("over");
    drop(target.end().success());
}

#[test]
fn launched_inside_a_pid_namespace() {
    if !possible() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let program = fixture::build("threads.c", &[]);
        let trace = Trace::under(&OWN_PIDS, &scratch, exe(&["work"])).attach(attach);
        let session = trace.launch(&program, ["5", "3"]).session().complete();
        expected::check("threads", &session.tree());
        assert!(pid(&session) < 100, "{} is not the pid inside the namespace", pid(&session));
        assert!(session.threads.iter().all(|thread| thread.tid < 100));
    }
}

#[test]
fn attached_inside_the_pid_namespace_of_the_target() {
    if !possible() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let (target, inside, outside) = inside(&scratch);
        let outside = outside.to_string();
        let enter = ["nsenter", "--target", &outside, "--pid", "--mount"];
        let recorder = Trace::under(&enter, &scratch, exe(&["work"])).attach(attach).pid(inside);
        check(target, recorder, inside);
    }
}

#[test]
fn attached_from_outside_the_pid_namespace_of_the_target() {
    if !possible() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let (target, _, outside) = inside(&scratch);
        let recorder = Trace::new(&scratch, exe(&["work"])).attach(attach).pid(outside);
        check(target, recorder, outside);
    }
}

/// Mounts a tmpfs on $1, copies the library $2 to it, and becomes $3, which loads it from there.
const OWN_MOUNTS: &str = r#"mount -t tmpfs none "$1" && cp "$2" "$1/" && exec "$3" "$1/liblate.so" early"#;

/// A process in a mount namespace of its own with a library that only it can see; and the library's path there.
fn hidden_library(scratch: &Scratch) -> (Process, PathBuf) {
    let folder = scratch.join("only-inside");
    std::fs::create_dir(&folder).expect("a folder");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", OWN_MOUNTS, "sh"]).arg(&folder);
    command.arg(fixture::build("liblate.c", LIBRARY)).arg(fixture::build("late.c", &[])).env("ADA_WAIT", "1");
    let mut target = Process::start(&mut command, scratch.path());
    target.said("ready");
    let library = folder.join("liblate.so");
    assert!(!library.exists(), "the library is visible outside, too: nothing is tested");
    (target, library)
}

fn records_hidden_library(specs: impl Fn(&Path) -> [String; 2], attach: Attach) {
    let scratch = Scratch::new();
    let (mut target, library) = hidden_library(&scratch);
    let recorder = Trace::new(&scratch, specs(&library)).attach(attach).pid(target.pid());
    target.tell("go");
    drop(target.end().success());
    let session = recorder.session().complete();
    expected::check("late-early", &session.tree());
    let module = session.manifest["modules"][0]["path"].as_str().expect("a path");
    assert_eq!(Path::new(module), library, "the path is the target's");
}

#[test]
fn a_library_that_only_the_target_can_see() {
    if possible() {
        for attach in ATTACHES {
            records_hidden_library(|_| ["late_outer", "late_inner"].map(|name| format!("liblate:{name}")), attach);
            let by_path = |path: &Path| ["late_outer", "late_inner"].map(|name| tests::recorder::in_file(path, name));
            records_hidden_library(by_path, attach);
        }
    }
}
