//! Sessions that are written while they are followed: a recorder's steps happen between two looks.

use std::ops::ControlFlow;
use std::path::Path;

use ada_format::layout::{Arch, ClockType, EventKind, Os};
use ada_format::manifest::{Function, Manifest, Process, Session, SessionStatus, Thread};
use ada_format::session::{self, thread_folder};
use ada_format::write::{ThreadMeta, ThreadWriter};
use ada_query::QueryError;
use ada_query::live::steps::{LiveSteps, due};
use ada_query::live::{Look, Standing, follow};
use ada_query::replay::{Step, StepKind};
use ada_query::select::Selection;

use crate::model::id;

/// What a step says, for comparison.
fn word(look: &Look<'_, '_, LiveSteps>, step: &Step) -> String {
    let name = |function| look.functions.about(function).to_string();
    let tid = look.lanes[step.thread].thread.tid;
    match step.kind {
        StepKind::Enter { function, .. } => format!("{tid} {} {{", name(function)),
        StepKind::Exit { span, leaf: true, .. } => format!("{tid} {} {:?}", name(span.function), span.end),
        StepKind::Exit { span, .. } => format!("{tid} }} {} {:?}", name(span.function), span.end),
        StepKind::Mark(_) | StepKind::Gap(_) => "?".to_owned(),
    }
}

fn manifest(functions: u32, threads: &[(u32, Option<u32>)], status: SessionStatus) -> Manifest {
    let function = |number| Function { function_id: id(number), name: format!("f{number}"), ..Function::default() };
    let thread =
        |(id, continues): &(u32, Option<u32>)| Thread { id: *id, pid: 9, continues: *continues, ..Thread::default() };
    Manifest {
        session: Session { status, ..Session::default() },
        process: vec![Process { pid: 9, ..Process::default() }],
        functions: (0..functions).map(function).collect(),
        threads: threads.iter().map(thread).collect(),
        ..Manifest::default()
    }
}

fn writer(dir: &Path, id: u32, tid: u32) -> ThreadWriter {
    let meta = ThreadMeta { thread_id: tid, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
    ThreadWriter::create(&thread_folder(dir, id), &meta).unwrap()
}

fn put(writer: &mut ThreadWriter, events: &[(u64, u32, EventKind, u32)]) {
    for (time, function, kind, depth) in events {
        writer.append(*time, id(*function), *kind, *depth).unwrap();
    }
    writer.flush().unwrap();
}

const CALL: EventKind = EventKind::Call;
const RETURN: EventKind = EventKind::Return;
const RECORDING: SessionStatus = SessionStatus::Recording;

/// Follows, doing the recorder's next step after each look; what was told at each.
fn told(dir: &Path, muted: bool, mut recorder: Vec<Box<dyn FnMut() + '_>>) -> Vec<Vec<String>> {
    let mut told = Vec::new();
    let begun = std::cell::Cell::new(!muted);
    recorder.reverse();
    let lock = session::lock(dir).unwrap();
    let result: Result<(), QueryError> = follow(
        dir,
        &Selection::default(),
        |thread, again| LiveSteps::new(thread.index, 0, again || !begun.get()),
        |look| {
            assert!(look.failed.is_empty(), "{:?}", look.failed);
            begun.set(true);
            let steps = due(look.lanes, look.settled_ns, 0);
            told.push(steps.iter().map(|step| word(&look, step)).collect());
            look.lanes.iter_mut().for_each(|lane| lane.visitor.unmute());
            // What waits for a quiet look is told at the second one without events.
            if told.len() % 3 == 0
                && let Some(mut step) = recorder.pop()
            {
                step();
            }
            assert!(told.len() < 100, "{told:?}");
            Ok(if look.standing == Standing::Recorded { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        },
    );
    drop(lock);
    result.unwrap();
    told.retain(|words: &Vec<String>| !words.is_empty());
    told
}

#[test]
fn events_threads_and_functions_come_while_it_is_followed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    manifest(2, &[(0, None)], RECORDING).write_atomic(dir).unwrap();
    let first = std::cell::RefCell::new(Some(writer(dir, 0, 70)));
    let put_first = |events: &[(u64, u32, EventKind, u32)]| put(first.borrow_mut().as_mut().unwrap(), events);
    put_first(&[(10, 0, CALL, 0), (11, 1, CALL, 1), (12, 1, RETURN, 1)]);
    let told = told(
        dir,
        true,
        vec![
            Box::new(|| put_first(&[(20, 1, CALL, 1), (21, 1, RETURN, 1), (22, 1, CALL, 1)])),
            // A function that was not there, and a thread.
            Box::new(|| {
                let mut second = writer(dir, 1, 71);
                put(&mut second, &[(30, 2, CALL, 0), (31, 2, RETURN, 0)]);
                second.finish().unwrap();
                manifest(3, &[(0, None), (1, None)], RECORDING).write_atomic(dir).unwrap();
            }),
            // The first thread goes on elsewhere; what it wrote is deleted.
            Box::new(|| {
                drop(first.borrow_mut().take());
                let mut next = writer(dir, 2, 70);
                put(&mut next, &[(40, 1, RETURN, 1), (41, 0, RETURN, 0)]);
                manifest(3, &[(0, None), (1, None), (2, Some(0))], RECORDING).write_atomic(dir).unwrap();
                next.finish().unwrap();
            }),
            Box::new(|| std::fs::remove_dir_all(thread_folder(dir, 0)).unwrap()),
            Box::new(|| manifest(3, &[(1, None), (2, None)], SessionStatus::Complete).write_atomic(dir).unwrap()),
        ],
    );
    let expected: [&[&str]; 3] =
        [&["70 f1 Return", "70 f1 {"], &["71 f2 Return"], &["70 } f1 Return", "70 } f0 Return"]];
    assert_eq!(told, expected);
}

#[test]
fn calls_that_run_at_the_end_are_told_as_that() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    manifest(2, &[(0, None)], RECORDING).write_atomic(dir).unwrap();
    let mut only = writer(dir, 0, 70);
    put(&mut only, &[(10, 0, CALL, 0)]);
    let told = told(
        dir,
        false,
        vec![Box::new(|| manifest(2, &[(0, None)], SessionStatus::Complete).write_atomic(dir).unwrap())],
    );
    assert_eq!(told, [vec!["70 f0 {"], vec!["70 } f0 Recording"]]);
}

#[test]
fn a_footer_is_no_event_however_much_of_it_is_there() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let mut only = writer(dir, 0, 70);
    put(&mut only, &[(10, 0, CALL, 0), (11, 0, RETURN, 0)]);
    only.finish().unwrap();
    let path = thread_folder(dir, 0).join("index.atf");
    let whole = std::fs::read(&path).unwrap();
    for cut in [0, 1, 31, 32, 33, 64] {
        // As it is while the footer is written: the header is still the first one.
        let mut bytes = whole[..whole.len() - cut].to_vec();
        bytes[28..32].fill(0);
        bytes[40..64].fill(0);
        std::fs::write(&path, bytes).unwrap();
        manifest(1, &[(0, None)], RECORDING).write_atomic(dir).unwrap();
        let told = told(
            dir,
            false,
            vec![Box::new(|| manifest(1, &[(0, None)], SessionStatus::Complete).write_atomic(dir).unwrap())],
        );
        assert_eq!(told, [vec!["70 f0 Return"]], "{cut}");
    }
}
