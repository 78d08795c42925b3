//! Where a thread's files are, and how far they were read.
//!
//! Invariant: a part is left only when another one follows it, and then all of its events were read.

use std::path::PathBuf;

use ada_format::write::DETAIL_FILE;

use super::tail::Tail;
use super::{BLOCK, Lane};
use crate::QueryError;
use crate::select::Compiled;
use crate::span::{End, Visitor};
use crate::trace::{Part, Thread};

/// Where a thread's files are, whatever generation reads them.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) thread: Thread,
    pub(super) parts: Vec<PartTail>,
    /// The part that is read.
    current: usize,
}

#[derive(Debug)]
pub(super) struct PartTail {
    pub(super) id: u32,
    pub(super) path: PathBuf,
    pub(super) tail: Tail,
}

impl PartTail {
    /// As others see it. Its detail file may not be there (yet): no event says that it has detail then.
    pub(super) fn known(&self) -> Part {
        let detail = Some(self.path.with_file_name(DETAIL_FILE));
        Part { id: self.id, index: self.path.clone(), detail, events: 0, gaps: Vec::new() }
    }
}

impl Source {
    pub(super) fn new(part: PartTail, pid: Option<u32>, name: &str) -> Self {
        let thread = Thread {
            index: 0,
            id: part.id,
            pid,
            tid: part.tail.tid(),
            name: name.to_owned(),
            parts: vec![part.known()],
            lost: 0,
            end: (0, End::Recording),
            exit_status: None,
        };
        Self { thread, parts: vec![part], current: 0 }
    }

    pub(super) fn has_more(&self) -> bool {
        self.parts.iter().skip(self.current).any(|part| part.tail.has_more())
    }

    pub(super) fn look(&mut self) -> Result<(), QueryError> {
        let mut unread = self.parts.iter_mut().skip(self.current);
        unread.try_for_each(|part| part.tail.look())
    }

    pub(super) fn feed<V: Visitor>(&mut self, lane: &mut Lane<'_, V>, compiled: &Compiled) -> Result<(), QueryError> {
        // A part that another one follows has got all of its events.
        while self.current + 1 < self.parts.len()
            && self.parts.get(self.current).is_some_and(|part| !part.tail.has_more())
        {
            self.current += 1;
        }
        let Some(part) = self.parts.get_mut(self.current) else { return Ok(()) };
        lane.pairing.begin_part(part.id);
        let position = part.tail.position();
        let events = part.tail.read(BLOCK)?;
        lane.feed(events, position, compiled);
        Ok(())
    }

    /// Feeds to a new lane what an earlier one had, as far as it is still there.
    pub(super) fn again<V: Visitor>(&mut self, lane: &mut Lane<'_, V>, compiled: &Compiled) -> Result<(), QueryError> {
        for part in &mut self.parts {
            lane.pairing.begin_part(part.id);
            let mut left = part.tail.rewind();
            while left > 0 && !lane.done {
                let limit = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
                let position = part.tail.position();
                let events = part.tail.read(limit)?;
                if events.is_empty() {
                    break;
                }
                left -= events.len() as u64;
                lane.feed(events, position, compiled);
            }
        }
        Ok(())
    }
}
