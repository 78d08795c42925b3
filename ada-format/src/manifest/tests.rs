//! Tests of reading and writing manifests.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;

fn full() -> Manifest {
    Manifest {
        tool: Tool { name: "ada-trace".into(), version: "0.1.0".into() },
        host: Host { kernel: "6.12".into(), hostname: "host".into(), cpus: 2 },
        clock: Clock { anchors: vec![Anchor { boottime_ns: 1, realtime_ns: 2 }], ..Clock::default() },
        session: Session { id: "s".into(), status: SessionStatus::Complete, complete: true, ..Session::default() },
        time_start_ns: 1,
        time_end_ns: u64::MAX,
        event_count: 3,
        process: vec![Process { pid: 4, args: vec!["a".into()], signal: Some(9), ..Process::default() }],
        probes: vec![Probe {
            spec: "libc:malloc".into(),
            functions: 1,
            skipped: vec![SkippedSymbol { symbol: "f".into(), why: "no".into() }],
        }],
        modules: vec![Module { module_id: 1, bases: [(4, 0x7f00_0000_0000)].into(), ..Module::default() }],
        functions: vec![Function { function_id: u64::MAX, name: "malloc".into(), ..Function::default() }],
        threads: vec![Thread { id: 0, continues: Some(1), ..Thread::default() }],
        lost: Lost {
            total: 5,
            by_reason: [("ring_full".into(), 5)].into(),
            gaps: vec![Gap { after_index_seq: Some(0), count: 5, ..Gap::default() }],
        },
        muted: vec![Muted { function_id: 7, at_ns: 8, calls_per_s: 9 }],
        complete_from_ns: Some(1),
        windows: vec![window()],
        ..Manifest::default()
    }
}

fn window() -> Window {
    let slow = Trigger { kind: "slow".into(), at_ns: 2, what: "slow=f>1ms".into(), ..Trigger::default() };
    let symbol = Trigger { kind: "symbol".into(), thread: Some(3), index_seq: Some(u64::MAX), ..slow.clone() };
    let triggers = vec![slow, symbol];
    Window { start_ns: 1, end_ns: 2, pre_roll_ns: 1, complete: true, details: 9, triggers, ..Window::default() }
}

fn functions(count: u64) -> Vec<Function> {
    let function = |id| Function { function_id: id, name: format!("f{id}"), ..Function::default() };
    (0..count).map(function).collect()
}

#[test]
fn all_of_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    full().write_atomic(dir.path()).unwrap();
    assert_eq!(Manifest::read(dir.path()).unwrap(), full());
    let text = fs::read_to_string(dir.path().join(MANIFEST_FILE)).unwrap();
    assert!(text.contains("\"format_version\": \"2.1\""), "{text}");
    assert!(text.contains("\"type\": \"boottime\""), "{text}");
    assert!(text.contains("\"status\": \"complete\""), "{text}");
    assert!(!text.contains("functions_file"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn keys_may_be_missing_or_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"threads": [{"id": 3, "has_detail": true, "x": 1}], "time_start_ns": 5, "later": {"a": [1]}}"#;
    fs::write(dir.path().join(MANIFEST_FILE), text).unwrap();
    let manifest = Manifest::read(dir.path()).unwrap();
    assert_eq!(manifest.threads, [Thread { id: 3, has_detail: true, ..Thread::default() }]);
    assert_eq!((manifest.time_start_ns, manifest.time_end_ns), (5, 0));
    manifest.write_atomic(dir.path()).unwrap();
    assert_eq!(Manifest::read(dir.path()).unwrap().extra["later"]["a"][0], 1);
}

#[test]
fn triggers_of_any_shape_are_read_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"threads": [], "windows": [{"start_ns": 1, "later": [2], "triggers": [
        "t", 7, null, {"kind": "mark", "at_ns": 18446744073709551615, "by": {"pid": 3}},
        {"kind": 1, "at_ns": "soon", "thread": -1, "index_seq": 1.5, "what": "x"}]}]}"#;
    fs::write(dir.path().join(MANIFEST_FILE), text).unwrap();
    let manifest = Manifest::read(dir.path()).unwrap();
    let window = &manifest.windows[0];
    assert_eq!((window.start_ns, window.complete, &window.extra["later"][0]), (1, false, &2.into()));
    let what: Vec<_> = window.triggers.iter().map(|trigger| trigger.what.as_str()).collect();
    assert_eq!(what, ["t", "7", "null", "", "x"]);
    let mark = &window.triggers[3];
    assert_eq!((mark.kind.as_str(), mark.at_ns, &mark.extra["by"]["pid"]), ("mark", u64::MAX, &3.into()));
    assert_eq!(window.triggers[4], Trigger { what: "x".into(), ..Trigger::default() });
    manifest.write_atomic(dir.path()).unwrap();
    assert_eq!(Manifest::read(dir.path()).unwrap(), manifest);
}

#[test]
fn many_functions_have_their_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let inode = || fs::metadata(dir.path().join(FUNCTIONS_FILE)).map(|data| data.ino()).ok();
    let mut manifest = Manifest { functions: functions(10_000), ..Manifest::default() };
    manifest.write_atomic(dir.path()).unwrap();
    assert_eq!(inode(), None);
    assert_eq!(Manifest::read(dir.path()).unwrap(), manifest);

    manifest.functions = functions(10_001);
    manifest.write_atomic(dir.path()).unwrap();
    let first = inode();
    assert!(first.is_some());
    assert!(fs::metadata(dir.path().join(MANIFEST_FILE)).unwrap().len() < 2_000);
    let read = Manifest::read(dir.path()).unwrap();
    assert_eq!(read.functions, manifest.functions);
    assert_eq!(read.functions_file.as_deref(), Some(FUNCTIONS_FILE));

    read.write_atomic(dir.path()).unwrap();
    assert_eq!(inode(), first, "it has not changed, so it is not written");
    manifest.functions = functions(10_002);
    manifest.write_atomic(dir.path()).unwrap();
    assert_eq!(Manifest::read(dir.path()).unwrap().functions.len(), 10_002);
    assert_ne!(inode(), first);
}

#[test]
fn errors_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(MANIFEST_FILE);
    let error = |text: &str| {
        fs::write(&path, text).unwrap();
        Manifest::read(dir.path()).unwrap_err().to_string()
    };
    for text in ["", "{", "[]", "nonsense", "{\"threads\": 1}", "{\"session\": {\"status\": \"odd\"}}"] {
        let error = error(text);
        assert!(error.contains("manifest.json is not a manifest"), "{text}: {error}");
    }
    for name in ["../../etc/passwd", "/etc/passwd", "a/b", "", ".", ".."] {
        let error = error(&format!("{{\"functions_file\": {name:?}}}"));
        assert!(error.contains("expected the name of a file beside it"), "{name}: {error}");
    }
    assert!(error("{\"functions_file\": \"none.json\"}").contains("none.json"));
    fs::remove_file(&path).unwrap();
    let missing = Manifest::read(dir.path()).unwrap_err().to_string();
    assert!(missing.contains("cannot read") && missing.contains("manifest.json"), "{missing}");
    let nowhere = Manifest::default().write_atomic(&dir.path().join("none")).unwrap_err().to_string();
    assert!(nowhere.contains("none/manifest.json"), "{nowhere}");
}
