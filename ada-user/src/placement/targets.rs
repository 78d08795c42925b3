//! Every address of a file's code that something may jump to.
//!
//! Invariant: it may hold addresses that nothing jumps to, but lacks none that the file's code or data lead to.

use std::ops::{Range, RangeInclusive};

use super::image::{Block, Image};
use super::sweep;

/// The addresses, as bits beside the code.
#[derive(Debug, Default)]
pub struct Targets {
    blocks: Vec<Marks>,
    /// Addresses at which a straight decoding met bytes that are no instruction, in order.
    undecodable: Vec<u64>,
    /// The file asks for more work than any real one: then everything is a target.
    everything: bool,
}

/// What is known of one block of code, a bit for each byte.
#[derive(Debug)]
pub(super) struct Marks {
    address: u64,
    size: u64,
    targets: Bits,
    starts: Bits,
}

#[derive(Debug)]
struct Bits(Vec<u64>);

impl Targets {
    /// Finds them all.
    #[must_use]
    pub fn find(image: &Image<'_>) -> Self {
        let mut targets = Self { blocks: image.code().map(Marks::new).collect(), ..Self::default() };
        sweep::sweep(image, &mut targets);
        targets.undecodable.sort_unstable();
        targets
    }

    /// Whether any of the addresses is a target.
    #[must_use]
    pub fn any_in(&self, addresses: RangeInclusive<u64>) -> bool {
        let Some(marks) = self.marks(*addresses.start()).filter(|_| !self.everything) else { return true };
        let within = |address: &u64| address - marks.address;
        let (first, last) = (within(addresses.start()), addresses.end().saturating_sub(marks.address));
        (first..=last).any(|index| marks.targets.get(index))
    }

    /// Whether all code of a function decodes, and nothing leads between the instructions that this gives.
    #[must_use]
    pub fn is_plain(&self, function: Range<u64>) -> bool {
        let Some(marks) = self.marks(function.start).filter(|_| !self.everything) else { return false };
        let undecodable = self.undecodable.partition_point(|address| *address < function.start);
        if self.undecodable.get(undecodable).is_some_and(|address| *address < function.end) {
            return false;
        }
        let within = function.start - marks.address..function.end - marks.address;
        within.end <= marks.size && !marks.targets.any_without(&marks.starts, within)
    }

    /// Whether the address lies in code.
    pub(super) fn is_code(&self, address: u64) -> bool {
        self.marks(address).is_some()
    }

    /// Notes a target, if it is code.
    pub(super) fn add(&mut self, address: u64) {
        if let Some(marks) = self.marks_mut(address) {
            marks.targets.set(address - marks.address);
        }
    }

    /// The marks of the block that an address lies in.
    pub(super) fn marks_mut(&mut self, address: u64) -> Option<&mut Marks> {
        self.blocks.iter_mut().find(|marks| marks.contains(address))
    }

    fn marks(&self, address: u64) -> Option<&Marks> {
        self.blocks.iter().find(|marks| marks.contains(address))
    }

    pub(super) fn add_undecodable(&mut self, address: u64) {
        self.undecodable.push(address);
    }

    pub(super) fn give_up(&mut self) {
        self.everything = true;
    }
}

impl Marks {
    fn new(block: &Block<'_>) -> Self {
        let size = block.bytes.len();
        Self { address: block.address, size: size as u64, targets: Bits::new(size), starts: Bits::new(size) }
    }

    /// Notes that an instruction starts there.
    #[inline]
    pub(super) fn start(&mut self, address: u64) {
        self.starts.set(address.wrapping_sub(self.address));
    }

    /// Notes a target, and says whether it lies in this block.
    #[inline]
    pub(super) fn target(&mut self, address: u64) -> bool {
        self.contains(address) && self.targets.set(address - self.address)
    }

    fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.address) < self.size
    }
}

impl Bits {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    /// False if there is no such bit.
    #[inline]
    fn set(&mut self, index: u64) -> bool {
        let word = usize::try_from(index / 64).ok().and_then(|word| self.0.get_mut(word));
        word.map(|word| *word |= 1 << (index % 64)).is_some()
    }

    fn get(&self, index: u64) -> bool {
        self.word(index / 64) >> (index % 64) & 1 == 1
    }

    /// Whether a bit of the range is set here and not in `other`.
    fn any_without(&self, other: &Self, range: Range<u64>) -> bool {
        let mut words = range.start / 64..range.end.div_ceil(64);
        words.any(|word| self.word(word) & !other.word(word) & mask(word, &range) != 0)
    }

    fn word(&self, word: u64) -> u64 {
        usize::try_from(word).ok().and_then(|word| self.0.get(word)).copied().unwrap_or(0)
    }
}

/// The bits of word number `word` that lie in the range.
fn mask(word: u64, range: &Range<u64>) -> u64 {
    let first = word * 64;
    let from = range.start.saturating_sub(first);
    let to = range.end.saturating_sub(first);
    let below = |bit: u64| if bit >= 64 { u64::MAX } else { (1 << bit) - 1 };
    below(to) & !below(from)
}
