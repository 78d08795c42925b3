//! Filters: what they leave out, exactly, and that what stays is whole.

use std::path::Path;

use tests::fixture;
use tests::need;
use tests::process::Ended;
use tests::recorder::{ATTACHES, Attach, Trace, ada, exe};
use tests::scratch::Scratch;
use tests::session::{Kind, Session, Thread, number};
use tests::tree;

use crate::refusals::check_sentence;

const FUNCTIONS: [&str; 7] = ["task", "quick", "slow", "down", "thrown", "catcher", "nest"];
/// What a slow call takes, and what a quick one surely does not, however busy the machine is.
const SLOW_MS: &str = "300";
const LONG: [&str; 2] = ["--min-duration", "250ms"];

/// Records the fixture `durations` doing `act` so many times.
fn recorded(attach: Attach, options: &[&str], act: &str, times: u32) -> Session {
    let scratch = Scratch::new();
    let program = fixture::build("durations.c", &[]);
    let trace = Trace::new(&scratch, exe(&FUNCTIONS)).attach(attach).args(options);
    trace.launch(&program, [act, &times.to_string(), SLOW_MS]).session().complete()
}

/// The one thread of a session, all of whose calls have their returns, in their places.
fn whole(session: &Session) -> &Thread {
    let [thread] = &session.threads[..] else { panic!("{} threads", session.threads.len()) };
    tree::check(&thread.events);
    assert_eq!(thread.count(Kind::Call), thread.count(Kind::Return));
    thread
}

#[test]
fn only_calls_that_take_long() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let session = recorded(attach, &LONG, "task", 30);
        assert_eq!(session.tree(), "thread:\n3x task {\n  slow;\n}\n\n");
        check_durations(whole(&session), 250_000_000);
    }
}

/// Each call took at least so many ns, by the times in the file: each has its own, not that of its return.
fn check_durations(thread: &Thread, least_ns: u64) {
    let mut open = Vec::new();
    for event in &thread.events {
        match event.kind {
            Kind::Call => open.push(event.time_ns),
            _ => assert!(event.time_ns - open.pop().expect("a call") >= least_ns),
        }
    }
}

#[test]
fn long_calls_at_the_exits() {
    if need::root() {
        let session = recorded(Attach::Default, &["--returns", "ret", LONG[0], LONG[1]], "task", 20);
        assert_eq!(session.tree(), "thread:\n2x task {\n  slow;\n}\n\n");
    }
}

/// The program is executed once the recording has begun, and whatever the filters keep for its functions has to be there.
#[test]
fn long_calls_of_a_program_that_is_followed() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let program = fixture::build("durations.c", &[]);
    let shell = format!("{} task 30 {SLOW_MS}; true", program.display());
    let trace = Trace::new(&scratch, exe(&FUNCTIONS)).args(["-f", LONG[0], LONG[1]]);
    let session = trace.launch(Path::new("/bin/sh"), ["-c", &shell]).session().complete().callers();
    assert_eq!(session.tree(), "thread:\n3x task {\n  slow;\n}\n\n");
    check_durations(whole(&session), 250_000_000);
}

#[test]
fn long_calls_of_a_recursion() {
    if !need::root() {
        return;
    }
    let session = recorded(Attach::Default, &LONG, "down", 40);
    let depths = |kind| whole(&session).events.iter().filter(move |event| event.kind == kind).map(|event| event.depth);
    assert!(depths(Kind::Call).eq(0..41) && depths(Kind::Return).eq((0..41).rev()));
    assert_eq!((session.calls("down"), session.calls("slow"), session.calls("quick")), (40, 1, 0));
}

/// A call that longjmp left has no end to measure; those around it do not suffer.
#[test]
fn a_call_that_was_left_is_not_among_the_long_ones() {
    if need::root() {
        let session = recorded(Attach::Default, &LONG, "catcher", 2);
        assert_eq!(session.tree(), "thread:\n2x catcher {\n  slow;\n}\n\n");
    }
}

/// Beyond 128 running calls nothing is held back: the quick ones there are written, none is lost, and all are in order.
#[test]
fn calls_too_deep_to_be_timed_are_written() {
    if need::root() {
        let session = recorded(Attach::Default, &["--returns", "ret", LONG[0], LONG[1]], "down", 140);
        whole(&session);
        assert_eq!((session.calls("down"), session.calls("slow")), (140, 1));
        // One before and one after the deeper call, at the levels 128 to 140 (the 129th call and deeper), and two in slow.
        assert_eq!(session.calls("quick"), 13 * 2 + 2);
    }
}

#[test]
fn long_calls_of_many_threads_that_migrate() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let program = fixture::build("threads.c", &[]);
    // All of 1 ns and more: every call is held back until its return, and none is left out.
    let trace = Trace::new(&scratch, exe(&["work"])).args(["--min-duration", "1ns"]);
    let session = trace.launch(&program, ["16", "2000", "migrate"]).session().complete();
    assert_eq!(session.threads.len(), 16);
    assert!(session.threads.iter().all(|thread| thread.is_flat(2000)));
}

#[test]
fn a_sample_is_of_whole_calls() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let session = recorded(attach, &["--sample", "1/10"], "nest", 400);
        let calls = whole(&session).count(Kind::Call);
        // 4000 calls: 400 expected, and 19 the standard deviation.
        assert!((200..600).contains(&calls), "{calls} of 4000 calls");
        assert!(session.calls("nest") > 0 && session.calls("quick") > 0);
    }
}

#[test]
fn a_sample_of_calls_alone() {
    if need::root() {
        let session = recorded(Attach::Default, &["--sample", "10", "--entry-only"], "nest", 400);
        assert_eq!(session.count(Kind::Return), 0);
        assert!((200..600).contains(&session.count(Kind::Call)));
    }
}

#[test]
fn one_in_one_is_all() {
    if need::root() {
        let session = recorded(Attach::Default, &["--sample", "1/1"], "nest", 100);
        assert_eq!(whole(&session).count(Kind::Call), 1000);
    }
}

#[test]
fn a_hot_function_is_muted_and_a_cold_one_is_not() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        // 20 000 calls of quick by main, and two within each of 200 tasks, none of them slow.
        let session = recorded(attach, &["--max-rate", "1000"], "hot", 20_000);
        whole(&session);
        assert_eq!(session.calls("task"), 200);
        check_muted(&session);
    }
}

fn check_muted(session: &Session) {
    let muted = session.manifest["muted"].as_array().expect("muted functions");
    let [muted] = &muted[..] else { panic!("{muted:?}") };
    assert_eq!(session.name(number(muted, "function_id")), "quick");
    assert!(number(muted, "calls_per_s") > 1000, "{muted}");
    let at_ns = number(muted, "at_ns");
    let calls = session.threads[0].events.iter().filter(|event| event.kind == Kind::Call);
    let times = calls.filter(|event| session.name(event.function) == "quick").map(|event| event.time_ns);
    let (before, after): (Vec<u64>, Vec<u64>) = times.partition(|time| *time < at_ns);
    // The first second of a function's calls begins with the first: 1000 are recorded in each that it stays within.
    assert!(before.len() >= 1000 && after.is_empty(), "{} before, {} after", before.len(), after.len());
}

#[test]
fn the_rate_of_a_recording_that_is_not_muted_is_not_told() {
    if need::root() {
        let session = recorded(Attach::Default, &["--max-rate", "1000000"], "task", 9);
        assert!(session.manifest.get("muted").is_none());
        assert_eq!(session.calls("task"), 9);
    }
}

#[test]
fn only_events_near_the_bottom() {
    if !need::root() {
        return;
    }
    let all = recorded(Attach::Default, &[], "down", 4);
    let some = recorded(Attach::Default, &["--max-depth", "2"], "down", 4);
    assert_eq!(all.count(Kind::Call), 15);
    assert_eq!(some.tree(), "thread:\ndown {\n  quick;\n  down;\n  quick;\n}\n\n");
    whole(&some);
}

#[test]
fn filters_go_together() {
    if need::root() {
        let options = [LONG[0], LONG[1], "--max-depth", "1", "--sample", "1/1", "--max-rate", "1000000"];
        assert_eq!(recorded(Attach::Default, &options, "task", 20).tree(), "thread:\n2x task;\n\n");
    }
}

/// The threads of a process.
pub(crate) fn tids(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    tasks.map(|task| task.expect("a task").file_name().to_string_lossy().parse().expect("a tid")).collect()
}

#[test]
fn only_these_threads() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let program = fixture::build("threads.c", &[]);
        let mut target = fixture::waiting(&program, &["3", "50"], &scratch.join("report"), scratch.path());
        let mut wanted: Vec<u32> = tids(target.pid()).into_iter().filter(|tid| *tid != target.pid()).take(2).collect();
        wanted.sort_unstable();
        let options = ["--tid".to_owned(), wanted[0].to_string(), "--tid".to_owned(), wanted[1].to_string()];
        let recorder = Trace::new(&scratch, exe(&["work"])).attach(attach).args(&options).pid(target.pid());
        target.tell("go");
        drop(target.end().success());
        let session = recorder.session().complete();
        let mut recorded: Vec<u32> = session.threads.iter().map(|thread| thread.tid).collect();
        recorded.sort_unstable();
        assert_eq!(recorded, wanted);
        assert!(session.threads.iter().all(|thread| thread.is_flat(50)));
    }
}

#[test]
fn a_thread_of_another_process() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let program = fixture::build("constant.c", &[]);
    let mut target = fixture::waiting(&program, &[], &scratch.join("report"), scratch.path());
    let pid = target.pid().to_string();
    let recorder = Trace::new(&scratch, ["libc:malloc"]).args(["-p", &pid, "--tid", "1"]).start();
    let folder = recorder.folder.clone();
    drop(check_sentence(recorder.end(), &["thread 1 ", &pid, "/task"]));
    assert!(!folder.exists());
    target.tell("go");
    drop(target.end().success());
}

fn told(options: &[&str]) -> Ended {
    let start = ["-e", "libc:malloc"];
    ada(&Scratch::new(), start.iter().chain(options).chain(&["--", "true"]))
}

#[test]
fn filters_that_make_no_sense() {
    for (option, value) in [
        ("--sample", "0"),
        ("--sample", "x"),
        ("--sample", "2/5"),
        ("--max-rate", "0"),
        ("--max-depth", "0"),
        ("--min-duration", "0"),
        ("--min-duration", "soon"),
        ("--tid", "x"),
    ] {
        let said = told(&[option, value]).code(2).err;
        assert!(said.contains(option) && said.contains(&format!("'{value}'")), "{said}");
    }
    drop(check_sentence(told(&["--tid", "1"]), &["--tid", "-p"]));
    let followed = ada(&Scratch::new(), ["-e", "libc:malloc", "-p", "1", "--tid", "1", "-f"]);
    drop(check_sentence(followed, &["--tid", "-f"]));
    drop(check_sentence(told(&["--min-duration", "1ms", "--entry-only"]), &["--min-duration", "--entry-only"]));
    drop(check_sentence(told(&["--min-duration", "1ms", "--detail"]), &["--min-duration", "--detail"]));
}
