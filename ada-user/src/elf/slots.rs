//! The words of a file that the loader fills with addresses of functions: what calls through the PLT go by.
//!
//! Invariant: only relocations whose value is the function itself, with nothing added, are told.

use object::elf::{self as raw, Rela64, RelocationType};
use object::read::elf::{Rela, SectionHeader};
use object::{Endianness, pod};

use super::{Elf, Machine, Symbol};

/// Where the loader takes a slot's value from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotSource<'a> {
    /// It calls this resolver (a virtual address of the file): an `IRELATIVE` relocation.
    Resolver(u64),
    /// It looks this symbol up: `JUMP_SLOT`, `GLOB_DAT`.
    Symbol(Symbol<'a>),
}

/// One such word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<'a> {
    /// Its virtual address.
    pub address: u64,
    /// How it is filled.
    pub source: SlotSource<'a>,
}

impl Elf {
    /// The file's slots, in the order of its relocations.
    #[must_use]
    pub fn slots(&self) -> Vec<Slot<'_>> {
        let relocations = self.relocations();
        let symbols = self.dynsym();
        let slot = |relocation: &Rela64<Endianness>| {
            let source = match self.slot_kind(relocation.r_type(self.endian, false))? {
                SlotKind::Irelative => SlotSource::Resolver(relocation.r_addend(self.endian).cast_unsigned()),
                SlotKind::Symbol => {
                    let index = relocation.symbol(self.endian, false)?;
                    SlotSource::Symbol(symbols.as_ref()?.symbol(index.0)?)
                }
            };
            Some(Slot { address: relocation.r_offset(self.endian), source })
        };
        relocations.into_iter().flatten().filter_map(slot).collect()
    }

    /// The tables that the loader works through; a static program has none, and its start code uses a section's.
    pub(super) fn relocations(&self) -> Vec<&[Rela64<Endianness>]> {
        let value_of = |wanted| self.dynamic_entries().find(|&(tag, _)| tag == wanted).map(|(_, value)| value);
        let table = |address, size| {
            let bytes = self.loaded(value_of(address)?, value_of(size)?)?;
            let count = bytes.len() / size_of::<Rela64<Endianness>>();
            pod::slice_from_bytes(bytes, count).ok().map(|(table, _)| table)
        };
        let tables = [table(raw::DT_RELA, raw::DT_RELASZ), table(raw::DT_JMPREL, raw::DT_PLTRELSZ)];
        let tables: Vec<_> = tables.into_iter().flatten().collect();
        if tables.is_empty() { self.relocation_sections() } else { tables }
    }

    fn relocation_sections(&self) -> Vec<&[Rela64<Endianness>]> {
        let Some(sections) = self.sections() else {
            return Vec::new();
        };
        let loaded = sections.iter().filter(|section| section.sh_flags(self.endian).contains(raw::SHF_ALLOC));
        let tables = loaded.filter(|section| section.sh_type(self.endian) == raw::SHT_RELA);
        tables.filter_map(|section| section.data_as_array(self.endian, &self.cache).ok()).collect()
    }

    fn slot_kind(&self, kind: RelocationType) -> Option<SlotKind> {
        match (self.machine, kind) {
            (Machine::X86_64, raw::R_X86_64_IRELATIVE) | (Machine::Aarch64, raw::R_AARCH64_IRELATIVE) => {
                Some(SlotKind::Irelative)
            }
            (Machine::X86_64, raw::R_X86_64_GLOB_DAT | raw::R_X86_64_JUMP_SLOT)
            | (Machine::Aarch64, raw::R_AARCH64_GLOB_DAT | raw::R_AARCH64_JUMP_SLOT) => Some(SlotKind::Symbol),
            _ => None,
        }
    }

    /// What the linker put into a slot (0 if nothing): as long as the loader has added no more than the base to it, the
    /// slot is not yet bound.
    #[must_use]
    pub fn linked(&self, slot: &Slot<'_>) -> u64 {
        let bytes = self.loaded(slot.address, 8).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

enum SlotKind {
    Irelative,
    Symbol,
}
