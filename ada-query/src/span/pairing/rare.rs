//! What pairing does at the ends of ranges and threads, and where calls and returns do not nest.
//!
//! Invariant: a frame that comes back takes with it the time that its parent was given for it.

use ada_format::manifest::Returns;

use super::{ENTERED, Ending, Frame, MISSED, NO_NUMBER, Pairing, RETURNED};
use crate::functions::FunctionIndex;
use crate::span::aside::Kept;
use crate::span::{Call, End, Visitor};

impl<M: Copy + Default> Pairing<'_, M> {
    /// The time range begins: what runs is entered.
    pub(crate) fn begin_range<V: Visitor<Mark = M>>(&mut self, visitor: &mut V) {
        self.loud = true;
        let from_ns = self.selection.from_ns;
        self.waiting.frames_mut().for_each(|frames| enter_all(frames, from_ns, visitor));
        enter_all(&mut self.frames, from_ns, visitor);
    }

    /// The thread's events have ended; at `end_ns` at the latest its calls did, too.
    ///
    /// The last call of a function whose returns are not recorded may have ended long ago. Where the manifest does not say
    /// which functions these are, they are those of which calls have ended before without a return.
    pub(crate) fn finish<V: Visitor<Mark = M>>(&mut self, end_ns: u64, end: End, visitor: &mut V) {
        for kept in self.aside.drain() {
            self.close_kept(&kept, visitor);
        }
        let blind = self.counts.returns == 0 && self.seen.iter().any(|seen| seen & MISSED != 0);
        self.end_all((end_ns, end), |pairing, function| pairing.is_known(function, blind), visitor);
        while let Some(parked) = self.waiting.take_newest() {
            self.resume(parked);
            self.end_all(
                (end_ns, end),
                |pairing, function| !pairing.may_move && pairing.is_known(function, blind),
                visitor,
            );
        }
    }

    /// Whether a call of the function that has not returned has run until the end. `blind`: no returns are recorded.
    fn is_known(&self, function: FunctionIndex, blind: bool) -> bool {
        let seen = self.seen.get(function as usize).copied().unwrap_or(0);
        match self.functions.returns(function) {
            Returns::None => false,
            Returns::Probe | Returns::Exits => true,
            Returns::Unknown => seen & RETURNED != 0 || (seen & MISSED == 0 && !blind),
        }
    }

    /// Ends the calls of a stack, those for which `is_known` holds at the end.
    fn end_all<V: Visitor<Mark = M>>(
        &mut self,
        (end_ns, end): (u64, End),
        is_known: impl Fn(&Self, FunctionIndex) -> bool,
        visitor: &mut V,
    ) {
        let mut last_ns = self.last_ns;
        while let Some(frame) = self.frames.pop() {
            let known = is_known(self, frame.function);
            if known {
                last_ns = last_ns.max(end_ns);
            }
            let end = if known { end } else { End::Missed };
            let ending = Ending { end_ns: last_ns, end, place: None, detail: None };
            if !known {
                self.tell_gone(&frame, ending, visitor);
            }
            self.end(&frame, ending, visitor);
        }
    }

    /// Makes the frame of a function and depth the topmost one, if it is there or was given up. `false` otherwise; then
    /// what is as deep is gone.
    #[cold]
    pub(super) fn uncover<V: Visitor<Mark = M>>(
        &mut self,
        function: FunctionIndex,
        depth: u32,
        time_ns: u64,
        visitor: &mut V,
    ) -> bool {
        let is_it = |frame: &Frame<M>| frame.depth == depth && frame.function == function;
        if self.frames.iter().rev().take_while(|frame| frame.depth >= depth).any(is_it) {
            while self.frames.last().is_some_and(|top| !is_it(top)) {
                self.give_up(visitor);
            }
            return true;
        }
        if self.take_back(function, depth, time_ns, visitor) {
            return true;
        }
        while self.frames.last().is_some_and(|top| top.depth >= depth) {
            self.give_up(visitor);
        }
        false
    }

    /// Puts the frame of a function and depth on top that was given up too early, with the calls around it. What ran
    /// meanwhile ran inside of it.
    fn take_back<V: Visitor<Mark = M>>(
        &mut self,
        function: FunctionIndex,
        depth: u32,
        time_ns: u64,
        visitor: &mut V,
    ) -> bool {
        let mut taken = self.aside.take(self.stack, function, depth);
        let mut meanwhile_ns = 0;
        let top = self.frames.last().map(|top| top.number);
        let mut around: Option<&mut Kept<M>> = None;
        for kept in taken.iter_mut().rev() {
            let children = match around {
                Some(around) => &mut around.frame.children_ns,
                None if kept.under == top => match self.frames.last_mut() {
                    Some(top) => &mut top.children_ns,
                    None => &mut self.root_children_ns,
                },
                // What it was called from is gone for good.
                None => &mut 0,
            };
            let ran_ns = children.saturating_sub(kept.before_ns.saturating_add(kept.added_ns));
            meanwhile_ns = ran_ns.saturating_add(meanwhile_ns);
            *children = kept.before_ns.min(*children);
            around = Some(kept);
        }
        if let Some(innermost) = taken.first_mut() {
            let running_ns = time_ns.saturating_sub(innermost.frame.start_ns.max(self.selection.from_ns));
            innermost.frame.children_ns = innermost.frame.children_ns.saturating_add(meanwhile_ns).min(running_ns);
        }
        for kept in taken.iter().rev() {
            self.put_back(kept, visitor);
        }
        !taken.is_empty()
    }

    fn put_back<V: Visitor<Mark = M>>(&mut self, kept: &Kept<M>, visitor: &mut V) {
        let mut frame = kept.frame;
        if frame.is_selected() {
            self.start_running(frame.function);
            if self.loud && frame.flags & ENTERED == 0 {
                // It was given up before the time range and has come back within.
                let parent = Some(frame.parent).filter(|number| *number != NO_NUMBER);
                let mark = self.frames.last().filter(|top| Some(top.number) == parent).map(|top| top.mark);
                frame.mark = visitor.enter(&self.late_call(&frame, parent), mark);
                frame.flags |= ENTERED;
            }
        }
        self.frames.push(frame);
    }

    fn late_call(&self, frame: &Frame<M>, parent: Option<u64>) -> Call {
        Call {
            function: frame.function,
            start_ns: frame.start_ns.max(self.selection.from_ns),
            depth: frame.shown,
            number: frame.number,
            parent,
            call: frame.place,
            detail: None,
        }
    }
}

/// Enters what runs on a stack where the time range begins.
fn enter_all<V: Visitor>(frames: &mut [Frame<V::Mark>], from_ns: u64, visitor: &mut V) {
    let mut parent: Option<(u64, V::Mark)> = None;
    for frame in frames {
        if !frame.is_selected() {
            parent = None;
            continue;
        }
        frame.flags |= ENTERED;
        let call = Call {
            function: frame.function,
            start_ns: frame.start_ns.max(from_ns),
            depth: frame.shown,
            number: frame.number,
            parent: parent.map(|(number, _)| number),
            call: frame.place,
            detail: None,
        };
        frame.mark = visitor.enter(&call, parent.map(|(_, mark)| mark));
        parent = Some((frame.number, frame.mark));
    }
}
