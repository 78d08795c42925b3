//! Finding functions by name, pattern or address in one file.
//!
//! Invariant: names are demangled only if no symbol is spelled exactly so, and the debug file is opened only if the
//! file itself has no full symbol table. What is costly to find out about the file is found out once.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::rc::Rc;

use super::catalogue::{Catalogue, Entry, Name};
use super::demangle::{NamePattern, Wanted, demangle};
use super::nameless;
use crate::elf::{Elf, Symbol, SymbolFile, SymbolKind, SymbolTable, open_debug_file, split_version};
use crate::placement::{Image, Targets};
use crate::suggest;
use crate::target::Target;

/// As many readable names are made for near matches.
const MAX_DEMANGLED: usize = 2000;

/// A file with its names.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) elf: Elf,
    /// Its path in the target, and the target's root, to find its debug file by.
    path: PathBuf,
    root: PathBuf,
    /// Files of names that the user gave.
    symbols: Vec<Rc<SymbolFile>>,
    debug: OnceCell<Option<Elf>>,
    catalogue: OnceCell<Catalogue>,
    nameless: OnceCell<Vec<Entry>>,
    targets: OnceCell<Targets>,
    disturbs_returns: OnceCell<bool>,
    is_go: OnceCell<bool>,
    is_own: OnceCell<bool>,
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
    /// Whether its name is made of its address.
    pub(super) nameless: bool,
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
    pub(super) fn new(elf: Elf, path: PathBuf, root: PathBuf, symbols: Vec<Rc<SymbolFile>>) -> Self {
        Self {
            elf,
            path,
            root,
            symbols,
            debug: OnceCell::new(),
            catalogue: OnceCell::new(),
            nameless: OnceCell::new(),
            targets: OnceCell::new(),
            disturbs_returns: OnceCell::new(),
            is_go: OnceCell::new(),
            is_own: OnceCell::new(),
        }
    }

    /// All functions that have a name.
    pub(super) fn catalogue(&self) -> &Catalogue {
        self.catalogue.get_or_init(|| {
            let tables = [(self.elf.dynsym(), true), (self.elf.symtab(), false), (self.debug_table(), false)];
            let mut catalogue =
                Catalogue::new(tables.into_iter().filter_map(|(table, exported)| Some((table?, exported))));
            let go = self.elf.go_functions().unwrap_or_default();
            catalogue
                .add(go.iter().map(|function| Entry::named(function.address, function.size, function.name, false)));
            for file in &self.symbols {
                let code = file.functions().filter(|function| self.elf.code_offset(function.address).is_some());
                catalogue.add(code.map(|f| Entry::named(f.address, f.size, f.name, f.ifunc)));
            }
            catalogue
        })
    }

    /// Whether this file of names is one of its sources.
    pub(super) fn has_symbols(&self, names: &Rc<SymbolFile>) -> bool {
        self.symbols.iter().any(|own| Rc::ptr_eq(own, names))
    }

    /// Everything in its code that may be jumped to.
    pub(super) fn targets(&self) -> &Targets {
        self.targets.get_or_init(|| {
            let starts = self.catalogue().entries().iter().map(|entry| entry.address);
            Targets::find(&Image::of(&self.elf, starts))
        })
    }

    /// The functions one of whose names matches, by address.
    pub(super) fn matching(&self, pattern: &NamePattern) -> Vec<Found> {
        let matches = |entry: &&Entry| entry.names.iter().any(|name| pattern.matches(&name.text));
        let nameless = if pattern.means_nameless() { self.nameless() } else { &[] };
        self.catalogue().entries().iter().chain(nameless).filter(matches).map(Found::of).collect()
    }

    /// The functions that have no name because it was stripped of them.
    pub(super) fn nameless(&self) -> &[Entry] {
        self.nameless.get_or_init(|| match self.is_stripped() && !self.is_go() {
            true => nameless::functions(&self.elf, self.catalogue()),
            false => Vec::new(),
        })
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
        lookup.functions = distinct(prefer_default(&candidates));
        lookup.functions.iter_mut().for_each(|found| found.add_aliases(self.catalogue()));
        if candidates.is_empty() && version.is_none() {
            lookup.functions = self.find_elsewhere(name);
        }
        lookup.versions.sort_unstable();
        lookup.versions.dedup();
        lookup
    }

    /// By exact name in the other sources of names, then everywhere by readable name.
    fn find_elsewhere(&self, name: &str) -> Vec<Found> {
        let entries = self.catalogue().entries().iter();
        let exact: Vec<Found> = entries.clone().filter_map(|entry| Found::called(entry, |text| text == name)).collect();
        if !exact.is_empty() {
            return exact;
        }
        if nameless::is_name(name) {
            let nameless = self.nameless().iter();
            let nameless: Vec<Found> = nameless.filter_map(|entry| Found::called(entry, |text| text == name)).collect();
            if !nameless.is_empty() {
                return nameless;
            }
        }
        let wanted = Wanted::new(name);
        entries.filter_map(|entry| Found::called(entry, |text| wanted.matches(text))).collect()
    }

    /// The function that starts at an address, else the one that it lies in.
    pub(super) fn at(&self, address: u64) -> Option<Found> {
        self.catalogue().containing(address).map(Found::of)
    }

    /// Whether return probes would harm its callers, by the signs in the file or in its debug file.
    pub(super) fn disturbs_returns(&self) -> bool {
        // The C library has an unwinder of its own, for cancelled threads, and throws nothing.
        let signs = |elf: &Elf| elf.unwinds() || elf.switches_stacks();
        let disturbs = || !self.elf.is_c_library() && (signs(&self.elf) || self.debug_file().is_some_and(signs));
        *self.disturbs_returns.get_or_init(disturbs)
    }

    /// Whether Go's compiler made it.
    pub(super) fn is_go(&self) -> bool {
        *self.is_go.get_or_init(|| self.elf.is_go())
    }

    /// Whether this very process has the file mapped.
    pub(super) fn is_own(&self) -> bool {
        let mapped = || {
            let own = Target::from_pid(std::process::id());
            own.is_ok_and(|own| own.files().iter().any(|file| file.id == self.elf.id()))
        };
        *self.is_own.get_or_init(mapped)
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
        let names = || self.catalogue().entries().iter().flat_map(|entry| &entry.names);
        let functions = || names().map(|name| name.text.as_str());
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

    /// The separate debug file, or the small one inside of the file, where that itself has no full symbol table.
    fn debug_file(&self) -> Option<&Elf> {
        if self.elf.symtab().is_some() {
            return None;
        }
        let find = || open_debug_file(&self.elf, &self.path, &self.root).or_else(|| self.elf.mini_debug());
        self.debug.get_or_init(find).as_ref()
    }
}

impl Found {
    /// The function under the first of its names that `is_it` accepts.
    fn called(entry: &Entry, is_it: impl Fn(&str) -> bool) -> Option<Self> {
        let name = entry.names.iter().find(|name| is_it(&name.text))?;
        let mut found = Self { name: name.distinct(), version: name.version.clone(), ..Self::of(entry) };
        found.add_names_of(entry);
        Some(found)
    }

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
            nameless: entry.nameless,
        }
    }

    /// Adds the other names of the same code.
    fn add_aliases(&mut self, catalogue: &Catalogue) {
        if let Some(entry) = catalogue.starting_at(self.address) {
            self.size = self.size.max(entry.size);
            self.add_names_of(entry);
        }
    }

    /// Takes over all names of an entry but the one it has.
    fn add_names_of(&mut self, entry: &Entry) {
        let others = entry.names.iter().map(Name::distinct).filter(|name| *name != self.name);
        self.aliases = others.collect();
    }

    /// An implementation of this indirect function: the same function to those who call it.
    pub(super) fn implemented_at(&self, address: u64, code: &Code) -> Self {
        let mut found = Self { address, size: 0, ifunc: false, ..self.clone() };
        // Names of the resolver alone.
        found.aliases.retain(|name| !name.ends_with("_ifunc"));
        if let Some(entry) = code.catalogue().starting_at(address) {
            found.size = entry.size;
            found.aliases.extend(entry.names.iter().map(Name::distinct));
        }
        found
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
        nameless: false,
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
            kept.ifunc |= next.ifunc;
        }
        alias
    });
    found
}
