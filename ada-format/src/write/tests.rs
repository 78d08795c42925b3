//! Tests of the writers over a storage that fails at any byte.

mod disk;
mod late;

use std::io;

use self::disk::RamDisk;
use super::*;
use crate::layout::{MAX_EVENTS, MAX_STACK};
use crate::read::ThreadReader;

const META: ThreadMeta = ThreadMeta { thread_id: 77, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };

/// Calls `then` with time, function, kind and detail of the event with this number; every third has detail.
fn with_event<T>(number: u64, then: impl FnOnce(u64, u64, EventKind, Option<&Detail<'_>>) -> T) -> T {
    let (time, function) = (1_000 + number, number << 32 | 1);
    match number % 6 {
        0 => {
            let detail = FunctionDetail { regs: [number; 8], stack: &[7; 9], ..FunctionDetail::default() };
            then(time, function, EventKind::Call, Some(&Detail::Function(detail)))
        }
        3 => {
            let detail = SignalDetail { number: 11, code: -6, fault_address: 5, registers: &[number; 18] };
            then(time, function, EventKind::Exception, Some(&Detail::Signal(detail)))
        }
        _ => then(time, function, EventKind::Return, None),
    }
}

/// Appends the event with this number, with its detail.
fn append(writer: &mut ThreadWriter<RamDisk>, number: u64) -> Result<(), WriteError> {
    with_event(number, |time, function, kind, detail| match detail {
        Some(detail) => writer.append_with_detail(time, function, kind, 3, detail).map(drop),
        None => writer.append(time, function, kind, 3).map(drop),
    })
}

/// Appends the event with this number; detail only with every twelfth, then for all twelve.
fn append_late(writer: &mut ThreadWriter<RamDisk>, number: u64) -> Result<(), WriteError> {
    with_event(number, |time, function, kind, _| writer.append(time, function, kind, 3))?;
    if number % 12 != 11 {
        return Ok(());
    }
    for earlier in (number - 11..=number).step_by(3) {
        let index_seq = u32::try_from(earlier).expect("a small number");
        with_event(earlier, |time, function, kind, detail| {
            writer.add_detail(index_seq, time, function, kind, detail.expect("detail"))
        })?;
    }
    Ok(())
}

/// Checks that the files hold exactly the first `events`, with links that agree; returns how many details there are.
fn check(thread: &ThreadReader<Vec<u8>>, events: u64) -> u64 {
    assert_eq!(thread.index().len(), events);
    thread.verify().expect("checksums agree");
    let mut details = 0;
    for (position, event) in (0..).zip(thread.index().events()) {
        assert_eq!(event.timestamp_ns.get(), 1_000 + position);
        assert_eq!(event.function_id.get(), position << 32 | 1);
        details += u64::from(thread.detail_of(position).expect("links agree").is_some());
    }
    details
}

/// Appends one event.
type Append = fn(&mut ThreadWriter<RamDisk>, u64) -> Result<(), WriteError>;

/// Writes events, flushing now and then, until something fails or all are written. Returns how many a flush has
/// reported as written, and the error.
fn write_until_failure(writer: &mut ThreadWriter<RamDisk>, events: u64, append: Append) -> (u64, Option<WriteError>) {
    let mut flushed = 0;
    for number in 0..events {
        let mut outcome = append(writer, number);
        if outcome.is_ok() && number % 7 == 6 {
            outcome = writer.flush();
            if outcome.is_ok() {
                flushed = number + 1;
            }
        }
        if let Err(error) = outcome {
            return (flushed, Some(error));
        }
    }
    (flushed, None)
}

/// Fills a disk of `room` bytes and checks what is left; returns whether all events found room.
fn fill(room: usize, full: io::ErrorKind, at_once: usize, cuts: bool, append: Append) -> bool {
    const EVENTS: u64 = 36;
    let freed = room.is_multiple_of(2);
    let disk = RamDisk::new(room, full, at_once);
    disk.0.borrow_mut().cuts = cuts;
    let Ok(mut writer) = ThreadWriter::create_in(disk.clone(), &META) else {
        assert!(room < 64);
        assert!(disk.0.borrow().files.is_empty());
        return false;
    };
    let (flushed, error) = write_until_failure(&mut writer, EVENTS, append);
    let Some(error) = error else {
        let finished = writer.finish();
        let safe = finished.as_ref().map_or_else(|error| error.safe_events().unwrap(), |summary| summary.event_count);
        assert!(safe >= flushed);
        check(&disk.thread(), safe);
        return finished.is_ok();
    };
    let Some(safe) = error.safe_events() else {
        assert!(matches!(error, WriteError::Create { .. }), "{error}");
        drop(writer);
        assert!(disk.thread().index().len() >= flushed);
        return false;
    };
    assert!(safe >= flushed, "{room}: {safe} of {flushed}");
    assert_eq!(writer.event_count(), safe);
    let details = check(&disk.thread(), safe);
    assert!(details <= writer.detail_count());
    assert!(matches!(append(&mut writer, 99), Err(WriteError::Stopped { safe_events, .. }) if safe_events == safe));
    assert!(matches!(writer.flush(), Err(WriteError::Stopped { .. })));
    if freed {
        disk.set_room(usize::MAX);
    }
    let finished = writer.finish();
    assert!(finished.is_ok() || !freed);
    let thread = disk.thread();
    assert_eq!(check(&thread, safe), details);
    if cuts && thread.index().recovered() {
        let length = disk.0.borrow().files[INDEX_FILE].len() as u64;
        assert_eq!(length, 64 + 32 * safe, "nothing but whole events is left");
    }
    if let Ok(summary) = finished
        && cuts
    {
        assert_eq!((summary.event_count, thread.recovered()), (safe, false));
        let bytes: usize = disk.0.borrow().files.values().map(Vec::len).sum();
        assert_eq!(summary.bytes, bytes as u64);
    }
    false
}

#[test]
fn a_disk_that_is_full_at_any_byte_keeps_what_was_flushed() {
    use io::ErrorKind::{Other, QuotaExceeded, StorageFull};
    let all = usize::MAX;
    for (full, at_once, cuts) in
        [(StorageFull, all, true), (QuotaExceeded, 5, true), (Other, 100, true), (StorageFull, all, false)]
    {
        for append in [append as Append, append_late] {
            let found = (0..).find(|&room| fill(room, full, at_once, cuts, append));
            // Everything is in use, down to the last byte.
            let needed = 2 * 128 + 36 * 32 + 6 * (24 + 100 + 9) + 6 * (24 + 20 + 18 * 8);
            assert_eq!(found, Some(needed));
        }
    }
}

#[test]
fn a_full_disk_finalises_by_giving_up_what_was_not_flushed() {
    // Room for the header and 40 events: two of them make way for the footer.
    let disk = RamDisk::new(64 + 40 * 32, io::ErrorKind::StorageFull, usize::MAX);
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    for number in 0..100 {
        writer.append(1_000 + number, number << 32 | 1, EventKind::Call, 0).unwrap();
    }
    let error = writer.flush().unwrap_err();
    assert_eq!(error.to_string(), "cannot write index.atf: no storage space; 38 events of this thread are safe");
    assert!(!disk.thread().recovered());
    check(&disk.thread(), 38);
}

#[test]
fn a_full_disk_never_gives_up_what_was_flushed() {
    let disk = RamDisk::new(64 + 40 * 32, io::ErrorKind::StorageFull, usize::MAX);
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    for number in 0..40 {
        writer.append(1_000 + number, number << 32 | 1, EventKind::Call, 0).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(writer.finish().unwrap_err().safe_events(), Some(40));
    assert!(disk.thread().recovered());
    check(&disk.thread(), 40);
}

#[test]
fn a_detail_file_without_room_leaves_the_index_usable() {
    let disk = RamDisk::new(64 + 10, io::ErrorKind::StorageFull, usize::MAX);
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    assert!(matches!(append(&mut writer, 0), Err(WriteError::Create { .. })));
    disk.set_room(usize::MAX);
    append(&mut writer, 0).unwrap();
    writer.append(1_001, 1 << 32 | 1, EventKind::Call, 0).unwrap();
    writer.finish().unwrap();
    assert_eq!(check(&disk.thread(), 2), 1);
}

#[test]
fn a_writer_that_is_dropped_flushes() {
    let disk = RamDisk::roomy();
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    (0..5).for_each(|number| append(&mut writer, number).unwrap());
    drop(writer);
    assert!(disk.thread().recovered());
    assert_eq!(check(&disk.thread(), 5), 2);
}

#[test]
fn many_buffers_make_one_file() {
    let disk = RamDisk::roomy();
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    (0..20_000).for_each(|number| append(&mut writer, number).unwrap());
    assert_eq!((writer.event_count(), writer.detail_count()), (20_000, 6_667));
    assert_eq!(writer.time_range(), Some((1_000, 20_999)));
    let before = writer.bytes();
    let summary = writer.finish().unwrap();
    assert_eq!(summary.bytes, before + 128);
    assert_eq!((summary.time_start_ns, summary.time_end_ns), (1_000, 20_999));
    assert_eq!(check(&disk.thread(), 20_000), 6_667);
}

#[test]
fn detail_reaches_its_file_before_what_points_at_it() {
    let disk = RamDisk::roomy();
    disk.0.borrow_mut().in_order = true;
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    for number in 0..10_000 {
        append(&mut writer, number).unwrap();
        if number % 1_500 == 7 {
            writer.flush().unwrap();
        }
    }
    writer.finish().unwrap();
    check(&disk.thread(), 10_000);
}

#[test]
fn detail_that_found_no_room_is_not_pointed_at() {
    // The headers, and two details of 144 bytes; the index has no room at all, but that of the third detail.
    let disk = RamDisk::new(64 + 64 + 2 * 124 + 100, io::ErrorKind::StorageFull, usize::MAX);
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    for number in 0..3 {
        let detail = Detail::Function(FunctionDetail::default());
        writer.append_with_detail(1_000 + number, number << 32 | 1, EventKind::Call, 0, &detail).unwrap();
    }
    let error = writer.flush().unwrap_err();
    assert!(error.to_string().starts_with("cannot write detail.atf"), "{error}");
    let safe = error.safe_events().unwrap();
    assert!(safe > 0);
    check(&disk.thread(), safe);
    let details = disk.thread().detail().unwrap().len();
    for event in disk.thread().index().events() {
        assert!(event.detail().is_none_or(|seq| u64::from(seq) < details));
    }
}

#[test]
fn time_never_goes_back() {
    let disk = RamDisk::roomy();
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    for time in [5, 3, u64::MAX, 0] {
        writer.append(time, 1, EventKind::Call, u32::MAX).unwrap();
    }
    writer.finish().unwrap();
    let times: Vec<u64> = disk.thread().index().events().iter().map(|event| event.timestamp_ns.get()).collect();
    assert_eq!(times, [5, 5, u64::MAX, u64::MAX]);
}

#[test]
fn a_file_is_full_at_the_formats_limit() {
    let disk = RamDisk::roomy();
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    writer.pretend_written(MAX_EVENTS - 2);
    let detail = Detail::Function(FunctionDetail::default());
    assert_eq!(writer.append(1, 1, EventKind::Call, 0).unwrap(), 0xFFFF_FFFC);
    assert!(!writer.is_full());
    assert_eq!(writer.append_with_detail(1, 1, EventKind::Call, 0, &detail).unwrap(), (0xFFFF_FFFD, 0));
    assert!(writer.is_full());
    let limit = u64::from(u32::MAX) - 1;
    assert!(matches!(writer.append(1, 1, EventKind::Call, 0), Err(WriteError::Full { events, .. }) if events == limit));
    let error = writer.append_with_detail(1, 1, EventKind::Call, 0, &detail).unwrap_err();
    assert_eq!(error.to_string(), "index.atf is full: it holds 4294967294 events");
    assert_eq!(writer.finish().unwrap().event_count, limit);
}

#[test]
fn detail_has_limits() {
    let mut writer = ThreadWriter::create_in(RamDisk::roomy(), &META).unwrap();
    let function = |stack| Detail::Function(FunctionDetail { stack, ..FunctionDetail::default() });
    let signal = |registers| Detail::Signal(SignalDetail { registers, ..SignalDetail::default() });
    let mut put = |kind, detail: Detail<'_>| writer.append_with_detail(1, 1, kind, 0, &detail);
    put(EventKind::Call, function(&[0; MAX_STACK])).unwrap();
    put(EventKind::Exception, signal(&[1; 65_535])).unwrap();
    let refused = [
        put(EventKind::Call, function(&[0; MAX_STACK + 1])),
        put(EventKind::Exception, signal(&[1; 65_536])),
        put(EventKind::Exception, function(&[])),
        put(EventKind::Return, signal(&[])),
    ];
    let refused = refused.map(|outcome| outcome.unwrap_err().to_string());
    assert_eq!(refused[0], "513 bytes of stack, but a detail event holds at most 512");
    assert_eq!(refused[1], "65536 registers, but a signal event holds at most 65535");
    assert_eq!(refused[2], "a function detail cannot belong to an event of kind Exception");
    assert_eq!(refused[3], "a signal detail cannot belong to an event of kind Return");
    let pieces = [&[0; 40_000][..], &[0; 25_503]].map(|bytes| Memory { bytes, ..Memory::default() });
    let with_memory = |memory| Detail::Function(FunctionDetail { memory, ..FunctionDetail::default() });
    put(EventKind::Call, with_memory(&pieces)).unwrap();
    let pieces = [pieces[0], Memory { bytes: &[0; 25_504], ..Memory::default() }];
    let refused = put(EventKind::Call, with_memory(&pieces)).unwrap_err().to_string();
    assert_eq!(refused, "65536 bytes of memory and its blocks, but a detail event holds at most 65535");
    let summary = writer.finish().unwrap();
    assert_eq!((summary.event_count, summary.detail_count), (3, 3));
}

#[test]
fn a_writer_is_small() {
    let disk = RamDisk::roomy();
    let writer = ThreadWriter::create_in(disk, &META).unwrap();
    assert!(size_of_val(&writer) < 1024);
    assert_eq!(writer.bytes(), 64);
    assert_eq!(writer.time_range(), None);
}
