//! What `top` counts of a thread.
//!
//! Invariant: a call counts from its beginning, its time from its end.

use ada_query::functions::FunctionIndex;
use ada_query::latency::Latency;
use ada_query::span::{Call, Span, Visitor};

/// Of one function in one thread, or of several put together.
#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    pub(super) calls: u64,
    pub(super) total_ns: u64,
    pub(super) self_ns: u64,
    pub(super) latency: Latency,
}

/// Of all functions in one thread.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) functions: Vec<Count>,
    pub(super) calls: u64,
}

impl Count {
    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.self_ns = self.self_ns.saturating_add(other.self_ns);
        self.latency.merge(&other.latency);
    }
}

impl Counts {
    fn of(&mut self, function: FunctionIndex) -> Option<&mut Count> {
        let place = function as usize;
        if self.functions.len() <= place {
            self.functions.resize_with(place + 1, Count::default);
        }
        self.functions.get_mut(place)
    }
}

impl Visitor for Counts {
    type Mark = FunctionIndex;

    fn enter(&mut self, call: &Call, _parent: Option<FunctionIndex>) -> FunctionIndex {
        self.calls += 1;
        if let Some(count) = self.of(call.function) {
            count.calls += 1;
        }
        call.function
    }

    fn exit(&mut self, span: &Span, function: FunctionIndex) {
        let Some(count) = self.of(function) else { return };
        count.self_ns = count.self_ns.saturating_add(span.self_ns());
        if span.outermost {
            count.total_ns = count.total_ns.saturating_add(span.duration_ns());
        }
        if span.is_timed() {
            count.latency.add(span.duration_ns());
        }
    }

    fn dropped(&mut self, function: FunctionIndex) {
        self.calls = self.calls.saturating_sub(1);
        if let Some(count) = self.of(function) {
            count.calls = count.calls.saturating_sub(1);
        }
    }
}
