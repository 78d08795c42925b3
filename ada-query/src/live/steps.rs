//! Steps of threads under way, in the order of time as far as that is known.
//!
//! Invariant: a call that is still running when its thread falls silent is told, and never again as a whole; nothing waits
//! for a thread that does nothing.

use ada_format::manifest::Gap;

use super::Lane;
use crate::replay::{Step, Steps};
use crate::span::{Call, Mark, Span, Visitor};

/// Steps of one thread that were not told yet.
#[derive(Debug)]
pub struct LiveSteps {
    steps: Steps,
    muted: bool,
}

impl LiveSteps {
    /// Those of the thread at a place among the lanes, for calls that take `least_ns` or more; none while it is muted.
    #[must_use]
    pub fn new(thread: usize, least_ns: u64, muted: bool) -> Self {
        Self { steps: Steps::new(thread, least_ns), muted }
    }

    /// What happens from now on is told.
    pub fn unmute(&mut self) {
        self.muted = false;
    }

    fn steps(&mut self) -> Option<&mut Steps> {
        (!self.muted).then_some(&mut self.steps)
    }
}

/// Takes out what can be told: up to `settled_ns`, and of calls for which is waited whether they are long enough, those
/// that are by `known_ns`.
#[must_use]
pub fn due(lanes: &mut [Lane<'_, LiveSteps>], settled_ns: u64, known_ns: u64) -> Vec<Step> {
    let mut steps: Vec<(u64, Step)> = Vec::new();
    for lane in lanes {
        let mut latest_ns = 0;
        while let Some(step) = lane.visitor.steps.due(known_ns, !lane.is_busy).filter(|step| step.time_ns <= settled_ns)
        {
            // Steps of a thread stay in their order, whatever times they have.
            latest_ns = step.time_ns.max(latest_ns);
            steps.push((latest_ns, step));
            let _ = lane.visitor.steps.pop();
        }
    }
    steps.sort_by_key(|(time_ns, _)| *time_ns);
    steps.into_iter().map(|(_, step)| step).collect()
}

impl Visitor for LiveSteps {
    type Mark = u64;

    fn enter(&mut self, call: &Call, parent: Option<u64>) -> u64 {
        self.steps().map_or(call.number, |steps| steps.enter(call, parent))
    }

    fn exit(&mut self, span: &Span, number: u64) {
        if let Some(steps) = self.steps() {
            steps.exit(span, number);
        }
    }

    fn gone(&mut self, span: &Span, number: u64) {
        if let Some(steps) = self.steps() {
            steps.gone(span, number);
        }
    }

    fn dropped(&mut self, number: u64) {
        if let Some(steps) = self.steps() {
            steps.dropped(number);
        }
    }

    fn mark(&mut self, mark: &Mark) {
        if let Some(steps) = self.steps() {
            steps.mark(mark);
        }
    }

    fn gap(&mut self, gap: &Gap) {
        if let Some(steps) = self.steps() {
            steps.gap(gap);
        }
    }

    fn thread_end(&mut self) {
        self.steps.end_all();
    }
}
