//! The GNU build-id, which tells builds of one file apart and finds their debug files.
//!
//! Invariant: the same id for a file and for its debug file.

use object::Endianness;
use object::elf::{self as raw, FileHeader64};
use object::read::elf::{NoteIterator, ProgramHeader, SectionHeader};

use super::Elf;

impl Elf {
    /// GNU build-id in lower-case hex.
    #[must_use]
    pub fn build_id(&self) -> Option<String> {
        let id = self.build_id_of_segments().or_else(|| self.build_id_of_sections())?;
        Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn build_id_of_segments(&self) -> Option<&[u8]> {
        let headers = self.program_headers().iter();
        let mut notes = headers.filter_map(|header| header.notes(self.endian, &self.cache).ok()?);
        notes.find_map(|notes| build_id_of_notes(notes, self.endian))
    }

    /// A debug file's segments have no content, its sections do.
    fn build_id_of_sections(&self) -> Option<&[u8]> {
        let sections = self.sections()?;
        let mut notes = sections.iter().filter_map(|section| section.notes(self.endian, &self.cache).ok()?);
        notes.find_map(|notes| build_id_of_notes(notes, self.endian))
    }
}

fn build_id_of_notes<'a>(
    mut notes: NoteIterator<'a, FileHeader64<Endianness>>,
    endian: Endianness,
) -> Option<&'a [u8]> {
    while let Ok(Some(note)) = notes.next() {
        if note.name() == raw::ELF_NOTE_GNU && note.n_type(endian) == raw::NT_GNU_BUILD_ID {
            return Some(note.desc());
        }
    }
    None
}
