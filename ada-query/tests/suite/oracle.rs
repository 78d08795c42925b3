//! The rules of pairing, written down without a thought for speed.
//!
//! Invariant: looks at all calls for every event; knows nothing of stacks.

use ada_format::layout::EventKind;
use ada_query::span::End;

use crate::model::{Event, Recording};

/// A call and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) function: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) how: End,
    /// Positions of its call and its own end.
    pub(crate) call: u32,
    pub(crate) ret: Option<u32>,
    /// Its place among all calls, and that of the call around it.
    pub(crate) parent: Option<usize>,
    pub(crate) outermost: bool,
    pub(crate) over_loss: bool,
}

impl Answer {
    pub(crate) fn duration(&self) -> u64 {
        self.end - self.start
    }
}

/// All answers.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) calls: Vec<Answer>,
    pub(crate) unmatched: u64,
    pub(crate) signals: u64,
    /// The first event that is the return of a call that had looked as if it had ended. From there on these rules are too
    /// simple.
    pub(crate) came_back: Option<usize>,
}

impl Answers {
    /// Time of a call without those right below it.
    pub(crate) fn self_time(&self, call: usize) -> u64 {
        let below = self.calls.iter().filter(|other| other.parent == Some(call));
        self.calls[call].duration() - below.map(Answer::duration).sum::<u64>()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Running,
    /// Proven gone.
    Gone,
    Ended,
}

/// What the rules say of a recording whose end is at `end`, by `how`.
pub(crate) fn answer(recording: &Recording, end: u64, how: End) -> Answers {
    let mut answers = Answers::default();
    let (mut states, mut depths): (Vec<State>, Vec<u32>) = (Vec::new(), Vec::new());
    let mut last = 0;
    for (position, event) in recording.events.iter().enumerate() {
        let gap = recording.gaps.contains(&(position as u64));
        let gone = if gap { End::Lost } else { End::Missed };
        let same = |call: usize, states: &[State]| {
            answers.calls[call].function == event.function
                && depths[call] == event.depth
                && states[call] != State::Ended
        };
        let newest = (0..states.len()).rev().find(|&call| same(call, &states));
        let on_stack = newest.filter(|&call| states[call] == State::Running);
        let ends = match event.kind {
            EventKind::Call => None,
            EventKind::Return => newest,
            EventKind::Exception => on_stack,
            EventKind::Switch => panic!("these rules are those of one stack"),
        };
        // What this event proves gone.
        for call in 0..states.len() {
            let deeper = match (event.kind, ends) {
                (EventKind::Call, _) | (EventKind::Return, None) => depths[call] >= event.depth,
                (EventKind::Return | EventKind::Exception, Some(_)) if on_stack.is_some() => depths[call] > event.depth,
                _ => false,
            };
            if deeper && states[call] == State::Running {
                states[call] = State::Gone;
                answers.calls[call].end = last;
                answers.calls[call].how = gone;
            }
        }
        match (event.kind, ends) {
            (EventKind::Call, _) => {
                let running = |call: &usize| states[*call] == State::Running;
                let parent = (0..states.len()).rev().find(running);
                let outermost =
                    !(0..states.len()).filter(running).any(|call| answers.calls[call].function == event.function);
                answers.calls.push(begin(event, position, parent, outermost));
                states.push(State::Running);
                depths.push(event.depth);
            }
            (EventKind::Return, None) => answers.unmatched += 1,
            (EventKind::Exception | EventKind::Switch, None) => answers.signals += 1,
            (kind, Some(call)) => {
                if states[call] == State::Gone {
                    answers.came_back.get_or_insert(position);
                }
                states[call] = State::Ended;
                let before = recording
                    .gaps
                    .iter()
                    .any(|gap| *gap > u64::from(answers.calls[call].call) && *gap <= position as u64);
                let ended = &mut answers.calls[call];
                ended.end = event.time;
                ended.how = if kind == EventKind::Return { End::Return } else { End::Unwound };
                ended.ret = Some(position as u32);
                ended.over_loss = before;
            }
        }
        last = event.time;
    }
    finish(&mut answers, recording, &states, last, (end, how));
    answers
}

fn begin(event: &Event, position: usize, parent: Option<usize>, outermost: bool) -> Answer {
    Answer {
        function: event.function,
        start: event.time,
        end: event.time,
        how: End::Missed,
        call: position as u32,
        ret: None,
        parent,
        outermost,
        over_loss: false,
    }
}

/// Calls that were running: until the end, unless earlier calls of the function ended unseen and none returned.
fn finish(answers: &mut Answers, recording: &Recording, states: &[State], last: u64, end: (u64, End)) {
    let some_returned = recording.events.iter().any(|event| event.kind == EventKind::Return);
    let gone = |call: usize| states[call] == State::Gone;
    let some_gone = (0..states.len()).any(gone);
    let mut reached = last;
    for call in (0..states.len()).rev().filter(|call| states[*call] == State::Running) {
        let function = answers.calls[call].function;
        let others = || (0..states.len()).filter(|other| answers.calls[*other].function == function);
        let returned = others().any(|other| answers.calls[other].how == End::Return && states[other] == State::Ended);
        let missed = others().any(gone);
        let known = returned || (!missed && (some_returned || !some_gone));
        if known {
            reached = reached.max(end.0);
        }
        answers.calls[call].end = reached;
        answers.calls[call].how = if known { end.1 } else { End::Missed };
    }
}
