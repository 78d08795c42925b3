//! Goroutines that take turns on one thread, against each of them taken alone.
//!
//! Invariant: a goroutine alone is a session without switches, of the same events at the same times.

use std::collections::BTreeMap;
use std::convert::Infallible;

use ada_format::layout::{Arch, ClockType, EventKind, Os};
use ada_format::manifest::{Manifest, Returns};
use ada_format::session::thread_folder;
use ada_format::write::{ThreadMeta, ThreadWriter};
use ada_query::replay::{StepKind, replay};
use ada_query::run::Outcome;
use ada_query::select::Selection;
use ada_query::span::{End, Span};
use ada_query::trace::Trace;
use ada_query::tree::Graph;
use proptest::prelude::*;

use crate::model::{Event, List, Recording, id, list, write_thread};
use crate::oracle::answer;
use crate::spans::any_recording;

const FUNCTIONS: u32 = 4;
const ENDED: u64 = 10_000;

/// Events and the stacks that they lie on.
type Turns = Vec<(u64, Event)>;

/// Writes a thread that goes from stack to stack, in two folders from a position on.
fn write(dir: &std::path::Path, turns: &[(u64, Event)], cut: usize) {
    let meta = ThreadMeta { thread_id: 42, arch: Arch::X86_64, os: Os::Linux, clock: ClockType::Boottime };
    let (first, second) = turns.split_at(cut.min(turns.len()));
    let parts = [first, second];
    for (folder, part) in (0..).zip(parts) {
        let mut writer = ThreadWriter::create(&thread_folder(dir, folder), &meta).unwrap();
        let mut now_on = 0;
        for (stack, event) in part {
            if *stack != now_on {
                writer.append(event.time, *stack, EventKind::Switch, 0).unwrap();
                now_on = *stack;
            }
            writer.append(event.time, id(event.function), event.kind, event.depth).unwrap();
        }
        writer.finish().unwrap();
    }
    let mut manifest = Recording { ended: Some(ENDED), ..Recording::default() }.manifest(FUNCTIONS);
    let thread = manifest.threads[0].clone();
    manifest.threads.push(ada_format::manifest::Thread { id: 1, continues: Some(0), ..thread });
    with_returns(manifest).write_atomic(dir).unwrap();
}

/// Otherwise what one goroutine shows of a function would count for the others.
fn with_returns(mut manifest: Manifest) -> Manifest {
    manifest.functions.iter_mut().for_each(|function| function.returns = Returns::Probe);
    manifest
}

/// Events in which no call returns that had looked as if it had ended.
fn goroutine() -> impl Strategy<Value = Vec<Event>> {
    any_recording().prop_map(|recording| {
        let of_known = |event: Event| Event { function: event.function % FUNCTIONS, ..event };
        let mut recording = Recording::of(recording.events.into_iter().map(of_known).collect());
        let simple = answer(&recording, ENDED, End::Exit).came_back.unwrap_or(recording.events.len());
        recording.events.truncate(simple);
        recording.events
    })
}

prop_compose! {
    /// Goroutines and whose turn it is.
    fn turns()(
        goroutines in prop::collection::vec(goroutine(), 1..5),
        whose in prop::collection::vec((0_u64..5, 0_u64..9), 0..400),
    ) -> Turns {
        let mut left: Vec<_> = goroutines.into_iter().map(Vec::into_iter).collect();
        let mut time = 100;
        let mut turns = Turns::new();
        for (stack, step) in whose {
            if let Some(event) = left.get_mut(stack as usize).and_then(Iterator::next) {
                time += step;
                turns.push((stack, Event { time, ..event }));
            }
        }
        turns
    }
}

fn selections() -> impl Strategy<Value = Selection> {
    (prop::option::of(100_u64..600), prop::option::of(300_u64..900), 0_u64..30).prop_map(|(from, until, least)| {
        Selection { from_ns: from, until_ns: until, min_duration_ns: least, ..Selection::default() }
    })
}

/// What of a span is the same wherever its events lie.
type Told = (u32, u64, u64, u64, End, u32, Option<u64>, bool, bool);

/// By the time of the call and its place among those of the goroutine.
fn told(spans: &[Span]) -> Vec<Told> {
    let start = |number: u64| spans.iter().find(|span| span.number == number).map(|span| span.start_ns);
    let tell = |span: &Span| {
        let parent = span.parent.and_then(start);
        let Span { function, start_ns, end_ns, children_ns, end, depth, outermost, cut, .. } = *span;
        (function, start_ns, end_ns, children_ns, end, depth, parent, outermost, cut)
    };
    spans.iter().map(tell).collect()
}

/// Each goroutine's events as a session of its own.
fn alone(turns: &Turns, selection: &Selection) -> Vec<(u64, List, Outcome)> {
    let mut events: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
    turns.iter().for_each(|(stack, event)| events.entry(*stack).or_default().push(*event));
    let session = |(stack, events)| {
        let temp = tempfile::tempdir().unwrap();
        let recording = Recording { ended: Some(ENDED), ..Recording::of(events) };
        recording.write(temp.path(), FUNCTIONS);
        with_returns(recording.manifest(FUNCTIONS)).write_atomic(temp.path()).unwrap();
        let (list, outcome) = list(temp.path(), selection);
        (stack, list, outcome)
    };
    events.into_iter().map(session).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn goroutines_that_take_turns_are_as_each_alone(turns in turns(), selection in selections(), cut in 0_usize..400) {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), &turns, cut);
        let (all, outcome) = list(temp.path(), &selection);
        let mut found = told(&all.spans);
        let alone = alone(&turns, &selection);
        let mut expected: Vec<Told> = alone.iter().flat_map(|(_, list, _)| told(&list.spans)).collect();
        found.sort_by_key(|told| format!("{told:?}"));
        expected.sort_by_key(|told| format!("{told:?}"));
        prop_assert_eq!(found, expected);
        let sum = |of: fn(&Outcome) -> u64| alone.iter().map(|(_, _, outcome)| of(outcome)).sum::<u64>();
        let a = &outcome.accounting;
        prop_assert_eq!(a.events - a.switches, sum(|outcome| outcome.accounting.events));
        prop_assert_eq!(a.missed, sum(|outcome| outcome.accounting.missed));
        prop_assert_eq!(a.unmatched_returns, sum(|outcome| outcome.accounting.unmatched_returns));
        prop_assert_eq!(a.signals, sum(|outcome| outcome.accounting.signals));
    }

    #[test]
    fn trees_and_replays_of_goroutines_hold_all_their_calls(turns in turns(), selection in selections()) {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), &turns, 50);
        let trace = Trace::open(temp.path()).unwrap();
        let (all, _) = list(temp.path(), &selection);
        let graph = Graph::new(&trace, &selection, 10_000);
        let own: u64 = graph.tree.nodes().iter().map(|node| node.sums.self_ns).sum();
        prop_assert_eq!(own, all.spans.iter().map(Span::self_ns).sum::<u64>());
        let (mut entered, mut left, mut last_ns) = (0_usize, 0_usize, 0);
        replay(&trace, &selection, |step| {
            assert!(step.time_ns >= last_ns || selection.min_duration_ns > 0, "{step:?} after {last_ns}");
            last_ns = step.time_ns;
            entered += usize::from(matches!(step.kind, StepKind::Enter { .. } | StepKind::Exit { leaf: true, .. }));
            left += usize::from(matches!(step.kind, StepKind::Exit { .. }));
            Ok::<_, Infallible>(true)
        }).unwrap();
        prop_assert_eq!(entered, left);
        prop_assert!(entered >= all.spans.len() && (selection.min_duration_ns > 0 || entered == all.spans.len()));
    }
}

#[test]
fn what_never_comes_back_is_limited() {
    let temp = tempfile::tempdir().unwrap();
    let call = |stack: u64| (stack, Event { time: 100 + stack, function: 0, kind: EventKind::Call, depth: 0 });
    let turns: Turns = (1..=5000).map(call).collect();
    write(temp.path(), &turns, 6000);
    let (list, outcome) = list(temp.path(), &Selection::default());
    // One runs, 4096 wait.
    assert_eq!((outcome.accounting.missed, outcome.accounting.open, outcome.accounting.switches), (903, 4097, 5000));
    let missed = list.spans.iter().filter(|span| span.end == End::Missed);
    assert!(missed.clone().all(|span| span.start_ns <= 1003 && span.duration_ns() == 0));
    assert!(list.spans.iter().all(|span| span.outermost));
}

#[test]
fn a_call_that_waits_has_its_time_from_call_to_return() {
    let temp = tempfile::tempdir().unwrap();
    let event = |stack, time, function, kind, depth| (stack, Event { time, function, kind, depth });
    let (call, ret) = (EventKind::Call, EventKind::Return);
    let turns = vec![
        event(7, 10, 0, call, 0),
        event(7, 20, 1, call, 1),
        event(8, 30, 0, call, 0),
        event(7, 40, 1, ret, 1),
        event(8, 60, 2, call, 1),
        event(8, 70, 2, ret, 1),
        event(0, 75, 3, call, 0),
        event(7, 80, 0, ret, 0),
        event(8, 100, 0, ret, 0),
        event(0, 110, 3, ret, 0),
    ];
    write(temp.path(), &turns, 100);
    let (list, outcome) = list(temp.path(), &Selection::default());
    let told: Vec<_> = list.spans.iter().map(|span| (span.duration_ns(), span.self_ns(), span.parent)).collect();
    assert_eq!(told, [(70, 50, None), (20, 20, Some(0)), (70, 60, None), (10, 10, Some(2)), (35, 35, None)]);
    assert!(list.spans.iter().all(|span| span.outermost && span.end == End::Return));
    assert_eq!(outcome.accounting.switches, 8);
}

#[test]
fn what_waits_at_the_end_runs_unless_it_may_have_gone_on_in_another_thread() {
    let call = |stack, time| (stack, Event { time, function: 0, kind: EventKind::Call, depth: 0 });
    let ends = |other: &[Event]| {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), &[call(7, 10), call(8, 20)], 100);
        let mut manifest = Manifest::read(temp.path()).unwrap();
        let thread = manifest.threads[0].clone();
        manifest.threads.push(ada_format::manifest::Thread { id: 2, ..thread });
        manifest.write_atomic(temp.path()).unwrap();
        write_thread(temp.path(), 2, other);
        let (list, _) = list(temp.path(), &Selection { threads: vec![0], ..Selection::default() });
        list.spans.iter().map(|span| (span.end_ns, span.end)).collect::<Vec<_>>()
    };
    assert_eq!(ends(&[]), [(ENDED, End::Exit), (ENDED, End::Exit)]);
    let (_, event) = call(0, 15);
    assert_eq!(ends(&[event]), [(10, End::Missed), (ENDED, End::Exit)]);
}
