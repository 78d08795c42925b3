//! The events of an index file that grows.
//!
//! Invariant: only whole events are counted, and never the footer, not even one that is half written. A file that was
//! deleted is at its end; nothing keeps it open.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ada_format::layout::{EventKind, HEADER_SIZE, INDEX_EVENT_SIZE, INDEX_MAGIC, IndexEvent, IndexHeader};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::QueryError;

/// A footer is as long as so many events.
const FOOTER_EVENTS: u64 = 2;

/// One index file.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    tid: u32,
    /// Length of the file when it was looked at.
    length: u64,
    events: u64,
    /// Whether its recorder has ended it, or it was deleted.
    sealed: bool,
    next: u64,
    buffer: Vec<IndexEvent>,
}

impl Tail {
    /// Opens the file; none if it is not there (yet, or any more) or has no header yet.
    ///
    /// # Errors
    /// [`QueryError::Io`] if the system refuses.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, QueryError> {
        let header = match File::open(path).and_then(|file| header(&file)) {
            Ok(header) => header,
            Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(source) => return Err(QueryError::Io { path: path.to_owned(), source }),
        };
        if header.magic != INDEX_MAGIC {
            return Ok(None);
        }
        let (tid, path) = (header.thread_id.get(), path.to_owned());
        let mut tail = Self { path, tid, length: 0, events: 0, sealed: false, next: 0, buffer: Vec::new() };
        tail.look()?;
        Ok(Some(tail))
    }

    /// The operating system's thread id.
    pub(super) fn tid(&self) -> u32 {
        self.tid
    }

    /// The position of the next event.
    pub(super) fn position(&self) -> u64 {
        self.next
    }

    /// Whether there are events that were not read.
    pub(super) fn has_more(&self) -> bool {
        self.next < self.events
    }

    /// Goes back to the first event, and returns where it was.
    pub(super) fn rewind(&mut self) -> u64 {
        self.events = self.events.max(self.next);
        std::mem::take(&mut self.next)
    }

    /// Looks whether the file has grown.
    ///
    /// # Errors
    /// [`QueryError`] if it was cut, or the system refuses.
    pub(super) fn look(&mut self) -> Result<(), QueryError> {
        if self.sealed {
            return Ok(());
        }
        let found = std::fs::metadata(&self.path).and_then(|data| match data.len() {
            length if length == self.length => Ok(None),
            length => File::open(&self.path).and_then(|file| header(&file)).map(|header| Some((length, header))),
        });
        let (length, header) = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(error) if is_absent(&error) => {
                self.sealed = true;
                self.events = self.next;
                return Ok(());
            }
            Err(source) => return Err(QueryError::Io { path: self.path.clone(), source }),
        };
        let end = header.footer_offset.get();
        let whole = |end: u64| end.saturating_sub(HEADER_SIZE as u64) / INDEX_EVENT_SIZE as u64;
        let events = if end != 0 { whole(end.min(length)) } else { self.without_footer(whole(length))? };
        if events < self.next {
            return Err(QueryError::Truncated { path: self.path.clone(), event: events, events: self.next });
        }
        (self.events, self.sealed) = (events, end != 0);
        // Where a footer is being written, the header changes without the length.
        self.length = if events == whole(length) { length } else { 0 };
        Ok(())
    }

    /// The next events, at most `limit`; none if there are none now.
    ///
    /// # Errors
    /// [`QueryError`] if they cannot be read.
    pub(super) fn read(&mut self, limit: usize) -> Result<&[IndexEvent], QueryError> {
        let count = usize::try_from(self.events.saturating_sub(self.next)).map_or(limit, |left| left.min(limit));
        self.fill(self.next, count)?;
        self.next += self.buffer.len() as u64;
        Ok(&self.buffer)
    }

    /// How many of `events` are events: what lies behind them may be a footer, or a part of one.
    fn without_footer(&mut self, events: u64) -> Result<u64, QueryError> {
        let last = events.saturating_sub(self.next).min(FOOTER_EVENTS);
        let first = events.saturating_sub(last);
        self.fill(first, usize::try_from(last).unwrap_or(0))?;
        let is_event = |event: &&IndexEvent| {
            event.thread_id.get() == self.tid && EventKind::from_raw(event.event_kind.get()).is_some()
        };
        Ok(first + self.buffer.iter().take_while(is_event).count() as u64)
    }

    fn fill(&mut self, first: u64, count: usize) -> Result<(), QueryError> {
        self.buffer.resize(count, IndexEvent::new_zeroed());
        if count == 0 {
            return Ok(());
        }
        let at = HEADER_SIZE as u64 + first * INDEX_EVENT_SIZE as u64;
        let bytes = self.buffer.as_mut_slice().as_mut_bytes();
        match File::open(&self.path).and_then(|file| file.read_exact_at(bytes, at)) {
            Err(error) if is_absent(&error) => {
                self.sealed = true;
                self.events = self.next;
                self.buffer.clear();
                Ok(())
            }
            read => read.map_err(QueryError::reading(&self.path, first, self.events)),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn header(file: &File) -> io::Result<IndexHeader> {
    let mut bytes = [0; HEADER_SIZE];
    file.read_exact_at(&mut bytes, 0)?;
    IndexHeader::read_from_bytes(&bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}
