//! The windows of time whose details are kept: opened by triggers, prolonged by others, merged where they meet.
//!
//! ```text
//!            from     at
//!  ├ pre-roll ┤ call … ├ post-roll ┤
//! start ────────────────────────── end
//! ```
//!
//! Invariant: whether a detail is kept depends on its time alone, and a window's start never moves back: a thread's
//! details are written in the order of its index, or not at all.

use std::{collections::VecDeque, sync::Arc};

use ada_format::manifest;

use super::buffer::Verdict;
use crate::{timespan, trigger::Roll};

/// Triggers that are listed with one window; the others are counted.
pub const TRIGGERS_LISTED: usize = 1000;
/// Triggers that are listed with all windows together.
pub const ALL_TRIGGERS_LISTED: usize = 100_000;
/// Windows that are listed; the others are counted.
pub const WINDOWS_LISTED: usize = 10_000;

/// What fired, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// `symbol`, `slow`, `signal`, `exit`, `every` or `mark`.
    pub kind: &'static str,
    /// When, `CLOCK_BOOTTIME` in nanoseconds.
    pub at_ns: u64,
    /// The trigger as it was typed, or the text of a mark.
    pub what: Arc<str>,
    /// The ordinal of the thread that made it fire, if one did.
    pub thread: Option<u32>,
    /// Position of the event in that thread's index, if there is one.
    pub index_seq: Option<u32>,
}

/// A stretch of time whose details were kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first moment, `CLOCK_BOOTTIME` in nanoseconds.
    pub start_ns: u64,
    /// Its last moment, as far as that is known.
    pub end_ns: u64,
    /// Whether it begins as early as its triggers asked for.
    pub complete: bool,
    /// From its start to what its first trigger is about: the pre-roll as it came out.
    pub pre_roll_ns: u64,
    /// Details that were kept.
    pub details: u64,
    /// What fired, in the order in which it did: at most [`TRIGGERS_LISTED`].
    pub triggers: Vec<Fired>,
    /// Triggers that fired beyond those.
    pub unlisted: u64,
    /// Details that still belong to it, whenever they come, if its end is counted in details.
    left: u64,
}

/// From when on a trigger wants details, and from when on they are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// What the trigger is about: its moment, or the call of a slow one.
    pub(super) from_ns: u64,
    /// Where the pre-roll begins; `None`: somewhere before everything that is buffered.
    pub(super) asked_ns: Option<u64>,
    /// When the recording began: nothing was before it.
    pub(super) begin_ns: u64,
    /// The first moment of which the buffer has everything, unless it went to a window.
    pub(super) floor_ns: u64,
}

/// All windows of a recording.
#[derive(Debug)]
pub(super) struct Windows {
    post: Roll,
    /// Shared with whoever has looked: they change no more, but for their ends when the recording ends.
    past: VecDeque<Arc<Window>>,
    last: Option<Window>,
    triggers_listed: usize,
    unlisted: u64,
    details: u64,
    revision: u64,
}

impl Windows {
    /// None yet; each lasts for `post` after its last trigger.
    pub(super) fn new(post: Roll) -> Self {
        Self { post, past: VecDeque::new(), last: None, triggers_listed: 0, unlisted: 0, details: 0, revision: 0 }
    }

    /// What is to become of a detail of that time. If it was [`kept`](Self::kept), that is to be told.
    #[inline]
    pub(super) fn judge(&mut self, time_ns: u64) -> Verdict {
        let Some(window) = &mut self.last else { return Verdict::Stay };
        window.judge(time_ns)
    }

    /// So many details were written since, all of them of the last window.
    #[inline]
    pub(super) fn kept(&mut self, details: u64) {
        self.details += details;
        if let Some(window) = &mut self.last {
            window.details += details;
        }
    }

    /// Opens a window for what fired, or prolongs the last one.
    pub(super) fn fire(&mut self, fired: Fired, reach: Reach) {
        self.revision += 1;
        let start_ns = reach.start_ns();
        match &mut self.last {
            Some(last) if last.left > 0 || start_ns <= last.end_ns => {
                // What lies before a window that goes on is gone.
                last.complete &= reach.asked_ns.is_none_or(|asked| asked.max(reach.begin_ns) >= last.start_ns);
            }
            last => {
                let past = last.replace(Window::new(start_ns, &reach));
                self.archive(past);
            }
        }
        let listed = self.triggers_listed < ALL_TRIGGERS_LISTED;
        if let Some(last) = &mut self.last {
            last.prolong(fired.at_ns, self.post);
            self.triggers_listed += usize::from(last.note(fired, listed));
        }
    }

    /// The recording ends: no window lasts longer.
    pub(super) fn finish(&mut self, end_ns: u64) {
        let over = self.past.iter_mut().filter(|window| window.end_ns > end_ns || window.left > 0).map(Arc::make_mut);
        over.chain(&mut self.last).for_each(|window| window.finish(end_ns));
        self.revision += 1;
    }

    /// Those that are listed, in the order of their times.
    pub(super) fn all(&self) -> impl Iterator<Item = &Window> {
        self.past.iter().map(|past| &**past).chain(&self.last)
    }

    /// The same, to be looked at later: a pointer for each that is over, and a copy of the last.
    pub(super) fn shared(&self) -> impl Iterator<Item = Arc<Window>> {
        self.past.iter().cloned().chain(self.last.clone().map(Arc::new))
    }

    /// How many more there were.
    pub(super) fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// Details kept in all of them.
    pub(super) fn details(&self) -> u64 {
        self.details
    }

    /// Grows whenever a trigger fires.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether details of that time are kept.
    pub(super) fn is_open(&self, now_ns: u64) -> bool {
        self.last.as_ref().is_some_and(|last| last.left > 0 || now_ns <= last.end_ns)
    }

    fn archive(&mut self, past: Option<Window>) {
        let Some(past) = past else { return };
        if self.past.len() == WINDOWS_LISTED {
            self.past.pop_front();
            self.unlisted += 1;
        }
        self.past.push_back(Arc::new(past));
    }
}

impl Fired {
    fn manifest(&self) -> manifest::Trigger {
        manifest::Trigger {
            kind: self.kind.to_owned(),
            at_ns: self.at_ns,
            what: self.what.to_string(),
            thread: self.thread,
            index_seq: self.index_seq.map(u64::from),
            ..manifest::Trigger::default()
        }
    }
}

impl Reach {
    /// Where a window of its own begins.
    fn start_ns(&self) -> u64 {
        self.asked_ns.unwrap_or(self.begin_ns).max(self.floor_ns)
    }
}

impl Window {
    fn new(start_ns: u64, reach: &Reach) -> Self {
        Self {
            start_ns,
            end_ns: start_ns,
            complete: start_ns == reach.asked_ns.unwrap_or(reach.begin_ns).max(reach.begin_ns),
            pre_roll_ns: reach.from_ns.saturating_sub(start_ns),
            details: 0,
            triggers: Vec::new(),
            unlisted: 0,
            left: 0,
        }
    }

    /// What the manifest says of it. How many triggers are not listed stands under `triggers_unlisted`.
    #[must_use]
    pub fn manifest(&self) -> manifest::Window {
        let mut extra = serde_json::Map::new();
        if self.unlisted > 0 {
            extra.insert("triggers_unlisted".to_owned(), self.unlisted.into());
        }
        manifest::Window {
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            pre_roll_ns: self.pre_roll_ns,
            complete: self.complete,
            details: self.details,
            triggers: self.triggers.iter().map(Fired::manifest).collect(),
            extra,
        }
    }

    fn judge(&mut self, time_ns: u64) -> Verdict {
        if time_ns < self.start_ns {
            return Verdict::Drop;
        }
        if time_ns > self.end_ns {
            if self.left == 0 {
                return Verdict::Stay;
            }
            self.left -= 1;
            self.end_ns = time_ns;
        }
        Verdict::Take
    }

    fn finish(&mut self, end_ns: u64) {
        self.end_ns = self.end_ns.min(end_ns).max(self.start_ns);
        self.left = 0;
    }

    /// Lasts for `post` from `at_ns` on, at least.
    fn prolong(&mut self, at_ns: u64, post: Roll) {
        match post {
            Roll::Time(time) => self.end_ns = self.end_ns.max(at_ns.saturating_add(timespan::nanoseconds(time))),
            Roll::Events(events) => {
                self.end_ns = self.end_ns.max(at_ns);
                self.left = self.left.max(events);
            }
        }
    }

    /// True if what fired is listed.
    fn note(&mut self, fired: Fired, listed: bool) -> bool {
        let listed = listed && self.triggers.len() < TRIGGERS_LISTED;
        if listed {
            self.triggers.push(fired);
        } else {
            self.unlisted += 1;
        }
        listed
    }
}
