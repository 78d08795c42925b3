//! Call depth of one thread, from nothing but the stack pointer of each call and return.
//!
//! A frame is gone once an event proves it: a stack only grows while its frames live, so a call or return at a higher
//! stack pointer, or a call at the same one that was not a tail call, means that everything below has ended, with or
//! without a return that we saw (longjmp, exception, a return beyond the kernel's limit, a lost record).
//!
//! Two things look alike and are told apart by what comes later: frames that are gone, and frames that wait on another
//! stack (a signal handler on an alternate stack above this one, a coroutine). So frames that were given up are
//! kept aside for a while, and if one of them returns after all, it and those that called it are taken back.
//!
//! Invariant: a call and its return get the same depth.

#[cfg(test)]
mod tests;

/// Uretprobes that the kernel keeps pending for one thread (`MAX_URETPROBE_DEPTH`, kernel/events/uprobes.c); the
/// returns of deeper calls are not delivered.
pub const RETURN_LIMIT: usize = 64;

/// Given-up frames that are kept in case they return.
const ASIDE: usize = 256;
/// Frames farther than this from the stack pointer that proves them gone, in bytes, may as well wait on another stack.
const SAME_STACK: u64 = 1 << 20;

/// A call that has not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    sp: u64,
    function_id: u64,
    time_ns: u64,
    depth: u32,
    /// Whether its return will be seen.
    awaited: Awaited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// A return probe is pending.
    Pending,
    /// Its exits are probed; no limit there.
    AtExit,
    /// Beyond [`RETURN_LIMIT`]: there will be no return.
    BeyondLimit,
    /// Returns of this function are not recorded.
    NotProbed,
}

/// A call, as a probe saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Stack pointer at the function's first instruction.
    pub sp: u64,
    /// The function.
    pub function_id: u64,
    /// The return address is a return probe's trampoline: the function was jumped to by one that is itself awaited.
    pub chained: bool,
    /// How the function's return will be seen.
    pub returns: Expect,
    /// When.
    pub time_ns: u64,
}

/// How a function's return is seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expect {
    /// Not at all.
    Nothing,
    /// By a return probe, if [`RETURN_LIMIT`] allows.
    #[default]
    ReturnProbe,
    /// By probes on its exits.
    Exit,
}

/// A call that ended without a return: longjmp or an exception left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Its function.
    pub function_id: u64,
    /// Its depth.
    pub depth: u32,
}

/// What became of calls whose return did not come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unreturned {
    /// Left by longjmp, an exception or the end of a signal frame; or the return was lost.
    pub unwound: u64,
    /// Their returns were beyond [`RETURN_LIMIT`] and never delivered.
    pub beyond_limit: u64,
}

/// The calls of one thread that have not returned.
#[derive(Debug, Default)]
pub struct CallStack {
    frames: Vec<Frame>,
    /// Frames given up, oldest first, at most [`ASIDE`].
    aside: Vec<Frame>,
    /// Frames whose return probe is pending.
    pending: usize,
    /// Return probes that the kernel holds pending. It drops those of dead frames only when it adds or delivers one, and
    /// tests its limit before (kernel/events/uprobes.c, `prepare_uretprobe`).
    in_kernel: usize,
    unreturned: Unreturned,
    /// Calls that the latest event proves to be left, innermost first.
    left: Vec<Left>,
    /// When the call began that the latest return has ended.
    called_ns: u64,
    /// When the latest of the events was lost that may belong here: the return of a call from before may be among them.
    lost_ns: u64,
    /// A frame that was given up has returned after all: this thread switches stacks, and what looks left may wait.
    switches: bool,
}

impl CallStack {
    /// A stack without calls, with room for `depth` of them.
    #[must_use]
    pub fn with_capacity(depth: usize) -> Self {
        Self { frames: Vec::with_capacity(depth), aside: Vec::with_capacity(ASIDE), ..Self::default() }
    }

    /// Notes a call and returns its depth.
    pub fn call(&mut self, call: Call) -> u32 {
        self.left.clear();
        while self.frames.last().is_some_and(|top| top.sp < call.sp) {
            self.give_up(call.sp);
        }
        if !self.is_tail_call(&call) {
            while self.frames.last().is_some_and(|top| top.sp == call.sp) {
                self.give_up(call.sp);
            }
        }
        let depth = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        let awaited = match call.returns {
            Expect::Nothing => Awaited::NotProbed,
            Expect::Exit => Awaited::AtExit,
            Expect::ReturnProbe if self.in_kernel >= RETURN_LIMIT => Awaited::BeyondLimit,
            Expect::ReturnProbe => {
                self.in_kernel = self.pending + 1;
                Awaited::Pending
            }
        };
        self.push(Frame { sp: call.sp, function_id: call.function_id, time_ns: call.time_ns, depth, awaited });
        depth
    }

    /// Whether the call took the place of a frame that awaits its return. The alignment of a return address alone does not
    /// tell: one ordinary call site in 4096 has it too.
    fn is_tail_call(&self, call: &Call) -> bool {
        let same = self.frames.iter().rev().take_while(|frame| frame.sp == call.sp);
        call.chained && same.into_iter().any(|frame| frame.awaited == Awaited::Pending)
    }

    /// Notes a return, `sp` being the stack pointer at the function's entry. `Err` holds the depth of a return whose
    /// call is unknown: it was lost, or came before the recording.
    pub fn ret(&mut self, sp: u64, function_id: u64) -> Result<u32, u32> {
        self.left.clear();
        let is_it = |frame: &Frame| frame.sp == sp && frame.function_id == function_id;
        let at_or_above = self.frames.iter().rev().take_while(|frame| frame.sp <= sp);
        if at_or_above.clone().any(is_it) {
            while self.frames.last().is_some_and(|top| !is_it(top)) {
                self.give_up(sp);
            }
            let returned = self.pop();
            self.in_kernel = self.pending;
            self.called_ns = returned.map_or(0, |frame| frame.time_ns);
            return Ok(returned.map_or(0, |frame| frame.depth));
        }
        while self.frames.last().is_some_and(|top| top.sp < sp) {
            self.give_up(sp);
        }
        if let Some(index) = self.aside.iter().rposition(is_it) {
            return Ok(self.take_back(index));
        }
        Err(u32::try_from(self.frames.len()).unwrap_or(u32::MAX))
    }

    /// Whether such a return would be that of a known call.
    #[must_use]
    pub fn awaits(&self, sp: u64, function_id: u64) -> bool {
        self.frames.iter().chain(&self.aside).any(|frame| frame.sp == sp && frame.function_id == function_id)
    }

    /// Forgets all calls: the process executes another program.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.aside.clear();
        self.pending = 0;
        self.in_kernel = 0;
    }

    /// Events were lost that may belong here, the last of them at `last_ns`.
    pub fn note_loss(&mut self, last_ns: u64) {
        self.lost_ns = self.lost_ns.max(last_ns);
    }

    /// When the call began that the latest known return has ended.
    #[must_use]
    pub fn called_ns(&self) -> u64 {
        self.called_ns
    }

    /// The calls that the latest call or return proved to be left, innermost first.
    #[must_use]
    pub fn left(&self) -> &[Left] {
        &self.left
    }

    /// Number of calls that run while the stack pointer is `sp`, and the innermost one's function: those that ended without a
    /// return that anybody saw are passed over.
    #[must_use]
    pub fn running(&self, sp: u64) -> (u32, Option<u64>) {
        let is_gone = |frame: &Frame| frame.sp < sp && sp - frame.sp < SAME_STACK;
        let running = self.frames.iter().rposition(|frame| !is_gone(frame)).map_or(0, |last| last + 1);
        let innermost = running.checked_sub(1).and_then(|last| self.frames.get(last));
        (u32::try_from(running).unwrap_or(u32::MAX), innermost.map(|frame| frame.function_id))
    }

    /// Calls whose return did not come and will not.
    #[must_use]
    pub fn unreturned(&self) -> Unreturned {
        self.unreturned
    }

    fn push(&mut self, frame: Frame) {
        self.pending += usize::from(frame.awaited == Awaited::Pending);
        self.frames.push(frame);
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop()?;
        self.pending -= usize::from(frame.awaited == Awaited::Pending);
        Some(frame)
    }

    /// The topmost frame has ended, or waits on another stack than the one that has grown no farther than to `sp`.
    fn give_up(&mut self, sp: u64) {
        let Some(frame) = self.pop() else { return };
        match frame.awaited {
            Awaited::NotProbed => return,
            Awaited::BeyondLimit => self.unreturned.beyond_limit += 1,
            Awaited::Pending | Awaited::AtExit => self.unreturned.unwound += 1,
        }
        if frame.awaited != Awaited::BeyondLimit {
            let may_have_returned = self.lost_ns >= frame.time_ns && self.lost_ns > 0;
            if !self.switches && !may_have_returned && sp.wrapping_sub(frame.sp) < SAME_STACK {
                self.left.push(Left { function_id: frame.function_id, depth: frame.depth });
            }
            if self.aside.len() == ASIDE {
                self.aside.remove(0);
            }
            self.aside.push(frame);
        }
    }

    /// The frame at `index` of those set aside has returned after all: its callers, set aside after it, live too.
    fn take_back(&mut self, index: usize) -> u32 {
        let returned = self.aside.remove(index);
        self.called_ns = returned.time_ns;
        self.switches = true;
        self.unreturned.unwound -= 1;
        // Frames are given up from the innermost outwards: callers lie behind, each with a lower depth.
        let mut depth = returned.depth;
        let mut until = index;
        while let Some(caller) = self.aside.get(until)
            && caller.depth < depth
            && caller.sp >= returned.sp
        {
            depth = caller.depth;
            until += 1;
        }
        let callers = until - index;
        self.unreturned.unwound -= callers as u64;
        for position in (index..until).rev() {
            let caller = self.aside[position];
            self.push(caller);
        }
        self.aside.drain(index..until);
        returned.depth
    }
}
