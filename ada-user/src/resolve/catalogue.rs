//! Every function that a file's symbol tables name, by address, each with all of its names.
//!
//! Invariant: sorted by address, one entry per address; an entry has at least one name, the best one first.

use std::collections::HashSet;

use crate::elf::{Symbol, SymbolKind, SymbolTable};

/// How far back a containing function is looked for: functions hardly ever nest.
const MAX_NESTED: usize = 64;

/// The functions of a file.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    entries: Vec<Entry>,
}

/// A function, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Virtual address.
    pub(super) address: u64,
    /// Bytes; 0 = unknown. The greatest of what its symbols say.
    pub(super) size: u64,
    /// Whether it is only a resolver.
    pub(super) ifunc: bool,
    /// Its names.
    pub(super) names: Vec<Name>,
    /// Whether its only name is made of its address.
    pub(super) nameless: bool,
}

/// One name of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// As in the symbol table, without version.
    pub(super) text: String,
    /// `@@VERSION` or `@VERSION`, where it has one.
    pub(super) version: Option<String>,
    /// Whether other files can link against it.
    exported: bool,
}

impl Catalogue {
    /// Reads tables, the dynamic ones marked as such.
    pub(super) fn new<'a>(tables: impl IntoIterator<Item = (SymbolTable<'a>, bool)>) -> Self {
        let mut entries = Vec::new();
        for (table, exported) in tables {
            entries.extend(table.iter().filter_map(|symbol| Entry::of(&symbol, exported)));
        }
        Self::of_entries(entries)
    }

    /// Adds what other sources name.
    pub(super) fn add(&mut self, entries: impl Iterator<Item = Entry>) {
        let mut entries = entries.peekable();
        if entries.peek().is_some() {
            let known = std::mem::take(&mut self.entries);
            *self = Self::of_entries(known.into_iter().chain(entries).collect());
        }
    }

    fn of_entries(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| entry.address);
        entries.dedup_by(|next, kept| {
            let same = next.address == kept.address;
            if same {
                kept.join(next);
            }
            same
        });
        entries.iter_mut().for_each(Entry::order_names);
        Self { entries }
    }

    /// All entries, by address.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What starts exactly at an address.
    pub(super) fn starting_at(&self, address: u64) -> Option<&Entry> {
        let index = self.entries.binary_search_by_key(&address, |entry| entry.address).ok()?;
        self.entries.get(index)
    }

    /// What starts at an address, else the innermost function that it lies in.
    pub(super) fn containing(&self, address: u64) -> Option<&Entry> {
        let until = self.entries.partition_point(|entry| entry.address <= address);
        let before = self.entries.get(..until)?.iter().rev().take(MAX_NESTED);
        before.into_iter().find(|entry| entry.address == address || address - entry.address < entry.size)
    }
}

impl Entry {
    /// A function that is called `name`.
    pub(super) fn named(address: u64, size: u64, name: &str, ifunc: bool) -> Self {
        let name = Name { text: name.to_owned(), version: None, exported: false };
        Self { address, size, ifunc, names: vec![name], nameless: false }
    }

    fn of(symbol: &Symbol<'_>, exported: bool) -> Option<Self> {
        let ifunc = match symbol.kind {
            SymbolKind::Function => false,
            SymbolKind::Ifunc => true,
            SymbolKind::Data | SymbolKind::Untyped => return None,
        };
        let version =
            symbol.version.map(|version| format!("{}{}", if version.default { "@@" } else { "@" }, version.name));
        let name = Name { text: symbol.name.to_owned(), version, exported };
        let entry = Self { address: symbol.address, size: symbol.size, ifunc, names: vec![name], nameless: false };
        symbol.defined.then_some(entry)
    }

    fn join(&mut self, other: &mut Self) {
        self.size = self.size.max(other.size);
        // A debug file calls the resolver a function, under a name of its own.
        self.ifunc |= other.ifunc;
        self.names.append(&mut other.names);
    }

    /// Best first: exported, current, without underscores, short. A name that is in several tables is kept once, with its
    /// version.
    fn order_names(&mut self) {
        if self.names.len() > 1 {
            self.names.sort_by(|a, b| a.rank().cmp(&b.rank()));
            let mut known = HashSet::new();
            self.names.retain(|name| known.insert(name.distinct()));
        }
    }

    /// The best name.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("", |name| &name.text)
    }
}

impl Name {
    fn rank(&self) -> (bool, bool, usize, usize, &str) {
        let underscores = self.text.len() - self.text.trim_start_matches('_').len();
        (!self.exported, self.is_old(), underscores, self.text.len(), &self.text)
    }

    /// Whether it is kept for programs that were linked long ago.
    pub(super) fn is_old(&self) -> bool {
        self.version.as_ref().is_some_and(|version| !version.starts_with("@@"))
    }

    /// With its version where that tells it from the name that programs link against today.
    pub(super) fn distinct(&self) -> String {
        match &self.version {
            Some(version) if self.is_old() => format!("{}{version}", self.text),
            _ => self.text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: u64, size: u64, text: &str, version: Option<&str>, exported: bool) -> Entry {
        let name = Name { text: text.to_owned(), version: version.map(str::to_owned), exported };
        Entry { address, size, ifunc: false, names: vec![name], nameless: false }
    }

    #[test]
    fn aliases_are_one_entry_with_its_best_name_first() {
        let catalogue = Catalogue::of_entries(vec![
            entry(16, 4, "__libc_malloc", Some("@@G_2.2"), true),
            entry(16, 8, "_int_local", None, false),
            entry(16, 8, "malloc", None, false),
            entry(16, 8, "malloc", Some("@@G_2.2"), true),
            entry(32, 8, "free", Some("@@G_2.2"), true),
        ]);
        assert_eq!(catalogue.entries().len(), 2);
        let malloc = catalogue.starting_at(16).unwrap();
        let names: Vec<&str> = malloc.names.iter().map(|name| name.text.as_str()).collect();
        assert_eq!((names, malloc.size), (vec!["malloc", "__libc_malloc", "_int_local"], 8));
        assert_eq!(catalogue.starting_at(17), None);
    }

    #[test]
    fn the_innermost_function_contains_an_address() {
        let outer = entry(0, 100, "outer", None, true);
        let catalogue = Catalogue::of_entries(vec![outer, entry(10, 4, "inner", None, true)]);
        assert_eq!(catalogue.containing(12).map(Entry::name), Some("inner"));
        assert_eq!(catalogue.containing(14).map(Entry::name), Some("outer"));
        assert_eq!(catalogue.containing(100), None);
    }

    #[test]
    fn an_old_version_is_told_apart() {
        let name = |version: &str| entry(0, 0, "memcpy", Some(version), true).names.remove(0).distinct();
        assert_eq!(name("@GLIBC_2.2.5"), "memcpy@GLIBC_2.2.5");
        assert_eq!(name("@@GLIBC_2.14"), "memcpy");
    }
}
