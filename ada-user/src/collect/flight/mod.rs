//! The flight recorder: details stay in memory, and only those around triggers reach their files.
//!
//! ```text
//!              ┌ a window is open: to the thread's writer
//! detail ──────┤                                             trigger: those of the pre-roll
//!              └ otherwise: into the buffer ──────────────────────────────▶ to the writers
//!                               └─▶ the oldest go
//! ```
//!
//! Invariant: pure code. Times come from events and ticks; nothing is allocated per event, and what is kept depends only on
//! events, triggers and the buffer's size.

mod armed;
mod buffer;
mod entry;
mod holders;
#[cfg(test)]
mod tests;
mod windows;

use std::sync::Arc;

use self::{
    buffer::Verdict,
    windows::{Reach, Windows},
};
use crate::{timespan, trigger::Roll};

pub use self::{
    armed::{Armed, TriggerId, TriggerTable},
    buffer::{DetailBuffer, SMALLEST_BUFFER},
    entry::Entry,
    windows::{ALL_TRIGGERS_LISTED, Fired, TRIGGERS_LISTED, WINDOWS_LISTED, Window},
};

/// What is kept, and in how much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightOptions {
    /// Before a trigger.
    pub pre_roll: Roll,
    /// After it.
    pub post_roll: Roll,
    /// Size of the buffer, in bytes.
    pub buffer: usize,
}

impl FlightOptions {
    /// The buffer's size unless told otherwise: some seconds of a hundred thousand details each.
    pub const BUFFER: usize = 256 << 20;
}

impl Default for FlightOptions {
    fn default() -> Self {
        Self { pre_roll: Roll::BEFORE, post_roll: Roll::AFTER, buffer: Self::BUFFER }
    }
}

/// Where a detail goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To its file, with its event; if it was written, [`FlightRecorder::wrote`].
    Write,
    /// Into the buffer, once its event has a place in the index: [`FlightRecorder::keep`].
    Keep,
    /// Nowhere: it is older than a window that has been opened.
    Drop,
}

/// Where and when a trigger fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When, in nanoseconds.
    pub at_ns: u64,
    /// What it is about: of a slow call, when that began; otherwise the same.
    pub from_ns: u64,
    /// The thread whose event it is, by the ordinal of its folder, and the event's position in its index.
    pub event: Option<(u32, u32)>,
}

impl Moment {
    /// A moment of no thread.
    #[must_use]
    pub fn at(at_ns: u64) -> Self {
        Self { at_ns, from_ns: at_ns, event: None }
    }
}

/// How a flight recorder stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlightStatus {
    /// Whether details go to their files now.
    pub open: bool,
    /// Windows so far.
    pub windows: u64,
    /// Details that were kept.
    pub details: u64,
    /// Details in the buffer.
    pub buffered: u64,
    /// Bytes of them.
    pub buffered_bytes: u64,
    /// Size of the buffer.
    pub buffer_bytes: u64,
}

/// What takes details that are written later than their events, and tells whether one was.
pub type DetailSink<'a> = &'a mut dyn FnMut(&Entry<'_>) -> bool;

/// Decides which details are written.
#[derive(Debug)]
pub struct FlightRecorder {
    begin_ns: u64,
    pre_roll: Roll,
    buffer: DetailBuffer,
    windows: Windows,
    /// What fires. The owner asks it and passes the answers to [`fire`](Self::fire).
    pub triggers: TriggerTable,
}

impl FlightRecorder {
    /// For a recording that begins at `begin_ns`. The buffer is allocated here and never again.
    #[must_use]
    pub fn new(options: &FlightOptions, begin_ns: u64) -> Self {
        Self {
            begin_ns,
            pre_roll: options.pre_roll,
            buffer: DetailBuffer::new(options.buffer),
            windows: Windows::new(options.post_roll),
            triggers: TriggerTable::default(),
        }
    }

    /// Where the detail of an event of that time goes. To be asked once for each detail, before its event is written.
    #[inline]
    pub fn route(&mut self, time_ns: u64) -> Route {
        match self.windows.judge(time_ns) {
            Verdict::Take => Route::Write,
            Verdict::Stay => Route::Keep,
            Verdict::Drop => Route::Drop,
        }
    }

    /// A detail that was told [`Route::Write`] was written.
    #[inline]
    pub fn wrote(&mut self) {
        self.windows.kept(1);
    }

    /// Takes a detail that was told [`Route::Keep`].
    #[inline]
    pub fn keep(&mut self, entry: &Entry<'_>) {
        self.buffer.push(entry);
    }

    /// A trigger fires: a window opens or lasts longer, and the buffered details that are in it go to `sink`, of each
    /// thread in the order of its index.
    pub fn fire(&mut self, trigger: TriggerId, moment: Moment, sink: DetailSink<'_>) {
        if let Some((kind, what)) = self.triggers.fire(trigger) {
            self.open(kind, what, moment, sink);
        }
    }

    /// Somebody fires by hand.
    pub fn mark(&mut self, text: &str, at_ns: u64, sink: DetailSink<'_>) {
        self.open("mark", Arc::from(text), Moment::at(at_ns), sink);
    }

    /// Fires what is due at `now_ns`.
    pub fn tick(&mut self, now_ns: u64, sink: DetailSink<'_>) {
        while let Some((id, at_ns)) = self.triggers.due(now_ns) {
            self.fire(id, Moment::at(at_ns), sink);
        }
    }

    /// The thread has ended. True if its files can be finished now; otherwise [`take_released`](Self::take_released) will
    /// tell when.
    pub fn thread_ended(&mut self, thread: u32) -> bool {
        self.buffer.thread_ended(thread)
    }

    /// An ended thread whose files can be finished by now. Ask until there is none, now and then.
    pub fn take_released(&mut self) -> Option<u32> {
        self.buffer.take_released()
    }

    /// The recording has ended: no window lasts longer than it.
    pub fn finish(&mut self, end_ns: u64) {
        self.windows.finish(end_ns);
    }

    /// The windows so far, in the order of their times.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.windows.all()
    }

    /// The same, to be looked at later.
    pub fn shared_windows(&self) -> impl Iterator<Item = Arc<Window>> {
        self.windows.shared()
    }

    /// Windows that were too many to be listed.
    #[must_use]
    pub fn windows_unlisted(&self) -> u64 {
        self.windows.unlisted()
    }

    /// Grows whenever the list of windows changes otherwise than by details.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.windows.revision()
    }

    /// Details that were kept so far.
    #[must_use]
    pub fn details(&self) -> u64 {
        self.windows.details()
    }

    /// How it stands at `now_ns`.
    #[must_use]
    pub fn status(&self, now_ns: u64) -> FlightStatus {
        FlightStatus {
            open: self.windows.is_open(now_ns),
            windows: self.windows.all().count() as u64 + self.windows.unlisted(),
            details: self.windows.details(),
            buffered: self.buffer.len() as u64,
            buffered_bytes: self.buffer.bytes() as u64,
            buffer_bytes: self.buffer.capacity() as u64,
        }
    }

    fn open(&mut self, kind: &'static str, what: Arc<str>, moment: Moment, sink: DetailSink<'_>) {
        let (thread, index_seq) = moment.event.unzip();
        let reach = self.reach(moment.from_ns);
        self.windows.fire(Fired { kind, at_ns: moment.at_ns, what, thread, index_seq }, reach);
        let (windows, mut kept) = (&mut self.windows, 0);
        self.buffer.sift(|time_ns| windows.judge(time_ns), &mut |entry| kept += u64::from(sink(entry)));
        self.windows.kept(kept);
    }

    fn reach(&self, from_ns: u64) -> Reach {
        let asked_ns = match self.pre_roll {
            Roll::Time(time) => Some(from_ns.saturating_sub(timespan::nanoseconds(time))),
            Roll::Events(events) => self.buffer.time_before(from_ns, events),
        };
        let after_evicted = self.buffer.evicted_ns().map_or(0, |evicted| evicted.saturating_add(1));
        let floor_ns = after_evicted.max(self.begin_ns);
        Reach { from_ns, asked_ns, begin_ns: self.begin_ns, floor_ns }
    }
}
