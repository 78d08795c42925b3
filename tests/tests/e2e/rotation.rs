//! Recordings of which only the newest events are kept.
//!
//! Invariant: from `complete_from_ns` on every event is there, whatever was deleted before; and what was deleted is
//! counted.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::board::{Board, boottime_ns};
use tests::fixture;
use tests::need;
use tests::process::{Process, Signal};
use tests::recorder::{Recorder, Trace, ada, ada_trace, exe};
use tests::scratch::Scratch;
use tests::session::{Event, Kind, Session, number};

/// Tickers that wait for `go`, each with a board and a folder of its own.
fn tickers(scratch: &Scratch, count: usize, pause_us: &str) -> Vec<(Board, Process)> {
    let program = fixture::build("ticker.c", &[]);
    let start = |number: usize| {
        let folder = scratch.join(format!("ticker-{number}"));
        fs::create_dir(&folder).expect("a folder");
        let board = Board::new(&folder);
        let process = fixture::waiting(&program, &[board.path(), pause_us], &folder.join("report"), &folder);
        (board, process)
    };
    (0..count).map(start).collect()
}

/// Records tickers, of which it starts all.
fn recording(scratch: &Scratch, tickers: &mut [(Board, Process)], options: &[&str]) -> Recorder {
    let pids: Vec<String> = tickers.iter().map(|(_, process)| process.pid().to_string()).collect();
    let pids = pids.iter().flat_map(|pid| ["-p", pid]);
    let recorder = Trace::new(scratch, exe(&["tick"])).args(options).args(pids).start().recording();
    tickers.iter_mut().for_each(|(_, process)| process.tell("go"));
    recorder
}

fn end(tickers: Vec<(Board, Process)>) -> Vec<Board> {
    tickers.iter().for_each(|(board, _)| board.stop());
    let ended = tickers.into_iter().map(|(board, process)| {
        drop(process.end().success());
        board
    });
    ended.collect()
}

/// Bytes in the threads' folders.
fn size(folder: &Path) -> u64 {
    let threads = fs::read_dir(folder).into_iter().flatten().flatten();
    let threads = threads.filter(|entry| entry.file_name().to_string_lossy().contains("thread_"));
    let files = threads.flat_map(|thread| fs::read_dir(thread.path()).into_iter().flatten().flatten());
    files.map(|file| file.metadata().map_or(0, |file| file.len())).sum()
}

/// The events of a thread, over all of its folders.
fn events_of(session: &Session, tid: u32) -> Vec<Event> {
    let parts = session.threads.iter().filter(|thread| thread.tid == tid);
    parts.flat_map(|thread| thread.events.iter().copied()).collect()
}

/// From when on it is all there, by the manifest.
fn complete_from(session: &Session) -> u64 {
    number(&session.manifest, "complete_from_ns")
}

/// What is there of a ticker after `from_ns`: flat calls, as many as it made.
fn check_ticker(session: &Session, board: &Board, from_ns: u64) -> u64 {
    let all = events_of(session, board.pid());
    let calls: Vec<u64> = all.iter().filter(|event| event.kind == Kind::Call).map(|event| event.time_ns).collect();
    let kept = calls.iter().filter(|time_ns| **time_ns >= from_ns).count() as u64;
    // A call is complete a moment after it was made.
    let made = (0..board.complete()).rev().take_while(|call| board.time_ns(*call) >= from_ns).count() as u64;
    assert!(made == kept || made == kept + 1, "{kept} calls since {from_ns} of {made}");
    assert!(all.is_sorted_by_key(|event| event.time_ns) && all.iter().all(|event| event.depth == 0));
    let whole: Vec<Kind> = all.iter().filter(|event| event.time_ns >= from_ns).map(|event| event.kind).collect();
    assert!(whole.windows(2).all(|pair| pair[0] != pair[1]), "calls and returns alternate");
    kept
}

/// What is kept and what was cut is all that there was.
fn check_sum(session: &Session, boards: &[Board]) {
    let called: u64 = boards.iter().map(Board::complete).sum();
    let cut = &session.manifest["cut"];
    assert_eq!(number(&session.manifest, "event_count") + number(cut, "events"), 2 * called);
    assert!(number(cut, "folders") > 0);
}

#[test]
fn the_last_second_is_there() {
    if !need::root() {
        return;
    }
    let _alone = need::the_machine();
    let scratch = Scratch::in_memory();
    let mut tickers = tickers(&scratch, 3, "200");
    let recorder = recording(&scratch, &mut tickers, &["--keep", "1s"]);
    std::thread::sleep(std::time::Duration::from_secs(4));
    let folder = recorder.folder.clone();
    let boards = end(tickers);
    let session = recorder.session().complete();
    let from_ns = complete_from(&session);
    let end_ns = number(&session.manifest, "time_end_ns");
    let ended_ns = number(&session.manifest["clock"]["anchors"][1], "boottime_ns");
    assert!(from_ns + 1_000_000_000 <= ended_ns, "only {} ms are kept", (ended_ns - from_ns) / 1_000_000);
    assert!(boards.iter().all(|board| check_ticker(&session, board, from_ns) > 100));
    check_sum(&session, &boards);
    let oldest_ns = session.threads.iter().map(|thread| thread.events[0].time_ns).min().expect("threads");
    assert!(oldest_ns + 2_000_000_000 > end_ns, "what is older was not deleted");
    let named = |name: &str| ada(&scratch, [name.as_ref(), folder.as_os_str()]).success().out;
    let info = named("info");
    assert!(info.contains("before were dropped as asked") && info.contains(" in 3 threads"), "{info}");
    assert_eq!(named("dump").lines().filter(|line| line.contains("-> tick")).count() as u64, session.calls("tick"));
    assert!(named("recover").contains("there was nothing to recover"));
}

#[test]
fn a_small_size_is_kept_while_it_records() {
    const MAX: u64 = 1 << 20;
    if !need::root() {
        return;
    }
    let _alone = need::the_machine();
    let scratch = Scratch::in_memory();
    let mut tickers = tickers(&scratch, 2, "0");
    let recorder = recording(&scratch, &mut tickers, &["--max-size", "1M"]);
    let written =
        |tickers: &[(Board, Process)]| -> u64 { tickers.iter().map(|(board, _)| 64 * board.complete()).sum() };
    let mut samples = vec![(0, 0)];
    for _ in 0..400 {
        let size = size(&recorder.folder);
        samples.push((size, written(&tickers)));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let folder = recorder.folder.clone();
    let boards = end(tickers);
    let session = recorder.session().complete();
    // What goes is gone some ticks later: on top there is what was written meanwhile, within a second even where the
    // recorder has to wait for a processor.
    for (at, (size, now)) in samples.iter().enumerate() {
        let before = samples[at.saturating_sub(100)].1;
        assert!(*size <= MAX + now - before, "{size} bytes at sample {at}, of {} within a second", now - before);
    }
    assert!(samples[400].1 > 8 * MAX);
    assert!((MAX / 4..=MAX).contains(&size(&folder)), "{} bytes in the end", size(&folder));
    check_sum(&session, &boards);
    let last = |board: &Board| events_of(&session, board.pid()).last().copied();
    assert!(boards.iter().all(|board| last(board).is_some_and(|event| event.kind == Kind::Return)));
    assert_eq!(session.manifest["threads"].as_array().map(Vec::len), Some(fs_folders(&folder)));
}

fn fs_folders(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("the session").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().contains("thread_")).count()
}

#[test]
fn a_killed_recorder_leaves_a_session_that_can_be_recovered() {
    if !need::root() {
        return;
    }
    let _alone = need::the_machine();
    let scratch = Scratch::in_memory();
    for options in [["--keep", "1s"], ["--max-size", "1M"]] {
        let mut tickers = tickers_in(&scratch, options[0]);
        let recorder = recording(&scratch, &mut tickers, &options);
        std::thread::sleep(std::time::Duration::from_millis(2500));
        let folder = recorder.folder.clone();
        recorder.process.signal(Signal::KILL);
        let killed_ns = boottime_ns();
        drop(recorder.end().killed_by(Signal::KILL));
        let boards = end(tickers);
        assert_eq!(Session::unfinished(&folder).status(), "recording");
        drop(ada(&scratch, ["recover".as_ref(), folder.as_os_str()]).success());
        let session = Session::read(&folder);
        assert_eq!(session.status(), "recovered");
        let from_ns = complete_from(&session);
        assert!(number(&session.manifest["cut"], "events") > 0);
        for board in &boards {
            check_recovered(&session, board, from_ns, killed_ns);
        }
    }
}

fn tickers_in(scratch: &Scratch, name: &str) -> Vec<(Board, Process)> {
    let program = fixture::build("ticker.c", &[]);
    let folder = scratch.join(name);
    fs::create_dir(&folder).expect("a folder");
    let board = Board::new(&folder);
    let process = fixture::waiting(&program, &[board.path(), "50"], &folder.join("report"), &folder);
    vec![(board, process)]
}

/// All calls are there from `from_ns` on, until 100 ms before the kill at the latest.
fn check_recovered(session: &Session, board: &Board, from_ns: u64, killed_ns: u64) {
    let events = events_of(session, board.pid());
    let last_ns = events.last().expect("events").time_ns;
    assert!(killed_ns.saturating_sub(last_ns) <= 100_000_000, "the last {} ns are missing", killed_ns - last_ns);
    let kept = events.iter().filter(|event| event.kind == Kind::Call && event.time_ns >= from_ns).count() as u64;
    let times = (0..board.complete()).map(|call| board.time_ns(call));
    let made = times.filter(|time_ns| (from_ns..=last_ns).contains(time_ns)).count() as u64;
    assert!(made.abs_diff(kept) <= 1, "{kept} calls of {made}");
}

#[test]
fn short_lived_threads_leave_nothing_behind() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::in_memory();
    let program = fixture::build("churn.c", &[]);
    let trace = Trace::new(&scratch, exe(&["work"])).args(["--max-size", "1M"]);
    let recorder = trace.launch(&program, ["2000", "4", "3"]);
    let folder = recorder.folder.clone();
    let session = recorder.session().complete();
    let entries = session.manifest["threads"].as_array().expect("threads").len() as u64;
    // A folder and a block of its file are 8 KiB.
    assert!(entries <= (1 << 20) / 8192, "{entries} threads are listed");
    assert_eq!(fs_folders(&folder) as u64, entries);
    let cut = &session.manifest["cut"];
    assert_eq!(number(&session.manifest, "event_count") + number(cut, "events"), 2 * 2000 * 3);
}

#[test]
fn the_summary_says_what_was_dropped() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::in_memory();
    let mut command = Command::new(ada_trace());
    command.args(["--max-size", "1M", "-e", "exe:work", "-o"]).arg(scratch.join("session"));
    command.arg("--").arg(fixture::build("worker.c", &[])).args(["100000", "0"]);
    let said = tests::process::run(&mut command, scratch.path()).success().err;
    assert!(said.contains("1 thread,") && said.contains("kept the last "), "{said}");
    assert!(said.contains(" events before were dropped as asked\n"), "{said}");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let scratch = Scratch::new();
    for (option, value, mend) in [
        ("--keep", "0", "at least 1s"),
        ("--keep", "soon", "soon"),
        ("--max-size", "1K", "at least 1M"),
        ("--max-size", "-2G", "at least 1M"),
    ] {
        let given = format!("{option}={value}");
        let said = ada(&scratch, [given.as_str(), "-e", "libc:malloc", "--", "true"]).code(2).err;
        assert!(said.contains(value) && said.contains(mend), "{said}");
    }
}
