//! The same source, recorded by uftrace (built with -pg) and by ada-trace (built plainly): the same calls, nested alike.
//!
//! Invariant: times are not compared; two runs have different ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::fixture;
use tests::need;
use tests::process::run;
use tests::recorder::{Trace, ada, exe};
use tests::scratch::Scratch;

/// Calls of a thread in the order in which they began: depth and name.
type Calls = Vec<(u64, String)>;

/// The calls of each thread, without saying which thread it was; and by name how many, with total and self time.
#[derive(Debug, Default)]
struct Seen {
    threads: Vec<Calls>,
    report: BTreeMap<String, (u64, f64, f64)>,
}

fn uftrace(program: &Path, arguments: &[&str], scratch: &Scratch) -> Seen {
    let data = scratch.join("uftrace.data");
    let mut record = Command::new("uftrace");
    record.args(["record", "--no-libcall", "--no-event", "-d"]).arg(&data).arg(program).args(arguments);
    drop(run(&mut record, scratch.path()).success());
    let ask = |arguments: &[&str]| {
        let mut command = Command::new("uftrace");
        run(command.args(arguments).arg("-d").arg(&data), scratch.path()).success().out
    };
    let mut threads: BTreeMap<String, Calls> = BTreeMap::new();
    for line in ask(&["dump"]).lines() {
        // 18734.224414898  27096: [entry] main(55ea5dea4080) depth: 0
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, tid, "[entry]", call, "depth:", depth] = words[..] else { continue };
        let (name, _) = call.split_once('(').expect("a name and an address");
        let call = (depth.parse().expect("a depth"), name.to_owned());
        threads.entry(tid.to_owned()).or_default().push(call);
    }
    let mut seen = Seen { threads: threads.into_values().collect(), ..Seen::default() };
    for line in ask(&["report", "-f", "total,self,call"]).lines() {
        //   9.764 us    0.661 us           1  main
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [total, total_unit, own, own_unit, calls, name] = words[..]
            && let Ok(calls) = calls.parse()
        {
            seen.report.insert(name.to_owned(), (calls, time(total, total_unit), time(own, own_unit)));
        }
    }
    seen
}

fn time(number: &str, unit: &str) -> f64 {
    let unit = match unit {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        other => panic!("a time in {other}"),
    };
    number.parse::<f64>().expect("a time") * unit
}

fn lines(folder: &Path, command: &str, scratch: &Scratch) -> Vec<Value> {
    let folder = folder.to_str().expect("UTF-8");
    let said = ada(scratch, [command, folder, "--format", "jsonl", "--limit", "0"]).success().out;
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn recorded(program: &Path, arguments: &[&str], functions: &[&str], scratch: &Scratch) -> (Seen, PathBuf) {
    let recorder = Trace::new(scratch, exe(functions)).launch(program, arguments);
    let folder = recorder.folder.clone();
    drop(recorder.end().success());
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let number = |value: &Value| value.as_u64().expect("a number");
    let mut threads: BTreeMap<u64, Calls> = BTreeMap::new();
    for step in lines(&folder, "replay", scratch) {
        if step["kind"] == "enter" || step["kind"] == "leaf" {
            let call = (number(&step["depth"]), text(&step["function"]));
            threads.entry(number(&step["tid"])).or_default().push(call);
        }
    }
    let mut seen = Seen { threads: threads.into_values().collect(), ..Seen::default() };
    for row in lines(&folder, "report", scratch).iter().filter(|row| row["kind"] == "function") {
        let times = ["total_ns", "self_ns"].map(|key| row[key].as_f64().expect("a time"));
        seen.report.insert(text(&row["function"]), (number(&row["calls"]), times[0], times[1]));
    }
    (seen, folder)
}

/// Calls by path from the outermost function.
fn tree(threads: &[Calls]) -> BTreeMap<Vec<String>, u64> {
    let mut tree = BTreeMap::new();
    for calls in threads {
        let mut path: Vec<String> = Vec::new();
        for (depth, name) in calls {
            path.truncate(usize::try_from(*depth).expect("a depth"));
            path.push(name.clone());
            *tree.entry(path.clone()).or_default() += 1;
        }
    }
    tree
}

/// The call tree as `graph` prints it.
fn graph(folder: &Path, scratch: &Scratch) -> BTreeMap<Vec<String>, u64> {
    let mut paths: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut tree = BTreeMap::new();
    for node in lines(folder, "graph", scratch).iter().filter(|node| node["kind"] == "node") {
        let parent = node["parent"].as_u64().map(|parent| paths[&parent].clone());
        let mut path = parent.unwrap_or_default();
        path.push(node["function"].as_str().expect("a name").to_owned());
        tree.insert(path.clone(), node["calls"].as_u64().expect("calls"));
        paths.insert(node["id"].as_u64().expect("an id"), path);
    }
    tree
}

fn compare(source: &str, arguments: &[&str]) {
    if !need::root() || !need::program("uftrace") {
        return;
    }
    let scratch = Scratch::new();
    let mut oracle = uftrace(&fixture::build(source, &["-pg"]), arguments, &scratch);
    let names: BTreeSet<&str> = oracle.report.keys().map(String::as_str).collect();
    assert!(names.contains("main") && names.len() > 2, "{names:?}");
    let names: Vec<&str> = names.into_iter().collect();
    let (mut found, folder) = recorded(&fixture::build(source, &[]), arguments, &names, &scratch);
    oracle.threads.sort();
    found.threads.sort();
    assert_eq!(found.threads, oracle.threads, "{source}: calls in their order, thread by thread");
    let calls = |seen: &Seen| seen.report.iter().map(|(name, row)| (name.clone(), row.0)).collect::<BTreeMap<_, _>>();
    assert_eq!(calls(&found), calls(&oracle), "{source}: calls by function");
    assert_eq!(graph(&folder, &scratch), tree(&oracle.threads), "{source}: call tree");
    for (name, (_, total, own)) in found.report.iter().chain(&oracle.report) {
        assert!(own <= total, "{source}: {name} was longer in itself ({own} ns) than in all ({total} ns)");
    }
}

#[test]
fn nested_calls_are_those_that_uftrace_sees() {
    compare("nested.c", &[]);
}

#[test]
fn recursion_is_as_deep_as_uftrace_sees_it() {
    // The kernel keeps 64 pending returns of a thread.
    compare("recurse.c", &["50"]);
}

#[test]
fn calls_of_threads_are_those_that_uftrace_sees() {
    compare("threads.c", &["4", "500"]);
}
