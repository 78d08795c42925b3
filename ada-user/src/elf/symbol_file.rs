//! Names of functions from a file that the user gives: the program before it was stripped, what nm printed of it, or a map.
//!
//! Invariant: an ELF file is only used for the very build that it belongs to; a line of text that is none of the known
//! forms is an error, never skipped.

#[cfg(test)]
mod tests;
mod text;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::debug_file::same_build;
use super::{Elf, ElfError, Symbol, SymbolKind};
use text::Line;

/// nm prints 100 MiB for the largest programs there are.
const MAX_TEXT: u64 = 1 << 30;
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Why a file of names cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SymbolFileError {
    /// It cannot be opened or read.
    #[error("{path} cannot be read ({source}): check the path and its permissions", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a damaged ELF file, or one of another kind of machine.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// It is an ELF file that was stripped itself.
    #[error("{path} has no symbol table: give the file as it was before strip, or what nm printed of that",
        path = path.display())]
    NoTable {
        /// The file.
        path: PathBuf,
    },
    /// Addresses in it mean nothing in the traced file.
    #[error("{path} belongs to another build than {of}: give the symbols of this very build",
        path = path.display(), of = of.display())]
    OtherBuild {
        /// The file of names.
        path: PathBuf,
        /// The traced file.
        of: PathBuf,
    },
    /// A line of text in no known form.
    #[error("{path}:{line}: {what}: lines must be 'ADDRESS [SIZE] TYPE NAME' as nm and nm -S print them, or \
        'START SIZE NAME' as in a perf map, numbers in hex", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, as a clause.
        what: &'static str,
    },
    /// It names nothing that can be traced.
    #[error("{path} names no function: give what nm or nm -S prints of the file before it is stripped",
        path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// None of its addresses are those of code.
    #[error("none of the addresses in {path} lies in the code of {of}: give addresses as nm prints them for this \
        file, not those of a process", path = path.display(), of = of.display())]
    NoCode {
        /// The file of names.
        path: PathBuf,
        /// The traced file.
        of: PathBuf,
    },
}

/// A function and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedFunction<'a> {
    /// Mangled or not, as the file has it, without a version.
    pub name: &'a str,
    /// Virtual address in the traced file.
    pub address: u64,
    /// Bytes; 0 = unknown.
    pub size: u64,
    /// Whether it only picks the function (`STT_GNU_IFUNC`).
    pub ifunc: bool,
}

/// An open file of names.
#[derive(Debug)]
pub struct SymbolFile {
    path: PathBuf,
    names: Names,
}

#[derive(Debug)]
enum Names {
    Elf(Box<Elf>),
    Text(Vec<Line>),
}

impl SymbolFile {
    /// Reads a file of names; text may come through a pipe.
    ///
    /// # Errors
    /// [`SymbolFileError`]: unreadable, an ELF file without names, text with a line that is none of the known forms.
    pub fn open(path: &Path) -> Result<Self, SymbolFileError> {
        let read_error = |source| SymbolFileError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(read_error)?;
        let mut bytes = Vec::new();
        file.by_ref().take(ELF_MAGIC.len() as u64).read_to_end(&mut bytes).map_err(read_error)?;
        let names = if bytes == ELF_MAGIC {
            Names::Elf(Box::new(open_elf(path)?))
        } else {
            file.take(MAX_TEXT).read_to_end(&mut bytes).map_err(read_error)?;
            if bytes.len() as u64 >= MAX_TEXT {
                return Err(read_error(io::ErrorKind::FileTooLarge.into()));
            }
            Names::Text(parse(path, &bytes)?)
        };
        Ok(Self { path: path.to_owned(), names })
    }

    /// Whether it is text, which does not say what file it is for.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self.names, Names::Text(_))
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the names belong to `elf`: by build-id, or without one by where its code sections lie; of text, only
    /// that some address is one of code.
    ///
    /// # Errors
    /// [`SymbolFileError::OtherBuild`], [`SymbolFileError::NoCode`].
    pub fn check(&self, elf: &Elf) -> Result<(), SymbolFileError> {
        let (path, of) = (self.path.clone(), elf.path().to_owned());
        match &self.names {
            Names::Elf(names) if !same_build(elf, names) => Err(SymbolFileError::OtherBuild { path, of }),
            Names::Text(lines) if lines.iter().all(|line| elf.code_offset(line.address).is_none()) => {
                Err(SymbolFileError::NoCode { path, of })
            }
            Names::Elf(_) | Names::Text(_) => Ok(()),
        }
    }

    /// Its functions, in the order of the file; one address may have several names. nm calls some variables by the same
    /// letters (`W data_start`): addresses that are none of code are to be passed over.
    pub fn functions(&self) -> impl Iterator<Item = NamedFunction<'_>> {
        let (elf, lines) = match &self.names {
            Names::Elf(elf) => (Some(elf), [].as_slice()),
            Names::Text(lines) => (None, lines.as_slice()),
        };
        let table = elf.and_then(|elf| elf.symtab());
        let symbols = table.into_iter().flat_map(|table| table.iter().filter_map(named).collect::<Vec<_>>());
        symbols.chain(lines.iter().map(Line::function))
    }
}

fn open_elf(path: &Path) -> Result<Elf, SymbolFileError> {
    let elf = Elf::open(path)?;
    let has_names = elf.symtab().is_some_and(|table| table.iter().any(|symbol| named(symbol).is_some()));
    if has_names { Ok(elf) } else { Err(SymbolFileError::NoTable { path: path.to_owned() }) }
}

fn named(symbol: Symbol<'_>) -> Option<NamedFunction<'_>> {
    let ifunc = match symbol.kind {
        SymbolKind::Function => false,
        SymbolKind::Ifunc => true,
        SymbolKind::Data | SymbolKind::Untyped => return None,
    };
    let Symbol { name, address, size, .. } = symbol;
    symbol.defined.then_some(NamedFunction { name, address, size, ifunc })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Line>, SymbolFileError> {
    let mut lines = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let parsed = std::str::from_utf8(line).map_err(|_| "it is no UTF-8 text").and_then(text::parse);
        let error = |what| SymbolFileError::Line { path: path.to_owned(), line: index + 1, what };
        lines.extend(parsed.map_err(error)?);
    }
    if lines.is_empty() { Err(SymbolFileError::Empty { path: path.to_owned() }) } else { Ok(lines) }
}
