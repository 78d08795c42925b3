//! Events of an index file in blocks, by pread(2).
//!
//! A mapping of a file that somebody cuts ends in SIGBUS; a read of it ends in an error. Reading costs little more: the
//! block stays in the processor's cache until it has been looked at. Invariant: a block is whole, or an error.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ada_format::layout::{HEADER_SIZE, INDEX_EVENT_SIZE, IndexEvent};
use zerocopy::{FromZeros, IntoBytes};

use crate::QueryError;

/// Events of a block where one thread is read at a time: 256 KiB.
pub const BLOCK: usize = 8192;

/// Reads one index file from front to back.
#[derive(Debug)]
pub struct Blocks {
    path: PathBuf,
    /// Open while blocks are read, unless it is to be opened for each of them.
    file: Option<File>,
    keep_open: bool,
    /// The next event, and the one at which reading ends.
    next: u64,
    end: u64,
    buffer: Vec<IndexEvent>,
    block: usize,
}

impl Blocks {
    /// The first `events` events of the file at `path`, in blocks of `block` events.
    #[must_use]
    pub fn new(path: &Path, events: u64, block: usize) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            keep_open: true,
            next: 0,
            end: events,
            buffer: Vec::new(),
            block: block.max(1),
        }
    }

    /// Opens the file anew for each block, for when there are more files than a process may have open.
    #[must_use]
    pub fn reopening(self) -> Self {
        Self { keep_open: false, ..self }
    }

    /// Goes on at another event.
    pub fn seek(&mut self, event: u64) {
        self.next = event.min(self.end);
    }

    /// Reads up to another number of events, for a file that has grown.
    pub fn extend(&mut self, events: u64) {
        self.end = self.end.max(events);
    }

    /// The position of the next block's first event.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next events, at most `limit` of them and none only at the end.
    ///
    /// # Errors
    /// [`QueryError::Truncated`] if they are not in the file any more, [`QueryError::Io`] if the system refuses.
    pub fn next_block(&mut self, limit: u64) -> Result<&[IndexEvent], QueryError> {
        let count = (self.end - self.next).min(limit).min(self.block as u64);
        // Never truncates: a block's length is a usize.
        let length = usize::try_from(count).unwrap_or(self.block);
        if self.buffer.len() < length {
            self.buffer.resize(length, IndexEvent::new_zeroed());
        }
        let block = self.buffer.get_mut(..length).unwrap_or_default();
        if !block.is_empty() {
            let at = HEADER_SIZE as u64 + self.next * INDEX_EVENT_SIZE as u64;
            read(&mut self.file, &self.path, block.as_mut_bytes(), at)
                .map_err(QueryError::reading(&self.path, self.next, self.end))?;
            if !self.keep_open {
                self.file = None;
            }
            self.next += count;
        }
        Ok(self.buffer.get(..length).unwrap_or_default())
    }

    /// The event at a position, which becomes the next one after it.
    ///
    /// # Errors
    /// As [`next_block`](Self::next_block).
    pub fn get(&mut self, event: u64) -> Result<Option<IndexEvent>, QueryError> {
        self.seek(event);
        Ok(self.next_block(1)?.first().copied())
    }
}

fn read(file: &mut Option<File>, path: &Path, into: &mut [u8], at: u64) -> std::io::Result<()> {
    let open = match file.take() {
        Some(open) => open,
        None => File::open(path)?,
    };
    file.insert(open).read_exact_at(into, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_is_an_error() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        temp.as_file().set_len(64 + 32 * 100).unwrap();
        let mut blocks = Blocks::new(temp.path(), 100, 40);
        assert_eq!(blocks.next_block(u64::MAX).unwrap().len(), 40);
        assert_eq!(blocks.next_block(7).unwrap().len(), 7);
        temp.as_file().set_len(64 + 32 * 60).unwrap();
        assert_eq!(blocks.next_block(13).unwrap().len(), 13);
        let error = blocks.next_block(u64::MAX).unwrap_err();
        assert!(matches!(error, QueryError::Truncated { event: 60, events: 100, .. }), "{error}");
    }
}
