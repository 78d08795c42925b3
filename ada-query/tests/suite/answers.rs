//! Call trees, replays, pictures and checks, against the spans they are made of.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::fs::{self, File};

use ada_format::layout::EventKind;
use ada_query::replay::{Step, StepKind, replay};
use ada_query::select::Selection;
use ada_query::span::{End, Span};
use ada_query::timeline::Timeline;
use ada_query::trace::Trace;
use ada_query::tree::{CallTree, Graph, Sums};
use ada_query::verify::verify;
use proptest::prelude::*;

use crate::model::{Event, Recording, list, write_thread};
use crate::spans::{any_recording, recording};

/// Sums by path, from the outermost function on.
type Paths = BTreeMap<Vec<u32>, Sums>;

fn add(paths: &mut Paths, path: Vec<u32>, span: &Span) {
    let sums = paths.entry(path).or_default();
    let unseen = u64::from(matches!(span.end.name(), "missed" | "lost"));
    sums.merge(&Sums { calls: 1, total_ns: span.duration_ns(), self_ns: span.self_ns(), unseen_ends: unseen });
}

fn path_of(span: &Span, spans: &[Span]) -> Vec<u32> {
    let mut path = vec![span.function];
    let mut parent = span.parent;
    while let Some(number) = parent {
        let around = spans[number as usize];
        path.insert(0, around.function);
        parent = around.parent;
    }
    path
}

fn paths_of(tree: &CallTree) -> Paths {
    let nodes = tree.nodes().iter().skip(1).filter(|node| node.sums.calls > 0);
    let path = |node| {
        let mut path = vec![];
        path.extend(tree.above(node).map(|above| above.function));
        path.reverse();
        path.push(node.function);
        path
    };
    nodes.map(|node| (path(node), node.sums)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn trees_are_sums_of_spans(recording in any_recording()) {
        let temp = tempfile::tempdir().unwrap();
        recording.write(temp.path(), 4);
        // A second thread with the same events goes the same paths.
        write_thread(temp.path(), 1, &recording.events);
        let trace = Trace::open(temp.path()).unwrap();
        let graph = Graph::new(&trace, &Selection::default(), 1000);
        let mut expected = Paths::new();
        for thread in [0, 1] {
            let (list, _) = list(temp.path(), &Selection { threads: vec![thread], ..Selection::default() });
            list.spans.iter().for_each(|span| add(&mut expected, path_of(span, &list.spans), span));
        }
        prop_assert_eq!(paths_of(&graph.tree), expected.clone());

        let wanted = HashSet::from([1]);
        let mut below = Paths::new();
        for (path, sums) in &expected {
            if let Some(place) = path.iter().position(|function| *function == 1) {
                below.entry(path[place..].to_vec()).or_default().merge(sums);
            }
        }
        prop_assert_eq!(paths_of(&graph.tree.callees(&wanted)), below);

        let mut above = Paths::new();
        for (path, sums) in expected.iter().filter(|(path, _)| path.last() == Some(&1)) {
            let recursive = path.iter().filter(|function| **function == 1).count() > 1;
            let sums = Sums { total_ns: if recursive { 0 } else { sums.total_ns }, ..*sums };
            let inverse: Vec<u32> = path.iter().rev().copied().collect();
            for length in 1..=inverse.len() {
                above.entry(inverse[..length].to_vec()).or_default().merge(&sums);
            }
        }
        prop_assert_eq!(paths_of(&graph.tree.callers(&wanted)), above);
    }

    #[test]
    fn a_tree_without_room_counts_the_rest(recording in any_recording(), most in 1_usize..6) {
        let temp = tempfile::tempdir().unwrap();
        recording.write(temp.path(), 4);
        let trace = Trace::open(temp.path()).unwrap();
        let graph = Graph::new(&trace, &Selection::default(), most);
        prop_assert!(graph.tree.nodes().len() <= most + 1);
        let calls: u64 = graph.tree.nodes().iter().map(|node| node.sums.calls).sum();
        prop_assert_eq!(calls + graph.tree.other().calls, graph.outcome.accounting.spans);
    }

    #[test]
    fn a_replay_tells_every_call_in_the_order_of_time(recording in recording(), least in 0_u64..20) {
        let temp = tempfile::tempdir().unwrap();
        recording.write(temp.path(), 4);
        write_thread(temp.path(), 1, &recording.events);
        let selection = Selection { min_duration_ns: least, ..Selection::default() };
        let trace = Trace::open(temp.path()).unwrap();
        let mut steps: Vec<Step> = Vec::new();
        replay(&trace, &selection, |step| {
            steps.push(*step);
            Ok::<_, Infallible>(true)
        }).unwrap();
        for thread in [0, 1] {
            let of_it = || steps.iter().filter(|step| step.thread == thread);
            let (list, _) = list(temp.path(), &Selection { threads: vec![thread as u32], ..selection.clone() });
            let mut told: Vec<Span> = Vec::new();
            let mut running: Vec<u64> = Vec::new();
            for step in of_it() {
                match step.kind {
                    StepKind::Enter { number, .. } => running.push(number),
                    StepKind::Exit { span, leaf, .. } => {
                        if !leaf {
                            prop_assert_eq!(running.pop(), Some(span.number));
                        }
                        prop_assert_eq!(step.time_ns, if leaf { span.start_ns } else { span.end_ns });
                        told.push(span);
                    }
                    StepKind::Mark(_) | StepKind::Gap(_) => {}
                }
            }
            prop_assert!(running.is_empty());
            told.sort_by_key(|span| span.number);
            prop_assert_eq!(told, list.spans);
        }
        let calls = steps.iter().filter(|step| !matches!(step.kind, StepKind::Gap(_)));
        prop_assert!(calls.collect::<Vec<_>>().windows(2).all(|pair| pair[0].time_ns <= pair[1].time_ns));
    }

    /// Whatever stacks a thread has: a call that looked as if it had ended may end twice, the second time with its return.
    #[test]
    fn a_replay_of_stacks_that_take_turns_tells_every_call_before_its_end(recording in any_recording(), least in 0_u64..20) {
        let temp = tempfile::tempdir().unwrap();
        recording.write(temp.path(), 4);
        let selection = Selection { min_duration_ns: least, ..Selection::default() };
        let trace = Trace::open(temp.path()).unwrap();
        let (mut begun, mut ended) = (HashSet::new(), BTreeMap::new());
        let mut returned = HashSet::new();
        let mut wrong = Vec::new();
        replay(&trace, &selection, |step| {
            match step.kind {
                StepKind::Enter { number, .. } if !begun.insert(number) => wrong.push(*step),
                StepKind::Exit { span, leaf, .. } => {
                    let again = span.end == End::Return && !returned.insert(span.number);
                    // A leaf begins here, any other call has begun before.
                    if begun.insert(span.number) != leaf || again {
                        wrong.push(*step);
                    }
                    ended.insert(span.number, span);
                }
                _ => {}
            }
            Ok::<_, Infallible>(true)
        }).unwrap();
        prop_assert!(wrong.is_empty(), "{:?}", wrong);
        let (list, _) = list(temp.path(), &selection);
        prop_assert!(begun.iter().all(|number| ended.contains_key(number)));
        prop_assert_eq!(ended.into_values().collect::<Vec<_>>(), list.spans);
    }

    #[test]
    fn a_picture_shows_the_longest_call_of_each_cell(recording in recording(), columns in 1_usize..30) {
        let temp = tempfile::tempdir().unwrap();
        recording.write(temp.path(), 4);
        let trace = Trace::open(temp.path()).unwrap();
        let timeline = Timeline::new(&trace, &Selection::default(), columns, 3);
        let (list, _) = list(temp.path(), &Selection::default());
        for lane in &timeline.lanes {
            prop_assert!(lane.rows.len() <= 3 && lane.rows.iter().all(|row| row.len() == columns));
            prop_assert_eq!(lane.deeper, list.spans.iter().filter(|span| span.depth >= 3).count() as u64);
            for (depth, row) in lane.rows.iter().enumerate() {
                let shown = row.iter().filter_map(|cell| cell.call);
                let known = |number: u64, function| {
                    list.spans.iter().any(|span| (span.number, span.function, span.depth as usize) == (number, function, depth))
                };
                prop_assert!(shown.clone().all(|(number, function)| known(number, function)));
                prop_assert!(row.iter().all(|cell| cell.most_ns <= cell.filled_ns && (cell.calls == 0) == cell.call.is_none()));
            }
        }
    }
}

#[test]
fn faults_are_found_and_named() {
    let temp = tempfile::tempdir().unwrap();
    let event = |time, kind| Event { time, function: 0, kind, depth: 0 };
    Recording::of(vec![event(10, EventKind::Call), event(20, EventKind::Return)]).write(temp.path(), 1);
    let mut manifest = Recording::default().manifest(1);
    manifest.threads[0].event_count = 2;
    manifest.write_atomic(temp.path()).unwrap();
    let kinds = || {
        let verified = verify(&Trace::open(temp.path()).unwrap());
        verified.faults.iter().map(|fault| fault.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(), [""; 0]);

    let path = temp.path().join("thread_0/index.atf");
    let good = fs::read(&path).unwrap();
    let write = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&path, bad).unwrap();
    };
    write(64 + 32, &5_u64.to_le_bytes());
    assert_eq!(kinds(), ["order", "checksum"]);
    write(64 + 20, &9_u32.to_le_bytes());
    assert_eq!(kinds(), ["event", "checksum"]);
    write(64 + 28, &0_u32.to_le_bytes());
    assert_eq!(kinds(), ["link", "checksum"]);
    File::options().write(true).open(&path).unwrap().set_len(20).unwrap();
    assert_eq!(kinds(), ["read"]);
    fs::write(&path, &good).unwrap();
    manifest.threads[0].event_count = 3;
    manifest.write_atomic(temp.path()).unwrap();
    assert_eq!(kinds(), ["manifest"]);
}
