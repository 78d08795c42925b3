//! An ELF file as a prober needs it: header, load segments, code bytes, build-id.
//!
//! Invariant: nothing that a file says is believed: every offset and count is checked against the file, and a file
//! that lies gives an error or fewer symbols, never a panic.

mod build_id;
mod debug_file;
mod debug_section;
mod dynamic;
mod gopclntab;
mod hazards;
mod loaded;
mod mini_debug;
mod slots;
mod symbol_file;
mod symbols;
mod unwind;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use object::elf::{self as raw, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionTable};
use object::{Endianness, ReadCache, ReadRef};

pub use debug_file::open_debug_file;
pub use dynamic::Dynamic;
pub use gopclntab::GoFunction;
pub use slots::{Slot, SlotSource};
pub use symbol_file::{NamedFunction, SymbolFile, SymbolFileError};
pub(crate) use symbols::split_version;
pub use symbols::{Symbol, SymbolKind, SymbolTable, Version};
pub use unwind::UnwindStart;

/// Functions are read for disassembly up to this many bytes.
const MAX_CODE: u64 = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It cannot be opened or read.
    #[error("{path} cannot be read ({source}): check the path and its permissions", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else than an ELF file.
    #[error("{path} is no ELF file: give the path of a program or of a shared library", path = path.display())]
    NotElf {
        /// The file.
        path: PathBuf,
    },
    /// It is made for a 32-bit machine.
    #[error("{path} is a 32-bit file: only 64-bit programs and libraries can be traced", path = path.display())]
    ThirtyTwoBit {
        /// The file.
        path: PathBuf,
    },
    /// Its headers contradict its size or themselves.
    #[error("{path} is damaged ({what}): reinstall or rebuild it", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, as a clause.
        what: String,
    },
}

/// Which file it is, whatever its path: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl FileId {
    /// The id of the file that `path` leads to.
    ///
    /// # Errors
    /// Those of stat(2).
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// The instruction set that a file is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// x86_64.
    X86_64,
    /// arm64.
    Aarch64,
    /// Another, by its `e_machine`.
    Other(u16),
}

impl Machine {
    /// The one that this program was built for.
    pub const NATIVE: Self = if cfg!(target_arch = "x86_64") { Self::X86_64 } else { Self::Aarch64 };

    fn from_raw(machine: raw::Machine) -> Self {
        match machine {
            raw::EM_X86_64 => Self::X86_64,
            raw::EM_AARCH64 => Self::Aarch64,
            other => Self::Other(other.0),
        }
    }
}

/// A program header that maps part of the file (`PT_LOAD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// File offset in bytes.
    pub offset: u64,
    /// Virtual address.
    pub address: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Whether it is mapped executable.
    pub executable: bool,
}

impl Segment {
    fn contains(&self, address: u64) -> bool {
        address.checked_sub(self.address).is_some_and(|from| from < self.file_size)
    }
}

/// A mapping of the file into a process, as /proc/PID/maps tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last byte.
    pub end: u64,
    /// File offset of `start`, a multiple of the page size.
    pub offset: u64,
    /// Whether it is executable.
    pub executable: bool,
}

/// An open 64-bit ELF file.
pub struct Elf {
    path: PathBuf,
    id: FileId,
    cache: ReadCache<File>,
    endian: Endianness,
    machine: Machine,
    entry: u64,
    segments: Vec<Segment>,
}

impl std::fmt::Debug for Elf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elf").field("path", &self.path).field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl Elf {
    /// Opens a file and reads its headers.
    ///
    /// # Errors
    /// [`ElfError`], when it is none or not one for a 64-bit machine.
    pub fn open(path: &Path) -> Result<Self, ElfError> {
        let read_error = |source| ElfError::Read { path: path.to_owned(), source };
        // Asked before opening: a FIFO would block, a device might do something.
        if !std::fs::metadata(path).map_err(read_error)?.is_file() {
            return Err(ElfError::NotElf { path: path.to_owned() });
        }
        Self::from_file(File::open(path).map_err(read_error)?, path)
    }

    /// Reads the headers of an open file; `path` is what messages call it.
    ///
    /// # Errors
    /// As [`Elf::open`].
    pub fn from_file(file: File, path: &Path) -> Result<Self, ElfError> {
        let metadata = file.metadata().map_err(|source| ElfError::Read { path: path.to_owned(), source })?;
        check_ident(&file, path)?;
        let cache = ReadCache::new(file);
        let damaged = |error: object::Error| ElfError::Damaged { path: path.to_owned(), what: error.to_string() };
        let header = FileHeader64::<Endianness>::parse(&cache).map_err(damaged)?;
        let endian = header.endian().map_err(damaged)?;
        let segments = load_segments(header.program_headers(endian, &cache).map_err(damaged)?, endian);
        let (machine, entry) = (Machine::from_raw(header.e_machine(endian)), header.e_entry(endian));
        let id = FileId { device: metadata.dev(), inode: metadata.ino() };
        Ok(Self { path: path.to_owned(), id, cache, endian, machine, entry, segments })
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// What it is made for.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Virtual address of the first instruction of a program; libraries mostly have 0.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// Its load segments.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// File offset of a virtual address inside an executable load segment.
    #[must_use]
    pub fn code_offset(&self, address: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| segment.executable && segment.contains(address))?;
        segment.offset.checked_add(address - segment.address)
    }

    /// Up to `size` bytes (at most 1 MiB) of the file at a virtual address; fewer at the end of its segment.
    #[must_use]
    pub fn code(&self, address: u64, size: u64) -> Option<&[u8]> {
        self.loaded(address, size.min(MAX_CODE))
    }

    /// Up to `size` bytes of the file at a virtual address; fewer at the end of its segment.
    fn loaded(&self, address: u64, size: u64) -> Option<&[u8]> {
        let segment = self.segments.iter().find(|segment| segment.contains(address))?;
        let from = address - segment.address;
        let offset = segment.offset.checked_add(from)?;
        (&self.cache).read_bytes_at(offset, size.min(segment.file_size - from)).ok()
    }

    /// The virtual address that an address of a process has in this file, if it lies in executable mappings of it.
    #[must_use]
    pub fn unload(&self, address: u64, mappings: &[Mapping]) -> Option<u64> {
        let mut code = mappings.iter().filter(|mapping| mapping.executable);
        let mapping = code.find(|mapping| (mapping.start..mapping.end).contains(&address))?;
        let offset = mapping.offset.checked_add(address - mapping.start)?;
        let from = |segment: &Segment| offset.checked_sub(segment.offset).filter(|&from| from < segment.file_size);
        let mut code = self.segments.iter().filter(|segment| segment.executable);
        code.find_map(|segment| segment.address.checked_add(from(segment)?))
    }

    /// The addresses that the file's virtual address 0 has in a process with these mappings of it: one per time that
    /// it is loaded.
    #[must_use]
    pub fn load_bases(&self, mappings: &[Mapping], page_size: u64) -> Vec<u64> {
        let mut bases: Vec<u64> = Vec::new();
        for mapping in mappings.iter().filter(|mapping| mapping.executable) {
            let segment = self.segments.iter().find(|s| s.executable && maps(s, mapping.offset, page_size));
            let Some(segment) = segment else { continue };
            let address = mapping.offset.wrapping_sub(segment.offset).wrapping_add(segment.address);
            bases.push(mapping.start.wrapping_sub(address));
        }
        bases.sort_unstable();
        bases.dedup();
        bases
    }

    fn header(&self) -> Option<&FileHeader64<Endianness>> {
        FileHeader64::<Endianness>::parse(&self.cache).ok()
    }

    fn program_headers(&self) -> &[ProgramHeader64<Endianness>] {
        let headers = self.header().and_then(|header| header.program_headers(self.endian, &self.cache).ok());
        headers.unwrap_or_default()
    }

    /// The section table; `None` where it was stripped or is damaged.
    fn sections(&self) -> Option<SectionTable<'_, FileHeader64<Endianness>, &ReadCache<File>>> {
        self.header()?.sections(self.endian, &self.cache).ok()
    }
}

/// Tells a 32-bit file and a file that is no ELF before its headers are read.
fn check_ident(file: &File, path: &Path) -> Result<(), ElfError> {
    let mut ident = [0_u8; 5];
    let read = file.read_at(&mut ident, 0).map_err(|source| ElfError::Read { path: path.to_owned(), source })?;
    match (&ident[..4], ident[4]) {
        (b"\x7fELF", 1) if read == 5 => Err(ElfError::ThirtyTwoBit { path: path.to_owned() }),
        (b"\x7fELF", _) if read == 5 => Ok(()),
        _ => Err(ElfError::NotElf { path: path.to_owned() }),
    }
}

fn load_segments(headers: &[ProgramHeader64<Endianness>], endian: Endianness) -> Vec<Segment> {
    let loads = headers.iter().filter(|header| header.p_type(endian) == raw::PT_LOAD);
    let segment = |header: &ProgramHeader64<Endianness>| Segment {
        offset: header.p_offset(endian),
        address: header.p_vaddr(endian),
        file_size: header.p_filesz(endian),
        executable: header.p_flags(endian).contains(raw::PF_X),
    };
    loads.map(segment).collect()
}

/// Whether a mapping at this file offset comes from the segment; the first page may start before it.
fn maps(segment: &Segment, offset: u64, page_size: u64) -> bool {
    let first_page = segment.offset & !(page_size.max(1) - 1);
    (first_page..segment.offset.saturating_add(segment.file_size)).contains(&offset)
}
