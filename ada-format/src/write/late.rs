//! Links that are set after their index event has gone to the file: a stretch of the index, read back and put again.
//!
//! Invariant: `old` is what the file holds at `start`, and `new` differs from it only in `changed`, and there only in
//! `detail_seq`s that were none.

use std::io;
use std::ops::Range;

use zerocopy::{FromZeros, IntoBytes};

use super::lane::Lane;
use super::sink::Sink;
use crate::layout::{INDEX_EVENT_SIZE, IndexEvent, NO_DETAIL};

/// Events that are read back at once: 16 KiB.
const STRETCH: u64 = 512;

/// A part of an index file whose events get their links.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// Position of its first event.
    start: u64,
    old: Vec<IndexEvent>,
    new: Vec<IndexEvent>,
    /// Events that the file does not hold yet as they are here, counted from `start`.
    changed: Range<usize>,
}

impl Stretch {
    /// The event at `position`, if it is in the stretch.
    pub(super) fn get(&self, position: u64) -> Option<&IndexEvent> {
        self.new.get(self.place(position)?)
    }

    /// Links an event of the stretch that has no link yet.
    pub(super) fn link(&mut self, position: u64, detail_seq: u32) {
        let Some(place) = self.place(position) else { return };
        let Some(event) = self.new.get_mut(place) else { return };
        event.detail_seq = detail_seq.into();
        let start = if self.changed.is_empty() { place } else { self.changed.start.min(place) };
        self.changed = start..self.changed.end.max(place + 1);
    }

    /// Whether there are links that the file does not hold yet.
    pub(super) fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Reads the stretch that begins at `position`, in a file of `written` events. After an error it is empty. What
    /// has changed must have been written.
    pub(super) fn load(&mut self, lane: &mut Lane<impl Sink>, position: u64, written: u64) -> io::Result<()> {
        let count = usize::try_from(written.saturating_sub(position).min(STRETCH)).unwrap_or_default();
        self.start = position;
        self.changed = 0..0;
        self.new.clear();
        self.old.clear();
        self.old.resize(count, IndexEvent::new_zeroed());
        let read = lane.read(offset(position), self.old.as_mut_bytes());
        if read.is_err() {
            self.old.clear();
        }
        self.new.extend_from_slice(&self.old);
        read
    }

    /// Takes back the links, not yet in the file, to details at `safe_details` or behind.
    pub(super) fn unlink_from(&mut self, safe_details: u64) {
        for event in self.new.get_mut(self.changed.clone()).unwrap_or_default() {
            if u64::from(event.detail_seq.get()) >= safe_details {
                event.detail_seq = NO_DETAIL.into();
            }
        }
    }

    /// Puts what has changed into the file. After an error the file holds some of it, and the stretch is empty.
    pub(super) fn write(&mut self, lane: &mut Lane<impl Sink>) -> io::Result<()> {
        let changed = std::mem::take(&mut self.changed);
        let at = offset(self.start + changed.start as u64);
        let (Some(old), Some(new)) = (self.old.get_mut(changed.clone()), self.new.get(changed)) else {
            return Ok(());
        };
        let written = lane.patch(at, old.as_bytes(), new.as_bytes());
        old.copy_from_slice(new);
        if written.is_err() {
            self.old.clear();
            self.new.clear();
        }
        written
    }

    fn place(&self, position: u64) -> Option<usize> {
        usize::try_from(position.checked_sub(self.start)?).ok()
    }
}

/// Where in the events section an event begins, in bytes.
fn offset(position: u64) -> u64 {
    position * INDEX_EVENT_SIZE as u64
}
