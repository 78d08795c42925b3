//! Asking about sessions: info and dump, here and on another machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::fixture;
use tests::need;
use tests::recorder::{Trace, ada, ada_trace, exe};
use tests::scratch::Scratch;
use tests::session::{Event, Json, Kind, Session, number};

const THREADS: u64 = 3;
const CALLS: u64 = 5;
const EVENTS: u64 = 2 * THREADS * CALLS;

/// A session of a program that does not exist any more, at a place where it was not recorded.
fn sample(scratch: &Scratch) -> (PathBuf, Session) {
    let program = fixture::copied(&fixture::build("threads.c", &[]), scratch.path());
    let arguments = [THREADS, CALLS].map(|number| number.to_string());
    let recorder = Trace::new(scratch, exe(&["work"])).launch(&program, arguments);
    let recorded = recorder.folder.clone();
    drop(recorder.session().complete());
    let folder = scratch.join("elsewhere");
    std::fs::rename(recorded, &folder).expect("the session moved");
    std::fs::remove_file(program).expect("the program removed");
    let session = Session::read(&folder).complete();
    (folder, session)
}

fn dump(folder: &Path, options: &[&str], scratch: &Scratch) -> String {
    let arguments = ["dump".as_ref(), folder.as_os_str()];
    ada(scratch, arguments.into_iter().chain(options.iter().map(AsRef::as_ref))).success().out
}

/// Events as `dump --format jsonl` prints them, with the thread's ordinal and the position in its file.
fn jsonl(folder: &Path, options: &[&str], scratch: &Scratch) -> Vec<Json> {
    let text = dump(folder, &[&["--format", "jsonl"], options].concat(), scratch);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The same event as ada-format reads it.
fn event(line: &Json) -> Event {
    let kind = match line["kind"].as_str() {
        Some("call") => Kind::Call,
        Some("return") => Kind::Return,
        Some("exception") => Kind::Exception,
        _ => panic!("no kind in {line}"),
    };
    Event {
        time_ns: number(line, "time_ns"),
        function: number(line, "function_id"),
        kind,
        depth: u32::try_from(number(line, "depth")).expect("a depth"),
        tid: u32::try_from(number(line, "tid")).expect("a tid"),
    }
}

#[test]
fn dump_as_json_lines_is_what_the_files_hold() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let (folder, session) = sample(&scratch);
    let lines = jsonl(&folder, &[], &scratch);
    assert!(lines.is_sorted_by_key(|line| number(line, "time_ns")), "not in the order of time");
    let mut threads: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
    for line in &lines {
        let events = threads.entry(number(line, "thread")).or_default();
        assert_eq!(number(line, "seq"), events.len() as u64, "{line}");
        events.push(event(line));
        assert_eq!(line["function"], "work");
        assert_eq!(number(line, "pid"), number(&session.manifest["process"][0], "pid"));
        assert!(line["module"].as_str().is_some_and(|path| path.ends_with("/threads")), "{line}");
    }
    let read: BTreeMap<_, _> = session.threads.iter().map(|thread| (thread.id, thread.events.clone())).collect();
    assert_eq!(threads, read);
}

#[test]
fn dump_as_text_has_a_line_for_each_event() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let (folder, session) = sample(&scratch);
    let text = dump(&folder, &[], &scratch);
    assert_eq!(text.lines().filter(|line| line.contains("work")).count() as u64, EVENTS, "{text}");
    for thread in &session.threads {
        assert!(text.contains(&thread.tid.to_string()), "thread {} is not in: {text}", thread.tid);
    }
    assert_eq!(text, dump(&folder, &["--format", "text"], &scratch));
}

#[test]
fn dump_can_be_narrowed() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let (folder, session) = sample(&scratch);
    let all = jsonl(&folder, &[], &scratch);
    assert_eq!(jsonl(&folder, &["--limit", "7"], &scratch), all[..7]);
    assert_eq!(jsonl(&folder, &["--limit", "1000"], &scratch), all);
    let thread = &session.threads[1];
    let of_thread = jsonl(&folder, &["--thread", &thread.id.to_string()], &scratch);
    assert_eq!(of_thread.iter().map(event).collect::<Vec<_>>(), thread.events);
    let nobody = ada(&scratch, ["dump".as_ref(), folder.as_os_str(), "--thread".as_ref(), "77".as_ref()]);
    drop(crate::refusals::check_sentence(nobody, &["77"]));
}

/// Both `--from` and `--to` take the event at that very time in.
#[test]
fn dump_can_be_narrowed_in_time() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let (folder, _) = sample(&scratch);
    let all = jsonl(&folder, &[], &scratch);
    let cut = number(&all[all.len() / 2], "time_ns");
    let first = jsonl(&folder, &["--to", &format!("@{}", cut - 1)], &scratch);
    let rest = jsonl(&folder, &["--from", &format!("@{cut}")], &scratch);
    assert!(first.iter().all(|line| number(line, "time_ns") < cut) && !first.is_empty());
    assert!(rest.iter().all(|line| number(line, "time_ns") >= cut) && !rest.is_empty());
    assert_eq!([first, rest].concat(), all);
    let at = format!("@{cut}");
    assert!(jsonl(&folder, &["--from", &at, "--to", &at], &scratch).contains(&all[all.len() / 2]));
    assert_eq!(jsonl(&folder, &["--from", "0s", "--to", "1h"], &scratch), all, "spans count from the first event");
    assert!(jsonl(&folder, &["--from", "1h"], &scratch).is_empty());
}

#[test]
fn dump_into_a_closed_pipe_is_no_error() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let program = fixture::build("threads.c", &[]);
    let recorder = Trace::new(&scratch, exe(&["work"])).launch(&program, ["4", "20000"]);
    let folder = recorder.folder.clone();
    drop(recorder.session().complete());
    for format in ["text", "jsonl"] {
        let mut command = Command::new(ada_trace());
        command.args(["dump", "--format", format]).arg(&folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ada-trace");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        assert!(line.contains("work") || format == "text", "{line}");
        let ended = child.wait_with_output().expect("its end");
        assert!(ended.status.success(), "{}", ended.status);
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    }
}

#[test]
fn info_says_what_was_recorded() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let (folder, session) = sample(&scratch);
    let info = ada(&scratch, ["info".as_ref(), folder.as_os_str()]).success().out;
    let pid = number(&session.manifest["process"][0], "pid").to_string();
    for fact in ["complete", "exe:work", "/threads", &EVENTS.to_string(), &pid] {
        assert!(info.contains(fact), "no {fact:?} in: {info}");
    }
    let arguments = ["info".as_ref(), folder.as_os_str(), "--format".as_ref(), "jsonl".as_ref()];
    let lines = ada(&scratch, arguments).success().out;
    assert!(!lines.is_empty());
    for line in lines.lines() {
        drop(serde_json::from_str::<Json>(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    }
}

/// A session is read the same wherever it lies, by anyone who may read the files.
#[test]
fn a_copied_session_reads_the_same() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let (folder, _) = sample(&scratch);
    let copy = scratch.join("copy");
    let copied = Command::new("cp").arg("-r").arg(&folder).arg(&copy).status().expect("cp");
    assert!(copied.success());
    let before = dump(&folder, &[], &scratch);
    std::fs::remove_dir_all(&folder).expect("the original removed");
    assert_eq!(dump(&copy, &[], &scratch), before);
    assert!(before.contains("work"));
}

#[test]
fn info_of_a_session_that_loses_a_byte_says_so() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let (folder, session) = sample(&scratch);
    let index = folder.join(format!("thread_{}/index.atf", session.threads[0].id));
    let mut bytes = std::fs::read(&index).expect("an index");
    bytes[64 + 9] ^= 1;
    std::fs::write(&index, bytes).expect("the index changed");
    let ended = ada(&scratch, ["dump".as_ref(), folder.as_os_str()]);
    drop(crate::refusals::check_sentence(ended, &["index.atf", "checksum"]));
}

#[test]
fn a_session_under_way_can_be_read_and_not_recovered() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let board = tests::board::Board::new(scratch.path());
    let program = fixture::build("ticker.c", &[]);
    let mut target = fixture::waiting(&program, &[board.path(), "100"], &scratch.join("report"), scratch.path());
    let recorder = Trace::new(&scratch, exe(&["tick"])).pid(target.pid());
    target.tell("go");
    let index = recorder.folder.join("thread_0/index.atf");
    tests::wait::until("events are on disk", || (std::fs::metadata(&index).ok()?.len() > 64 + 32).then_some(()));
    let info = ada(&scratch, ["info".as_ref(), recorder.folder.as_os_str()]).success().out;
    assert!(info.contains("recording"), "{info}");
    assert!(!jsonl(&recorder.folder, &[], &scratch).is_empty());
    let ended = ada(&scratch, ["recover".as_ref(), recorder.folder.as_os_str()]);
    drop(crate::refusals::check_sentence(ended, &["still being recorded"]));
    board.stop();
    drop(target.end().success());
    assert_eq!(recorder.session().complete().calls("tick"), board.complete());
}
