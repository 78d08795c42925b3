//! Spans against what a program really did: it is played, and recorded with the faults that recorders have.
//!
//! Invariant: the player knows each call's end before a recorder looks at it.

use ada_format::layout::EventKind;
use ada_format::manifest::{Manifest, Returns};
use ada_query::select::Selection;
use ada_query::span::End;
use proptest::prelude::*;

use crate::model::{Event, Recording, list};

/// What a function does before it ends, and how it ends.
#[derive(Clone, Debug)]
struct Body {
    function: u32,
    calls: Vec<Body>,
    leaves: Leaves,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaves {
    Return,
    /// Its return has no probe, or is beyond the kernel's limit.
    Unseen,
    /// An exception leaves it; the recorder says so.
    Unwound,
    /// The last call in it replaces it: both return at once.
    TailCall,
}

/// Function numbers decide whether returns are seen, as in a recording: all calls of a function are alike.
fn body() -> impl Strategy<Value = Body> {
    let leaves = prop_oneof![8 => Just(Leaves::Return), 1 => Just(Leaves::Unwound), 1 => Just(Leaves::TailCall)];
    let leaf = (0_u32..5, leaves.clone()).prop_map(|(function, leaves)| Body { function, calls: Vec::new(), leaves });
    leaf.prop_recursive(6, 60, 5, move |inner| {
        (0_u32..5, prop::collection::vec(inner, 0..5), leaves.clone()).prop_map(|(function, calls, leaves)| Body {
            function,
            calls,
            leaves,
        })
    })
}

/// The only function whose returns are not seen.
const UNSEEN: u32 = 4;

#[derive(Debug, Default)]
struct Player {
    events: Vec<Event>,
    time: u64,
    /// Start, end, how; by call.
    truth: Vec<(u64, u64, End)>,
}

impl Player {
    fn event(&mut self, function: u32, kind: EventKind, depth: u32) {
        self.events.push(Event { time: self.time, function, kind, depth });
    }

    fn play(&mut self, body: &Body, depth: u32) {
        self.time += 3;
        let number = self.truth.len();
        self.truth.push((self.time, 0, End::Return));
        self.event(body.function, EventKind::Call, depth);
        body.calls.iter().for_each(|inner| self.play(inner, depth + 1));
        let leaves = if body.function == UNSEEN { Leaves::Unseen } else { body.leaves };
        self.time += if leaves == Leaves::TailCall && !body.calls.is_empty() { 0 } else { 7 };
        let (end, how) = match leaves {
            Leaves::Unseen => (self.events.last().map_or(0, |event| event.time), End::Missed),
            Leaves::Unwound => (self.time, End::Unwound),
            Leaves::Return | Leaves::TailCall => (self.time, End::Return),
        };
        match how {
            End::Return => self.event(body.function, EventKind::Return, depth),
            End::Unwound => self.event(body.function, EventKind::Exception, depth),
            _ => {}
        }
        self.truth[number].1 = end;
        self.truth[number].2 = how;
    }
}

fn played(bodies: &[Body]) -> Player {
    let mut player = Player { time: 1_000, ..Player::default() };
    bodies.iter().for_each(|body| player.play(body, 0));
    // Proves everything else gone.
    player.play(&Body { function: 0, calls: Vec::new(), leaves: Leaves::Return }, 0);
    player
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_a_program_did_is_what_is_told(bodies in prop::collection::vec(body(), 1..4)) {
        let player = played(&bodies);
        let temp = tempfile::tempdir().unwrap();
        Recording::of(player.events.clone()).write(temp.path(), 5);
        let (list, outcome) = list(temp.path(), &Selection::default());
        let told: Vec<_> = list.spans.iter().map(|span| (span.start_ns, span.end_ns, span.end)).collect();
        prop_assert_eq!(told, player.truth);
        prop_assert_eq!(outcome.accounting.unmatched_returns, 0);
    }

    #[test]
    fn a_cut_start_leaves_returns_over(bodies in prop::collection::vec(body(), 1..4), cut in 0_usize..60) {
        let player = played(&bodies);
        let cut = cut.min(player.events.len());
        let temp = tempfile::tempdir().unwrap();
        Recording::of(player.events[cut..].to_vec()).write(temp.path(), 5);
        let (list, outcome) = list(temp.path(), &Selection::default());
        let gone = player.events[..cut].iter().filter(|event| event.kind == EventKind::Call).count();
        prop_assert_eq!(list.spans.len() + gone, player.truth.len());
        let told = list.spans.iter().filter(|span| span.end == End::Return);
        prop_assert!(told.clone().all(|span| player.truth.contains(&(span.start_ns, span.end_ns, span.end))));
        let returns = player.events[cut..].iter().filter(|event| event.kind == EventKind::Return).count();
        prop_assert_eq!(told.count() as u64 + outcome.accounting.unmatched_returns, returns as u64);
    }
}

#[test]
fn a_handler_on_another_stack_does_not_end_what_it_interrupts() {
    let temp = tempfile::tempdir().unwrap();
    let event = |time, function, kind, depth| Event { time, function, kind, depth };
    let events = vec![
        event(10, 0, EventKind::Call, 0),
        event(20, 1, EventKind::Call, 1),
        event(30, 2, EventKind::Call, 0),
        event(40, 2, EventKind::Return, 0),
        event(50, 1, EventKind::Return, 1),
        event(60, 3, EventKind::Call, 1),
        event(65, 3, EventKind::Return, 1),
        event(70, 0, EventKind::Return, 0),
    ];
    Recording::of(events).write(temp.path(), 4);
    let (list, outcome) = list(temp.path(), &Selection::default());
    let told: Vec<_> = list.spans.iter().map(|span| (span.duration_ns(), span.self_ns(), span.parent)).collect();
    // The handler ran in function 1's time, which is function 0's, too.
    assert_eq!(told, [(60, 25, None), (30, 20, Some(0)), (10, 10, None), (5, 5, Some(0))]);
    assert_eq!((outcome.accounting.returned, outcome.accounting.missed), (4, 0));
}

#[test]
fn recordings_of_calls_alone_have_no_durations() {
    let temp = tempfile::tempdir().unwrap();
    let calls = [(10, 0, 0), (20, 1, 1), (30, 1, 1), (40, 2, 2)];
    let events = calls.map(|(time, function, depth)| Event { time, function, kind: EventKind::Call, depth });
    let recording = Recording { ended: Some(1_000_000), ..Recording::of(events.to_vec()) };
    recording.write(temp.path(), 3);
    let (list, _) = list(temp.path(), &Selection::default());
    let told: Vec<_> = list.spans.iter().map(|span| (span.end_ns, span.end)).collect();
    assert_eq!(told, [(40, End::Missed), (20, End::Missed), (40, End::Missed), (40, End::Missed)]);
}

#[test]
fn a_killed_process_ends_its_calls() {
    let temp = tempfile::tempdir().unwrap();
    let events = vec![Event { time: 10, function: 0, kind: EventKind::Call, depth: 0 }];
    let recording = Recording { ended: Some(50), signal: Some(9), ..Recording::of(events) };
    recording.write(temp.path(), 1);
    let (list, _) = list(temp.path(), &Selection::default());
    assert_eq!((list.spans[0].end_ns, list.spans[0].end), (50, End::Killed { signal: 9 }));
}

#[test]
fn the_manifest_says_whose_returns_are_recorded() {
    let temp = tempfile::tempdir().unwrap();
    let event = |time, function, depth| Event { time, function, kind: EventKind::Call, depth };
    // Without the manifest's word function 0 looks as if its returns were recorded, and function 1 as if they were not.
    let events = vec![event(10, 0, 0), event(20, 1, 1), event(30, 1, 1)];
    let recording = Recording { ended: Some(100), ..Recording::of(events) };
    let ends = |returns: [Returns; 2]| {
        recording.write(temp.path(), 2);
        let mut manifest = Manifest::read(temp.path()).unwrap();
        manifest.functions.iter_mut().zip(returns).for_each(|(function, returns)| function.returns = returns);
        manifest.write_atomic(temp.path()).unwrap();
        let (list, _) = list(temp.path(), &Selection::default());
        std::fs::remove_dir_all(temp.path().join("thread_0")).unwrap();
        list.spans.iter().map(|span| (span.end_ns, span.end)).collect::<Vec<_>>()
    };
    let missed = (20, End::Missed);
    assert_eq!(ends([Returns::Probe, Returns::Exits]), [(100, End::Exit), missed, (100, End::Exit)]);
    assert_eq!(ends([Returns::Probe, Returns::None]), [(100, End::Exit), missed, (30, End::Missed)]);
    assert_eq!(ends([Returns::None, Returns::None]), [(30, End::Missed), missed, (30, End::Missed)]);
}
