//! What the search for targets needs of a file: bytes at addresses, and where code is known to start.
//!
//! Invariant: it is plain data, so that tests can make one by hand.

use std::ops::Range;

use crate::elf::{Elf, Segment};

/// Bytes of the file at virtual addresses that follow one another.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Virtual address of the first.
    pub address: u64,
    /// The bytes.
    pub bytes: &'a [u8],
    /// Whether they are mapped executable.
    pub executable: bool,
}

impl Block<'_> {
    /// Virtual address behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }
}

/// A file's code and data, and what is known of them.
#[derive(Clone, Debug, Default)]
pub struct Image<'a> {
    /// Everything that is loaded.
    pub blocks: Vec<Block<'a>>,
    /// Virtual addresses at which code is known to start: functions, parts of them, any symbol. They are targets.
    pub starts: Vec<u64>,
    /// Virtual addresses that the loader writes into the file's data.
    pub pointers: Vec<u64>,
    /// It is loaded at its own addresses, so that any word or constant may be an address.
    pub fixed: bool,
}

impl<'a> Image<'a> {
    /// The image of a file, in which code starts at `starts` besides where its unwind table says so.
    #[must_use]
    pub fn of(elf: &'a Elf, starts: impl IntoIterator<Item = u64>) -> Self {
        let mut all: Vec<u64> = starts.into_iter().chain(elf.unwind_starts()).collect();
        all.push(elf.entry());
        let block = |(segment, bytes): (Segment, &'a [u8])| Block {
            address: segment.address,
            bytes,
            executable: segment.executable,
        };
        Self {
            blocks: elf.segment_bytes().map(block).collect(),
            starts: all,
            pointers: elf.relocated_pointers(),
            fixed: elf.is_fixed(),
        }
    }

    /// The executable blocks, but for impossible ones.
    pub(super) fn code(&self) -> impl Iterator<Item = &Block<'a>> {
        self.blocks
            .iter()
            .filter(|block| block.executable && block.address.checked_add(block.bytes.len() as u64).is_some())
    }

    /// From the first executable byte to the last.
    pub(super) fn code_span(&self) -> Range<u64> {
        let start = self.code().map(|block| block.address).min().unwrap_or(0);
        let end = self.code().map(Block::end).max().unwrap_or(0);
        start..end
    }

    /// The bytes from a virtual address to the end of its block; none if the file has nothing there.
    #[must_use]
    pub fn bytes(&self, address: u64) -> &'a [u8] {
        let rest = |block: &Block<'a>| block.bytes.get(usize::try_from(address.checked_sub(block.address)?).ok()?..);
        self.blocks.iter().find_map(rest).unwrap_or_default()
    }
}
