//! What is written is read, and index and detail lead to each other.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use ada_format::read::{ReadError, ThreadReader};
use proptest::prelude::*;

use crate::model;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_link_leads_back(events in model::thread(200), finish: bool) {
        let dir = model::folder();
        let folder = dir.path().join("thread_5");
        let mut writer = model::write(&folder, 9, &events);
        let details = events.iter().filter(|event| event.detail.is_some()).count();
        prop_assert_eq!(writer.detail_count(), details as u64);
        writer.flush().unwrap();
        let length = |name: &str| fs::metadata(folder.join(name)).map_or(0, |data| data.len());
        prop_assert_eq!(writer.bytes(), length("index.atf") + length("detail.atf"));
        if finish {
            let summary = writer.finish().unwrap();
            prop_assert_eq!(summary.event_count, events.len() as u64);
            prop_assert_eq!(summary.bytes, length("index.atf") + length("detail.atf"));
        }
        let thread = ThreadReader::open(&folder).unwrap();
        prop_assert_eq!((thread.id(), thread.tid(), thread.recovered()), (5, 9, !finish));
        prop_assert_eq!(thread.detail().is_some(), details > 0);
        prop_assert_eq!(thread.index().header().flags.get(), u32::from(finish && details > 0));
        model::check(&thread, &model::clamped(&events), details);
        thread.verify().unwrap();
    }
}

/// A finished thread of two calls with detail, with four bytes of one of its files overwritten.
fn damaged(file: &str, offset: u64, bytes: u32) -> (tempfile::TempDir, ThreadReader) {
    let dir = model::folder();
    let folder = dir.path().join("thread_0");
    let mut writer = ada_format::write::ThreadWriter::create(&folder, &model::meta(1)).unwrap();
    for time in [100, 200] {
        let detail = ada_format::write::Detail::Function(ada_format::write::FunctionDetail::default());
        writer.append_with_detail(time, 7, ada_format::layout::EventKind::Call, 0, &detail).unwrap();
    }
    writer.finish().unwrap();
    let mut damaged = fs::OpenOptions::new().write(true).open(folder.join(file)).unwrap();
    damaged.seek(SeekFrom::Start(offset)).unwrap();
    damaged.write_all(&bytes.to_le_bytes()).unwrap();
    let thread = ThreadReader::open(&folder).unwrap();
    (dir, thread)
}

#[test]
fn a_link_that_does_not_lead_back_is_an_error_with_both_values() {
    let (_dir, thread) = damaged("detail.atf", 64 + 8, 1);
    let error = thread.detail_of(0).unwrap_err();
    assert!(
        error.to_string().ends_with(
            "thread_0: index event 0 and detail event 0 are linked, but index_seq of the detail event is 1, expected 0"
        ),
        "{error}"
    );
    let error = thread.index_of(0).unwrap_err();
    assert!(error.to_string().ends_with("but detail_seq of the index event is 1, expected 0"), "{error}");
    assert!(thread.detail_of(1).unwrap().is_some());

    let (_dir, thread) = damaged("index.atf", 64, 99);
    let error = thread.detail_of(0).unwrap_err();
    assert!(error.to_string().ends_with("but timestamp of the detail event is 100, expected 99"), "{error}");

    let (_dir, thread) = damaged("index.atf", 64 + 28, 7);
    assert!(thread.detail_of(0).unwrap().is_none(), "there is no such detail");
    assert!(matches!(thread.index_of(0), Err(ReadError::Link { found: 7, expected: 0, .. })));

    let (_dir, thread) = damaged("detail.atf", 64 + 8, 1_000_000);
    assert!(thread.index_of(0).unwrap().is_none(), "there is no such index event");
}

#[test]
fn damaged_events_do_not_pass_verification() {
    let (_dir, thread) = damaged("index.atf", 64 + 8, 8);
    let error = thread.verify().unwrap_err().to_string();
    assert!(error.contains("index.atf at byte 132: checksum is 0x"), "{error}");

    let (_dir, thread) = damaged("detail.atf", 64 + 24, 8);
    let error = thread.verify().unwrap_err().to_string();
    assert!(error.contains("detail.atf at byte 316: checksum is 0x"), "{error}");

    for length in [0, 23, u32::MAX] {
        let (_dir, thread) = damaged("detail.atf", 64 + 124, length);
        let error = thread.verify().unwrap_err().to_string();
        let expected =
            format!("detail.atf at byte 188: total_length of detail event 1 is {length}, expected 24 to 124");
        assert!(error.ends_with(&expected), "{error}");
        assert_eq!(thread.detail_of(1).unwrap_err().to_string(), error);
        assert!(thread.detail_of(0).unwrap().is_some());
    }
}
