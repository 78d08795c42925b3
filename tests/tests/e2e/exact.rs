//! Exactness: as many events as there were calls, in order, thread by thread.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tests::fixture;
use tests::need;
use tests::recorder::{Attach, Trace, exe};
use tests::scratch::Scratch;
use tests::session::Session;

const THREADS: u64 = 64;
const CALLS: u64 = 15_625;

/// How the million calls are made and recorded.
struct Million {
    migrate: bool,
    attach: Attach,
    launch: bool,
}

fn a_million_calls(how: &Million) {
    if !need::root() {
        return;
    }
    let _alone = need::the_machine();
    let scratch = Scratch::in_memory();
    let program = fixture::build("threads.c", &[]);
    let (threads, calls) = (THREADS.to_string(), CALLS.to_string());
    let mut arguments = vec![threads.as_str(), &calls];
    arguments.extend(how.migrate.then_some("migrate"));
    let report = scratch.join("report");
    // Twice the default: a virtual processor that its host takes away for a while must not cost events here.
    let trace = Trace::new(&scratch, exe(&["work"])).attach(how.attach).args(["--buffer-size", "32M"]);
    let session = if how.launch {
        trace.env("ADA_REPORT", &report).launch(&program, &arguments).session()
    } else {
        let mut target = fixture::waiting(&program, &arguments, &report, scratch.path());
        let recorder = trace.pid(target.pid());
        target.tell("go");
        target.said("end");
        assert!(peak_mib(recorder.process.pid()) < 200, "{} MiB of memory", peak_mib(recorder.process.pid()));
        drop(target.end().success());
        recorder.session()
    };
    let session = session.complete();
    assert_eq!(session.threads.len() as u64, THREADS);
    for thread in &session.threads {
        assert!(thread.is_flat(CALLS), "thread {}: {} events, not all in order", thread.id, thread.events.len());
    }
    assert_eq!(tids(&session), reported(&report));
}

/// The most memory that the process ever had, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// Threads of a session: (tid, calls).
fn tids(session: &Session) -> BTreeMap<u64, u64> {
    session.threads.iter().map(|thread| (thread.tid.into(), thread.events.len() as u64 / 2)).collect()
}

/// What the fixture `threads` says of itself: (tid, calls).
fn reported(report: &Path) -> BTreeMap<u64, u64> {
    let text = std::fs::read_to_string(report).expect("the fixture's report");
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(tid, calls)| (tid.parse().expect("a tid"), calls.parse().expect("a count"))).collect()
}

#[test]
fn a_million_calls_on_64_threads() {
    a_million_calls(&Million { migrate: false, attach: Attach::Default, launch: true });
}

#[test]
fn a_million_calls_on_64_threads_of_a_running_process() {
    a_million_calls(&Million { migrate: false, attach: Attach::Default, launch: false });
}

#[test]
fn a_million_calls_on_64_threads_that_migrate() {
    a_million_calls(&Million { migrate: true, attach: Attach::Default, launch: true });
}

#[test]
fn a_million_calls_on_64_threads_that_migrate_by_perf_links() {
    a_million_calls(&Million { migrate: true, attach: Attach::Perf, launch: false });
}

/// Threads that come and go: (ids in the order they were used, what was recorded).
fn churn(arguments: &[&str], attach: Attach) -> (Vec<u64>, Session) {
    let scratch = Scratch::new();
    let program = fixture::build("churn.c", &[]);
    let report = scratch.join("report");
    let mut target = fixture::waiting(&program, arguments, &report, scratch.path());
    let recorder = Trace::new(&scratch, exe(&["work"])).attach(attach).pid(target.pid());
    target.tell("go");
    drop(target.end().success());
    let text = std::fs::read_to_string(&report).expect("the fixture's report");
    let tids = text.lines().map(|line| line.parse().expect("a tid")).collect();
    (tids, recorder.session().complete())
}

/// Each thread has a folder of its own, with its own calls alone.
fn check_churn(tids: &[u64], session: &Session, calls: u64) {
    assert_eq!(session.threads.len(), tids.len());
    for thread in &session.threads {
        assert!(thread.is_flat(calls), "thread {} has {} events", thread.id, thread.events.len());
    }
    let mut recorded: Vec<u64> = session.threads.iter().map(|thread| thread.tid.into()).collect();
    let mut used = tids.to_vec();
    recorded.sort_unstable();
    used.sort_unstable();
    assert_eq!(recorded, used);
}

#[test]
fn two_thousand_threads_that_come_and_go() {
    if need::root() {
        for attach in tests::recorder::ATTACHES {
            let (tids, session) = churn(&["2000", "8", "5"], attach);
            check_churn(&tids, &session, 5);
        }
    }
}

#[test]
fn threads_that_get_the_same_id_one_after_the_other() {
    if !need::root() {
        return;
    }
    let (tids, session) = churn(&["300", "1", "5", "reuse"], Attach::Default);
    let distinct: BTreeSet<_> = tids.iter().collect();
    assert!(distinct.len() < tids.len(), "the kernel gave every thread an id of its own: nothing is tested");
    check_churn(&tids, &session, 5);
}
