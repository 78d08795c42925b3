//! Finding functions by name, pattern or address in one file.
//!
//! Invariant: names are demangled only if no symbol is spelled exactly so, and the debug file is opened only if the
//! file itself has no full symbol table. What is costly to find out about the file is found out once.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::catalogue::{Catalogue, Entry, Name};
use super::demangle::{NamePattern, Wanted, demangle};
use crate::elf::{Elf, Symbol, SymbolKind, SymbolTable, open_debug_file, split_version};
use crate::suggest;

/// As many readable names are made for near matches.
const MAX_DEMANGLED: usize = 2000;

/// A file with its names.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) elf: Elf,
    /// Its path in the target, and the target's root, to find its debug file by.
    path: PathBuf,
    root: PathBuf,
    debug: OnceCell<Option<Elf>>,
    catalogue: OnceCell<Catalogue>,
    disturbs_returns: OnceCell<bool>,
    is_go: OnceCell<bool>,
}

/// A function that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Symbol name, with its version only if that is an old one.
    pub(super) name: String,
    /// `@@VERSION` or `@VERSION`, where it has one.
    pub(super) version: Option<String>,
    /// Its other names.
    pub(super) aliases: Vec<String>,
    /// Virtual address.
    pub(super) address: u64,
    /// Bytes; 0 = unknown.
    pub(super) size: u64,
    /// Whether it is only a resolver.
    pub(super) ifunc: bool,
}

/// All that a name turned up.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    /// One per address.
    pub(super) functions: Vec<Found>,
    /// An import of this name exists.
    pub(super) imported: bool,
    /// Something of this name that is no function.
    pub(super) other: Option<SymbolKind>,
    /// Versions of the name, when the one asked for is not among them.
    pub(super) versions: Vec<String>,
}

/// A matching symbol: function, and whether its version is the default one (`None`: it has no version).
type Candidate = (Found, Option<bool>);

impl Code {
    pub(super) fn new(elf: Elf, path: PathBuf, root: PathBuf) -> Self {
        Self {
            elf,
            path,
            root,
            debug: OnceCell::new(),
            catalogue: OnceCell::new(),
            disturbs_returns: OnceCell::new(),
            is_go: OnceCell::new(),
        }
    }

    /// All functions that have a name.
    pub(super) fn catalogue(&self) -> &Catalogue {
        self.catalogue.get_or_init(|| {
            let tables = [(self.elf.dynsym(), true), (self.elf.symtab(), false), (self.debug_table(), false)];
            Catalogue::new(tables.into_iter().filter_map(|(table, exported)| Some((table?, exported))))
        })
    }

    /// The functions one of whose names matches, by address.
    pub(super) fn matching(&self, pattern: &NamePattern) -> Vec<Found> {
        let matches = |entry: &&Entry| entry.names.iter().any(|name| pattern.matches(&name.text));
        self.catalogue().entries().iter().filter(matches).map(Found::of).collect()
    }

    /// The functions called `name`, which may end in a version.
    pub(super) fn find(&self, name: &str) -> Lookup {
        let (name, version) = split_version(name);
        let mut lookup = Lookup::default();
        let mut candidates = Vec::new();
        for symbol in self.own_tables().iter().flat_map(|table| table.named(name)) {
            let wanted = version.is_none_or(|wanted| symbol.version.is_some_and(|v| v.name == wanted.name));
            match (wanted, symbol.defined) {
                (false, true) => lookup.versions.extend(versioned(&symbol)),
                (false, false) => {}
                (true, _) => lookup.note(&symbol, &mut candidates),
            }
        }
        if candidates.is_empty() && version.is_none() {
            candidates = self.find_elsewhere(name);
        }
        lookup.functions = distinct(prefer_default(&candidates));
        lookup.functions.iter_mut().for_each(|found| found.add_aliases(self.catalogue()));
        lookup.versions.sort_unstable();
        lookup.versions.dedup();
        lookup
    }

    /// In the debug file by exact name, then everywhere by readable name.
    fn find_elsewhere(&self, name: &str) -> Vec<Candidate> {
        let debug = self.debug_table();
        let exact: Vec<Candidate> =
            debug.iter().flat_map(|table| table.named(name)).filter_map(|symbol| candidate(&symbol)).collect();
        if !exact.is_empty() {
            return exact;
        }
        let wanted = Wanted::new(name);
        let tables = self.own_tables().into_iter().chain(debug);
        let symbols = tables.flat_map(|table| table.iter().collect::<Vec<_>>());
        symbols.filter(|symbol| wanted.matches(symbol.name)).filter_map(|symbol| candidate(&symbol)).collect()
    }

    /// The function that starts at an address, else the one that it lies in.
    pub(super) fn at(&self, address: u64) -> Option<Found> {
        self.catalogue().containing(address).map(Found::of)
    }

    /// Whether return probes would harm its callers, by the signs in the file or in its debug file.
    pub(super) fn disturbs_returns(&self) -> bool {
        let signs = |elf: &Elf| elf.unwinds() || elf.switches_stacks();
        *self.disturbs_returns.get_or_init(|| signs(&self.elf) || self.debug_file().is_some_and(signs))
    }

    /// Whether Go's compiler made it.
    pub(super) fn is_go(&self) -> bool {
        *self.is_go.get_or_init(|| self.elf.is_go())
    }

    /// The name of a function, or a part of one, that starts exactly there.
    pub(super) fn start_named(&self, address: u64) -> Option<&str> {
        self.catalogue().starting_at(address).map(Entry::name)
    }

    /// Whether a function of exactly this name is defined in the file itself, or is even exported.
    pub(super) fn defines(&self, name: &str, exported: bool) -> bool {
        let (name, _) = split_version(name);
        let tables = if exported { self.elf.dynsym().into_iter().collect() } else { self.own_tables() };
        tables.iter().any(|table| table.named(name).any(|symbol| candidate(&symbol).is_some()))
    }

    /// Whether any function has a name.
    pub(super) fn has_names(&self) -> bool {
        !self.catalogue().entries().is_empty()
    }

    /// Whether there is no full symbol table, here or in a debug file.
    pub(super) fn is_stripped(&self) -> bool {
        self.elf.symtab().is_none() && self.debug_table().is_none()
    }

    /// Names of functions near to `name`.
    pub(super) fn near(&self, name: &str) -> Vec<String> {
        let (name, _) = split_version(name);
        let wanted = Wanted::new(name);
        let tables: Vec<SymbolTable<'_>> = self.own_tables().into_iter().chain(self.debug_table()).collect();
        let functions =
            || tables.iter().flat_map(SymbolTable::iter).filter(Symbol::is_function).map(|symbol| symbol.name);
        let mangled = functions().filter(|symbol| wanted.may_match(symbol)).take(MAX_DEMANGLED);
        let readable: Vec<String> =
            mangled.filter_map(demangle).filter(|readable| wanted.is_part_of(readable)).collect();
        let plain = functions().filter(|name| !name.starts_with("_Z") && !name.starts_with("_R"));
        suggest::near(name, readable.iter().map(String::as_str).chain(plain))
    }

    fn own_tables(&self) -> Vec<SymbolTable<'_>> {
        [self.elf.symtab(), self.elf.dynsym()].into_iter().flatten().collect()
    }

    fn debug_table(&self) -> Option<SymbolTable<'_>> {
        self.debug_file()?.symtab()
    }

    /// The separate debug file, where the file itself has no full symbol table.
    fn debug_file(&self) -> Option<&Elf> {
        if self.elf.symtab().is_some() {
            return None;
        }
        self.debug.get_or_init(|| open_debug_file(&self.elf, &self.path, &self.root)).as_ref()
    }
}

impl Found {
    fn of(entry: &Entry) -> Self {
        let mut names = entry.names.iter();
        let best = names.next();
        Self {
            name: best.map_or_else(String::new, Name::distinct),
            version: best.and_then(|name| name.version.clone()),
            aliases: names.map(Name::distinct).collect(),
            address: entry.address,
            size: entry.size,
            ifunc: entry.ifunc,
        }
    }

    /// Adds the other names of the same code.
    fn add_aliases(&mut self, catalogue: &Catalogue) {
        let Some(entry) = catalogue.starting_at(self.address) else { return };
        self.size = self.size.max(entry.size);
        let others = entry.names.iter().map(Name::distinct).filter(|name| *name != self.name);
        self.aliases = others.collect();
    }
}

impl Lookup {
    fn note(&mut self, symbol: &Symbol<'_>, candidates: &mut Vec<Candidate>) {
        match candidate(symbol) {
            Some(candidate) => candidates.push(candidate),
            None if !symbol.defined => self.imported = true,
            None => self.other = Some(symbol.kind),
        }
    }
}

fn candidate(symbol: &Symbol<'_>) -> Option<Candidate> {
    let ifunc = match symbol.kind {
        SymbolKind::Function => false,
        SymbolKind::Ifunc => true,
        SymbolKind::Data | SymbolKind::Untyped => return None,
    };
    let version = symbol
        .version
        .map(|version| (format!("{}{}", if version.default { "@@" } else { "@" }, version.name), version.default));
    let (version, default) = version.unzip();
    let found = Found {
        name: symbol.name.to_owned(),
        version,
        aliases: Vec::new(),
        address: symbol.address,
        size: symbol.size,
        ifunc,
    };
    symbol.defined.then_some((found, default))
}

fn versioned(symbol: &Symbol<'_>) -> Option<String> {
    let version = symbol.version?;
    Some(format!("{}@{}{}", symbol.name, if version.default { "@" } else { "" }, version.name))
}

/// Drops what is only kept for old programs, if there is what new ones link against.
fn prefer_default(candidates: &[Candidate]) -> Vec<Found> {
    let addresses = |wanted: bool| -> Vec<u64> {
        let of = candidates.iter().filter(|(_, default)| *default == Some(wanted));
        of.map(|(found, _)| found.address).collect()
    };
    let (current, old) = (addresses(true), addresses(false));
    let keep = |found: &Found| current.is_empty() || current.contains(&found.address) || !old.contains(&found.address);
    candidates.iter().map(|(found, _)| found).filter(|found| keep(found)).cloned().collect()
}

/// One per address, in the order of addresses: the first name, the greatest size.
fn distinct(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|found| found.address);
    found.dedup_by(|next, kept| {
        let alias = next.address == kept.address;
        if alias {
            kept.size = kept.size.max(next.size);
            kept.ifunc &= next.ifunc;
        }
        alias
    });
    found
}
