//! The record path as a whole: what reaches the files, and that nothing on the way allocates per event.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ada_format::{
    layout::EventKind,
    read::ThreadReader,
    session::thread_folder,
    wire::{self, Record, flags, kind},
};

use super::{Demux, Life, Rotation, Span};
use crate::{
    backend::{CallDetail, Losses, More, Sink, Slots, ThreadLoss},
    clock,
    plan::{Function, FunctionId, Module, ModuleId, Plan, Returns},
};

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is left to the system's allocator; the counter is the thread's own and needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What this thread has allocated so far.
pub(super) fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

fn plan() -> Plan {
    let id = ModuleId(0);
    let path = std::path::PathBuf::from("program");
    let module = Module { id, path: path.clone(), open_path: path, ..Module::default() };
    let function =
        Function { id: FunctionId::new(id, 0), name: "f".to_owned(), returns: Returns::Probe, ..Function::default() };
    Plan { modules: vec![module], functions: vec![function], ..Plan::default() }
}

fn demux(dir: &std::path::Path, lost: u64) -> Demux {
    Demux::new(dir.to_owned(), &plan(), Arc::new(move || lost), Arc::new(Span::begin()))
}

fn record(tid: u32, kind: u16, sp: u64) -> Record {
    Record { time_ns: clock::boottime_ns(), function_id: 0, sp, tgid: 1, tid, kind, ..Record::default() }
}

fn read(dir: &std::path::Path, folder: u32) -> Vec<(EventKind, u32)> {
    let thread = ThreadReader::open(&thread_folder(dir, folder)).unwrap();
    let event = |event: &ada_format::layout::IndexEvent| (event.kind().unwrap(), event.call_depth.get());
    thread.index().events().iter().map(event).collect()
}

#[test]
fn nothing_is_allocated_per_event() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = demux(dir.path(), 0);
    let wide_detail = wire::Detail::default();
    let detail = CallDetail { detail: &wide_detail, stack: &[], memory: Slots::default() };
    let run = |demux: &mut Demux| {
        for tid in 10..14 {
            for level in 0..50u64 {
                demux.event(&record(tid, kind::CALL, 100_000 - level * 64), More::Nothing);
                let wide = Record { flags: flags::DETAIL, ..record(tid, kind::CALL, 50_000) };
                demux.event(&wide, More::Detail(detail));
                demux.event(&record(tid, kind::RETURN, 50_000), More::Nothing);
            }
            for level in (0..50u64).rev() {
                demux.event(&record(tid, kind::RETURN, 100_000 - level * 64), More::Nothing);
            }
        }
    };
    // Folders, buffers and stacks are made once.
    run(&mut demux);
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        run(&mut demux);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    demux.finish(clock::boottime_ns());
    assert_eq!(read(dir.path(), 0).len(), 101 * 200);
}

#[test]
fn a_thread_id_that_is_used_again_gets_a_folder_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = demux(dir.path(), 0);
    for _ in 0..2 {
        demux.event(&record(7, kind::CALL, 1000), More::Nothing);
        demux.event(&record(7, kind::RETURN, 1000), More::Nothing);
        demux.event(&record(7, kind::THREAD_EXIT, 0), More::Nothing);
    }
    // Its end was lost, but it belongs to another process now.
    demux.event(&record(7, kind::CALL, 1000), More::Nothing);
    demux.event(&Record { tgid: 2, ..record(7, kind::CALL, 1000) }, More::Nothing);
    demux.finish(clock::boottime_ns());
    assert_eq!(read(dir.path(), 0), [(EventKind::Call, 0), (EventKind::Return, 0)]);
    assert_eq!(read(dir.path(), 1), read(dir.path(), 0));
    assert_eq!(read(dir.path(), 2), [(EventKind::Call, 0)]);
    assert_eq!(read(dir.path(), 3), [(EventKind::Call, 0)]);
    assert_eq!(demux.ledger().threads.len(), 4);
}

/// A thread that lost nothing has its calls that were left; one that did, those that began later.
#[test]
fn calls_that_were_left_are_told_by_thread() {
    let dir = tempfile::tempdir().unwrap();
    let gauge = Arc::new(AtomicU64::new(0));
    let lost = Arc::clone(&gauge);
    // Relaxed: there is one thread.
    let lost = Arc::new(move || lost.load(Ordering::Relaxed));
    let mut demux = Demux::new(dir.path().to_owned(), &plan(), lost, Arc::new(Span::begin()));
    let left = |demux: &mut Demux, tid| demux.event(&record(tid, kind::CALL, 1000), More::Nothing);
    for tid in [10, 11] {
        left(&mut demux, tid);
        left(&mut demux, tid);
    }
    gauge.store(1, Ordering::Relaxed);
    // Nobody knows yet whose it is.
    left(&mut demux, 10);
    left(&mut demux, 11);
    let last_ns = clock::boottime_ns();
    let threads = vec![ThreadLoss { pid: 1, tid: 11, count: 1, first_ns: last_ns, last_ns }];
    demux.note_losses(&Losses { by_reason: vec![("ring_full", 1)], threads, ..Losses::default() });
    for tid in [10, 11] {
        left(&mut demux, tid);
        left(&mut demux, tid);
    }
    gauge.store(2, Ordering::Relaxed);
    demux.note_losses(&Losses { by_reason: vec![("ring_full", 2)], ..Losses::default() });
    // The table of threads is full, say.
    left(&mut demux, 10);
    demux.finish(clock::boottime_ns());
    let exceptions = |folder| {
        let thread = ThreadReader::open(&thread_folder(dir.path(), folder)).unwrap();
        thread.index().events().iter().filter(|event| event.kind() == Some(EventKind::Exception)).count()
    };
    assert_eq!([exceptions(0), exceptions(1)], [3, 2]);
}

#[test]
fn a_return_whose_call_began_before_the_recording_is_dropped_unless_something_was_lost() {
    for (lost, expected) in [(0, 0), (1, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let mut demux = demux(dir.path(), lost);
        demux.event(&record(7, kind::RETURN, 1000), More::Nothing);
        demux.finish(clock::boottime_ns());
        assert_eq!(demux.ledger().events(), expected);
        assert_eq!(demux.ledger().threads.len() as u64, expected);
    }
}

#[test]
fn a_return_that_a_filter_does_not_know_counts_only_with_its_call() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = demux(dir.path(), 1);
    let unpaired = |sp| Record { flags: flags::UNPAIRED, ..record(7, kind::RETURN, sp) };
    demux.event(&record(7, kind::CALL, 1000), More::Nothing);
    demux.event(&unpaired(900), More::Nothing);
    demux.event(&unpaired(1000), More::Nothing);
    demux.finish(clock::boottime_ns());
    assert_eq!(read(dir.path(), 0), [(EventKind::Call, 0), (EventKind::Return, 0)]);
}

#[test]
fn deeper_events_are_left_out_in_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = demux(dir.path(), 0).no_deeper(std::num::NonZeroU32::new(2));
    for sp in [1000, 900, 800] {
        demux.event(&record(7, kind::CALL, sp), More::Nothing);
    }
    for sp in [800, 900, 1000] {
        demux.event(&record(7, kind::RETURN, sp), More::Nothing);
    }
    demux.finish(clock::boottime_ns());
    let (call, ret) = (EventKind::Call, EventKind::Return);
    assert_eq!(read(dir.path(), 0), [(call, 0), (call, 1), (ret, 1), (ret, 0)]);
}

#[test]
fn a_function_is_muted_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = demux(dir.path(), 0);
    let muted = Record { time_ns: 5, function_id: 3, sp: 700, kind: kind::MUTED, ..Record::default() };
    demux.event(&muted, More::Nothing);
    demux.event(&Record { time_ns: 6, ..muted }, More::Nothing);
    let [known] = demux.ledger().muted[..] else { panic!("{:?}", demux.ledger().muted) };
    assert_eq!((known.function_id, known.at_ns, known.calls_per_s), (3, 5, 700));
    assert!(demux.ledger().threads.is_empty());
}

#[test]
fn execve_ends_the_other_threads_and_all_frames() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = demux(dir.path(), 0);
    demux.event(&record(7, kind::CALL, 1000), More::Nothing);
    demux.event(&record(8, kind::CALL, 1000), More::Nothing);
    demux.event(&record(7, kind::EXEC, 0), More::Nothing);
    demux.event(&record(7, kind::CALL, 900), More::Nothing);
    demux.event(&record(8, kind::CALL, 900), More::Nothing);
    demux.finish(clock::boottime_ns());
    assert_eq!(read(dir.path(), 0), [(EventKind::Call, 0), (EventKind::Call, 0)]);
    assert_eq!(read(dir.path(), 1), [(EventKind::Call, 0)]);
    assert_eq!(read(dir.path(), 2), [(EventKind::Call, 0)]);
    let mut lives = Vec::new();
    demux.tell_lives(&mut lives);
    assert!(matches!(lives.as_slice(), [Life::Executed { .. }]), "{lives:?}");
}

#[test]
fn a_goroutine_keeps_its_depth_on_another_thread() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = demux(dir.path(), 0);
    let on_stack = |tid, kind, below: u64| Record { stack: 5, ..record(tid, kind, 0u64.wrapping_sub(below)) };
    demux.event(&on_stack(7, kind::CALL, 100), More::Nothing);
    demux.event(&record(7, kind::CALL, 1000), More::Nothing);
    demux.event(&on_stack(8, kind::CALL, 200), More::Nothing);
    demux.event(&on_stack(8, kind::RETURN, 200), More::Nothing);
    demux.event(&on_stack(8, kind::RETURN, 100), More::Nothing);
    demux.event(&record(7, kind::RETURN, 1000), More::Nothing);
    demux.finish(clock::boottime_ns());
    let (call, ret, switch) = (EventKind::Call, EventKind::Return, EventKind::Switch);
    assert_eq!(read(dir.path(), 0), [(switch, 0), (call, 0), (switch, 0), (call, 0), (ret, 0)]);
    assert_eq!(read(dir.path(), 1), [(switch, 0), (call, 1), (ret, 1), (ret, 0)]);
}

#[test]
fn a_file_says_on_which_stack_its_events_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = keeping(dir.path(), 4, 0);
    let start = clock::boottime_ns();
    let on_stack = |stack, kind, below: u64| Record { stack, ..record(7, kind, 0u64.wrapping_sub(below)) };
    demux.event(&on_stack(5, kind::CALL, 100), More::Nothing);
    demux.event(&on_stack(5, kind::CALL, 200), More::Nothing);
    demux.event(&on_stack(6, kind::CALL, 100), More::Nothing);
    demux.event(&on_stack(5, kind::RETURN, 200), More::Nothing);
    let registers = [0; wire::MAX_SIGNAL_REGISTERS];
    let signal = wire::Signal { number: 23, code: -6, fault_address: 0, sender: 0, register_count: 0, registers };
    demux.event(&record(7, kind::SIGNAL, 0), More::Signal(&signal));
    demux.event(&record(7, kind::CALL, 1000), More::Nothing);
    // The thread goes on in another folder.
    tick(&mut demux, start + 2 * SECOND);
    demux.event(&on_stack(6, kind::RETURN, 100), More::Nothing);
    demux.event(&record(7, kind::RETURN, 1000), More::Nothing);
    demux.finish(clock::boottime_ns());
    let (call, ret, switch, signal) = (EventKind::Call, EventKind::Return, EventKind::Switch, EventKind::Exception);
    let switches = |folder| {
        let thread = ThreadReader::open(&thread_folder(dir.path(), folder)).unwrap();
        let switches = thread.index().events().iter().filter(|event| event.kind() == Some(switch));
        switches.map(|event| (event.function_id.get(), event.detail())).collect::<Vec<_>>()
    };
    let kinds = |folder| read(dir.path(), folder).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
    assert_eq!(kinds(0), [switch, call, call, switch, call, switch, ret, switch, signal, call]);
    assert_eq!(switches(0), [(5, None), (6, None), (5, None), (0, None)]);
    assert_eq!(kinds(1), [switch, ret, switch, ret]);
    assert_eq!(switches(1), [(6, None), (0, None)]);
    assert_eq!(demux.ledger().events(), 14);
}

#[test]
fn a_goroutine_returns_on_a_thread_that_has_done_nothing_yet() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = demux(dir.path(), 0);
    let on_stack = |tid, kind, below: u64| Record { stack: 5, ..record(tid, kind, 0u64.wrapping_sub(below)) };
    // Of a call from before the recording.
    demux.event(&on_stack(9, kind::RETURN, 300), More::Nothing);
    demux.event(&on_stack(7, kind::CALL, 100), More::Nothing);
    demux.event(&on_stack(7, kind::CALL, 200), More::Nothing);
    demux.event(&on_stack(9, kind::RETURN, 50), More::Nothing);
    demux.event(&on_stack(8, kind::RETURN, 200), More::Nothing);
    demux.event(&on_stack(8, kind::RETURN, 100), More::Nothing);
    demux.finish(clock::boottime_ns());
    let (call, ret) = (EventKind::Call, EventKind::Return);
    assert_eq!(read(dir.path(), 0)[1..], [(call, 0), (call, 1)]);
    assert_eq!(read(dir.path(), 1)[1..], [(ret, 1), (ret, 0)]);
    assert_eq!(demux.ledger().threads.len(), 2);
}

#[test]
fn a_new_process_shares_no_folder_with_an_old_one_of_its_id_whose_end_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = demux(dir.path(), 0);
    let child = |kind, sp| Record { tgid: 7, ..record(7, kind, sp) };
    let fork = || Record { function_id: 7, ..record(1, kind::FORK, 0) };
    demux.event(&fork(), More::Nothing);
    demux.event(&child(kind::CALL, 1000), More::Nothing);
    demux.event(&fork(), More::Nothing);
    demux.event(&child(kind::CALL, 900), More::Nothing);
    demux.event(&Record { function_id: 0x0300, ..child(kind::PROCESS_EXIT, 0) }, More::Nothing);
    demux.event(&child(kind::THREAD_EXIT, 0), More::Nothing);
    demux.finish(clock::boottime_ns());
    assert_eq!(read(dir.path(), 0), [(EventKind::Call, 0)]);
    assert_eq!(read(dir.path(), 1), [(EventKind::Call, 0)]);
    let mut lives = Vec::new();
    demux.tell_lives(&mut lives);
    let [Life::Forked { pid: 7, parent: 1, .. }, Life::Forked { .. }, Life::Ended { pid: 7, status: 0x0300, .. }] =
        lives.as_slice()
    else {
        panic!("{lives:?}");
    };
}

#[test]
fn losses_are_gaps_of_their_thread() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = demux(dir.path(), 5);
    demux.event(&record(7, kind::CALL, 1000), More::Nothing);
    demux.flush();
    let loss = |tid, count, first_ns| ThreadLoss { pid: 1, tid, count, first_ns, last_ns: first_ns + 1 };
    let now = clock::boottime_ns();
    let report = |threads| Losses { by_reason: vec![("ring_full", 5)], threads, ..Losses::default() };
    demux.note_losses(&report(vec![loss(7, 2, now), loss(9, 1, now)]));
    // Nothing was written in between: the same gap.
    demux.note_losses(&report(vec![loss(7, 2, now + 10)]));
    let ledger = demux.ledger();
    assert_eq!(ledger.lost(), 5);
    assert_eq!(ledger.threads.values().map(|thread| thread.lost).collect::<Vec<_>>(), [4, 1]);
    assert_eq!(ledger.gaps().map(|gap| (gap.thread, gap.count)).collect::<Vec<_>>(), [(0, 4), (1, 1)]);
}

/// A demux that keeps `keep_s` seconds.
fn keeping(dir: &std::path::Path, keep_s: u64, lost: u64) -> Demux {
    let rotation = Rotation { keep: Some(std::time::Duration::from_secs(keep_s)), max_size: None };
    demux(dir, lost).keeping(rotation)
}

/// A tick at `now_ns`; the folders that are to be deleted.
fn tick(demux: &mut Demux, now_ns: u64) -> Vec<u32> {
    demux.flush();
    demux.rotate(now_ns);
    let mut condemned = Vec::new();
    demux.tell_condemned(&mut condemned);
    condemned
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_thread_goes_on_with_its_depth_and_its_old_folders_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = keeping(dir.path(), 4, 0);
    let start = clock::boottime_ns();
    demux.event(&record(7, kind::CALL, 1000), More::Nothing);
    demux.event(&record(7, kind::CALL, 900), More::Nothing);
    assert!(tick(&mut demux, start + SECOND / 2).is_empty());
    assert!(tick(&mut demux, start + 2 * SECOND).is_empty());
    demux.event(&record(7, kind::RETURN, 900), More::Nothing);
    let between = clock::boottime_ns();
    assert!(tick(&mut demux, between + 3 * SECOND).is_empty());
    assert_eq!(tick(&mut demux, between + 5 * SECOND), [0, 1]);
    assert!(tick(&mut demux, between + 6 * SECOND).is_empty());
    demux.event(&record(7, kind::RETURN, 1000), More::Nothing);
    demux.event(&record(7, kind::THREAD_EXIT, 0), More::Nothing);
    demux.finish(clock::boottime_ns());
    let (call, ret) = (EventKind::Call, EventKind::Return);
    assert_eq!(read(dir.path(), 0), [(call, 0), (call, 1)]);
    assert_eq!(read(dir.path(), 1), [(ret, 1)]);
    assert_eq!(read(dir.path(), 2), [(ret, 0)]);
    let ledger = demux.ledger();
    assert_eq!(ledger.threads.keys().copied().collect::<Vec<_>>(), [2]);
    assert_eq!((ledger.threads[&2].continues, ledger.threads[&2].first, ledger.thread_count()), (Some(1), 0, 1));
    assert_eq!((ledger.cut.folders, ledger.cut.events, ledger.events()), (2, 3, 1));
    assert!(ledger.complete_from_ns.is_some_and(|from_ns| (start..=between + 1).contains(&from_ns)));
}

#[test]
fn all_parts_of_a_thread_have_the_name_it_ends_with() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = keeping(dir.path(), 4, 0);
    for _ in 0..3 {
        demux.event(&record(7, kind::CALL, 1000), More::Nothing);
        demux.event(&record(8, kind::CALL, 1000), More::Nothing);
        tick(&mut demux, clock::boottime_ns() + 2 * SECOND);
    }
    demux.event(
        &Record { function_id: u64::from_le_bytes(*b"worker\0\0"), ..record(7, kind::THREAD_EXIT, 0) },
        More::Nothing,
    );
    let named: Vec<bool> = demux.ledger().threads.values().map(|thread| thread.name.is_some()).collect();
    assert_eq!(named.iter().filter(|named| **named).count(), 4, "{:?}", demux.ledger().threads);
    assert!(demux.ledger().threads.values().all(|thread| thread.name.is_some() == (thread.tid == 7)));
}

#[test]
fn losses_go_with_their_folders() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = keeping(dir.path(), 1, 5);
    demux.event(&record(7, kind::CALL, 1000), More::Nothing);
    let now = clock::boottime_ns();
    let loss = |count, first_ns| ThreadLoss { pid: 1, tid: 7, count, first_ns, last_ns: first_ns + 1 };
    let report = |all, threads| Losses { by_reason: vec![("ring_full", all)], threads, ..Losses::default() };
    demux.note_losses(&report(2, vec![loss(2, now)]));
    assert!(tick(&mut demux, now + SECOND / 2).is_empty());
    demux.event(&record(7, kind::CALL, 900), More::Nothing);
    demux.note_losses(&report(5, vec![loss(3, now + SECOND / 2)]));
    assert_eq!(tick(&mut demux, now + 5 * SECOND / 4), [0]);
    let ledger = demux.ledger();
    assert_eq!((ledger.lost(), ledger.cut.lost, ledger.lost_by_reason()["ring_full"]), (3, 2, 3));
    assert_eq!(ledger.gaps().map(|gap| (gap.thread, gap.count)).collect::<Vec<_>>(), [(1, 3)]);
    assert_eq!(ledger.complete_from_ns, Some(now + 2));
}

#[test]
fn a_recording_that_goes_on_for_days_does_not_grow() {
    let dir = tempfile::tempdir().unwrap();
    let mut demux = keeping(dir.path(), 1, 0);
    for round in 0..200 {
        for tid in [7, 100 + round] {
            demux.event(&record(tid, kind::CALL, 1000), More::Nothing);
            demux.event(&record(tid, kind::RETURN, 1000), More::Nothing);
        }
        demux.event(&record(100 + round, kind::THREAD_EXIT, 0), More::Nothing);
        for folder in tick(&mut demux, clock::boottime_ns() + 2 * SECOND) {
            ada_format::session::delete_thread(dir.path(), folder).unwrap();
        }
    }
    let ledger = demux.ledger();
    assert!(ledger.threads.len() <= 4, "{:?}", ledger.threads);
    assert_eq!(ledger.cut.events + ledger.events(), 800);
    assert!(std::fs::read_dir(dir.path()).unwrap().count() <= 4);
}

#[test]
fn what_is_kept_of_a_small_size_is_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let max_size = 1 << 20;
    let mut demux = demux(dir.path(), 0).keeping(Rotation { keep: None, max_size: Some(max_size) });
    let mut calls = 0;
    for _ in 0..300 {
        for _ in 0..500 {
            demux.event(&record(7, kind::CALL, 1000), More::Nothing);
            demux.event(&record(7, kind::RETURN, 1000), More::Nothing);
            calls += 1;
        }
        tick(&mut demux, clock::boottime_ns());
        assert!(demux.ledger().bytes() <= max_size);
    }
    demux.finish(clock::boottime_ns());
    let ledger = demux.ledger();
    assert!((max_size / 2..=max_size).contains(&ledger.bytes()), "{}", ledger.bytes());
    assert_eq!(ledger.cut.events + ledger.events(), 2 * calls);
    let from_ns = ledger.complete_from_ns.unwrap();
    assert!(ledger.threads.values().all(|thread| thread.event_count == 0 || thread.time_start_ns >= from_ns));
}
