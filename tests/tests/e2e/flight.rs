//! The flight recorder: the index holds everything, and details exist for exactly the windows that the manifest lists.

use tests::fixture;
use tests::need;
use tests::process::Signal;
use tests::recorder::{Recorder, Trace, exe};
use tests::scratch::Scratch;
use tests::session::{Json, Kind, Session, number};
use tests::windows::{self, Counts};

const MS: u64 = 1_000_000;

/// Begins to record all functions of the fixture `moments` with detail, which does what `script` says.
fn begin(scratch: &Scratch, options: &[&str], script: &[&str]) -> Recorder {
    let functions = exe(&["quick", "slow", "fire", "crash"]);
    let trace = Trace::new(scratch, functions).arg("--detail").args(options);
    trace.launch(&fixture::build("moments.c", &[]), script)
}

/// The same to the end, which has exit status `code`; the windows are what they should be.
fn fly(options: &[&str], script: &[&str], code: i32) -> (Session, Counts) {
    let scratch = Scratch::new();
    let session = begin(&scratch, options, script).session_after(code).complete();
    let counts = windows::check(&session.folder, &session.manifest);
    (session, counts)
}

fn only_window(session: &Session) -> &Json {
    let [window] = windows::all(&session.manifest) else { panic!("not one window: {}", session.manifest["windows"]) };
    window
}

/// When the events of `kind` of the function `name` happened, in the order of threads and time.
fn times(session: &Session, name: &str, kind: Kind) -> Vec<u64> {
    let events = session.threads.iter().flat_map(|thread| &thread.events);
    events
        .filter(|event| event.kind == kind && session.name(event.function) == name)
        .map(|event| event.time_ns)
        .collect()
}

fn total(counts: &Counts) -> u64 {
    counts.values().sum()
}

/// How many events come before `time_ns`, in all threads.
fn before(session: &Session, time_ns: u64) -> u64 {
    session.threads.iter().flat_map(|thread| &thread.events).filter(|event| event.time_ns < time_ns).count() as u64
}

#[test]
fn details_of_a_slow_call_and_what_is_around_it() {
    if !need::root() {
        return;
    }
    let options = ["--trigger", "slow=exe:slow>50ms", "--pre-roll", "40ms", "--post-roll", "30ms"];
    // One that is not slow, and opens no window.
    let (session, counts) = fly(&options, &["slow:1", "paced:150", "slow:60", "paced:150"], 0);
    assert_eq!((session.calls("quick"), session.calls("slow")), (304, 2), "the index is complete");
    let calls = times(&session, "slow", Kind::Call).into_iter().zip(times(&session, "slow", Kind::Return));
    // On a machine that lets it wait, the first one is slow, too.
    let slow: Vec<(u64, u64)> = calls.filter(|(call, back)| back - call > 50 * MS).collect();
    let windows = windows::all(&session.manifest);
    assert_eq!(windows.len(), slow.len(), "{windows:?}");
    let (Some(window), Some(&(call, back))) = (windows.last(), slow.last()) else { panic!("nothing was slow") };
    assert_eq!(windows::span(window), call - 40 * MS..=back + 30 * MS);
    assert_eq!((number(window, "pre_roll_ns"), &window["complete"]), (40 * MS, &Json::Bool(true)));
    let trigger = &window["triggers"][0];
    assert_eq!(windows::kinds(window), ["slow"]);
    assert_eq!(trigger["what"], "slow=exe:slow>50ms");
    assert_eq!(number(trigger, "at_ns"), back);
    let fired = usize::try_from(number(trigger, "index_seq")).expect("a position");
    assert_eq!(session.threads[0].events[fired].time_ns, back);
    let events = number(&session.manifest, "event_count");
    assert!((6..events - 100).contains(&total(&counts)), "{} of {events}", total(&counts));
}

#[test]
fn without_a_trigger_that_fires_there_are_no_details() {
    if !need::root() {
        return;
    }
    let options = ["--trigger", "slow=exe:slow>50s", "--trigger", "signal", "--trigger", "exit!=0"];
    let (session, counts) = fly(&options, &["quick:100", "slow:1", "threads:3"], 0);
    assert!(windows::all(&session.manifest).is_empty());
    assert_eq!((session.calls("quick"), total(&counts)), (132, 0));
    assert!(session.threads.iter().all(|thread| thread.entry["has_detail"] == Json::Bool(false)));
}

/// The details are there although their process is gone.
#[test]
fn what_led_to_a_crash() {
    if !need::root() {
        return;
    }
    let options = ["--trigger", "signal=SIGSEGV", "--pre-roll", "100"];
    let (session, counts) = fly(&options, &["quick:500", "threads:2", "crash"], 128 + 11);
    let window = only_window(&session);
    assert_eq!(windows::kinds(window), ["signal"]);
    // 100 details before the signal, and its own.
    assert_eq!(total(&counts), 101);
    assert_eq!(before(&session, *windows::span(window).start()), 2 * (500 + 20) + 1 - 100);
    assert_eq!((session.calls("quick"), session.calls("crash"), session.count(Kind::Exception)), (520, 1, 1));
    assert_eq!(number(&session.manifest["process"][0], "signal"), 11);
}

#[test]
fn what_led_to_a_failure() {
    if !need::root() {
        return;
    }
    let options = ["--trigger", "exit!=0", "--pre-roll", "1h"];
    let (session, counts) = fly(&options, &["quick:10", "threads:5", "exit:3"], 3);
    let window = only_window(&session);
    assert_eq!(windows::kinds(window), ["exit"]);
    assert_eq!(window["complete"], Json::Bool(true), "nothing was before the recording");
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [20; 6], "also of threads that had ended");
    let (session, _) = fly(&options, &["quick:10", "threads:5", "exit:0"], 0);
    assert!(windows::all(&session.manifest).is_empty());
    // A status that is waited for.
    let (session, _) = fly(&["--trigger", "exit=3"], &["quick:1", "exit:4"], 4);
    assert!(windows::all(&session.manifest).is_empty());
}

#[test]
fn samples_of_a_long_recording() {
    if !need::root() {
        return;
    }
    let options = ["--trigger", "every=100ms", "--pre-roll", "10ms", "--post-roll", "10ms"];
    let (session, _) = fly(&options, &["paced:400"], 0);
    assert_eq!(session.calls("quick"), 400);
    let all = windows::all(&session.manifest);
    assert!(!all.is_empty());
    let mut last_ns = 0;
    for (position, window) in all.iter().enumerate() {
        let fired: Vec<_> =
            window["triggers"].as_array().expect("triggers").iter().map(|t| number(t, "at_ns")).collect();
        assert_eq!(windows::kinds(window), vec!["every"; fired.len()]);
        assert_eq!(*windows::span(window).start(), fired[0] - 10 * MS);
        assert!(position + 1 == all.len() || *windows::span(window).end() == fired[fired.len() - 1] + 10 * MS);
        for at_ns in fired {
            assert!(last_ns == 0 || (at_ns - last_ns).is_multiple_of(100 * MS), "not in step: {at_ns} after {last_ns}");
            last_ns = at_ns;
        }
    }
}

#[test]
fn rolls_that_are_counted_in_details() {
    if !need::root() {
        return;
    }
    let options = ["--trigger", "symbol=exe:fire", "--pre-roll", "7", "--post-roll", "5"];
    let (session, counts) = fly(&options, &["quick:100", "fire", "quick:100"], 0);
    let window = only_window(&session);
    let fired = times(&session, "fire", Kind::Call)[0];
    assert_eq!(before(&session, *windows::span(window).start()), 200 - 7);
    // Those before, the call, and those after.
    assert_eq!(total(&counts), 7 + 1 + 5);
    assert_eq!(number(&window["triggers"][0], "at_ns"), fired);
    assert_eq!(number(window, "pre_roll_ns"), fired - windows::span(window).start());
}

#[test]
fn details_of_threads_that_ended_before_the_trigger() {
    if !need::root() {
        return;
    }
    let options = ["--trigger", "symbol=exe:fire", "--pre-roll", "200"];
    let (session, counts) = fly(&options, &["quick:500", "threads:10", "fire"], 0);
    assert_eq!(session.threads.len(), 11);
    // Twenty of each of the ten threads, and the call that fired and its return.
    let mut counts: Vec<_> = counts.values().copied().collect();
    counts.sort_unstable();
    assert_eq!(counts, [[2].as_slice(), &[20; 10]].concat());
}

#[test]
fn a_buffer_that_is_too_small_tells_how_far_it_reached() {
    if !need::root() {
        return;
    }
    let options = ["--trigger", "symbol=exe:fire", "--pre-roll", "1h", "--detail-buffer", "128K"];
    let (session, counts) = fly(&options, &["quick:5000", "fire"], 0);
    let window = only_window(&session);
    assert_eq!(window["complete"], Json::Bool(false));
    let (start, fired) = (*windows::span(window).start(), times(&session, "fire", Kind::Call)[0]);
    assert_eq!(number(window, "pre_roll_ns"), fired - start);
    let lost = before(&session, start);
    assert_eq!(lost + total(&counts), 2 * 5001);
    // 128 KiB hold so many of at least 124 bytes.
    assert!((10..(128 << 10) / 124 + 2).contains(&total(&counts)), "{}", total(&counts));
    assert_eq!(session.calls("quick"), 5000, "the index is complete");
}

#[test]
fn windows_that_overlap_are_one() {
    if !need::root() {
        return;
    }
    let options = ["--trigger", "symbol=exe:fire", "--trigger", "slow=exe:slow>20ms", "--pre-roll", "1s"];
    let options = [&options[..], &["--post-roll", "10s"]].concat();
    let (session, counts) = fly(&options, &["quick:20", "fire", "paced:20", "slow:30", "fire", "quick:20"], 0);
    let window = only_window(&session);
    assert_eq!(windows::kinds(window), ["symbol", "slow", "symbol"]);
    assert_eq!(window["complete"], Json::Bool(true));
    assert_eq!(total(&counts), number(&session.manifest, "event_count"));
    // Far enough from each other they are two.
    let options = ["--trigger", "symbol=exe:fire", "--pre-roll", "3", "--post-roll", "3"];
    let (session, counts) = fly(&options, &["quick:20", "fire", "quick:20", "fire", "quick:20"], 0);
    assert_eq!((windows::all(&session.manifest).len(), total(&counts)), (2, 2 * 7));
}

#[test]
fn a_recording_that_ends_within_a_window() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let recorder =
        begin(&scratch, &["--trigger", "symbol=exe:fire", "--post-roll", "1h"], &["fire", "quick:50", "wait"]);
    let mut recorder = recorder.recording();
    recorder.process.said("waits");
    recorder.process.signal(Signal::INT);
    let session = recorder.session().complete();
    let counts = windows::check(&session.folder, &session.manifest);
    assert_eq!(total(&counts), 102);
    let window = only_window(&session);
    let last = session.threads[0].events.last().expect("an event").time_ns;
    assert!(*windows::span(window).end() >= last);
    assert!(*windows::span(window).end() < last + 600_000 * MS, "no later than the recording ended");
}

#[test]
fn a_child_that_crashes() {
    if !need::root() {
        return;
    }
    let options = ["-f", "--trigger", "signal=SEGV", "--pre-roll", "1h", "--post-roll", "0"];
    let script = ["quick:30", "fork:2", "quick:40", "crash", "quick:50"];
    let (session, counts) = fly(&options, &script, 0);
    let window = only_window(&session);
    assert_eq!(windows::kinds(window), ["signal"]);
    let [parent, child] = session.threads.as_slice() else {
        panic!("not two threads: {}", session.manifest["threads"])
    };
    assert_eq!((parent.count(Kind::Call), child.count(Kind::Call)), (80, 41));
    assert_eq!(number(&window["triggers"][0], "thread"), child.id);
    // What the parent did before, and all of the child up to its signal.
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [60, 82]);
    let processes = session.manifest["process"].as_array().expect("processes");
    assert_eq!(processes.iter().map(|process| process["signal"].as_u64()).collect::<Vec<_>>(), [None, Some(11)]);
}
