//! What `info` says of small sessions.

use std::path::Path;

use ada_format::layout::{Arch, ClockType, EventKind, Os};
use ada_format::manifest::{
    Anchor, Clock, Function, Gap, Host, Lost, Manifest, Module, Probe, Process, Session, SessionStatus, SkippedSymbol,
    Thread, Tool,
};
use ada_format::session::thread_folder;
use ada_format::write::{ThreadMeta, ThreadWriter};
use tempfile::TempDir;

use super::*;

const FIRST: u64 = 5_000_000_000;

fn manifest() -> Manifest {
    let process = |pid, exit_code, signal, end_ns| Process {
        pid,
        ppid: 1,
        executable: "/opt/app".into(),
        args: vec!["app".into(), "--fast".into()],
        exit_code,
        signal,
        end_ns,
        ..Process::default()
    };
    Manifest {
        tool: Tool { name: "ada-trace".into(), version: "0.1.0".into() },
        host: Host { kernel: "6.18.1".into(), hostname: "box".into(), cpus: 2 },
        arch: "x86_64".into(),
        clock: Clock {
            anchors: vec![Anchor { boottime_ns: 0, realtime_ns: 1_767_225_600_000_000_000 }],
            ..Clock::default()
        },
        session: Session {
            id: "s1".into(),
            started_at: "2026-01-01T00:00:05Z".into(),
            ended_at: Some("2026-01-01T00:00:07.5Z".into()),
            status: SessionStatus::Complete,
            complete: false,
        },
        process: vec![
            process(42, Some(3), None, Some(1)),
            process(43, None, Some(11), Some(1)),
            Process { args: vec!["app: waiting for work".into()], ..process(44, None, None, None) },
        ],
        probes: vec![Probe {
            spec: "exe:work".into(),
            functions: 1,
            skipped: vec![SkippedSymbol { symbol: "memcpy".into(), why: "an IFUNC".into() }],
        }],
        modules: vec![Module {
            module_id: 1,
            path: "/opt/app".into(),
            build_id: Some("c0ffee".into()),
            ..Module::default()
        }],
        functions: vec![Function {
            function_id: 1 << 32,
            name: "_Z4workv".into(),
            demangled: Some("work()".into()),
            ..Function::default()
        }],
        threads: vec![Thread {
            id: 0,
            pid: 42,
            tid: 42,
            name: "main".into(),
            lost: 7,
            missed_returns: 2,
            ..Thread::default()
        }],
        lost: Lost {
            total: 7,
            by_reason: [("no_ring".to_owned(), 0), ("ring_full".to_owned(), 7)].into(),
            gaps: vec![Gap {
                thread: 0,
                after_index_seq: None,
                count: 7,
                time_start_ns: FIRST - 1_000,
                time_end_ns: FIRST + 1_000,
            }],
            details: 0,
        },
        ..Manifest::default()
    }
}

fn thread(dir: &Path, id: u32, calls: u64) {
    let meta = ThreadMeta { thread_id: 42 + id, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
    let mut writer = ThreadWriter::create(&thread_folder(dir, id), &meta).unwrap();
    for call in 0..calls {
        let time = FIRST + call * 1_000_000;
        let function = if call % 10 == 9 { 9 << 32 } else { 1 << 32 };
        writer.append(time, function, EventKind::Call, 0).unwrap();
        writer.append(time + 500_000, function, EventKind::Return, 0).unwrap();
    }
    writer.finish().unwrap();
}

fn sample() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    manifest().write_atomic(temp.path()).unwrap();
    thread(temp.path(), 0, 1000);
    temp
}

#[test]
fn text_for_people() {
    let temp = sample();
    let session = open(temp.path()).unwrap();
    let facts = Facts::new(&session, Some(Calls::count(&session)));
    let text = text::text(&facts);
    let (head, tables) = text.split_once("\n\n").unwrap();
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[0], format!("session   {}", temp.path().display()));
    assert_eq!(lines[1], "status    complete, but not every event is in it");
    assert!(
        lines[2].starts_with("recorded  20") && lines[2].ends_with(", for 2.50 s, by ada-trace 0.1.0"),
        "{}",
        lines[2]
    );
    assert_eq!(lines[3], "on        box, linux 6.18.1, x86_64, 2 processors");
    let on_disk = 2 * 64 + 2000 * 32 + std::fs::metadata(temp.path().join("manifest.json")).unwrap().len();
    let bytes = super::super::summary::bytes(on_disk);
    assert_eq!(lines[4], format!("events    2 000 in 1 thread, 2 001 per second, {bytes} on disk"));
    assert_eq!(lines[5], "lost      7 events (7 ring_full) in 1 gap");
    assert_eq!(lines[6], "missed    2 returns never came: the kernel keeps at most 64 pending returns per thread");
    assert_eq!(
        tables,
        "\
PID  PARENT  END                COMMAND
 42       1  exited with 3      /opt/app --fast
 43       1  killed by SIGSEGV  /opt/app --fast
 44       1  went on            app: waiting for work

PROBE     FUNCTIONS  SKIPPED
exe:work          1  memcpy (an IFUNC)

MODULE  PATH      BUILD-ID
     1  /opt/app  c0ffee

THREAD  PID/TID  NAME  EVENTS  DETAIL  FIRST (s)  LAST (s)  LOST  MISSED
     0  42/42    main   2 000       0   0.000000  0.999500     7       2

GAP IN THREAD  LOST   FROM (s)    TO (s)
            0     7  -0.000001  0.000001

CALLS   SHARE  FUNCTION              MODULE
  900  90.0 %  work()                app
  100  10.0 %  function 0x900000000
"
    );
}

#[test]
fn jsonl_for_programs() {
    let temp = sample();
    let session = open(temp.path()).unwrap();
    let object = json::object(&Facts::new(&session, Some(Calls::count(&session))));
    assert!(!object.to_string().contains('\n'));
    assert_eq!((&object["status"], &object["event_count"]), (&"complete".into(), &2000.into()));
    assert_eq!((&object["duration_ns"], &object["events_per_second"]), (&2_500_000_000_u64.into(), &2001.into()));
    assert_eq!((&object["time_start_ns"], &object["calls"]), (&FIRST.into(), &1000.into()));
    assert_eq!(object["functions_by_calls"][0]["function"], "_Z4workv");
    assert_eq!(object["functions_by_calls"][1]["function"], serde_json::Value::Null);
    assert_eq!(object["threads"][0]["pid"], 42);
    assert_eq!(object["lost"]["gaps"][0]["count"], 7);
    let not_counted = json::object(&Facts::new(&session, None));
    assert_eq!(not_counted["functions_by_calls"], serde_json::Value::Null);
}

#[test]
fn long_tables_are_cut() {
    let temp = sample();
    for id in 1..30 {
        thread(temp.path(), id, id.into());
    }
    let session = open(temp.path()).unwrap();
    let text = text::text(&Facts::new(&session, None));
    assert!(text.contains("\n... and 10 more threads\n"), "{text}");
    assert!(text.contains("\n    29  ?/71"), "the busiest are shown: {text}");
    assert!(text.contains("--full"), "{text}");
}

#[test]
fn a_killed_recording_says_what_to_do() {
    let temp = sample();
    let mut manifest = manifest();
    manifest.session = Session::default();
    manifest.lost = Lost::default();
    manifest.write_atomic(temp.path()).unwrap();
    let session = open(temp.path()).unwrap();
    let text = text::text(&Facts::new(&session, None));
    let dir = temp.path().display();
    assert!(text.contains(&format!("killed: the recorder was killed; run ada-trace recover {dir}\n")), "{text}");
    assert!(text.contains("lost      nothing known so far"), "{text}");
    assert!(text.contains("for 1.00 s"), "the last event is the end that is known: {text}");
}

#[test]
fn damage_is_named() {
    let temp = sample();
    let index = temp.path().join("thread_0/index.atf");
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&index, bytes).unwrap();
    let session = open(temp.path()).unwrap();
    let calls = Calls::count(&session);
    assert!(matches!(calls.damage.as_slice(), [one] if one.contains("checksum")), "{:?}", calls.damage);
}

#[test]
fn a_session_that_was_kept_short_says_from_when_it_is_whole() {
    let temp = tempfile::tempdir().unwrap();
    let part = |id, tid, continues| Thread { id, pid: 42, tid, continues, ..Thread::default() };
    // Thread 42 began in folder 3 and thread 44 in folder 1, which are gone.
    let threads = vec![part(3, 42, None), part(5, 42, Some(3)), part(6, 44, Some(1)), part(9, 42, Some(5))];
    let clock = Clock { anchors: vec![Anchor { boottime_ns: FIRST, realtime_ns: 0 }], ..Clock::default() };
    let manifest = Manifest { threads, clock, complete_from_ns: Some(FIRST + 1_500_000_000), ..Manifest::default() };
    manifest.write_atomic(temp.path()).unwrap();
    [5, 6, 9].into_iter().for_each(|id| thread(temp.path(), id, 10));
    let session = open(temp.path()).unwrap();
    assert_eq!(broken(&session).count(), 0);
    let facts = Facts::new(&session, Some(Calls::count(&session)));
    assert_eq!((facts.thread_count(), facts.damage().len()), (2, 0));
    let text = text::text(&facts);
    assert!(text.contains("\nevents    60 in 2 threads"), "{text}");
    assert!(text.contains(":01.500 ") && text.contains("; older events were deleted\n"), "{text}");
    let object = json::object(&facts);
    assert_eq!(object["complete_from_ns"], FIRST + 1_500_000_000);
    assert_eq!((&object["threads"][0]["continues"], &object["windows"]), (&3.into(), &serde_json::json!([])));
}
