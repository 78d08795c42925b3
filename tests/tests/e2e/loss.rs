//! Loss: when the collector cannot keep up, what is recorded and what is counted as lost is all that was called.

use std::collections::BTreeMap;

use tests::fixture;
use tests::need;
use tests::process::{Ended, Signal};
use tests::recorder::{Trace, exe};
use tests::scratch::Scratch;
use tests::session::{Session, number};

/// Records `threads` threads of `calls` calls each into the smallest rings there are, with the collector stopped.
fn starved(threads: u64, calls: u64, options: &[&str]) -> (Ended, Session) {
    let scratch = Scratch::new();
    let program = fixture::build("threads.c", &[]);
    let report = scratch.join("report");
    let arguments = [threads.to_string(), calls.to_string()];
    let mut target = fixture::waiting(&program, &[&arguments[0], &arguments[1]], &report, scratch.path());
    let trace = Trace::new(&scratch, exe(&["work"])).args(["--buffer-size", "4K"]).args(options);
    let recorder = trace.pid(target.pid());
    recorder.process.signal(Signal::STOP);
    target.tell("go");
    target.said("end");
    recorder.process.signal(Signal::CONT);
    drop(target.end().success());
    let folder = recorder.folder.clone();
    let ended = recorder.end();
    (ended, Session::read(&folder))
}

/// Recorded and lost is called: in all and in each thread.
fn check_totals(session: &Session, threads: u64, calls: u64) {
    let recorded = number(&session.manifest, "event_count");
    assert_eq!(recorded + session.lost(), 2 * threads * calls);
    let entries = session.manifest["threads"].as_array().expect("threads");
    assert_eq!(entries.len() as u64, threads, "a thread that lost every event is listed, too");
    for entry in entries {
        assert_eq!(number(entry, "event_count") + number(entry, "lost"), 2 * calls, "{entry}");
    }
}

/// The gaps of each thread add up to what it lost, and lie where the events are not.
fn check_gaps(session: &Session) {
    let lost = &session.manifest["lost"];
    let by_reason = lost["by_reason"].as_object().expect("reasons");
    assert_eq!(by_reason.values().filter_map(serde_json::Value::as_u64).sum::<u64>(), session.lost());
    assert!(number(&lost["by_reason"], "ring_full") > 0);
    let mut sums = BTreeMap::new();
    for gap in lost["gaps"].as_array().expect("gaps") {
        *sums.entry(number(gap, "thread")).or_insert(0) += number(gap, "count");
        assert!(number(gap, "time_start_ns") <= number(gap, "time_end_ns"), "{gap}");
        check_place(session, gap);
    }
    for entry in session.manifest["threads"].as_array().expect("threads") {
        assert_eq!(sums.get(&number(entry, "id")).copied().unwrap_or(0), number(entry, "lost"), "{entry}");
    }
}

/// What is before the gap is not later than its end, and what is after it not earlier than its start.
fn check_place(session: &Session, gap: &serde_json::Value) {
    let Some(thread) = session.threads.iter().find(|thread| thread.id == number(gap, "thread")) else { return };
    let next = gap["after_index_seq"].as_u64().map_or(0, |seq| usize::try_from(seq).expect("a position") + 1);
    assert!(next <= thread.events.len(), "{gap} lies behind the last of {} events", thread.events.len());
    if let Some(before) = next.checked_sub(1).map(|last| &thread.events[last]) {
        assert!(before.time_ns <= number(gap, "time_end_ns"), "{gap} after {before:?}");
    }
    if let Some(after) = thread.events.get(next) {
        assert!(after.time_ns >= number(gap, "time_start_ns"), "{gap} before {after:?}");
    }
}

#[test]
fn what_is_recorded_and_what_is_lost_is_what_was_called() {
    if !need::root() {
        return;
    }
    let (ended, session) = starved(8, 2_000, &[]);
    let ended = ended.success();
    assert!(session.lost() > 0, "the rings were large enough: nothing is tested");
    assert_eq!(session.status(), "complete");
    assert_eq!(session.manifest["session"]["complete"], serde_json::Value::Bool(false));
    check_totals(&session, 8, 2_000);
    check_gaps(&session);
    assert!(ended.err.contains("LOST"), "loss is never silent, not even with -q: {:?}", ended.err);
}

/// Calls that are written at their return can be lost there: they count like any others.
#[test]
fn what_a_filter_held_back_and_then_lost_is_counted() {
    if !need::root() {
        return;
    }
    let (ended, session) = starved(8, 2_000, &["--min-duration", "1ns"]);
    drop(ended.success());
    assert!(session.lost() > 0, "the rings were large enough: nothing is tested");
    check_totals(&session, 8, 2_000);
    check_gaps(&session);
}

#[test]
fn strict_makes_loss_an_exit_status() {
    if !need::root() {
        return;
    }
    let (ended, session) = starved(2, 2_000, &["--strict"]);
    drop(ended.code(1));
    check_totals(&session, 2, 2_000);
    let (ended, session) = starved(2, 5, &["--strict"]);
    drop(ended.success());
    drop(session.complete());
}
