//! Dumps of small sessions, compared with literals.

use std::path::Path;

use ada_format::layout::{Arch, ClockType, Os};
use ada_format::manifest::{Function, Lost, Manifest, Module, Process, Session, SessionStatus, Thread};
use ada_format::session::thread_folder;
use ada_format::write::{Detail, FunctionDetail, Memory, SignalDetail, ThreadMeta, ThreadWriter};
use tempfile::TempDir;

use super::*;

const FIRST: u64 = 5_000_000_000;
const OUTER: u64 = 1 << 32;
const MALLOC: u64 = (2 << 32) | 7;
const UNKNOWN: u64 = 9 << 32;

fn thread(dir: &Path, id: u32, tid: u32, write: impl FnOnce(&mut ThreadWriter)) {
    let meta = ThreadMeta { thread_id: tid, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
    let mut writer = ThreadWriter::create(&thread_folder(dir, id), &meta).unwrap();
    write(&mut writer);
    writer.finish().unwrap();
}

fn manifest() -> Manifest {
    let function = |function_id, name: &str| Function { function_id, name: name.into(), ..Function::default() };
    let module = |module_id, path: &str| Module { module_id, path: path.into(), ..Module::default() };
    let thread = |id, tid, name: &str| Thread { id, pid: 42, tid, name: name.into(), ..Thread::default() };
    let gap = Gap {
        thread: 1,
        after_index_seq: None,
        count: 3,
        time_start_ns: FIRST + 1_000,
        time_end_ns: FIRST + 1_500_000_000,
    };
    Manifest {
        session: Session { status: SessionStatus::Complete, ..Session::default() },
        process: vec![Process { pid: 42, ..Process::default() }],
        modules: vec![module(1, "/opt/a \"b\"/app"), module(2, "/lib/libc.so.6")],
        functions: vec![
            Function { demangled: Some("outer(int)".into()), ..function(OUTER, "_Z5outeri") },
            function(MALLOC, "malloc"),
        ],
        threads: vec![thread(0, 42, "app"), thread(1, 43, "wor\u{1b}ker")],
        lost: Lost { total: 3, gaps: vec![gap], ..Lost::default() },
        ..Manifest::default()
    }
}

/// Two threads, detail in one, a gap in the other.
fn sample() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    manifest().write_atomic(temp.path()).unwrap();
    thread(temp.path(), 0, 42, |writer| {
        let registers = FunctionDetail {
            regs: [32, 1, 2, 3, 4, 5, 6, 7],
            return_address: 0x1000,
            frame_pointer: 0x2000,
            stack_pointer: 0x3000,
            stack: &[0xab, 1],
            memory: &[],
        };
        let value = FunctionDetail { regs: [0xbeef, 0, 0, 0, 0, 0, 0, 0], ..FunctionDetail::default() };
        let signal = SignalDetail { number: 11, code: -6, fault_address: 0xdead, registers: &[8, 9] };
        writer.append(FIRST, OUTER, EventKind::Call, 0).unwrap();
        writer.append_with_detail(FIRST + 10, MALLOC, EventKind::Call, 1, &Detail::Function(registers)).unwrap();
        writer.append_with_detail(FIRST + 20, MALLOC, EventKind::Return, 1, &Detail::Function(value)).unwrap();
        writer.append_with_detail(FIRST + 30, OUTER, EventKind::Exception, 0, &Detail::Signal(signal)).unwrap();
        writer.append(FIRST + 12_345_678_901, OUTER, EventKind::Return, 0).unwrap();
    });
    thread(temp.path(), 1, 43, |writer| {
        writer.append(FIRST + 2_000_000_000, UNKNOWN, EventKind::Call, 41).unwrap();
    });
    temp
}

/// What a dump prints, and what it complains of.
fn dump(dir: &Path, format: Format, ids: &[u32], range: Range, limit: Option<u64>) -> (String, Vec<String>) {
    let session = open(dir).unwrap();
    let selection = Selection::new(&session, ids).unwrap();
    let dump = Dump { session: &session, selection: &selection, range: &range, limit };
    let mut printed = Vec::new();
    let out = Out::new(&mut printed);
    let outcome = match format {
        Format::Text => dump.print(&text::Text::new(&session, &selection), out),
        Format::Jsonl => dump.print(&jsonl::Jsonl::new(&session, &selection), out),
    };
    let mut damage = outcome.unwrap().damage;
    selection.verify(&mut damage);
    let complaints = selection.broken.iter().chain(damage.values()).cloned().collect();
    (String::from_utf8(printed).unwrap(), complaints)
}

fn printed(format: Format, ids: &[u32], range: Range, limit: Option<u64>) -> String {
    let (text, complaints) = dump(sample().path(), format, ids, range, limit);
    assert_eq!(complaints, [""; 0]);
    text
}

#[test]
fn text_for_people() {
    let spaces = "  ".repeat(40);
    let want = format!(
        "\
#  TIME (s)    PID/TID  THREAD   CALL
  0.000000000  42/42    app      -> outer(int)
  0.000000010  42/42    app        -> malloc (0x20, 0x1, 0x2, 0x3, 0x4, 0x5)
  0.000000020  42/42    app        <- malloc = 0xbeef
  0.000000030  42/42    app      !! SIGSEGV SI_TKILL
--- 3 events lost between 0.000001000s and 1.500000000s, thread 1 (42/43 wor?ker) ---
  2.000000000  42/43    wor?ker  {spaces}[41] -> function 0x900000000
 12.345678901  42/42    app      <- outer(int)
"
    );
    assert_eq!(printed(Format::Text, &[], Range::default(), None), want);
}

const JSONL: &str = r#"{"time_ns":5000000000,"thread":0,"pid":42,"tid":42,"kind":"call","depth":0,"function_id":4294967296,"function":"_Z5outeri","demangled":"outer(int)","module":"/opt/a \"b\"/app","seq":0}
{"time_ns":5000000010,"thread":0,"pid":42,"tid":42,"kind":"call","depth":1,"function_id":8589934599,"function":"malloc","module":"/lib/libc.so.6","seq":1,"detail":{"regs":[32,1,2,3,4,5,6,7],"return_address":4096,"frame_pointer":8192,"stack_pointer":12288,"stack":"ab01"}}
{"time_ns":5000000020,"thread":0,"pid":42,"tid":42,"kind":"return","depth":1,"function_id":8589934599,"function":"malloc","module":"/lib/libc.so.6","seq":2,"detail":{"regs":[48879,0,0,0,0,0,0,0],"return_address":0,"frame_pointer":0,"stack_pointer":0}}
{"time_ns":5000000030,"thread":0,"pid":42,"tid":42,"kind":"exception","depth":0,"function_id":4294967296,"function":"_Z5outeri","demangled":"outer(int)","module":"/opt/a \"b\"/app","seq":3,"detail":{"signal":11,"name":"SIGSEGV","code":-6,"fault_address":57005,"regs":[8,9]}}
{"time_ns":5000001000,"thread":1,"pid":42,"tid":43,"kind":"lost","count":3,"time_end_ns":6500000000,"after_seq":null}
{"time_ns":7000000000,"thread":1,"pid":42,"tid":43,"kind":"call","depth":41,"function_id":38654705664,"function":null,"module":null,"seq":0}
{"time_ns":17345678901,"thread":0,"pid":42,"tid":42,"kind":"return","depth":0,"function_id":4294967296,"function":"_Z5outeri","demangled":"outer(int)","module":"/opt/a \"b\"/app","seq":4}
"#;

#[test]
fn jsonl_for_programs() {
    let text = printed(Format::Jsonl, &[], Range::default(), None);
    assert_eq!(text, JSONL);
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn a_thread_that_goes_to_another_stack() {
    let temp = tempfile::tempdir().unwrap();
    let mut manifest = manifest();
    manifest.lost = Lost::default();
    manifest.threads.truncate(1);
    manifest.write_atomic(temp.path()).unwrap();
    thread(temp.path(), 0, 42, |writer| {
        writer.append(FIRST, 781, EventKind::Switch, 0).unwrap();
        writer.append(FIRST, OUTER, EventKind::Call, 0).unwrap();
    });
    let (text, _) = dump(temp.path(), Format::Text, &[], Range::default(), None);
    let want = "  0.000000000  42/42    app     -- on stack 781\n  0.000000000  42/42    app     -> outer(int)\n";
    assert!(text.ends_with(want), "{text}");
    let (lines, _) = dump(temp.path(), Format::Jsonl, &[], Range::default(), Some(1));
    let want = r#"{"time_ns":5000000000,"thread":0,"pid":42,"tid":42,"kind":"switch","stack":781,"seq":0}"#;
    assert_eq!(lines.trim_end(), want);
}

#[test]
fn a_dump_can_be_narrowed() {
    let lines: Vec<&str> = JSONL.lines().collect();
    let narrowed = |ids: &[u32], range, limit| {
        let text = printed(Format::Jsonl, ids, range, limit);
        text.lines().map(|line| lines.iter().position(|each| *each == line).unwrap()).collect::<Vec<_>>()
    };
    let all = Range::default();
    assert_eq!(narrowed(&[0], all, None), [0, 1, 2, 3, 6]);
    assert_eq!(narrowed(&[1], all, None), [4, 5]);
    assert_eq!(narrowed(&[], all, Some(4)), [0, 1, 2, 3]);
    assert_eq!(narrowed(&[], all, Some(5)), [0, 1, 2, 3, 4, 5]);
    assert_eq!(narrowed(&[], all, Some(0)), [0; 0]);
    assert_eq!(narrowed(&[], Range { from: Some(FIRST + 20), until: Some(FIRST + 31) }, None), [2, 3]);
    assert_eq!(narrowed(&[], Range { from: Some(FIRST + 1_000_000), until: None }, None), [4, 5, 6]);
    assert_eq!(narrowed(&[], Range { from: Some(u64::MAX), until: None }, None), [0; 0]);
}

#[test]
fn ranges_count_from_the_first_event_and_take_in_both_ends() {
    let temp = sample();
    let session = open(temp.path()).unwrap();
    let range = Range::new(Some("20ns"), Some("@5000000030"), &session).unwrap();
    assert_eq!(range, Range { from: Some(FIRST + 20), until: Some(FIRST + 31) });
    assert!(Range::new(None, None, &session).unwrap().is_all());
    let error = Range::new(Some("2s"), Some("1s"), &session).unwrap_err().to_string();
    assert_eq!(error, "--from 2s lies after --to 1s: exchange them");
    let about = Range::new(Some("1h"), None, &session).unwrap().about(&session);
    let want = "none lies between these times; the session's 6 lie between 0s and 12.345678901s, that is @5000000000 \
        and @17345678901";
    assert_eq!(about, want);
}

#[test]
fn a_thread_that_is_not_there_is_refused() {
    let temp = sample();
    let error = Selection::new(&open(temp.path()).unwrap(), &[0, 77]).unwrap_err().to_string();
    assert_eq!(error, format!("{} has no thread 77: it has 0, 1", temp.path().display()));
}

#[test]
fn a_broken_thread_hides_no_other() {
    let temp = sample();
    let index = temp.path().join("thread_1/index.atf");
    std::fs::write(&index, "not an index at all, but long enough to have a header of 64 bytes").unwrap();
    let (text, complaints) = dump(temp.path(), Format::Jsonl, &[], Range::default(), None);
    assert_eq!(text.lines().filter(|line| !line.contains("lost")).count(), 5);
    assert!(matches!(complaints.as_slice(), [one] if one.contains("thread_1/index.atf")), "{complaints:?}");
    let (_, complaints) = dump(temp.path(), Format::Jsonl, &[0], Range::default(), None);
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn damage_is_named_once_and_does_not_stop_the_dump() {
    let temp = sample();
    let index = temp.path().join("thread_0/index.atf");
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[64 + 20] = 77;
    std::fs::write(&index, bytes).unwrap();
    let (text, complaints) = dump(temp.path(), Format::Text, &[], Range::default(), None);
    assert!(text.contains("?? outer(int)") && text.lines().count() == 8, "{text}");
    assert!(matches!(complaints.as_slice(), [one] if one.contains("checksum")), "{complaints:?}");
}

#[test]
fn a_thread_that_was_only_just_begun_is_not_broken() {
    let temp = sample();
    std::fs::create_dir(temp.path().join("thread_2")).unwrap();
    let (_, complaints) = dump(temp.path(), Format::Text, &[], Range::default(), None);
    assert_eq!(complaints.len(), 1);
    let mut recording = manifest();
    recording.session.status = SessionStatus::Recording;
    recording.write_atomic(temp.path()).unwrap();
    let (_, complaints) = dump(temp.path(), Format::Text, &[], Range::default(), None);
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn a_session_of_which_only_the_end_was_kept_is_dumped_like_any_other() {
    let temp = tempfile::tempdir().unwrap();
    let part = |id, continues| Thread { id, pid: 42, tid: 42, continues, ..Thread::default() };
    let threads = vec![part(4, Some(3)), part(7, Some(4)), part(9, Some(7))];
    Manifest { threads, complete_from_ns: Some(FIRST), ..manifest() }.write_atomic(temp.path()).unwrap();
    thread(temp.path(), 7, 42, |writer| {
        writer.append(FIRST, MALLOC, EventKind::Return, 3).unwrap();
        writer.append(FIRST + 1, OUTER, EventKind::Call, 2).unwrap();
    });
    thread(temp.path(), 9, 42, |writer| {
        writer.append(FIRST + 2, OUTER, EventKind::Return, 2).unwrap();
    });
    for (ids, lines) in [(&[][..], 3), (&[9], 1)] {
        let (text, complaints) = dump(temp.path(), Format::Jsonl, ids, Range::default(), None);
        assert_eq!(complaints, [""; 0]);
        assert_eq!(text.lines().filter(|line| !line.contains("lost")).count(), lines, "{text}");
        assert!(text.contains(r#""thread":9,"pid":42,"tid":42,"kind":"return","depth":2"#), "{text}");
    }
    let error = Selection::new(&open(temp.path()).unwrap(), &[4]).unwrap_err().to_string();
    assert!(error.ends_with("has no thread 4: it has 7, 9"), "{error}");
}

/// What libc's open takes, as a manifest has it.
const OPEN: &str = r#"{
    "parameters": [
        {"name": "path", "type": "const char *", "form": {"kind": "c_string"}, "place": [{"register": 0}], "slot": 0},
        {"name": "flags", "type": "int", "place": [{"register": 1}], "form": {"kind": "flags", "size": 4, "number": 3,
            "names": [{"name": "O_RDONLY", "value": 0}, {"name": "O_CLOEXEC", "value": 524288}]}}
    ],
    "returns": {"type": "int", "form": {"kind": "signed", "size": 4}, "place": [{"register": 0}]},
    "source": "known"
}"#;

#[test]
fn values_with_types() {
    let temp = tempfile::tempdir().unwrap();
    let signature = Some(Box::new(serde_json::from_str(OPEN).unwrap()));
    let open = Function { function_id: OUTER, name: "open".into(), signature, ..Function::default() };
    let manifest = Manifest { functions: vec![open], lost: Lost::default(), ..manifest() };
    manifest.write_atomic(temp.path()).unwrap();
    thread(temp.path(), 0, 42, |writer| {
        let memory = [Memory { slot: 0, address: 0x1000, full_length: 13, bytes: b"/etc/hostname" }];
        let call =
            FunctionDetail { regs: [0x1000, 0o2_000_000, 0, 0, 0, 0, 0, 0], memory: &memory, ..Default::default() };
        let value = FunctionDetail { regs: [3, 0, 0, 0, 0, 0, 0, 0], ..FunctionDetail::default() };
        writer.append_with_detail(FIRST, OUTER, EventKind::Call, 0, &Detail::Function(call)).unwrap();
        writer.append_with_detail(FIRST + 1, OUTER, EventKind::Return, 0, &Detail::Function(value)).unwrap();
    });
    let (text, _) = dump(temp.path(), Format::Text, &[0], Range::default(), None);
    let lines: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split("app  ").nth(1)).map(str::trim).collect();
    assert_eq!(lines, [r#"-> open(path="/etc/hostname", flags=O_RDONLY|O_CLOEXEC)"#, "<- open = 3"]);
    let (text, _) = dump(temp.path(), Format::Jsonl, &[0], Range::default(), None);
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["args"], serde_json::json!({ "path": "/etc/hostname", "flags": "O_RDONLY|O_CLOEXEC" }));
    assert_eq!(lines[1]["return"], 3);
    assert_eq!(lines[1]["detail"]["regs"][0], 3);
}
