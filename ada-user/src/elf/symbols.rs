//! Symbol tables, read whole and searched by bytes: a million symbols take milliseconds.
//!
//! Invariant: a name is a slice of the file's string table; nothing is copied or demangled before it matched.

use std::ffi::CStr;

use object::elf::{self as raw, FileHeader64, Sym64};
use object::read::elf::{SectionHeader, Sym, VersionTable};
use object::{Endianness, SymbolIndex};

use super::Elf;

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolKind {
    /// Code.
    Function,
    /// A resolver that picks the code at run time (`STT_GNU_IFUNC`).
    Ifunc,
    /// A variable.
    Data,
    /// The file does not say; hand-written assembly mostly.
    Untyped,
}

/// The version of a dynamic symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version<'a> {
    /// Such as `GLIBC_2.3.2`.
    pub name: &'a str,
    /// Whether new programs link against it (`@@`), as opposed to being kept for old ones (`@`).
    pub default: bool,
}

/// One entry of a symbol table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// As in the table, without a version.
    pub name: &'a str,
    /// Its version, where it has one.
    pub version: Option<Version<'a>>,
    /// What it stands for.
    pub kind: SymbolKind,
    /// Virtual address; of no meaning if it is not defined here.
    pub address: u64,
    /// Bytes; 0 = unknown.
    pub size: u64,
    /// Whether it is defined in this file, as opposed to imported.
    pub defined: bool,
}

impl Symbol<'_> {
    /// Whether it names code of this file.
    #[must_use]
    pub fn is_function(&self) -> bool {
        self.defined && self.kind == SymbolKind::Function
    }
}

/// `.symtab` or `.dynsym`.
pub struct SymbolTable<'a> {
    endian: Endianness,
    symbols: &'a [Sym64<Endianness>],
    strings: &'a [u8],
    versions: VersionTable<'a, FileHeader64<Endianness>>,
}

impl std::fmt::Debug for SymbolTable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SymbolTable").field("symbols", &self.symbols.len()).finish_non_exhaustive()
    }
}

impl Elf {
    /// The full table, which `strip` removes.
    #[must_use]
    pub fn symtab(&self) -> Option<SymbolTable<'_>> {
        self.symbol_table(raw::SHT_SYMTAB, VersionTable::default())
    }

    /// The exported and imported symbols, with their versions.
    #[must_use]
    pub fn dynsym(&self) -> Option<SymbolTable<'_>> {
        let versions = self.sections()?.versions(self.endian, &self.cache).ok().flatten();
        self.symbol_table(raw::SHT_DYNSYM, versions.unwrap_or_default())
    }

    fn symbol_table<'a>(
        &'a self,
        kind: raw::SectionType,
        versions: VersionTable<'a, FileHeader64<Endianness>>,
    ) -> Option<SymbolTable<'a>> {
        let sections = self.sections()?;
        let section = sections.iter().find(|section| section.sh_type(self.endian) == kind)?;
        let symbols = section.data_as_array(self.endian, &self.cache).ok()?;
        let link = usize::try_from(section.sh_link(self.endian)).ok()?;
        let strings = sections.section(object::SectionIndex(link)).ok()?;
        let strings = strings.data(self.endian, &self.cache).ok()?;
        (!symbols.is_empty()).then_some(SymbolTable { endian: self.endian, symbols, strings, versions })
    }
}

impl<'a> SymbolTable<'a> {
    /// Every named symbol that can be a function, a variable or an import.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'a>> {
        (0..self.symbols.len()).filter_map(|index| self.symbol(index))
    }

    /// Every symbol of exactly this name, whatever its version.
    pub fn named(&self, name: &str) -> impl Iterator<Item = Symbol<'a>> {
        let candidates = self.symbols.iter().enumerate();
        let matching = candidates.filter(move |(_, symbol)| self.has_name(symbol, name.as_bytes()));
        matching.filter_map(|(index, _)| self.symbol(index))
    }

    /// Whether the symbol's string is `name`, or `name@…` as in a `.symtab`.
    fn has_name(&self, symbol: &Sym64<Endianness>, name: &[u8]) -> bool {
        let rest = self.string(symbol).and_then(|string| string.strip_prefix(name));
        matches!(rest.and_then(|rest| rest.first()), Some(0 | b'@'))
    }

    /// From the symbol's name to the end of the string table.
    fn string(&self, symbol: &Sym64<Endianness>) -> Option<&'a [u8]> {
        let strings: &'a [u8] = self.strings;
        strings.get(usize::try_from(symbol.st_name(self.endian)).ok()?..)
    }

    pub(super) fn symbol(&self, index: usize) -> Option<Symbol<'a>> {
        let symbol = self.symbols.get(index)?;
        let kind = kind_of(symbol)?;
        let text = CStr::from_bytes_until_nul(self.string(symbol)?).ok()?.to_str().ok()?;
        let (name, in_text) = split_version(text);
        if name.is_empty() {
            return None;
        }
        Some(Symbol {
            name,
            version: in_text.or_else(|| self.version(index)),
            kind,
            address: symbol.st_value(self.endian),
            size: symbol.st_size(self.endian),
            defined: symbol.st_shndx(self.endian) != raw::SHN_UNDEF,
        })
    }

    fn version(&self, index: usize) -> Option<Version<'a>> {
        let versym = self.versions.version_index(self.endian, SymbolIndex(index));
        let version = self.versions.version(versym.index()).ok().flatten()?;
        let name = std::str::from_utf8(version.name()).ok()?;
        Some(Version { name, default: !versym.is_hidden() })
    }
}

/// `name@@VERSION` or `name@VERSION`, as specs and `.symtab` write it.
#[must_use]
pub(crate) fn split_version(text: &str) -> (&str, Option<Version<'_>>) {
    match text.split_once('@') {
        Some((name, version)) if !name.is_empty() && !version.is_empty() => {
            let default = version.strip_prefix('@');
            (name, Some(Version { name: default.unwrap_or(version), default: default.is_some() }))
        }
        _ => (text, None),
    }
}

fn kind_of(symbol: &Sym64<Endianness>) -> Option<SymbolKind> {
    match symbol.st_type() {
        raw::STT_FUNC => Some(SymbolKind::Function),
        raw::STT_GNU_IFUNC => Some(SymbolKind::Ifunc),
        raw::STT_OBJECT | raw::STT_TLS | raw::STT_COMMON => Some(SymbolKind::Data),
        raw::STT_NOTYPE => Some(SymbolKind::Untyped),
        _ => None,
    }
}
