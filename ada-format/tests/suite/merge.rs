//! The merge of threads against sorting all of their events.

use ada_format::layout::EventKind;
use ada_format::manifest::Manifest;
use ada_format::read::SessionReader;
use ada_format::session;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::{self, Event};

/// Writes each thread's times, with the position as function.
fn session(threads: &[Vec<u64>]) -> (tempfile::TempDir, SessionReader) {
    let dir = model::folder();
    Manifest::default().write_atomic(dir.path()).unwrap();
    for (id, times) in (0..).zip(threads) {
        let event = |&time| Event { time, function: 0, kind: EventKind::Call, depth: 0, detail: None };
        let events: Vec<Event> = times.iter().map(event).collect();
        model::write(&session::thread_folder(dir.path(), id), id, &events).finish().unwrap();
    }
    let session = SessionReader::open(dir.path()).unwrap();
    (dir, session)
}

/// What a merge must yield: time, thread, position.
fn oracle(threads: &[Vec<u64>], from: Option<u64>, to: Option<u64>) -> Vec<(u64, u32, u64)> {
    let mut all = Vec::new();
    for (id, times) in (0..).zip(threads) {
        let mut last = 0;
        for (position, &time) in (0..).zip(times) {
            last = last.max(time);
            all.push((last, id, position));
        }
    }
    all.retain(|event| from.is_none_or(|from| event.0 >= from) && to.is_none_or(|to| event.0 < to));
    all.sort_unstable();
    all
}

fn merged(session: &SessionReader, from: Option<u64>, to: Option<u64>) -> Vec<(u64, u32, u64)> {
    let merged = session.merged_between(from, to);
    let (least, most) = merged.size_hint();
    let events: Vec<_> =
        merged.map(|event| (event.event.timestamp_ns.get(), event.thread.id(), event.position)).collect();
    assert_eq!((least, most), (events.len(), Some(events.len())));
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_merge_is_a_sort(
        threads in vec(vec(prop_oneof![0..30_u64, 0..3_u64, Just(u64::MAX)], 0..40), 0..8),
        from in proptest::option::of(0..35_u64),
        to in proptest::option::of(0..35_u64),
    ) {
        let (_dir, session) = session(&threads);
        prop_assert_eq!(merged(&session, None, None), oracle(&threads, None, None));
        prop_assert_eq!(merged(&session, from, to), oracle(&threads, from, to));
        let range = oracle(&threads, None, None);
        prop_assert_eq!(session.time_range(), range.first().zip(range.last()).map(|(a, b)| (a.0, b.0)));
        prop_assert_eq!(session.event_count(), range.len() as u64);
    }
}

#[test]
fn the_same_time_goes_by_ordinal_then_position() {
    let (_dir, session) = session(&[vec![5, 5], vec![5], vec![4, 5]]);
    let expected = [(4, 2, 0), (5, 0, 0), (5, 0, 1), (5, 1, 0), (5, 2, 1)];
    assert_eq!(merged(&session, None, None), expected);
    assert_eq!(merged(&session, Some(u64::MAX), None), []);
    assert_eq!(merged(&session, Some(5), Some(4)), []);
}
