//! Which functions have calls that looked as if they had ended, and went on after all.
//!
//! A goroutine, a coroutine or a handler on an alternate stack hides the frames of another stack for a while
//! (`span::Visitor::gone`). What is written in one go has to know beforehand whether to wait for them.
//! Invariant: memory grows with functions and running calls alone.

use std::collections::HashSet;

use crate::functions::FunctionIndex;
use crate::run::run_parallel;
use crate::select::Selection;
use crate::span::{Call, End, Span, Visitor};
use crate::trace::Trace;

/// Functions with calls that went on.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    by_function: Vec<bool>,
}

impl Switches {
    /// Reads the selected part of a session.
    pub(crate) fn find(trace: &Trace, selection: &Selection) -> Self {
        let (scouts, _) = run_parallel(trace, selection, Scout::default);
        let mut all = Self::default();
        for scout in &scouts {
            for (function, _) in scout.found.by_function.iter().enumerate().filter(|(_, found)| **found) {
                all.add(function);
            }
        }
        all
    }

    /// Whether calls of a function may go on after they looked as if they had ended.
    #[inline]
    pub(crate) fn has(&self, function: FunctionIndex) -> bool {
        self.by_function.get(function as usize).copied().unwrap_or(false)
    }

    fn add(&mut self, function: usize) {
        if self.by_function.len() <= function {
            self.by_function.resize(function + 1, false);
        }
        if let Some(found) = self.by_function.get_mut(function) {
            *found = true;
        }
    }
}

#[derive(Debug, Default)]
struct Scout {
    found: Switches,
    /// Calls of this thread that look as if they had ended.
    gone: HashSet<u64>,
}

impl Visitor for Scout {
    type Mark = u64;

    fn enter(&mut self, call: &Call, _parent: Option<u64>) -> u64 {
        call.number
    }

    fn exit(&mut self, span: &Span, number: u64) {
        if !self.gone.is_empty() && self.gone.remove(&number) && !matches!(span.end, End::Missed | End::Lost) {
            self.found.add(span.function as usize);
        }
    }

    fn gone(&mut self, span: &Span, number: u64) {
        // It was gone before, and has come back meanwhile.
        if !self.gone.insert(number) {
            self.found.add(span.function as usize);
        }
    }

    fn dropped(&mut self, number: u64) {
        self.gone.remove(&number);
    }

    fn thread_end(&mut self) {
        self.gone.clear();
    }
}
