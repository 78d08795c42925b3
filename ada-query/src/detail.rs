//! Registers of events, read along with them.
//!
//! Invariant: reads forwards by pread(2) and keeps one event, so that a file that is cut is an error, and memory does
//! not grow with it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ada_format::layout::{
    DETAIL_EVENT_HEADER_SIZE, DetailEventHeader, DetailType, FUNCTION_PAYLOAD_SIZE, FunctionPayload, HEADER_SIZE,
};
use ada_format::read::DetailEvent;
use zerocopy::FromBytes;

use crate::QueryError;
use crate::trace::{Part, Thread};

/// Bytes that are read at once.
const BLOCK: usize = 128 * 1024;
/// A file is read from its start at most so many times more.
const REWINDS: u32 = 100;

/// The detail files of a thread.
#[derive(Debug)]
pub struct Details {
    parts: Vec<(u32, PathBuf)>,
    /// Parts that were looked at, with detail or without.
    seen: usize,
    current: Option<(u32, DetailCursor)>,
    block: usize,
}

impl Default for Details {
    /// Those of no thread.
    fn default() -> Self {
        Self { parts: Vec::new(), seen: 0, current: None, block: BLOCK }
    }
}

impl Details {
    /// Those of a thread.
    #[must_use]
    pub fn new(thread: &Thread) -> Self {
        let mut details = Self::default();
        details.go_on(thread);
        details
    }

    /// The thread may have got more parts.
    pub fn go_on(&mut self, thread: &Thread) {
        let more = thread.parts.iter().skip(self.seen).filter_map(|part| Some((part.id, part.detail.clone()?)));
        self.parts.extend(more);
        self.seen = thread.parts.len();
    }

    /// That of one part.
    #[must_use]
    pub fn of_part(part: &Part) -> Self {
        let parts = part.detail.iter().map(|path| (part.id, path.clone())).collect();
        Self { parts, ..Self::default() }
    }

    /// Reads so many bytes at once, for when many threads are read side by side.
    #[must_use]
    pub fn in_blocks_of(self, block: usize) -> Self {
        Self { block, ..self }
    }

    /// The first register of a return, whose detail is at position `seq`.
    ///
    /// # Errors
    /// [`QueryError`] if the file cannot be read, or is shorter than it was.
    pub fn value(&mut self, part: u32, seq: u32) -> Result<Option<u64>, QueryError> {
        let Some(cursor) = self.cursor(part)? else { return Ok(None) };
        let Some(event) = cursor.get(seq)? else { return Ok(None) };
        Ok(event.function().map(|payload| payload.regs[0].get()))
    }

    /// The whole detail event at position `seq` of a part.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub fn event(&mut self, part: u32, seq: u32) -> Result<Option<RawDetail<'_>>, QueryError> {
        match self.cursor(part)? {
            Some(cursor) => cursor.get(seq),
            None => Ok(None),
        }
    }

    /// Reads no more of a part.
    pub fn give_up(&mut self, part: u32) {
        self.parts.retain(|(id, _)| *id != part);
        self.current = None;
    }

    /// Reads no more.
    pub fn stop(&mut self) {
        *self = Self::default();
    }

    /// Gives back the memory until something is read again, which goes on from the same place.
    pub fn rest(&mut self) {
        if let Some((_, cursor)) = &mut self.current {
            cursor.buffer = Vec::new();
        }
    }

    fn cursor(&mut self, part: u32) -> Result<Option<&mut DetailCursor>, QueryError> {
        if self.current.as_ref().is_none_or(|(current, _)| *current != part) {
            let Some((_, path)) = self.parts.iter().find(|(id, _)| *id == part) else { return Ok(None) };
            self.current = Some((part, DetailCursor::new(path, self.block)));
        }
        Ok(self.current.as_mut().map(|(_, cursor)| cursor))
    }
}

/// The CRC-32 of a detail file's events, which are `length` bytes long, or fill the file.
pub(crate) fn checksum(path: &Path, length: Option<u64>) -> Result<u32, QueryError> {
    let failed = |source| QueryError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; BLOCK];
    let (mut at, end) =
        (HEADER_SIZE as u64, length.map_or(u64::MAX, |length| length.saturating_add(HEADER_SIZE as u64)));
    while at < end {
        let count = usize::try_from(end - at).map_or(BLOCK, |left| left.min(BLOCK));
        let read = file.read_at(buffer.get_mut(..count).unwrap_or_default(), at).map_err(failed)?;
        if read == 0 {
            break;
        }
        crc.update(buffer.get(..read).unwrap_or_default());
        at += read as u64;
    }
    Ok(crc.finalize())
}

/// A detail event as it lies in its file.
#[derive(Clone, Copy, Debug)]
pub struct RawDetail<'a> {
    /// Its header.
    pub header: &'a DetailEventHeader,
    /// What follows.
    pub payload: &'a [u8],
}

impl<'a> RawDetail<'a> {
    /// As the format's own reader sees it.
    #[must_use]
    pub fn event(&self) -> DetailEvent<'a> {
        DetailEvent::new(self.header, self.payload)
    }

    /// The registers at a call or return.
    #[must_use]
    pub fn function(&self) -> Option<&'a FunctionPayload> {
        let kind = DetailType::from_raw(self.header.event_type.get())?;
        let is_function = matches!(kind, DetailType::FunctionCall | DetailType::FunctionReturn);
        let payload = self.payload.get(..FUNCTION_PAYLOAD_SIZE).filter(|_| is_function)?;
        FunctionPayload::ref_from_bytes(payload).ok()
    }
}

/// Walks a detail file.
#[derive(Debug)]
struct DetailCursor {
    /// Opened for each block: there may be more threads than a process may have open files.
    path: PathBuf,
    block: usize,
    /// What was read, and where it lies in the file.
    buffer: Vec<u8>,
    start: u64,
    /// Where the next event begins in the file, and its position.
    at: u64,
    next: u32,
    rewinds: u32,
}

impl DetailCursor {
    fn new(path: &Path, block: usize) -> Self {
        let (path, at) = (path.to_owned(), HEADER_SIZE as u64);
        Self { path, block, buffer: Vec::new(), start: 0, at, next: 0, rewinds: 0 }
    }

    /// The event at a position; going back begins anew, which is refused where links are in no order at all.
    fn get(&mut self, seq: u32) -> Result<Option<RawDetail<'_>>, QueryError> {
        if seq < self.next {
            self.rewinds += 1;
            if self.rewinds > REWINDS {
                return Ok(None);
            }
            (self.at, self.next) = (HEADER_SIZE as u64, 0);
        }
        loop {
            let Some(length) = self.length()? else { return Ok(None) };
            if self.next == seq {
                return self.event(length);
            }
            self.at += length as u64;
            self.next += 1;
        }
    }

    /// The length of the next event; none at the end of the events.
    fn length(&mut self) -> Result<Option<usize>, QueryError> {
        let Some(bytes) = self.bytes(DETAIL_EVENT_HEADER_SIZE)? else { return Ok(None) };
        let length = DetailEventHeader::ref_from_bytes(bytes).map_or(0, |header| header.total_length.get()) as usize;
        Ok(Some(length).filter(|length| *length >= DETAIL_EVENT_HEADER_SIZE))
    }

    fn event(&mut self, length: usize) -> Result<Option<RawDetail<'_>>, QueryError> {
        let (path, seq) = (self.path.clone(), u64::from(self.next));
        let Some(bytes) = self.bytes(length)? else {
            return Err(QueryError::Truncated { path, event: seq, events: seq + 1 });
        };
        let parsed = DetailEventHeader::ref_from_prefix(bytes);
        Ok(parsed.ok().map(|(header, payload)| RawDetail { header, payload }))
    }

    /// The next `length` bytes of the file; none if it ends before.
    fn bytes(&mut self, length: usize) -> Result<Option<&[u8]>, QueryError> {
        let has = |cursor: &Self| {
            let from = usize::try_from(cursor.at.checked_sub(cursor.start)?).ok()?;
            (from.checked_add(length)? <= cursor.buffer.len()).then_some(from)
        };
        if has(self).is_none() {
            self.fill(length)?;
        }
        Ok(has(self).and_then(|from| self.buffer.get(from..from + length)))
    }

    fn fill(&mut self, length: usize) -> Result<(), QueryError> {
        // What an event says of its length is not to be believed.
        self.buffer.resize(length.clamp(self.block, 16 * BLOCK), 0);
        self.start = self.at;
        let failed = |source| QueryError::Io { path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(failed)?;
        let mut filled = 0;
        while let Some(rest) = self.buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, self.start + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(failed(source)),
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    #[test]
    fn after_a_rest_it_goes_on_where_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("detail.atf");
        let mut bytes = vec![0; HEADER_SIZE];
        for seq in 0..5 {
            let mut header = DetailEventHeader::new_zeroed();
            (header.total_length, header.index_seq) = ((DETAIL_EVENT_HEADER_SIZE as u32).into(), (seq * 10).into());
            bytes.extend_from_slice(header.as_bytes());
        }
        std::fs::write(&path, bytes).unwrap();
        let mut details = Details { parts: vec![(3, path)], ..Details::default() };
        let mut index_seq = |seq, rests| {
            if rests {
                details.rest();
            }
            details.event(3, seq).unwrap().map(|event| event.header.index_seq.get())
        };
        let all = [(0, true), (1, false), (1, true), (2, true), (4, true), (0, true), (5, true)];
        let found = all.map(|(seq, rests)| index_seq(seq, rests));
        assert_eq!(found, [Some(0), Some(10), Some(10), Some(20), Some(40), Some(0), None]);
    }
}
