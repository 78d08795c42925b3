//! Go programs: goroutines that go from thread to thread, on stacks that move when they grow.

use std::collections::BTreeMap;
use std::path::Path;

use tests::fixture;
use tests::need;
use tests::process::run;
use tests::recorder::{ATTACHES, Attach, Trace, ada};
use tests::scratch::Scratch;
use tests::session::{Json, Kind, Session, number};

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
    let events = session.threads.iter().flat_map(|thread| &thread.events);
    for event in events.filter(|event| event.kind != Kind::Switch) {
        let (calls, returns): &mut (u64, u64) = counts.entry(session.name(event.function).to_owned()).or_default();
        *calls += u64::from(event.kind == Kind::Call);
        *returns += u64::from(event.kind == Kind::Return);
    }
    counts
}

/// The recursion goes down by one from level to level, wherever the goroutine is.
fn check_depths(session: &Session) {
    let deep = |event: &&tests::session::Event| event.kind == Kind::Call && session.name(event.function) == "main.deep";
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

/// What a query command prints of a session.
fn lines(command: &str, folder: &Path, scratch: &Scratch) -> Vec<Json> {
    let arguments = [command.as_ref(), folder.as_os_str(), "--format".as_ref(), "jsonl".as_ref()];
    let text = ada(scratch, arguments).success().out;
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn goroutines_that_take_turns_on_one_thread_have_trees_of_their_own() {
    if !need::root() || !need::program("go") {
        return;
    }
    let scratch = Scratch::in_memory();
    let arguments = [WORKERS.to_string(), CALLS.to_string()];
    let trace = Trace::new(&scratch, ["exe:main.*"]).env("GOMAXPROCS", "1");
    let recorder = trace.launch(&fixture::go("grow.go", ""), arguments);
    let folder = recorder.folder.clone();
    let _ = recorder.end().success();
    let session = Session::read(&folder).complete();
    assert!(session.count(Kind::Switch) > WORKERS, "{} switches", session.count(Kind::Switch));

    let graph = lines("graph", &folder, &scratch);
    let nodes: BTreeMap<u64, &Json> =
        graph.iter().filter(|line| line["kind"] == "node").map(|line| (number(line, "id"), line)).collect();
    let above = |node: &Json| node["parent"].as_u64().and_then(|parent| nodes.get(&parent).copied());
    let around = |function: &str| match function {
        "main.main" | "main.main.func2" => vec![""],
        "main.main.func1" => vec!["main.main.func2"],
        "main.worker" => vec!["main.main.func1"],
        "main.deep" => vec!["main.worker", "main.deep"],
        _ => vec!["main.deep"],
    };
    for node in nodes.values().filter(|node| node["function"].is_string()) {
        let function = node["function"].as_str().expect("a name");
        let parent = above(node).and_then(|parent| parent["function"].as_str()).unwrap_or_default();
        assert!(around(function).contains(&parent), "{function} in {parent}");
    }
    assert!(nodes.len() > 120, "{graph:?}");

    let report = lines("report", &folder, &scratch);
    for row in report.iter().filter(|line| line["kind"] == "function") {
        assert!(number(row, "self_ns") <= number(row, "total_ns"), "{row}");
    }
    let accounting = report.iter().find(|line| line["kind"] == "accounting").expect("an accounting");
    assert_eq!((number(accounting, "missed"), number(accounting, "unmatched_returns")), (0, 0), "{accounting}");
    assert_eq!(number(accounting, "switches"), session.count(Kind::Switch));
}
