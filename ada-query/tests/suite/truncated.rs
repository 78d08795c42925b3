//! Files that somebody cuts while they are read, threads in several folders, one broken folder among good ones.

use std::fs::File;

use ada_format::layout::EventKind;
use ada_query::QueryError;
use ada_query::run::run;
use ada_query::select::Selection;
use ada_query::span::{Span, Visitor};
use ada_query::stats::{Options, Report};
use ada_query::trace::Trace;

use crate::model::{Event, List, Recording, write_thread};

fn pairs(count: u64) -> Vec<Event> {
    let pair = |number: u64| {
        [(0, EventKind::Call), (5, EventKind::Return)].map(|(after, kind)| Event {
            time: 10 * number + after,
            function: 0,
            kind,
            depth: 0,
        })
    };
    (0..count).flat_map(pair).collect()
}

/// Cuts the file once it has seen a call.
struct Cutter(File, u64);

impl Visitor for Cutter {
    type Mark = ();

    fn exit(&mut self, _span: &Span, (): ()) {
        if self.1 == 0 {
            self.0.set_len(64 + 32 * 20_000).unwrap();
        }
        self.1 += 1;
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_read_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    Recording::of(pairs(50_000)).write(temp.path(), 1);
    let trace = Trace::open(temp.path()).unwrap();
    let path = temp.path().join("thread_0/index.atf");
    let mut cutter = Cutter(File::options().write(true).open(&path).unwrap(), 0);
    let outcome = run(&trace, &Selection::default(), &mut cutter);
    assert!(matches!(outcome.failed[..], [(0, QueryError::Truncated { events: 100_000, .. })]), "{:?}", outcome.failed);
    assert!(outcome.accounting.adds_up());
    assert!(outcome.accounting.spans > 0);

    let report = Report::new(&trace, &Selection::default(), Options::default());
    assert_eq!(report.outcome.failed.len(), 1);
}

#[test]
fn a_thread_goes_on_in_another_folder() {
    let temp = tempfile::tempdir().unwrap();
    let events = pairs(10);
    let recording = Recording::of(events.clone());
    write_thread(temp.path(), 0, &events[..7]);
    write_thread(temp.path(), 3, &events[7..]);
    let mut manifest = recording.manifest(1);
    let mut next = manifest.threads[0].clone();
    (next.id, next.continues) = (3, Some(0));
    manifest.threads.push(next);
    manifest.write_atomic(temp.path()).unwrap();
    let trace = Trace::open(temp.path()).unwrap();
    assert_eq!(trace.threads().len(), 1);
    assert_eq!(trace.thread_of(3).map(|thread| thread.id), Some(0));
    let mut list = List::default();
    let outcome = run(&trace, &Selection::default(), &mut list);
    assert_eq!((outcome.accounting.returned, outcome.accounting.unmatched_returns), (10, 0));
    let across = &list.spans[3];
    assert_eq!((across.call.part, across.ret.unwrap().part, across.ret.unwrap().position), (0, 3, 0));
}

#[test]
fn a_broken_thread_does_not_hide_the_others() {
    let temp = tempfile::tempdir().unwrap();
    Recording::of(pairs(10)).write(temp.path(), 1);
    write_thread(temp.path(), 1, &pairs(10));
    let path = temp.path().join("thread_1/index.atf");
    File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    let trace = Trace::open(temp.path()).unwrap();
    assert_eq!(trace.broken().map(|thread| thread.id).collect::<Vec<_>>(), [1]);
    let report = Report::new(&trace, &Selection::default(), Options::default());
    assert_eq!(report.rows[0].stats.calls, 10);
}

#[test]
fn a_session_that_grows_is_followed() {
    use ada_format::layout::{Arch, ClockType, Os};
    use ada_format::write::{ThreadMeta, ThreadWriter};
    let temp = tempfile::tempdir().unwrap();
    Recording::default().manifest(1).write_atomic(temp.path()).unwrap();
    let meta = ThreadMeta { thread_id: 42, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
    let mut writer = ThreadWriter::create(&temp.path().join("thread_0"), &meta).unwrap();
    let mut trace = Trace::open(temp.path()).unwrap();
    assert_eq!(trace.event_count(), 0);
    for round in 1..4 {
        writer.append(round * 10, 1 << 32, EventKind::Call, 0).unwrap();
        writer.flush().unwrap();
        trace.refresh().unwrap();
        assert_eq!(trace.event_count(), round);
    }
}
