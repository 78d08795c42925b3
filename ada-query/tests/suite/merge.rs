//! Merged sessions against the union of what they were made of.

use std::path::{Path, PathBuf};

use ada_format::layout::{Arch, ClockType, EventKind, Os};
use ada_format::manifest::{
    Anchor, Clock, Function, Gap, Host, Lost, Manifest, Module, Process, Session, SessionStatus, Thread,
};
use ada_format::read::{Payload, SessionReader};
use ada_format::session::thread_folder;
use ada_format::write::{Detail, FunctionDetail, ThreadMeta, ThreadWriter};
use ada_query::merge::{MergeError, Merged, merge};
use ada_query::trace::Trace;
use ada_query::verify::verify;
use proptest::prelude::*;
use tempfile::TempDir;

/// A session to be written: its host's boot clock is `base` behind the wall clock.
#[derive(Clone, Debug)]
struct Made {
    host: &'static str,
    base: u64,
    /// Steps of time, functions, whether with detail; by thread.
    threads: Vec<Vec<(u64, u32, bool)>>,
    /// In this order the manifest lists its functions; those beyond are not listed.
    functions: Vec<u32>,
}

/// What is equal before and after: wall-clock time, pid and tid, function, depth, registers.
type Fact = (u64, u32, u32, String, u32, Option<u64>);

fn name(function: u32) -> String {
    format!("f{function}")
}

impl Made {
    fn write(&self, dir: &Path, number: usize) {
        // Its numbers are its own.
        let module = 5 + u32::try_from(number).unwrap();
        let id = |function: u32| u64::from(module) << 32 | u64::from(7 * function + module);
        let mut threads = Vec::new();
        for (ordinal, events) in (0_u32..).zip(&self.threads) {
            let tid = 300 + ordinal;
            let meta = ThreadMeta { thread_id: tid, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
            let mut writer = ThreadWriter::create(&thread_folder(dir, 2 * ordinal), &meta).unwrap();
            let mut time = 1_000_000;
            for (step, function, detail) in events {
                time += step;
                if *detail {
                    let registers = FunctionDetail { regs: [time; 8], ..FunctionDetail::default() };
                    let detail = Detail::Function(registers);
                    writer.append_with_detail(time, id(*function), EventKind::Call, 3, &detail).unwrap();
                } else {
                    writer.append(time, id(*function), EventKind::Call, 1).unwrap();
                }
            }
            let summary = writer.finish().unwrap();
            let (event_count, lost) = (summary.event_count, 1);
            threads.push(Thread { id: 2 * ordinal, pid: 300, tid, event_count, lost, ..Thread::default() });
        }
        let function = |function: &u32| Function {
            function_id: id(*function),
            name: name(*function),
            probe_offset: 16 * u64::from(*function),
            ..Function::default()
        };
        let gap = |thread: &Thread| Gap { thread: thread.id, count: 1, time_start_ns: 1_000_001, ..Gap::default() };
        let manifest = Manifest {
            host: Host { hostname: self.host.into(), ..Host::default() },
            clock: Clock {
                anchors: vec![Anchor { boottime_ns: 1_000_000, realtime_ns: self.base + 1_000_000 }],
                ..Clock::default()
            },
            session: Session { id: format!("s{number}"), status: SessionStatus::Complete, ..Session::default() },
            process: vec![Process { pid: 300, executable: format!("/bin/{}", self.host), ..Process::default() }],
            modules: vec![Module {
                module_id: module,
                path: "/lib/x.so".into(),
                language: None,
                build_id: Some("ab".into()),
                bases: [(300, 0x1000)].into(),
            }],
            functions: self.functions.iter().map(function).collect(),
            lost: Lost { total: threads.len() as u64, gaps: threads.iter().map(gap).collect(), ..Lost::default() },
            threads,
            ..Manifest::default()
        };
        manifest.write_atomic(dir).unwrap();
    }
}

/// All events, in the order of wall-clock time; `base` is that of the session's clock.
fn facts(dir: &Path, base: u64, real_pid: impl Fn(u32) -> u32) -> Vec<Fact> {
    let session = SessionReader::open(dir).unwrap();
    let manifest = session.manifest();
    let mut facts: Vec<Fact> = Vec::new();
    for thread in session.threads() {
        let entry = manifest.threads.iter().find(|entry| entry.id == thread.id()).unwrap();
        for (event, position) in thread.index().events().iter().zip(0..) {
            let listed = manifest.functions.iter().find(|function| function.function_id == event.function_id.get());
            let registers = thread.detail_of(position).unwrap().map(|detail| {
                let Some(Payload::Function(function)) = detail.payload() else { panic!("{detail:?}") };
                assert_eq!(function.fixed.function_id, event.function_id);
                function.fixed.regs[0].get()
            });
            facts.push((
                event.timestamp_ns.get() + base,
                real_pid(entry.pid),
                thread.tid(),
                listed.map_or_else(|| "?".to_owned(), |function| function.name.clone()),
                event.call_depth.get(),
                registers,
            ));
        }
    }
    facts.sort();
    facts
}

fn merged(made: &[Made], out: &Path) -> (TempDir, Result<Merged, MergeError>) {
    let temp = tempfile::tempdir().unwrap();
    let dirs: Vec<PathBuf> = (0..made.len()).map(|number| temp.path().join(number.to_string())).collect();
    for ((made, dir), number) in made.iter().zip(&dirs).zip(0..) {
        std::fs::create_dir(dir).unwrap();
        made.write(dir, number);
    }
    let sessions = dirs.iter().map(|dir| SessionReader::open(dir).unwrap()).collect();
    let result = merge(sessions, out);
    (temp, result)
}

fn sessions() -> impl Strategy<Value = Vec<Made>> {
    let events = prop::collection::vec((0_u64..500, 0_u32..6, any::<bool>()), 0..40);
    let threads = prop::collection::vec(events, 0..4);
    let functions = Just((0..5).collect::<Vec<u32>>()).prop_shuffle();
    let one = (prop::sample::select(vec!["a", "b"]), 0_u64..2, threads, functions);
    let made = one.prop_map(|(host, boot, threads, functions)| {
        // A host's second boot was later; the first session's host has run longest.
        let base = 1_000_000_000_000 + if host == "a" { 0 } else { 700_000_000 } + boot * 60_000_000_000;
        Made { host, base, threads, functions }
    });
    prop::collection::vec(made, 1..4).prop_map(|mut made| {
        made.sort_by_key(|made| made.base);
        made
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_merged_session_is_the_union_in_order(made in sessions()) {
        let temp = tempfile::tempdir().unwrap();
        let out = temp.path().join("out");
        let (sources, result) = merged(&made, &out);
        let result = result.unwrap();
        let (mut expected, first) = (Vec::new(), made[0].base);
        for ((made, from), number) in made.iter().zip(&result.from).zip(0..) {
            prop_assert_eq!(from.offset_ns, i64::try_from(made.base - first).unwrap());
            let mut own = facts(&sources.path().join(number.to_string()), made.base, |pid| pid);
            expected.append(&mut own);
        }
        expected.sort();
        let pids = result.from.iter().flat_map(|from| from.pids.iter().map(|(old, new)| (*new, *old)));
        let pids: std::collections::HashMap<u32, u32> = pids.collect();
        let found = facts(&out, made[0].base, |pid| pids.get(&pid).copied().unwrap_or(pid));
        prop_assert_eq!(found, expected);

        let trace = Trace::open(&out).unwrap();
        let verified = verify(&trace);
        prop_assert_eq!(&verified.faults, &[]);
        prop_assert_eq!(verified.unfinished, 0);
        let manifest = trace.manifest();
        prop_assert_eq!(&manifest.merged_from, &result.from);
        prop_assert_eq!(manifest.lost.gaps.len(), manifest.threads.len());
        // One module, and each function in it once.
        prop_assert_eq!(manifest.modules.iter().filter(|module| !module.bases.is_empty()).count(), 1);
        prop_assert_eq!(manifest.functions.len(), 5);
        let hosts: std::collections::HashSet<&str> = made.iter().map(|made| made.host).collect();
        prop_assert_eq!(manifest.process.len(), hosts.len());
    }
}

fn small(host: &'static str, base: u64) -> Made {
    Made { host, base, threads: vec![vec![(1, 0, true), (1, 1, false)]], functions: vec![0, 1] }
}

#[test]
fn what_cannot_be_merged_is_named_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let day = 86_400_000_000_000;
    // The second host was started a day before the first.
    let (_dirs, result) = merged(&[small("a", 2 * day), small("b", day)], &out);
    assert!(matches!(result, Err(MergeError::BeforeClock { .. })), "{result:?}");
    assert!(!out.exists());

    let dir = temp.path().join("one");
    std::fs::create_dir(&dir).unwrap();
    small("a", day).write(&dir, 0);
    let open = || SessionReader::open(&dir).unwrap();
    let same = merge(vec![open(), open()], &out);
    assert!(matches!(same, Err(MergeError::Same { .. })), "{same:?}");

    let mut manifest = Manifest::read(&dir).unwrap();
    manifest.clock.anchors.clear();
    manifest.write_atomic(&dir).unwrap();
    assert!(matches!(merge(vec![open()], &out), Err(MergeError::NoAnchor { .. })));
    manifest.session.status = SessionStatus::Recording;
    manifest.write_atomic(&dir).unwrap();
    assert!(matches!(merge(vec![open()], &out), Err(MergeError::Unfinished { .. })));
    let full = merge(vec![], &dir);
    assert!(full.unwrap_err().to_string().contains("is not empty"));
}

#[test]
fn a_part_of_a_merged_session_is_the_same_as_itself() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let (dirs, result) = merged(&[small("a", 1_000), small("b", 9_000_000_000)], &out);
    result.unwrap();
    let again = ["0", "1"].map(|name| SessionReader::open(&dirs.path().join(name)).unwrap());
    for part in again {
        let both = vec![SessionReader::open(&out).unwrap(), part];
        assert!(matches!(merge(both, &temp.path().join("again")), Err(MergeError::Same { .. })));
    }
}
