//! A file as the loader puts it into memory: whole segments, and the addresses that it writes into them.
//!
//! Invariant: it comes from program headers alone, as for ld.so; sections may be missing.

use object::ReadRef;
use object::elf as raw;
use object::read::elf::FileHeader;

use super::{Elf, Segment};

const RELA_SIZE: usize = 24;
const SYMBOL_SIZE: u64 = 24;
/// `st_value` within a symbol.
const SYMBOL_VALUE: u64 = 8;
/// Bits of a word of DT_RELR that stand for words to be relocated.
const RELR_BITS: u64 = 63;

impl Elf {
    /// The load segments with all of their bytes in the file. One whose bytes are not there is left out.
    pub fn segment_bytes(&self) -> impl Iterator<Item = (Segment, &[u8])> {
        let bytes = |segment: &Segment| (&self.cache).read_bytes_at(segment.offset, segment.file_size).ok();
        self.segments.iter().filter_map(move |segment| Some((*segment, bytes(segment)?)))
    }

    /// Whether it is loaded at the addresses that it was linked for (`ET_EXEC`).
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.header().is_some_and(|header| header.e_type(self.endian) == raw::ET_EXEC)
    }

    /// Virtual addresses in this file that the loader writes into its data, or calls: of relocations and of the
    /// dynamic section.
    #[must_use]
    pub fn relocated_pointers(&self) -> Vec<u64> {
        let value = |wanted| self.dynamic_entries().find(|&(tag, _)| tag == wanted).map(|(_, value)| value);
        let memory = Memory(self.segment_bytes().collect());
        let table = |address, size| value(address).zip(value(size)).and_then(|(at, size)| memory.bytes(at, size));
        let mut pointers: Vec<u64> = [raw::DT_INIT, raw::DT_FINI].into_iter().filter_map(value).collect();
        let symbols = value(raw::DT_SYMTAB);
        for table in [table(raw::DT_RELA, raw::DT_RELASZ), table(raw::DT_JMPREL, raw::DT_PLTRELSZ)] {
            let (entries, _) = table.unwrap_or_default().as_chunks::<RELA_SIZE>();
            pointers.extend(entries.iter().map(|entry| memory.sum(entry, symbols)));
        }
        let packed = table(raw::DT_RELR, raw::DT_RELRSZ).unwrap_or_default();
        pointers.extend(packed_places(packed).filter_map(|place| memory.word(place)));
        pointers
    }
}

/// The file's bytes by virtual address.
struct Memory<'a>(Vec<(Segment, &'a [u8])>);

impl<'a> Memory<'a> {
    fn bytes(&self, address: u64, size: u64) -> Option<&'a [u8]> {
        let (segment, bytes) = self.0.iter().find(|(segment, _)| segment.contains(address))?;
        let from = usize::try_from(address - segment.address).ok()?;
        bytes.get(from..from.checked_add(usize::try_from(size).ok()?)?)
    }

    fn word(&self, address: u64) -> Option<u64> {
        self.bytes(address, 8).map(|bytes| word_at(bytes, 0))
    }

    /// What an entry of a RELA table adds up to: the symbol's address, if it has one, and the addend.
    fn sum(&self, entry: &[u8], symbols: Option<u64>) -> u64 {
        let (info, addend) = (word_at(entry, 8), word_at(entry, 16));
        let index = info >> 32;
        let place = symbols.and_then(|at| at.checked_add(index * SYMBOL_SIZE + SYMBOL_VALUE));
        let symbol = place.filter(|_| index > 0).and_then(|place| self.word(place));
        symbol.unwrap_or(0).wrapping_add(addend)
    }
}

/// The addresses of the words that a DT_RELR table names: an even entry is one, an odd entry has a bit for each of the
/// next 63 words.
fn packed_places(table: &[u8]) -> impl Iterator<Item = u64> {
    let mut next = 0_u64;
    let (entries, _) = table.as_chunks::<8>();
    entries.iter().flat_map(move |entry| {
        let entry = u64::from_le_bytes(*entry);
        let (first, bits) = if entry & 1 == 0 { (entry, 1) } else { (next, entry >> 1) };
        next = first.wrapping_add(8 * if entry & 1 == 0 { 1 } else { RELR_BITS });
        (0..RELR_BITS).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| first.wrapping_add(8 * bit))
    })
}

/// The word at an offset; 0 if it is not there.
fn word_at(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_table_names_single_words_and_runs() {
        let entries = [0x1000_u64, 0b1011, 0x2000, 1 | 1 << 63, 0b11];
        let table: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        let places: Vec<u64> = packed_places(&table).collect();
        assert_eq!(places, [0x1000, 0x1008, 0x1018, 0x2000, 0x2008 + 62 * 8, 0x2008 + 63 * 8]);
    }
}
