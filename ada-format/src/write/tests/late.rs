//! Tests of detail that comes after its event, where the disk fails.

use super::*;

#[test]
fn late_links_that_cannot_be_written_leave_sound_files() {
    const EVENTS: u64 = 36;
    // A link is an aligned word, which the kernel writes whole or not at all.
    let mut failed = 0;
    for overwritable in (0..1_000).step_by(4) {
        let disk = RamDisk::roomy();
        disk.0.borrow_mut().overwritable = overwritable;
        let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
        let (flushed, error) = write_until_failure(&mut writer, EVENTS, append_late);
        let error = error.or_else(|| writer.flush().err());
        let safe = error.as_ref().map_or(EVENTS, |error| error.safe_events().expect("a write error"));
        assert!(safe >= flushed);
        let summary = writer.finish().unwrap();
        let thread = disk.thread();
        assert_eq!((summary.event_count, thread.recovered()), (safe, false));
        failed += u32::from(error.is_some());
        let linked = check(&thread, safe);
        assert!(linked <= summary.detail_count && (error.is_some() || linked == 12));
        // What was written of the links is as good as ever, and none leads to another event's detail.
        for position in 0..u32::try_from(summary.detail_count).unwrap() {
            thread.index_of(position).expect("links agree");
        }
    }
    assert!((100..200).contains(&failed), "{failed} of 250 disks were too small");
}

#[test]
fn links_set_late_reach_the_file_after_their_detail() {
    let disk = RamDisk::roomy();
    disk.0.borrow_mut().in_order = true;
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    (0..6_000).for_each(|number| append_late(&mut writer, number).unwrap());
    writer.flush().unwrap();
    for number in 6_000..40_000 {
        with_event(number, |time, function, kind, _| writer.append(time, function, kind, 3)).unwrap();
    }
    // Far back, over several stretches, while newer events are still buffered.
    for number in (6_000..40_000_u64).step_by(3) {
        let index_seq = u32::try_from(number).unwrap();
        with_event(number, |time, function, kind, detail| {
            writer.add_detail(index_seq, time, function, kind, detail.unwrap()).unwrap();
        });
    }
    let (events, details) = (writer.event_count(), writer.detail_count());
    writer.finish().unwrap();
    assert_eq!(check(&disk.thread(), events), details);
    assert_eq!(details, 2_000 + 34_000_u64.div_ceil(3));
}

#[test]
fn late_detail_still_comes_to_a_full_file_and_none_to_a_lost_one() {
    let disk = RamDisk::roomy();
    let mut writer = ThreadWriter::create_in(disk.clone(), &META).unwrap();
    let detail = Detail::Function(FunctionDetail::default());
    writer.pretend_written(MAX_EVENTS - 1);
    let last = writer.append(1, 1, EventKind::Call, 0).unwrap();
    assert!(writer.is_full());
    let error = writer.add_detail(5, 1, 1, EventKind::Call, &detail).unwrap_err();
    assert!(error.to_string().starts_with("cannot read index.atf back"), "{error}");
    assert_eq!(writer.add_detail(last, 1, 1, EventKind::Call, &detail).unwrap(), 0);
    assert_eq!(writer.detail_count(), 1);
}
