//! Spans against the rules, for events in any order whatever.

use std::collections::BTreeMap;

use ada_format::layout::EventKind;
use ada_query::select::{Pattern, Selection};
use ada_query::span::{End, Span};
use ada_query::stats::{Options, Report};
use ada_query::trace::Trace;
use proptest::prelude::*;

use crate::model::{Event, Recording, list};
use crate::oracle::{Answers, answer};

const FUNCTIONS: u32 = 4;

fn event() -> impl Strategy<Value = (u64, u32, EventKind, u32)> {
    let kind = prop_oneof![
        10 => Just(EventKind::Call),
        9 => Just(EventKind::Return),
        1 => Just(EventKind::Exception),
    ];
    (0_u64..9, 0..FUNCTIONS + 1, kind, 0_u32..4)
}

/// Recordings in which no call returns that had looked as if it had ended: for those the rules are simple.
pub(crate) fn recording() -> impl Strategy<Value = Recording> {
    any_recording().prop_map(|mut recording| {
        if let Some(event) = expected(&recording).came_back {
            recording.events.truncate(event);
            recording.gaps.retain(|gap| *gap <= event as u64);
        }
        recording
    })
}

prop_compose! {
    pub(crate) fn any_recording()(
        events in prop::collection::vec(event(), 0..120),
        gaps in prop::collection::btree_set(0_u64..120, 0..3),
        ended in prop::option::of(1_000_u64..2_000),
    ) -> Recording {
        let mut time = 100;
        let events: Vec<Event> = events.into_iter().map(|(step, function, kind, depth)| {
            time += step;
            Event { time, function, kind, depth }
        }).collect();
        let gaps = gaps.into_iter().filter(|gap| *gap <= events.len() as u64).collect();
        Recording { events, gaps, ended, signal: None }
    }
}

fn expected(recording: &Recording) -> Answers {
    let last = recording.events.last().map_or(0, |event| event.time);
    let (end, how) = recording.ended.map_or((last, End::Recording), |end| (end, End::Exit));
    answer(recording, end, how)
}

fn compare(span: &Span, answers: &Answers, call: usize) {
    let answer = &answers.calls[call];
    assert_eq!(span.call.position, answer.call);
    assert_eq!((span.start_ns, span.end_ns), (answer.start, answer.end), "{span:?} {answer:?}");
    assert_eq!((span.end, span.ret.map(|place| place.position)), (answer.how, answer.ret), "{span:?}");
    assert_eq!(span.over_loss, answer.over_loss, "{span:?} {answer:?}");
    assert_eq!(span.parent.map(|parent| parent as usize), answer.parent, "{span:?}");
    assert_eq!(span.outermost, answer.outermost, "{span:?}");
    assert_eq!(span.self_ns(), answers.self_time(call), "{span:?} {answer:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn spans_follow_the_rules(recording in recording()) {
        let temp = tempfile::tempdir().unwrap();
        // One function is called that the manifest does not have.
        recording.write(temp.path(), FUNCTIONS);
        let (list, outcome) = list(temp.path(), &Selection::default());
        let answers = expected(&recording);
        prop_assert_eq!(list.spans.len(), answers.calls.len());
        list.spans.iter().enumerate().for_each(|(call, span)| compare(span, &answers, call));
        prop_assert_eq!(outcome.accounting.unmatched_returns, answers.unmatched);
        prop_assert_eq!(outcome.accounting.signals, answers.signals);
        prop_assert_eq!(outcome.accounting.events, recording.events.len() as u64);
        prop_assert_eq!(list.marks.len() as u64, answers.unmatched + answers.signals);
    }

    #[test]
    fn whatever_is_recorded_is_accounted_for(recording in any_recording()) {
        let temp = tempfile::tempdir().unwrap();
        recording.write(temp.path(), FUNCTIONS);
        let (list, outcome) = list(temp.path(), &Selection::default());
        let of_kind = |kind| recording.events.iter().filter(|event| event.kind == kind).count() as u64;
        prop_assert_eq!(outcome.accounting.spans, of_kind(EventKind::Call));
        prop_assert_eq!(outcome.accounting.returns, of_kind(EventKind::Return));
        prop_assert!(list.spans.iter().all(|span| span.children_ns <= span.duration_ns()));
    }

    #[test]
    fn statistics_are_sums_of_spans(recording in recording()) {
        let temp = tempfile::tempdir().unwrap();
        recording.write(temp.path(), FUNCTIONS);
        let answers = expected(&recording);
        let report = Report::new(&Trace::open(temp.path()).unwrap(), &Selection::default(), Options::default());
        let mut calls: BTreeMap<u32, u64> = BTreeMap::new();
        answers.calls.iter().for_each(|answer| *calls.entry(answer.function).or_default() += 1);
        let counted: BTreeMap<u32, u64> = report.rows.iter().map(|row| (row.function, row.stats.calls)).collect();
        prop_assert_eq!(counted, calls);
        for row in &report.rows {
            let of_it = || answers.calls.iter().enumerate().filter(|(_, answer)| answer.function == row.function);
            let total: u64 = of_it().filter(|(_, answer)| answer.outermost).map(|(_, answer)| answer.duration()).sum();
            prop_assert_eq!(row.stats.total_ns, total);
            prop_assert_eq!(row.stats.self_ns, of_it().map(|(call, _)| answers.self_time(call)).sum::<u64>());
            let timed = of_it().filter(|(_, answer)| answer.ret.is_some() && !answer.over_loss);
            let mut times: Vec<u64> = timed.map(|(_, answer)| answer.duration()).collect();
            times.sort_unstable();
            prop_assert_eq!(row.stats.latency.count(), times.len() as u64);
            prop_assert_eq!(row.stats.latency.max(), times.last().copied());
            // Durations below 64 have buckets of their own.
            if let Some(&middle) = times.get((times.len().max(1) - 1) / 2).filter(|middle| **middle < 64) {
                prop_assert_eq!(row.stats.latency.quantile(0.5), Some(middle));
            }
        }
    }

    #[test]
    fn a_time_range_cuts_spans(recording in recording(), from in 90_u64..400, length in 0_u64..300) {
        let temp = tempfile::tempdir().unwrap();
        recording.write(temp.path(), FUNCTIONS);
        let until = from + length;
        let selection = Selection { from_ns: Some(from), until_ns: Some(until), ..Selection::default() };
        let (list, _) = list(temp.path(), &selection);
        let cut: Vec<Event> = recording.events.iter().copied().filter(|event| event.time < until).collect();
        let cut = Recording { gaps: recording.gaps.clone(), events: cut, ..recording.clone() };
        let last = recording.events.last().map_or(0, |event| event.time);
        let (end, how) = recording.ended.map_or((last, End::Recording), |end| (end, End::Exit));
        let (end, how) = if end >= until { (until, End::Range) } else { (end, how) };
        let answers = answer(&cut, end, how);
        for span in &list.spans {
            let answer = &answers.calls[span.number as usize];
            prop_assert_eq!((span.start_ns, span.cut), (answer.start.max(from), answer.start < from));
            prop_assert_eq!((span.end_ns, span.end), (answer.end.max(span.start_ns), answer.how));
        }
        for (number, answer) in answers.calls.iter().enumerate() {
            let told = list.spans.iter().any(|span| span.number == number as u64);
            prop_assert!(told || answer.end < from, "{:?}", answer);
        }
    }

    #[test]
    fn what_is_left_out_was_never_there(recording in recording(), least in 0_u64..30) {
        let temp = tempfile::tempdir().unwrap();
        recording.write(temp.path(), FUNCTIONS);
        let (all, _) = list(temp.path(), &Selection::default());
        let pattern = |name: &str| vec![Pattern::new(name).unwrap()];
        let selection = Selection { include: pattern("f1"), exclude: pattern("f2"), min_duration_ns: least, ..Selection::default() };
        let (some, _) = list(temp.path(), &selection);
        let around = |span: &Span| {
            let mut around = vec![*span];
            while let Some(parent) = around.last().and_then(|span| span.parent) {
                around.push(all.spans[parent as usize]);
            }
            around
        };
        let selected = |span: &&Span| {
            let around = around(span);
            around.iter().any(|span| span.function == 1) && !around.iter().any(|span| span.function == 2)
        };
        let expected: Vec<u64> = all.spans.iter().filter(selected).filter(|span| span.duration_ns() >= least).map(|span| span.number).collect();
        let told: Vec<u64> = some.spans.iter().map(|span| span.number).collect();
        prop_assert_eq!(&told, &expected);
        for span in &some.spans {
            let below = some.spans.iter().filter(|other| other.parent == Some(span.number));
            prop_assert_eq!(span.children_ns, below.map(Span::duration_ns).sum::<u64>(), "{:?}", span);
        }
    }
}
