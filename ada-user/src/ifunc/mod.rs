//! What the indirect functions of a file (`STT_GNU_IFUNC`: libc's strlen, memcpy and the like) stand for in a process.
//!
//! Such a symbol's value is a resolver, which the loader calls once to pick the implementation for this processor;
//! a probe on it would see no call. The loader leaves its choice in slots, and from there it is read: the file's own,
//! those of the files that import the function, else those of this very process, if it has the same file loaded.
//!
//! Invariant: an implementation lies in an executable segment of the file and is never the resolver; what cannot be told for
//! certain is left out.

mod own;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::elf::{Elf, FileId, Mapping, Slot, SlotSource, SymbolKind, SymbolTable};
use crate::target::{Target, TargetFile};

/// Implementations by their resolver, all virtual addresses of one file.
type Choices = BTreeMap<u64, BTreeSet<u64>>;

/// The implementations of one file's indirect functions, as far as they can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Implementations {
    in_target: Choices,
    in_own: Choices,
}

impl Implementations {
    /// Reads what was chosen in the target, if it is a process, and in this process, if it has the file loaded.
    ///
    /// It opens every file that the process has loaded: once per file with indirect functions is enough.
    #[must_use]
    pub fn of(elf: &Elf, file: &TargetFile, target: &Target) -> Self {
        let in_target = target.pid().map(|pid| choices(elf, file.id, target, pid)).unwrap_or_default();
        Self { in_target, in_own: own::choices(elf, file.id) }
    }

    /// The implementations behind a resolver (virtual addresses, ascending); more than one if several are in use; none
    /// if it cannot be told, or if the function is none of the file's own (the vDSO's `gettimeofday`).
    #[must_use]
    pub fn get(&self, resolver: u64) -> Vec<u64> {
        let found = self.in_target.get(&resolver).or_else(|| self.in_own.get(&resolver));
        found.into_iter().flatten().copied().filter(|&address| address != resolver).collect()
    }
}

/// The implementations behind the resolver at virtual address `resolver` of `file`, which is `elf`; for more than one
/// resolver of a file use [`Implementations`].
#[must_use]
pub fn implementations(elf: &Elf, file: &TargetFile, resolver: u64, target: &Target) -> Vec<u64> {
    Implementations::of(elf, file, target).get(resolver)
}

/// What a process's slots say of the file.
fn choices(elf: &Elf, id: FileId, target: &Target, pid: u32) -> Choices {
    let same = target.files().iter().filter(|file| file.id == id);
    let mappings: Vec<Mapping> = same.flat_map(|file| file.mappings.iter().copied()).collect();
    let Ok(memory) = File::open(format!("/proc/{pid}/mem")) else {
        return Choices::new();
    };
    let reader = Reader { elf, mappings, memory, exports: exports(elf) };
    let mut choices = Choices::new();
    reader.read(elf, &reader.mappings, &mut choices);
    if !reader.exports.is_empty() {
        for other in target.files().iter().filter(|file| file.id != id) {
            if let Ok(importer) = Elf::open(&other.open_path) {
                reader.read(&importer, &other.mappings, &mut choices);
            }
        }
    }
    choices
}

/// An indirect function that other files can import.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Export {
    resolver: u64,
    version: Option<String>,
    /// Whether an import without a version means this one.
    default: bool,
}

/// The file's exported indirect functions by name.
fn exports(elf: &Elf) -> BTreeMap<String, Vec<Export>> {
    let mut exports: BTreeMap<String, Vec<Export>> = BTreeMap::new();
    let table = elf.dynsym();
    let symbols = table.iter().flat_map(SymbolTable::iter);
    for symbol in symbols.filter(|symbol| symbol.defined && symbol.kind == SymbolKind::Ifunc) {
        let version = symbol.version.map(|version| version.name.to_owned());
        let default = symbol.version.is_none_or(|version| version.default);
        let export = Export { resolver: symbol.address, version, default };
        exports.entry(symbol.name.to_owned()).or_default().push(export);
    }
    exports
}

/// Reads slots in the memory of a process that has the file loaded.
struct Reader<'a> {
    elf: &'a Elf,
    mappings: Vec<Mapping>,
    memory: File,
    exports: BTreeMap<String, Vec<Export>>,
}

impl Reader<'_> {
    /// Adds what the slots of `module`, mapped so, hold.
    fn read(&self, module: &Elf, mappings: &[Mapping], choices: &mut Choices) {
        let is_own = module.id() == self.elf.id();
        let slots = module.slots().into_iter();
        let known = slots.filter_map(|slot| {
            let resolver = self.resolver_of(&slot, is_own)?;
            Some((slot.address, module.linked(&slot), resolver))
        });
        let known: Vec<(u64, u64, u64)> = known.collect();
        for base in module.load_bases(mappings, rustix::param::page_size() as u64) {
            for &(slot, linked, resolver) in &known {
                if let Some(address) = self.bound(slot, linked, base).filter(|&address| address != resolver) {
                    choices.entry(resolver).or_default().insert(address);
                }
            }
        }
    }

    /// The file's resolver that fills a slot.
    fn resolver_of(&self, slot: &Slot<'_>, is_own: bool) -> Option<u64> {
        let symbol = match slot.source {
            SlotSource::Resolver(resolver) => return is_own.then_some(resolver),
            SlotSource::Symbol(symbol) => symbol,
        };
        let exports = self.exports.get(symbol.name)?;
        let wanted = symbol.version.map(|version| version.name);
        let mut matching = exports.iter().filter(|export| match wanted {
            Some(wanted) => export.version.as_deref() == Some(wanted),
            None => export.default,
        });
        matching.next().map(|export| export.resolver)
    }

    /// The function of the file that a slot of a module loaded at `base` leads to, once the loader has bound it.
    fn bound(&self, slot: u64, linked: u64, base: u64) -> Option<u64> {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, base.wrapping_add(slot)).ok()?;
        let value = u64::from_le_bytes(word);
        if value == linked || value == linked.wrapping_add(base) {
            return None;
        }
        self.elf.unload(value, &self.mappings)
    }
}
