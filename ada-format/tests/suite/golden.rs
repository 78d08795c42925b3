//! The golden sessions: they must be readable for ever, and today's writer must still write them.
//!
//! `v2_1` is the format's beginning; `v2_1_memory` came with memory in function details and detail after its event.
//! `ADA_BLESS=1 cargo test -p ada-format golden` writes those that are not there; what is there is never changed.

use std::fs;
use std::path::{Path, PathBuf};

use ada_format::layout::{Arch, ClockType, DetailType, EventKind, NO_DETAIL, Os};
use ada_format::manifest::*;
use ada_format::read::{MemoryEvent, Payload, SessionReader};
use ada_format::session::thread_folder;
use ada_format::write::{Detail, FunctionDetail, Memory, SignalDetail, ThreadMeta, ThreadWriter};
use zerocopy::little_endian::U64;

const MALLOC: u64 = 1 << 32 | 4;
const FREE: u64 = 1 << 32 | 5;
const OPEN: u64 = 1 << 32 | 6;
const FILES: [&str; 4] = ["manifest.json", "thread_0/index.atf", "thread_0/detail.atf", "thread_1/index.atf"];

/// Time, function, kind, depth and detail_seq of an index event.
type Values = (u64, u64, u32, u32, u32);

fn golden() -> PathBuf {
    named("v2_1")
}

fn named(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Compares the golden session `name` with what `write` writes today.
fn check_written(name: &str, write: fn(&Path), files: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    if std::env::var_os("ADA_BLESS").is_some() && !named(name).exists() {
        fs::create_dir_all(named(name)).unwrap();
        write(&named(name));
    }
    for file in files {
        assert_eq!(
            fs::read(dir.path().join(file)).unwrap(),
            fs::read(named(name).join(file)).unwrap(),
            "{name}/{file}"
        );
    }
}

fn meta(thread_id: u32) -> ThreadMeta {
    ThreadMeta { thread_id, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime }
}

fn write(dir: &Path) {
    let call = Detail::Function(FunctionDetail {
        regs: [24, 0x7ffc_0000_1000, 3, 4, 5, 6, 7, 8],
        return_address: 0x5555_5555_51c9,
        frame_pointer: 0x7ffc_0000_2000,
        stack_pointer: 0x7ffc_0000_1ff8,
        stack: b"\xc9\x51\x55\x55\x55\x55\x00\x00golden",
        memory: &[],
    });
    let value =
        Detail::Function(FunctionDetail { regs: [0x5555_5555_92a0, 0, 0, 0, 0, 0, 0, 0], ..Default::default() });
    let registers: Vec<u64> = (1..=18).collect();
    let signal = Detail::Signal(SignalDetail { number: 11, code: 1, fault_address: 0x10, registers: &registers });
    let mut first = ThreadWriter::create(&thread_folder(dir, 0), &meta(4_242)).unwrap();
    first.append_with_detail(1_000_000_007, MALLOC, EventKind::Call, 0, &call).unwrap();
    first.append(1_000_000_107, FREE, EventKind::Call, 1).unwrap();
    first.append(1_000_000_207, FREE, EventKind::Return, 1).unwrap();
    first.append_with_detail(1_000_000_307, MALLOC, EventKind::Return, 0, &value).unwrap();
    first.append_with_detail(1_000_000_407, 0, EventKind::Exception, 0, &signal).unwrap();
    first.finish().unwrap();
    let mut second = ThreadWriter::create(&thread_folder(dir, 1), &meta(4_243)).unwrap();
    second.append(1_000_000_057, FREE, EventKind::Call, 0).unwrap();
    second.append(u64::MAX, FREE, EventKind::Return, 0).unwrap();
    second.finish().unwrap();
    manifest().write_atomic(dir).unwrap();
}

fn manifest() -> Manifest {
    Manifest {
        tool: Tool { name: "ada-trace".into(), version: "0.1.0".into() },
        arch: "x86_64".into(),
        host: Host { kernel: "6.12.0".into(), hostname: "golden".into(), cpus: 2 },
        clock: Clock {
            kind: "boottime".into(),
            anchors: vec![Anchor { boottime_ns: 1_000_000_000, realtime_ns: 1_767_225_600_000_000_000 }],
        },
        session: Session {
            id: "golden".into(),
            started_at: "2026-01-01T00:00:00Z".into(),
            ended_at: Some("2026-01-01T00:00:01Z".into()),
            status: SessionStatus::Complete,
            complete: false,
        },
        time_start_ns: 1_000_000_007,
        time_end_ns: u64::MAX,
        event_count: 7,
        process: vec![process()],
        probes: vec![Probe {
            spec: "libc:{malloc,free}".into(),
            functions: 2,
            skipped: vec![SkippedSymbol { symbol: "memcpy".into(), why: "an ifunc".into() }],
        }],
        modules: vec![Module {
            module_id: 1,
            path: "/usr/lib/libc.so.6".into(),
            language: None,
            build_id: Some("c0ffee".into()),
            bases: [(4_242, 0x7f00_0000_0000)].into(),
        }],
        functions: vec![function(MALLOC, "malloc", 0x9_5a30), function(FREE, "free", 0x9_6050)],
        threads: threads(),
        lost: Lost {
            total: 3,
            by_reason: [("ring_full".into(), 3)].into(),
            gaps: vec![Gap {
                thread: 1,
                after_index_seq: Some(0),
                count: 3,
                time_start_ns: 1_000_000_060,
                time_end_ns: 1_000_000_070,
            }],
            details: 0,
        },
        ..Manifest::default()
    }
}

fn process() -> Process {
    Process {
        pid: 4_242,
        ppid: 1,
        executable: "/usr/bin/golden".into(),
        args: vec!["golden".into(), "--quiet".into()],
        start_ns: 1_000_000_000,
        end_ns: Some(2_000_000_000),
        exit_code: None,
        signal: Some(11),
    }
}

fn function(function_id: u64, name: &str, offset: u64) -> Function {
    Function { function_id, name: name.into(), offset, size: 64, probe_offset: offset, ..Function::default() }
}

fn threads() -> Vec<Thread> {
    let first = Thread {
        id: 0,
        pid: 4_242,
        tid: 4_242,
        name: "golden".into(),
        has_detail: true,
        event_count: 5,
        detail_count: 3,
        time_start_ns: 1_000_000_007,
        time_end_ns: 1_000_000_407,
        ..Thread::default()
    };
    let second = Thread {
        id: 1,
        tid: 4_243,
        name: "worker".into(),
        has_detail: false,
        event_count: 2,
        detail_count: 0,
        time_start_ns: 1_000_000_057,
        time_end_ns: u64::MAX,
        lost: 3,
        ..first.clone()
    };
    vec![first, second]
}

#[test]
fn todays_writer_writes_it() {
    check_written("v2_1", write, &FILES);
    check_written("v2_1_memory", write_memory, &FILES[..3]);
}

/// An `open` and its return, whose detail came after both.
fn write_memory(dir: &Path) {
    let memory = [
        Memory { slot: 0, address: 0x7ffc_0000_3000, full_length: 12, bytes: b"/etc/passwd\0" },
        Memory { slot: 2, address: 0x7ffc_0000_4000, full_length: 4_096, bytes: &[0xAA; 5] },
        Memory { slot: 255, address: u64::MAX, full_length: 0, bytes: b"" },
    ];
    let call =
        FunctionDetail { regs: [1, 2, 3, 4, 5, 6, 7, 8], stack: b"stack", memory: &memory, ..Default::default() };
    let value = FunctionDetail { regs: [3, 0, 0, 0, 0, 0, 0, 0], memory: &memory[..1], ..Default::default() };
    let mut writer = ThreadWriter::create(&thread_folder(dir, 0), &meta(4_242)).unwrap();
    writer.append(1_000, OPEN, EventKind::Call, 0).unwrap();
    writer.append(2_000, OPEN, EventKind::Return, 0).unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.add_detail(0, 1_000, OPEN, EventKind::Call, &Detail::Function(call)).unwrap(), 0);
    writer.append(3_000, OPEN, EventKind::Call, 0).unwrap();
    assert_eq!(writer.add_detail(1, 2_000, OPEN, EventKind::Return, &Detail::Function(value)).unwrap(), 1);
    writer.finish().unwrap();
    Manifest { arch: "x86_64".into(), ..Manifest::default() }.write_atomic(dir).unwrap();
}

#[test]
fn its_memory() {
    let session = SessionReader::open(&named("v2_1_memory")).unwrap();
    let thread = &session.threads()[0];
    thread.verify().unwrap();
    let links: Vec<u32> = thread.index().events().iter().map(|event| event.detail_seq.get()).collect();
    assert_eq!(links, [0, 1, NO_DETAIL]);
    let pieces = |position| {
        let Some(Payload::Function(function)) = thread.detail_of(position).unwrap().unwrap().payload() else {
            panic!()
        };
        let piece = |piece: MemoryEvent<'_>| (piece.slot, piece.address, piece.full_length, piece.bytes.to_vec());
        (function.stack.to_vec(), function.fixed.memory_size.get(), function.memory().map(piece).collect::<Vec<_>>())
    };
    let path = (0, 0x7ffc_0000_3000, 12, b"/etc/passwd\0".to_vec());
    let cut = (2, 0x7ffc_0000_4000, 4_096, vec![0xAA; 5]);
    assert_eq!(pieces(0), (b"stack".to_vec(), 65, vec![path.clone(), cut, (255, u64::MAX, 0, Vec::new())]));
    assert_eq!(pieces(1), (Vec::new(), 28, vec![path]));
    let bytes = fs::read(named("v2_1_memory").join("thread_0/detail.atf")).unwrap();
    let block = &bytes[64 + 24 + 100 + 5..];
    assert_eq!(&block[..28], b"\0\x30\0\0\xfc\x7f\0\0\x0c\0\0\0\x0c\0\0\0/etc/passwd\0");
}

#[test]
fn its_threads() {
    let session = SessionReader::open(&golden()).unwrap();
    assert!(session.broken().is_empty());
    assert_eq!(session.time_range(), Some((1_000_000_007, u64::MAX)));
    let expected: [&[Values]; 2] = [
        &[
            (1_000_000_007, 0x1_0000_0004, 1, 0, 0),
            (1_000_000_107, 0x1_0000_0005, 1, 1, NO_DETAIL),
            (1_000_000_207, 0x1_0000_0005, 2, 1, NO_DETAIL),
            (1_000_000_307, 0x1_0000_0004, 2, 0, 1),
            (1_000_000_407, 0, 3, 0, 2),
        ],
        &[(1_000_000_057, 0x1_0000_0005, 1, 0, NO_DETAIL), (u64::MAX, 0x1_0000_0005, 2, 0, NO_DETAIL)],
    ];
    for ((thread, expected), tid) in session.threads().iter().zip(expected).zip([4_242, 4_243]) {
        thread.verify().unwrap();
        assert!(!thread.recovered());
        assert_eq!(thread.tid(), tid);
        let events = thread.index().events();
        assert!(events.iter().all(|event| event.thread_id.get() == tid));
        let values = |event: &ada_format::layout::IndexEvent| {
            let (time, function) = (event.timestamp_ns.get(), event.function_id.get());
            (time, function, event.event_kind.get(), event.call_depth.get(), event.detail_seq.get())
        };
        assert_eq!(events.iter().map(values).collect::<Vec<_>>(), expected);
    }
    let order: Vec<u32> = session.merged().map(|event| event.thread.id()).collect();
    assert_eq!(order, [0, 1, 0, 0, 0, 0, 1]);
}

#[test]
fn its_headers_and_footers() {
    let session = SessionReader::open(&golden()).unwrap();
    let index = session.threads()[0].index();
    let header = index.header();
    assert_eq!((&header.magic, header.endian, header.version, header.arch, header.os), (b"ATI2", 1, 1, 1, 4));
    assert_eq!((header.flags.get(), header.thread_id.get(), header.clock_type), (1, 4_242, 3));
    assert_eq!((header.event_size.get(), header.event_count.get(), header.events_offset.get()), (32, 5, 64));
    assert_eq!((header.footer_offset.get(), header.reserved), (224, [0; 7]));
    assert_eq!((header.time_start_ns.get(), header.time_end_ns.get()), (1_000_000_007, 1_000_000_407));
    let footer = index.footer().unwrap();
    assert_eq!((&footer.magic, footer.event_count.get(), footer.bytes_written.get()), (b"2ITA", 5, 160));
    assert_eq!((footer.time_start_ns.get(), footer.time_end_ns.get()), (1_000_000_007, 1_000_000_407));
    assert_eq!(session.threads()[1].index().header().flags.get(), 0);

    let detail = session.threads()[0].detail().unwrap();
    let header = detail.header();
    assert_eq!((&header.magic, header.endian, header.version, header.arch, header.os), (b"ATD2", 1, 1, 1, 4));
    assert_eq!((header.flags.get(), header.thread_id.get(), header.events_offset.get()), (0, 4_242, 64));
    assert_eq!((header.event_count.get(), header.bytes_length.get()), (3, 450));
    assert_eq!((header.index_seq_start.get(), header.index_seq_end.get()), (0, 4));
    let footer = detail.footer().unwrap();
    assert_eq!((&footer.magic, footer.event_count.get(), footer.bytes_length.get()), (b"2DTA", 3, 450));
    assert_eq!((footer.time_start_ns.get(), footer.time_end_ns.get()), (1_000_000_007, 1_000_000_407));
}

#[test]
fn its_detail() {
    let session = SessionReader::open(&golden()).unwrap();
    let thread = &session.threads()[0];
    let details: Vec<_> = thread.detail().unwrap().events().collect();
    let heads = details.iter().map(|event| (event.detail_type().unwrap(), event.index_seq(), event.timestamp_ns()));
    let expected = [
        (DetailType::FunctionCall, 0, 1_000_000_007),
        (DetailType::FunctionReturn, 3, 1_000_000_307),
        (DetailType::SignalDelivery, 4, 1_000_000_407),
    ];
    assert_eq!(heads.collect::<Vec<_>>(), expected);
    assert!(details.iter().all(|event| event.header().thread_id.get() == 4_242 && event.header().flags.get() == 0));

    let Some(Payload::Function(call)) = details[0].payload() else { panic!("{:?}", details[0]) };
    assert_eq!(call.fixed.function_id.get(), 0x1_0000_0004);
    assert_eq!(call.fixed.regs.map(U64::get), [24, 0x7ffc_0000_1000, 3, 4, 5, 6, 7, 8]);
    assert_eq!(call.fixed.return_address.get(), 0x5555_5555_51c9);
    assert_eq!((call.fixed.frame_pointer.get(), call.fixed.stack_pointer.get()), (0x7ffc_0000_2000, 0x7ffc_0000_1ff8));
    assert_eq!((call.fixed.stack_size.get(), call.stack), (14, &b"\xc9\x51\x55\x55\x55\x55\x00\x00golden"[..]));
    let Some(Payload::Function(value)) = details[1].payload() else { panic!("{:?}", details[1]) };
    assert_eq!((value.fixed.regs[0].get(), value.stack), (0x5555_5555_92a0, &[][..]));
    let Some(Payload::Signal(signal)) = details[2].payload() else { panic!("{:?}", details[2]) };
    assert_eq!((signal.fixed.number.get(), signal.fixed.code.get(), signal.fixed.fault_address.get()), (11, 1, 0x10));
    assert!(signal.registers.iter().map(|register| register.get()).eq(1..=18));
}

#[test]
fn its_manifest() {
    assert_eq!(Manifest::read(&golden()).unwrap(), manifest());
    let text: serde_json::Value = serde_json::from_slice(&fs::read(golden().join("manifest.json")).unwrap()).unwrap();
    assert_eq!(text["format_version"], "2.1");
    assert_eq!((&text["os"], &text["arch"]), (&"linux".into(), &"x86_64".into()));
    assert_eq!(text["functions"][0]["function_id"], 0x1_0000_0004_u64);
    assert_eq!(text["modules"][0]["bases"]["4242"], 0x7f00_0000_0000_u64);
    assert_eq!(text["threads"][1]["continues"], serde_json::Value::Null);
    assert_eq!(text["lost"]["by_reason"]["ring_full"], 3);
    assert_eq!(text["time_end_ns"], u64::MAX);
}
