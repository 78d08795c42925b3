//! Go's table of functions (`runtime.pclntab`), which Go programs keep when they are stripped: they print stacks by it.
//!
//! ```text
//! header    magic u32, 0 u16, instruction quantum u8, pointer size u8, then words:
//!           1.2   number of functions; the function table follows
//!           1.16  functions, files, offsets of: names, units, files, pc tables, function table
//!           1.18  functions, files, address of runtime.text, offsets as in 1.16 (1.20: the same)
//! functions (entry, offset of its record) for each, ascending, and the end of the last one;
//!           before 1.18 words, entries are addresses; since then u32, entries count from runtime.text
//! record    entry, i32 offset of its name, …, u32 offset of the table of its stack sizes
//! ```
//! Source: `src/runtime/symtab.go` and `src/cmd/link/internal/ld/pcln.go` of Go 1.2 to 1.20.
//!
//! Invariant: names are slices of the file, and work is bounded by the file's size, whatever its offsets say.

mod table;
#[cfg(test)]
mod tests;

use object::elf::{self as raw, Rela64};
use object::read::elf::{ProgramHeader, Rela, SectionHeader};

use super::{Elf, Machine};
use table::{Table, TextStart};

/// Where Go's linker puts the table; the second for programs that are loaded anywhere.
const SECTIONS: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];
/// Its other sections.
const INFO_SECTIONS: [&[u8]; 2] = [b".go.buildinfo", b".note.go.buildid"];
/// How much of a segment is searched where sections do not tell.
const MAX_SEARCHED: u64 = 1 << 30;
/// Tables start at multiples of this, those of today at multiples of 32.
const ALIGNMENT: usize = 8;
/// The name of the build-id note (`ELF_NOTE_GO_NAME`).
const NOTE_NAME: &[u8] = b"Go";
/// The first bytes of .go.buildinfo (`debug/buildinfo`).
const BUILD_INFO: &[u8] = b"\xff Go buildinf:";

/// A function of a Go program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoFunction<'a> {
    /// Such as `main.work`, `main.(*T).add`, `main.f[...]` for every instance of a generic one.
    pub name: &'a str,
    /// Virtual address.
    pub address: u64,
    /// Bytes; where the table does not tell exactly, up to the next function.
    pub size: u64,
}

impl Elf {
    /// The functions in Go's own table, by ascending address; `None` if there is no such table, or if where its
    /// functions lie cannot be told for certain.
    #[must_use]
    pub fn go_functions(&self) -> Option<Vec<GoFunction<'_>>> {
        let (table, at) = self.go_table()?;
        let text = match table.text_start() {
            TextStart::Absolute => 0,
            TextStart::Header { address, field } => self.go_text(&table, address, at.wrapping_add(field))?,
        };
        let is_code = |start: u64, last: u64| self.code_offset(start).is_some() && self.code_offset(last).is_some();
        let functions = table.functions(text, is_code);
        (!functions.is_empty()).then_some(functions)
    }

    /// Whether Go's compiler made it: its stacks move, which a return probe does not survive.
    #[must_use]
    pub fn is_go(&self) -> bool {
        self.has_go_sign() || !self.has_sections() && (self.has_go_build_info() || self.go_table().is_some())
    }

    fn has_go_sign(&self) -> bool {
        SECTIONS.iter().chain(&INFO_SECTIONS).any(|name| self.has_section(name)) || self.has_go_note()
    }

    /// The table and its virtual address.
    fn go_table(&self) -> Option<(Table<'_>, u64)> {
        if let Some(found) = self.go_section() {
            return Some(found);
        }
        // Another linker than Go's own puts the table into .data.rel.ro.
        if self.has_sections() && !self.has_go_sign() {
            return None;
        }
        self.loaded_bytes().find_map(|(address, bytes)| {
            let at = |offset: usize| {
                Table::parse(bytes.get(offset..)?).map(|table| (table, address.wrapping_add(offset as u64)))
            };
            (0..bytes.len()).step_by(ALIGNMENT).find_map(at)
        })
    }

    fn go_section(&self) -> Option<(Table<'_>, u64)> {
        let sections = self.sections()?;
        let (_, section) = SECTIONS.iter().find_map(|name| sections.section_by_name(self.endian, name))?;
        let bytes = section.data(self.endian, &self.cache).ok()?;
        Some((Table::parse(bytes)?, section.sh_addr(self.endian)))
    }

    /// `runtime.text`: from the header, where a linker that makes position-independent programs leaves it to a
    /// relocation; else the symbol; else the section, if the program's first instruction is then a function's.
    fn go_text(&self, table: &Table<'_>, header: u64, field: u64) -> Option<u64> {
        let known = [Some(header), self.relative(field), self.go_text_symbol()];
        let known = known.into_iter().flatten().find(|&address| address != 0 && self.code_offset(address).is_some());
        known.or_else(|| {
            let sections = self.sections()?;
            let (_, section) = sections.section_by_name(self.endian, b".text")?;
            let text = section.sh_addr(self.endian);
            table.starts(text).any(|start| start == self.entry()).then_some(text)
        })
    }

    fn go_text_symbol(&self) -> Option<u64> {
        let table = self.symtab()?;
        table.named("runtime.text").find(|symbol| symbol.defined).map(|symbol| symbol.address)
    }

    /// What the loader adds the base to and stores at `field`.
    fn relative(&self, field: u64) -> Option<u64> {
        let kind = match self.machine {
            Machine::X86_64 => raw::R_X86_64_RELATIVE,
            Machine::Aarch64 => raw::R_AARCH64_RELATIVE,
            Machine::Other(_) => return None,
        };
        let is_wanted = |relocation: &&Rela64<_>| {
            relocation.r_offset(self.endian) == field && relocation.r_type(self.endian, false) == kind
        };
        let found = self.relocations().into_iter().flatten().find(is_wanted)?;
        Some(found.r_addend(self.endian).cast_unsigned())
    }

    fn has_go_note(&self) -> bool {
        let headers = self.program_headers().iter();
        let mut notes = headers.filter_map(|header| header.notes(self.endian, &self.cache).ok()?);
        notes.any(|mut notes| std::iter::from_fn(|| notes.next().ok().flatten()).any(|note| note.name() == NOTE_NAME))
    }

    fn has_go_build_info(&self) -> bool {
        self.loaded_bytes().any(|(_, bytes)| bytes.chunks(16).any(|chunk| chunk.starts_with(BUILD_INFO)))
    }

    /// Address and bytes of each segment.
    fn loaded_bytes(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.segments.iter().filter_map(|segment| Some((segment.address, self.loaded(segment.address, MAX_SEARCHED)?)))
    }

    fn has_sections(&self) -> bool {
        self.sections().is_some_and(|sections| sections.len() > 1)
    }
}
