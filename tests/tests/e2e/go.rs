//! Go programs: goroutines that go from thread to thread, on stacks that move when they grow.

use std::collections::BTreeMap;
use std::path::Path;

use tests::fixture;
use tests::need;
use tests::process::run;
use tests::recorder::{ATTACHES, Attach, Trace};
use tests::scratch::Scratch;
use tests::session::{Kind, Session};

const WORKERS: u64 = 10;
const CALLS: u64 = 100;

/// Calls of `main.deep` by one worker: the i-th goes down 20 + i % 100 levels.
const DEEP: u64 = CALLS * 21 + (CALLS - 1) * CALLS / 2;

fn record(program: &Path, attach: Attach) -> Session {
    let scratch = Scratch::in_memory();
    let arguments = [WORKERS.to_string(), CALLS.to_string()];
    let alone = run(std::process::Command::new(program).args(&arguments), scratch.path()).success();
    let recorder = Trace::new(&scratch, ["exe:main.*"]).attach(attach).launch(program, &arguments);
    let folder = recorder.folder.clone();
    assert_eq!(recorder.end().success().out, alone.out);
    Session::read(&folder).complete()
}

/// Calls and returns of each function.
fn counts(session: &Session) -> BTreeMap<String, (u64, u64)> {
    let mut counts = BTreeMap::new();
    for event in session.threads.iter().flat_map(|thread| &thread.events) {
        let (calls, returns): &mut (u64, u64) = counts.entry(session.name(event.function).to_owned()).or_default();
        *calls += u64::from(event.kind == Kind::Call);
        *returns += u64::from(event.kind == Kind::Return);
    }
    counts
}

/// The recursion goes down by one from level to level, wherever the goroutine is.
fn check_depths(session: &Session) {
    let deep = |event: &&tests::session::Event| session.name(event.function) == "main.deep" && event.kind == Kind::Call;
    let events = || session.threads.iter().flat_map(|thread| &thread.events);
    let mut by_depth: BTreeMap<u32, u64> = BTreeMap::new();
    for event in events().filter(deep) {
        *by_depth.entry(event.depth).or_default() += 1;
    }
    // The go statement's wrapper (main.main.func2), main.main.func1 and main.worker are around the first main.deep.
    let counts: Vec<u64> = by_depth.values().copied().collect();
    assert_eq!(by_depth.keys().next(), Some(&3), "{by_depth:?}");
    assert_eq!(counts.first(), Some(&(WORKERS * CALLS)));
    assert_eq!(by_depth.len(), 120);
    assert!(counts.is_sorted_by(|a, b| a >= b), "{by_depth:?}");
}

fn check(program: &Path) {
    for attach in ATTACHES {
        let session = record(program, attach);
        let counts = counts(&session);
        let both = |calls| Some((calls, calls));
        assert_eq!(counts.get("main.deep").copied(), both(WORKERS * DEEP));
        assert_eq!(counts.get("main.leaf").copied(), both(WORKERS * CALLS));
        assert_eq!(counts.get("main.worker").copied(), both(WORKERS));
        check_depths(&session);
    }
}

#[test]
fn stacks_that_grow_under_traced_functions() {
    if need::root() && need::program("go") {
        check(&fixture::go("grow.go", ""));
    }
}

#[test]
fn a_stripped_program_still_has_its_names() {
    if need::root() && need::program("go") {
        check(&fixture::go("grow.go", "-s -w"));
    }
}
