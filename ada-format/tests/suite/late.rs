//! Detail that comes after its event: links and checksums, through every crash and any cut.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ada_format::layout::{EventKind, IndexEvent};
use ada_format::manifest::Manifest;
use ada_format::read::{DetailReader, Payload, SessionReader, ThreadReader};
use ada_format::session;
use ada_format::write::{Detail, FunctionDetail, Memory, SignalDetail, Sink, Storage, ThreadWriter, WriteError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::model;

/// One thing that a writer did to a file.
#[derive(Clone, Debug)]
enum Op {
    Create(&'static str),
    Write(&'static str, u64, Vec<u8>),
    SetLen(&'static str, u64),
}

/// A thread's folder in memory, with all that was done to it in order.
#[derive(Clone, Debug, Default)]
struct Log(Rc<RefCell<Vec<Op>>>);

#[derive(Debug)]
struct LogFile {
    log: Log,
    name: &'static str,
    bytes: Vec<u8>,
}

impl Storage for Log {
    type File = LogFile;

    fn create(&mut self, name: &str) -> io::Result<LogFile> {
        let name = ["index.atf", "detail.atf"].into_iter().find(|known| *known == name).expect("a file of the format");
        self.0.borrow_mut().push(Op::Create(name));
        Ok(LogFile { log: self.clone(), name, bytes: Vec::new() })
    }

    fn remove(&mut self, _name: &str) {}

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

impl Sink for LogFile {
    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let there = self.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let count = there.len().min(bytes.len());
        bytes[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.log.0.borrow_mut().push(Op::Write(self.name, offset, bytes.to_vec()));
        put(&mut self.bytes, offset, bytes);
        Ok(bytes.len())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.log.0.borrow_mut().push(Op::SetLen(self.name, length));
        self.bytes.resize(usize::try_from(length).unwrap(), 0);
        Ok(())
    }
}

fn put(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let offset = usize::try_from(offset).unwrap();
    assert!(offset <= file.len(), "no holes");
    file.resize(file.len().max(offset + bytes.len()), 0);
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl Log {
    /// Does the first `ops` again, in a folder on disk, and of the next one the first part: as a crash leaves it.
    fn replay(&self, folder: &Path, ops: usize, part: Index) {
        let log = self.0.borrow();
        fs::create_dir(folder).unwrap();
        let mut files = std::collections::BTreeMap::<&str, Vec<u8>>::new();
        for (number, op) in log.iter().take(ops + 1).enumerate() {
            match op {
                Op::Write(name, offset, bytes) => {
                    let file = files.get_mut(name).unwrap();
                    let overwrites = (*offset as usize) < file.len();
                    let length = if number < ops { bytes.len() } else { part.index(bytes.len() + 1) };
                    // What lies in the file already changes by whole aligned words.
                    let length = if overwrites { length - length % 4 } else { length };
                    put(file, *offset, &bytes[..length]);
                }
                _ if number == ops => {}
                Op::Create(name) => drop(files.insert(name, Vec::new())),
                Op::SetLen(name, length) => files.get_mut(name).unwrap().resize(*length as usize, 0),
            }
        }
        files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
    }
}

/// One step of a session.
#[derive(Clone, Debug)]
enum Step {
    /// So many events without detail, of a time that may go back.
    Events(usize, u64),
    /// An event with detail.
    Detailed(EventKind),
    /// Detail of so many events from those that can still get it; the second says which.
    Late(usize, u16),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(EventKind::Call), Just(EventKind::Return), Just(EventKind::Exception)];
    prop_oneof![
        4 => (1..40_usize, 0..1_000_u64).prop_map(|(count, time)| Step::Events(count, time)),
        1 => (600..2_000_usize, 0..1_000_u64).prop_map(|(count, time)| Step::Events(count, time)),
        1 => kind.prop_map(Step::Detailed),
        4 => (1..60_usize, any::<u16>()).prop_map(|(count, which)| Step::Late(count, which)),
        2 => Just(Step::Flush),
    ]
}

/// What the events of a session were appended with, and which position each detail was reported to have.
#[derive(Debug, Default)]
struct Expected {
    events: Vec<(u64, u64, EventKind)>,
    details: Vec<u32>,
}

/// The function of an event, from its position, so that a wrong link shows.
fn function(position: usize) -> u64 {
    7_000_000 + position as u64
}

/// Calls `then` with the detail of an event: also its length follows from the position.
fn with_detail<T>(position: usize, kind: EventKind, then: impl FnOnce(&Detail<'_>) -> T) -> T {
    let number = position as u64;
    if kind == EventKind::Exception {
        return then(&Detail::Signal(SignalDetail {
            number: 11,
            code: 1,
            fault_address: number,
            registers: &[number; 18],
        }));
    }
    let (stack, bytes) = (vec![1; position % 500], vec![2; position % 77]);
    let piece = Memory { slot: 3, address: number, full_length: 1_000, bytes: &bytes };
    let memory = vec![piece; position % 3];
    let function = FunctionDetail { regs: [number; 8], stack: &stack, memory: &memory, ..FunctionDetail::default() };
    then(&Detail::Function(function))
}

impl Expected {
    /// Takes a step, and checks what the writer says.
    fn take<D: Storage>(&mut self, writer: &mut ThreadWriter<D>, step: &Step) {
        let position = self.events.len();
        match *step {
            Step::Events(count, time) => (0..count).for_each(|_| self.append(writer, time)),
            Step::Detailed(kind) => {
                let append = |detail: &Detail<'_>| writer.append_with_detail(9, function(position), kind, 0, detail);
                let positions = with_detail(position, kind, append).unwrap();
                assert_eq!(positions, (position as u32, self.details.len() as u32));
                self.events.push((9, function(position), kind));
                self.details.push(position as u32);
            }
            Step::Late(count, which) => self.add_late(writer, count, which),
            Step::Flush => writer.flush().unwrap(),
        }
    }

    fn append<D: Storage>(&mut self, writer: &mut ThreadWriter<D>, time: u64) {
        let position = self.events.len();
        let kind = [EventKind::Call, EventKind::Return, EventKind::Exception][position % 3];
        assert_eq!(writer.append(time, function(position), kind, 0).unwrap() as usize, position);
        self.events.push((time, function(position), kind));
    }

    fn add_late<D: Storage>(&mut self, writer: &mut ThreadWriter<D>, count: usize, which: u16) {
        let first = self.details.last().map_or(0, |&last| last as usize + 1);
        let left = self.events.len().saturating_sub(first);
        let start = first + usize::from(which) % (left + 1);
        let stride = 1 + usize::from(which) % 5;
        for position in (start..self.events.len()).step_by(stride).take(count) {
            let (time, function, kind) = self.events[position];
            let add = |detail: &Detail<'_>| writer.add_detail(position as u32, time, function, kind, detail);
            let detail_seq = with_detail(position, kind, add).unwrap();
            assert_eq!(detail_seq as usize, self.details.len());
            self.details.push(position as u32);
        }
    }

    /// Checks every link of a thread that may lack the ends of its files, and that it holds nothing else. A detail
    /// whose link was not written leads nowhere; there is one only if it is `unlinked_may_be`.
    fn check(&self, thread: &ThreadReader, unlinked_may_be: bool) {
        assert!(thread.index().len() as usize <= self.events.len());
        let details = thread.detail().map_or(0, DetailReader::len);
        assert!(details as usize <= self.details.len());
        let mut last = 0;
        for (position, event) in thread.index().events().iter().enumerate() {
            let (time, function, kind) = self.events[position];
            last = last.max(time);
            assert_eq!((event.timestamp_ns.get(), event.function_id.get(), event.kind()), (last, function, Some(kind)));
            self.check_forward(thread, position, event, details);
        }
        for seq in 0..details as u32 {
            let position = self.details[seq as usize];
            assert_eq!(thread.detail().unwrap().get(seq).unwrap().index_seq(), position);
            match thread.index_of(seq).unwrap() {
                Some(event) => assert_eq!(thread.index().get(position.into()), Some(event)),
                None => assert!(unlinked_may_be || u64::from(position) >= thread.index().len(), "{seq} {position}"),
            }
        }
        thread.verify().unwrap();
    }

    fn check_forward(&self, thread: &ThreadReader, position: usize, event: &IndexEvent, details: u64) {
        let found = thread.detail_of(position as u64).unwrap();
        let Some(seq) = event.detail() else { return assert!(found.is_none()) };
        assert_eq!(self.details.get(seq as usize).map(|&of| of as usize), Some(position));
        assert_eq!(found.is_some(), u64::from(seq) < details);
        let Some(found) = found else { return };
        assert_eq!((found.index_seq() as usize, found.timestamp_ns()), (position, event.timestamp_ns.get()));
        match found.payload().unwrap() {
            Payload::Signal(signal) => assert_eq!(signal.fixed.fault_address.get(), position as u64),
            Payload::Function(called) => {
                assert_eq!(called.fixed.function_id.get(), function(position));
                assert_eq!((called.stack.len(), called.memory().count()), (position % 500, position % 3));
                let whole = |piece: ada_format::read::MemoryEvent<'_>| {
                    (piece.slot, piece.address, piece.full_length, piece.bytes.len())
                };
                assert!(called.memory().map(whole).all(|piece| piece == (3, position as u64, 1_000, position % 77)));
            }
        }
    }

    /// Checks the thread of a session before and after it is recovered.
    fn check_recovery(&self, dir: &Path) {
        let folder = session::thread_folder(dir, 0);
        Manifest::default().write_atomic(dir).unwrap();
        let (events, details) = match ThreadReader::open(&folder) {
            Ok(thread) => {
                self.check(&thread, true);
                (thread.index().len(), thread.detail().map_or(0, DetailReader::len))
            }
            Err(_) => {
                assert!(fs::metadata(folder.join("index.atf")).unwrap().len() < 64, "it has a header");
                return;
            }
        };
        let report = session::recover(dir).unwrap();
        assert_eq!((report.threads[0].event_count, report.threads[0].detail_count), (events, details));
        let session = SessionReader::open(dir).unwrap();
        let thread = &session.threads()[0];
        assert!(!thread.recovered());
        // A footer that was there already stays, and so do the events in front of it.
        self.check(thread, false);
        assert!(session::recover(dir).unwrap().already_complete);
    }
}

/// Writes a session; the log says how.
fn record(steps: &[Step], finish: bool) -> (Log, Expected) {
    let (log, mut expected) = (Log::default(), Expected::default());
    let mut writer = ThreadWriter::create_in(log.clone(), &model::meta(1)).unwrap();
    steps.iter().for_each(|step| expected.take(&mut writer, step));
    if finish {
        let summary = writer.finish().unwrap();
        assert_eq!(
            (summary.event_count, summary.detail_count),
            (expected.events.len() as u64, expected.details.len() as u64)
        );
    }
    (log, expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_late_link_leads_back(steps in vec(step(), 0..40)) {
        let (dir, mut expected) = (model::folder(), Expected::default());
        let folder = session::thread_folder(dir.path(), 0);
        let mut writer = ThreadWriter::create(&folder, &model::meta(1)).unwrap();
        steps.iter().for_each(|step| expected.take(&mut writer, step));
        writer.flush().unwrap();
        expected.check(&ThreadReader::open(&folder).unwrap(), false);
        writer.finish().unwrap();
        let thread = ThreadReader::open(&folder).unwrap();
        expected.check(&thread, false);
        let linked = thread.index().events().iter().filter(|event| event.detail().is_some()).count();
        prop_assert_eq!((thread.recovered(), linked), (false, expected.details.len()));
        prop_assert_eq!(thread.index().header().flags.get() == 1, linked > 0);
        // The footer's checksum was never computed from the whole: here it is.
        let bytes = fs::read(folder.join("index.atf")).unwrap();
        let section = &bytes[64..bytes.len() - 64];
        prop_assert_eq!(thread.index().footer().unwrap().checksum.get(), plain_crc(section));
    }

    #[test]
    fn a_crash_at_any_moment(steps in vec(step(), 0..25), finish: bool, at: Index, part: Index) {
        let (log, expected) = record(&steps, finish);
        let ops = log.0.borrow().len();
        let dir = model::folder();
        log.replay(&session::thread_folder(dir.path(), 0), 1 + at.index(ops), part);
        expected.check_recovery(dir.path());
    }

    #[test]
    fn any_cut_of_either_file(steps in vec(step(), 1..25), finish: bool, at: Index, index: Index, detail: Index) {
        let (log, expected) = record(&steps, finish);
        let dir = model::folder();
        let folder = session::thread_folder(dir.path(), 0);
        log.replay(&folder, 1 + at.index(log.0.borrow().len()), at);
        for (file, cut) in [("index.atf", index), ("detail.atf", detail)] {
            if let Ok(file) = fs::OpenOptions::new().write(true).open(folder.join(file)) {
                let length = file.metadata().unwrap().len();
                file.set_len(cut.index(length as usize + 1) as u64).unwrap();
            }
        }
        expected.check_recovery(dir.path());
    }
}

/// CRC-32 as the standard describes it, bit by bit.
fn plain_crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[test]
fn detail_has_to_be_that_events() {
    let mut writer = ThreadWriter::create_in(Log::default(), &model::meta(1)).unwrap();
    for (time, function) in [(10, 1), (5, 2), (20, 3)] {
        writer.append(time, function, EventKind::Call, 0).unwrap();
    }
    let detail = Detail::Function(FunctionDetail::default());
    for flushed in [false, true] {
        let mut refused = |index_seq, time, function, kind| {
            writer.add_detail(index_seq, time, function, kind, &detail).unwrap_err().to_string()
        };
        let other = "detail of event 0 is that of another time, function or kind";
        assert_eq!(refused(0, 11, 1, EventKind::Call), other);
        assert_eq!(refused(0, 10, 2, EventKind::Call), other);
        assert_eq!(refused(0, 10, 1, EventKind::Return), other);
        assert_eq!(refused(3, 20, 3, EventKind::Call), "detail of event 3, but there are only 3 events");
        assert_eq!(
            refused(u32::MAX, 20, 3, EventKind::Call),
            "detail of event 4294967295, but there are only 3 events"
        );
        assert_eq!(
            refused(0, 10, 1, EventKind::Exception),
            "a function detail cannot belong to an event of kind Exception"
        );
        assert_eq!(writer.detail_count(), 0);
        if !flushed {
            writer.flush().unwrap();
        }
    }
    // The second event's time was raised to the first one's, and so is its detail's.
    assert_eq!(writer.add_detail(1, 5, 2, EventKind::Call, &detail).unwrap(), 0);
    for index_seq in [0, 1] {
        let error = writer.add_detail(index_seq, 10, 1, EventKind::Call, &detail).unwrap_err();
        assert!(matches!(error, WriteError::DetailOrder { last: 1, .. }), "{error}");
        assert_eq!(error.safe_events(), None, "it goes on");
    }
    assert_eq!(writer.add_detail(2, 20, 3, EventKind::Call, &detail).unwrap(), 1);
    assert_eq!(writer.finish().unwrap().detail_count, 2);
}
