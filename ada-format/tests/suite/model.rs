//! Events as plain values, what writes them, and what compares them with a reader.
//!
//! Invariant: nothing here uses what it is to check: links are counted, times are clamped by hand.

use std::path::Path;

use ada_format::layout::{Arch, ClockType, EventKind, Os};
use ada_format::read::{Payload, ThreadReader};
use ada_format::write::{Detail, FunctionDetail, SignalDetail, ThreadMeta, ThreadWriter};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

/// One event, as a test wants it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) time: u64,
    pub(crate) function: u64,
    pub(crate) kind: EventKind,
    pub(crate) depth: u32,
    /// Stack bytes, or of an exception the registers' low bytes.
    pub(crate) detail: Option<Vec<u8>>,
}

pub(crate) fn meta(thread_id: u32) -> ThreadMeta {
    ThreadMeta { thread_id, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime }
}

/// A folder in memory where there is one: these tests create thousands of files.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

/// Any thread of up to `most` events, with times that sometimes go back.
pub(crate) fn thread(most: usize) -> impl Strategy<Value = Vec<Event>> {
    let time = prop_oneof![8 => 0..200_u64, 1 => Just(0), 1 => Just(u64::MAX)];
    let function = prop_oneof![0..5_u64, any::<u64>()];
    let kind = prop_oneof![Just(EventKind::Call), Just(EventKind::Return), Just(EventKind::Exception)];
    let detail = prop_oneof![2 => Just(None), 1 => vec(any::<u8>(), 0..40).prop_map(Some)];
    let event = (time, function, kind, any::<u32>(), detail).prop_map(|(time, function, kind, depth, detail)| Event {
        time,
        function,
        kind,
        depth,
        detail,
    });
    vec(event, 0..most)
}

/// The same events with times as the writer must have made them.
pub(crate) fn clamped(events: &[Event]) -> Vec<Event> {
    let mut last = 0;
    let clamp = |event: &Event| {
        last = last.max(event.time);
        Event { time: last, ..event.clone() }
    };
    events.iter().map(clamp).collect()
}

/// A writer for `folder` that has been given the events.
pub(crate) fn write(folder: &Path, thread_id: u32, events: &[Event]) -> ThreadWriter {
    let mut writer = ThreadWriter::create(folder, &meta(thread_id)).expect("a writer");
    for (position, event) in events.iter().enumerate() {
        let seq = append(&mut writer, event);
        assert_eq!(seq as usize, position);
    }
    writer
}

fn append(writer: &mut ThreadWriter, event: &Event) -> u32 {
    let Event { time, function, kind, depth, ref detail } = *event;
    let Some(bytes) = detail else {
        return writer.append(time, function, kind, depth).expect("a disk with room");
    };
    let registers: Vec<u64> = bytes.iter().map(|&byte| byte.into()).collect();
    let detail = if kind == EventKind::Exception {
        Detail::Signal(SignalDetail { number: 11, code: -1, fault_address: function, registers: &registers })
    } else {
        Detail::Function(FunctionDetail { regs: [function; 8], stack: bytes, ..FunctionDetail::default() })
    };
    writer.append_with_detail(time, function, kind, depth, &detail).expect("a disk with room").0
}

/// Fails unless the reader shows exactly these (clamped) events, and of their details the first `details`.
pub(crate) fn check(thread: &ThreadReader, events: &[Event], details: usize) {
    assert_eq!(thread.index().len(), events.len() as u64);
    assert_eq!(thread.index().get(events.len() as u64), None);
    let ends = events.first().map(|first| (first.time, events[events.len() - 1].time));
    assert_eq!(thread.index().time_range(), ends);
    let mut detail_seq = 0;
    for (position, event) in events.iter().enumerate() {
        check_event(thread, position as u64, event);
        let found = thread.detail_of(position as u64).expect("links agree");
        let Some(bytes) = event.detail.as_ref().filter(|_| detail_seq < details) else {
            assert!(found.is_none());
            continue;
        };
        let found = found.expect("detail");
        check_payload(found.payload().expect("a payload"), event, bytes);
        assert_eq!((found.index_seq() as usize, found.timestamp_ns()), (position, event.time));
        let back = thread.index_of(u32::try_from(detail_seq).unwrap()).expect("links agree");
        assert_eq!(back, thread.index().get(position as u64));
        detail_seq += 1;
    }
    assert!(thread.index_of(u32::MAX).expect("no link").is_none());
}

fn check_event(thread: &ThreadReader, position: u64, event: &Event) {
    let found = thread.index().get(position).expect("an event");
    assert_eq!(found.timestamp_ns.get(), event.time);
    assert_eq!(found.function_id.get(), event.function);
    assert_eq!(found.thread_id.get(), thread.tid());
    assert_eq!(found.kind(), Some(event.kind));
    assert_eq!(found.call_depth.get(), event.depth);
    assert_eq!(found.detail().is_some(), event.detail.is_some());
}

fn check_payload(payload: Payload<'_>, event: &Event, bytes: &[u8]) {
    match payload {
        Payload::Function(function) => {
            assert_ne!(event.kind, EventKind::Exception);
            assert_eq!(function.fixed.function_id.get(), event.function);
            assert_eq!(function.stack, bytes);
        }
        Payload::Signal(signal) => {
            assert_eq!(event.kind, EventKind::Exception);
            assert_eq!(signal.fixed.fault_address.get(), event.function);
            assert!(
                signal.registers.iter().map(|register| register.get()).eq(bytes.iter().map(|&byte| u64::from(byte)))
            );
        }
    }
}
