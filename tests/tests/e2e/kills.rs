//! kill -9, of the recorder and of its target.
//!
//! Invariant: a recorder that is killed loses the last 100 ms at most; a target that is killed loses nothing.

use tests::board::{Board, boottime_ns};
use tests::fixture;
use tests::need;
use tests::process::{Process, Signal};
use tests::recorder::{Trace, ada, exe};
use tests::scratch::Scratch;
use tests::session::{Kind, Session};

/// What a killed recorder may lose, in ns.
const PROMISE_NS: u64 = 100_000_000;

/// Starts a ticker that waits for `go`; `pause_us` between its calls.
fn ticker(board: &Board, pause_us: &str, scratch: &Scratch) -> Process {
    let program = fixture::build("ticker.c", &[]);
    fixture::waiting(&program, &[board.path(), pause_us], &scratch.join("report"), scratch.path())
}

/// Kills the recorder after `calls` calls, recovers, and holds what is there against the ticker's own record.
fn kill_the_recorder(pause_us: &str, calls: u64) {
    let _alone = need::the_machine();
    let scratch = Scratch::in_memory();
    let board = Board::new(scratch.path());
    let mut target = ticker(&board, pause_us, &scratch);
    let recorder = Trace::new(&scratch, exe(&["tick"])).pid(target.pid());
    target.tell("go");
    board.advance(calls);
    let killed_ns = boottime_ns();
    recorder.process.signal(Signal::KILL);
    let folder = recorder.folder.clone();
    drop(recorder.end().killed_by(Signal::KILL));
    board.advance(5);
    board.stop();
    drop(target.end().success());

    assert_eq!(Session::unfinished(&folder).status(), "recording");
    let before = Session::unfinished(&folder).count(Kind::Call);
    let recovered = ada(&scratch, ["recover".as_ref(), folder.as_os_str()]).success();
    assert!(recovered.out.contains("event"), "recover says what it kept: {:?}", recovered.out);
    let session = Session::read(&folder);
    assert_eq!(session.status(), "recovered");
    assert_eq!(session.count(Kind::Call), before, "recovering keeps every event");
    let first_missing_ns = board.time_ns(before);
    let late_ns = killed_ns.saturating_sub(first_missing_ns);
    assert!(late_ns <= PROMISE_NS, "the last {} ms of {before} calls are missing", late_ns / 1_000_000);
}

#[test]
fn a_killed_recorder_of_a_busy_target_loses_100_ms_at_most() {
    if need::root() {
        kill_the_recorder("0", 300_000);
    }
}

#[test]
fn a_killed_recorder_of_a_quiet_target_loses_100_ms_at_most() {
    if need::root() {
        kill_the_recorder("20000", 20);
    }
}

#[test]
fn recovering_a_finished_session_changes_nothing() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let program = fixture::build("nested.c", &[]);
    let recorder = Trace::new(&scratch, exe(&["leaf"])).launch(&program, [""; 0]);
    let folder = recorder.folder.clone();
    let session = recorder.session().complete();
    drop(ada(&scratch, ["recover".as_ref(), folder.as_os_str()]).success());
    let again = Session::read(&folder).complete();
    assert_eq!(again.tree(), session.tree());
    assert_eq!(again.manifest, session.manifest);
}

/// The ticker is killed in the middle of its calls: all that it had completed are there, and one more at most.
fn check_killed_target(session: &Session, board: &Board) {
    let complete = board.complete();
    let calls = session.calls("tick");
    assert!((complete..=complete + 1).contains(&calls), "{calls} calls recorded of {complete} completed");
    assert!(session.count(Kind::Return) >= complete);
    assert!(session.manifest["process"][0]["end_ns"].is_u64(), "{}", session.manifest["process"]);
}

#[test]
fn a_killed_target_loses_nothing() {
    if !need::root() {
        return;
    }
    let _alone = need::the_machine();
    let scratch = Scratch::in_memory();
    let board = Board::new(scratch.path());
    let mut target = ticker(&board, "0", &scratch);
    let recorder = Trace::new(&scratch, exe(&["tick"])).pid(target.pid());
    target.tell("go");
    board.advance(200_000);
    target.signal(Signal::KILL);
    drop(target.end().killed_by(Signal::KILL));
    check_killed_target(&recorder.session().complete(), &board);
}

#[test]
fn a_killed_command_loses_nothing() {
    if !need::root() {
        return;
    }
    let _alone = need::the_machine();
    let scratch = Scratch::in_memory();
    let board = Board::new(scratch.path());
    let recorder = Trace::new(&scratch, exe(&["tick"])).launch(&fixture::build("ticker.c", &[]), [board.path()]);
    let target = tests::process::Stray::new(board.pid());
    board.advance(200_000);
    target.signal(Signal::KILL);
    let session = recorder.session_after(128 + 9).complete();
    check_killed_target(&session, &board);
    assert_eq!(session.manifest["process"][0]["signal"].as_u64(), Some(9), "{}", session.manifest["process"]);
}
