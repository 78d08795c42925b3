//! Answers to small sessions, compared with literals.

use std::path::Path;

use ada_format::layout::{Arch, ClockType, EventKind, Os};
use ada_format::manifest::{Function, Lost, Manifest, Module, Process, Session, SessionStatus, Thread};
use ada_format::session::thread_folder;
use ada_format::write::{ThreadMeta, ThreadWriter};
use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::cli::args::{Cli, Command};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ada-format/tests/golden/v2_1");
const CALL: EventKind = EventKind::Call;
const RETURN: EventKind = EventKind::Return;

/// What a command line prints to stdout.
fn printed(line: &[&str]) -> String {
    let cli = Cli::try_parse_from([&["ada-trace"], line].concat()).unwrap();
    let plain = |asked: &args::Asked| Question {
        paint: Paint(false),
        ..Question::new(asked.session.as_deref(), &asked.select).unwrap()
    };
    match cli.command {
        Some(Command::Report(args)) => report::answer(&plain(&args.asked), &args).unwrap().0,
        Some(Command::Graph(args)) => graph::answer(&plain(&args.asked), &args).unwrap().0,
        Some(Command::Replay(args)) => {
            let mut text = Vec::new();
            replay::print(&plain(&args.asked), &args, &mut text).unwrap();
            String::from_utf8(text).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

/// Two threads: nested calls, recursion, an unwound call, one without a return, one that runs until the process is killed.
fn sample() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    let function =
        |index: u64, name: &str| Function { function_id: 1 << 32 | index, name: name.into(), ..Function::default() };
    let thread = |id, tid| Thread { id, pid: 42, tid, ..Thread::default() };
    let manifest = Manifest {
        session: Session { status: SessionStatus::Complete, ..Session::default() },
        process: vec![Process { pid: 42, end_ns: Some(20_000), signal: Some(9), ..Process::default() }],
        modules: vec![Module { module_id: 1, path: "/opt/app".into(), ..Module::default() }],
        functions: vec![function(0, "main"), function(1, "fact"), function(2, "thrower"), function(3, "silent")],
        threads: vec![thread(0, 42), thread(1, 43)],
        lost: Lost::default(),
        ..Manifest::default()
    };
    manifest.write_atomic(temp.path()).unwrap();
    let first: [(u64, u64, EventKind, u32); 11] = [
        (1_000, 0, CALL, 0),
        (2_000, 1, CALL, 1),
        (3_000, 1, CALL, 2),
        (4_000, 1, RETURN, 2),
        (6_000, 1, RETURN, 1),
        (7_000, 2, CALL, 1),
        (7_500, 2, EventKind::Exception, 1),
        (8_000, 3, CALL, 1),
        (9_000, 3, CALL, 1),
        (9_500, 1, CALL, 1),
        (9_700, 1, RETURN, 1),
    ];
    write(temp.path(), 0, 42, &first);
    write(temp.path(), 1, 43, &[(2_500, 1, CALL, 0), (2_600, 1, RETURN, 0)]);
    temp
}

fn write(dir: &Path, id: u32, tid: u32, events: &[(u64, u64, EventKind, u32)]) {
    let meta = ThreadMeta { thread_id: tid, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
    let mut writer = ThreadWriter::create(&thread_folder(dir, id), &meta).unwrap();
    for (time, function, kind, depth) in events {
        writer.append(*time, 1 << 32 | function, *kind, *depth).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn report_of_the_golden_session() {
    assert_eq!(printed(&["report", GOLDEN]), "\
3 calls of 2 threads in 18446744072.710 s, 7 events

CALLS              TOTAL               SELF    MEAN     MIN     P50     P95     P99     MAX  <0  NULL  FUNCTION  MODULE
    2  18446744072.710 s  18446744072.710 s  100 ns  100 ns  100 ns  100 ns  100 ns  100 ns   -     -  free      libc.so.6
    1             300 ns             200 ns  300 ns  300 ns  300 ns  300 ns  300 ns  300 ns   0     0  malloc    libc.so.6

3 events lost while recording: counts are too low, and some times are missing
1 signal delivered
");
}

#[test]
fn report_says_what_is_not_known() {
    let temp = sample();
    assert_eq!(
        printed(&["report", temp.path().to_str().unwrap(), "--sort", "calls"]),
        "\
8 calls of 2 threads in 8.700 us, 13 events

CALLS      TOTAL       SELF     MEAN     MIN     P50      P95      P99       MAX  FUNCTION  MODULE
    4   4.300 us   4.300 us  1.32 us  100 ns  200 ns  4.00 us  4.00 us  4.000 us  fact      app
    2          -          -        -       -       -        -        -         -  silent    app
    1  19.000 us  14.300 us        -       -       -        -        -         -  main      app
    1     500 ns     500 ns   500 ns  500 ns  500 ns   500 ns   500 ns    500 ns  thrower   app

2 calls ended without a recorded return: counted, with the time up to the last event in it
1 call ended by SIGKILL: counted, with the time up to there
1 call left by unwinding
"
    );
}

#[test]
fn the_tree_folds_repeats_and_cuts_where_it_is_told() {
    let temp = sample();
    let dir = temp.path().to_str().unwrap();
    let tree = printed(&["graph", dir]);
    let body: Vec<&str> = tree.lines().skip(2).take(7).collect();
    assert_eq!(
        body,
        [
            "    TOTAL       SELF  CALLS  CALL TREE",
            "19.000 us  14.300 us      1  main",
            " 4.200 us   3.200 us      2  ├─ fact",
            " 1.000 us   1.000 us      1  │  └─ fact",
            "   500 ns     500 ns      1  ├─ thrower",
            "        -          -      2  └─ silent",
            "   100 ns     100 ns      1  fact",
        ]
    );
    let cut = printed(&["graph", dir, "--limit", "2"]);
    assert!(cut.contains("   500 ns     500 ns      3  └─ ... and 2 functions more\n"), "{cut}");
    let callers = printed(&["graph", dir, "--callers", "fact"]);
    assert!(callers.contains("4.300 us  4.300 us      4  fact\n"), "{callers}");
}

#[test]
fn replay_nests_and_says_how_calls_ended() {
    let temp = sample();
    assert_eq!(
        printed(&["replay", temp.path().to_str().unwrap()]),
        "\
#  DURATION    TID   CALL
             [  42] main() {
             [  42]   fact() {
      100 ns [  43] fact();
    1.000 us [  42]     fact();
    4.000 us [  42]   } /* fact() */
      500 ns [  42]   thrower(); /* left by unwinding */
             [  42]   silent(); /* its return was not recorded */
             [  42]   silent(); /* its return was not recorded */
      200 ns [  42]   fact();
   19.000 us [  42] } /* main(): SIGKILL killed its process */
"
    );
}

#[test]
fn what_ended_the_calls_that_ran_is_named() {
    let temp = sample();
    let dir = temp.path().to_str().unwrap();
    let end = |how: &dyn Fn(&mut Process)| {
        let mut manifest = Manifest::read(temp.path()).unwrap();
        how(&mut manifest.process[0]);
        manifest.write_atomic(temp.path()).unwrap();
        printed(&["report", dir])
    };
    let text = end(&|process| (process.signal, process.exit_code) = (None, Some(3)));
    assert!(text.contains("1 call ended by the process's exit with status 3: counted"), "{text}");
    let text = end(&|process| process.exit_code = None);
    assert!(text.contains("1 call ended by the process's exit: counted"), "{text}");
    let text = end(&|process| (process.end_ns, process.signal) = (None, None));
    assert!(text.contains("1 call still running when the recording ended: counted"), "{text}");
    let text = printed(&["report", dir, "--to", "3us"]);
    assert!(text.contains("still running when the time range ended: counted"), "{text}");
}

#[test]
fn replay_shows_what_was_given_and_returned() {
    let temp = typed_sample();
    let dir = temp.path().to_str().unwrap();
    assert_eq!(
        printed(&["replay", dir]),
        "\
#  DURATION    TID   CALL
             [  42] open(flags=5) {
      100 ns [  42]   open(flags=6) = 7;
             [  42] /* SIGSEGV SEGV_MAPERR at 0x10 */
      500 ns [  42] } = -1 /* open() */
"
    );
    let lines: Vec<serde_json::Value> = printed(&["replay", dir, "--format", "jsonl"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["enter", "leaf", "signal", "exit", "accounting"]);
    assert_eq!(lines[0]["args"], serde_json::json!({ "flags": 5 }));
    assert_eq!((&lines[1]["args"]["flags"], &lines[1]["return"]), (&serde_json::json!(6), &serde_json::json!(7)));
    assert_eq!((&lines[2]["signal"], &lines[3]["return"]), (&serde_json::json!(11), &serde_json::json!(-1)));
}

/// A function with a signature that calls itself, and a signal.
fn typed_sample() -> TempDir {
    use ada_format::manifest::{Form, Location, Parameter, Part, Signature, Value};
    use ada_format::write::{Detail, FunctionDetail, SignalDetail};
    let temp = sample();
    std::fs::remove_dir_all(thread_folder(temp.path(), 1)).unwrap();
    let mut manifest = Manifest::read(temp.path()).unwrap();
    manifest.threads.truncate(1);
    let value = || Value {
        form: Form::Signed { size: 4 },
        place: vec![Part { offset: 0, size: 4, at: Location::Register(0) }],
        ..Value::default()
    };
    let parameter = Parameter { name: "flags".into(), value: value(), ..Parameter::default() };
    let signature = Signature { parameters: vec![parameter], returns: Some(value()), ..Signature::default() };
    (manifest.functions[0].name, manifest.functions[0].signature) = ("open".into(), Some(Box::new(signature)));
    manifest.write_atomic(temp.path()).unwrap();

    let meta = ThreadMeta { thread_id: 42, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
    let folder = thread_folder(temp.path(), 0);
    std::fs::remove_dir_all(&folder).unwrap();
    let mut writer = ThreadWriter::create(&folder, &meta).unwrap();
    let mut append = |time, kind, depth, register: i32| {
        let mut regs = [0; 8];
        regs[0] = u64::from(register.cast_unsigned());
        let detail = Detail::Function(FunctionDetail { regs, ..FunctionDetail::default() });
        writer.append_with_detail(time, 1 << 32, kind, depth, &detail).unwrap();
    };
    append(1_000, CALL, 0, 5);
    append(1_100, CALL, 1, 6);
    append(1_200, RETURN, 1, 7);
    let signal = SignalDetail { number: 11, code: 1, fault_address: 16, ..SignalDetail::default() };
    writer.append_with_detail(1_300, 1 << 32, EventKind::Exception, 0, &Detail::Signal(signal)).unwrap();
    let detail = FunctionDetail { regs: [u64::from(u32::MAX), 0, 0, 0, 0, 0, 0, 0], ..FunctionDetail::default() };
    writer.append_with_detail(1_500, 1 << 32, RETURN, 0, &Detail::Function(detail)).unwrap();
    writer.finish().unwrap();
    temp
}

#[test]
fn lines_for_programs_are_objects() {
    let temp = sample();
    for command in ["report", "graph", "replay"] {
        let text = printed(&[command, temp.path().to_str().unwrap(), "--format", "jsonl"]);
        let mut kinds = text.lines().map(|line| {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            object["kind"].as_str().unwrap().to_owned()
        });
        assert_eq!(kinds.next_back().as_deref(), Some("accounting"), "{command}");
    }
}

#[test]
fn a_replay_that_is_not_whole_accounts_for_nothing() {
    let temp = sample();
    let kinds = |limit: &str| {
        let text = printed(&["replay", temp.path().to_str().unwrap(), "--format", "jsonl", "--limit", limit]);
        let all = text.lines().count();
        (all, text.contains("\"accounting\""))
    };
    let (all, whole) = kinds("0");
    assert!(whole);
    assert_eq!(kinds(&(all - 1).to_string()), (all, true));
    assert_eq!(kinds(&(all - 2).to_string()), (all - 2, false));
}

#[test]
fn a_number_of_parts_follows_rate_with_or_without_an_equals_sign() {
    let parsed = |line: &[&str]| {
        let cli = Cli::try_parse_from([&["ada-trace", "report"], line].concat()).map_err(|error| error.to_string())?;
        let Some(Command::Report(args)) = cli.command else { panic!() };
        let session = args.session().map_err(|error| error.to_string())?;
        Ok::<_, String>((session.map(|path| path.display().to_string()), args.parts()))
    };
    let folder = || Some("dir".to_owned());
    let table: [(&[&str], _); 7] = [
        (&["dir"], (folder(), None)),
        (&["--rate"], (None, Some(20))),
        (&["--rate", "30"], (None, Some(30))),
        (&["dir", "--rate", "30"], (folder(), Some(30))),
        (&["--rate=30", "dir"], (folder(), Some(30))),
        (&["--rate", "dir"], (folder(), Some(20))),
        (&["--rate", "./20"], (Some("./20".to_owned()), Some(20))),
    ];
    for (line, want) in table {
        assert_eq!(parsed(line), Ok(want), "{line:?}");
    }
    assert!(parsed(&["--rate", "0"]).unwrap_err().contains("a session of that name is ./0"));
    assert!(parsed(&["dir", "--rate", "other"]).unwrap_err().contains("write a number from 1 to 1000"));
}

#[test]
fn what_is_asked_for_in_vain_is_named() {
    let temp = sample();
    let complaint = |line: &[&str]| {
        let cli =
            Cli::try_parse_from([&["ada-trace", "report", temp.path().to_str().unwrap()], line].concat()).unwrap();
        let Some(Command::Report(args)) = cli.command else { panic!() };
        Question::new(args.asked.session.as_deref(), &args.asked.select)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert!(complaint(&["-F", "thrown"]).ends_with("did you mean thrower?"), "{}", complaint(&["-F", "thrown"]));
    assert!(complaint(&["--thread", "9"]).ends_with("it has 0, 1"));
    assert!(complaint(&["--pid", "9"]).ends_with("it has 42"));
    assert!(complaint(&["--from", "5s"]).starts_with("no events"));
    assert!(complaint(&["-N", "/(/"]).contains("is no pattern"));
    assert_eq!(complaint(&["-F", "f*", "--from", "1us"]), "");
}
