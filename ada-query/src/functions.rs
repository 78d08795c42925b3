//! The functions of a session, numbered densely.
//!
//! A function id is a module's number and a symbol's; two look-ups in tables turn it into a small number, by which
//! everything else is kept in flat arrays. Invariant: a number stands for one id for as long as the table lives, and
//! numbers have no gaps.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use ada_format::manifest::{Function, Manifest, Returns};

/// A function's place in the flat arrays.
pub type FunctionIndex = u32;

const NONE: FunctionIndex = FunctionIndex::MAX;
/// Modules with a greater number, and symbols beyond the tables' limit, are looked up by hashing.
const MODULES: usize = 1 << 16;
/// Places in all tables together: 64 MiB.
const PLACES: usize = 1 << 24;
/// The most functions that the manifest does not know; all others are one.
const STRANGERS: usize = 1 << 16;

/// What is known of a function.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// `(module_id << 32) | symbol_index`.
    pub id: u64,
    /// As in the symbol table; none if the manifest does not have the function.
    pub name: Option<&'a str>,
    /// For people, if the name is mangled.
    pub demangled: Option<&'a str>,
    /// The path of its module.
    pub module: Option<&'a str>,
}

impl<'a> About<'a> {
    /// The name for people.
    #[must_use]
    pub fn readable(&self) -> Option<&'a str> {
        self.demangled.or(self.name)
    }

    /// The last part of its module's path.
    #[must_use]
    pub fn module_name(&self) -> Option<&'a str> {
        self.module.map(|path| path.rsplit('/').next().unwrap_or(path))
    }
}

/// `name`, or `function 0x100000004` if it has none.
impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.readable() {
            Some(name) => f.write_str(name),
            None => write!(f, "function {:#x}", self.id),
        }
    }
}

/// All functions of a session: those of its manifest in its order, then those that only events name.
#[derive(Debug, Default)]
pub struct Functions {
    known: Vec<Function>,
    modules: HashMap<u32, String>,
    tables: Vec<Box<[FunctionIndex]>>,
    beyond: HashMap<u64, FunctionIndex>,
    strangers: Mutex<Strangers>,
}

#[derive(Debug, Default)]
struct Strangers {
    ids: Vec<u64>,
    by_id: HashMap<u64, FunctionIndex>,
}

impl Functions {
    /// Those of a manifest.
    #[must_use]
    pub fn new(manifest: &Manifest) -> Self {
        let modules = manifest.modules.iter().map(|module| (module.module_id, module.path.clone())).collect();
        let mut functions = Self { known: manifest.functions.clone(), modules, ..Self::default() };
        functions.fill();
        functions
    }

    /// How many there are by now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len() + self.strangers().ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those of the manifest; their places are those in the slice.
    #[must_use]
    pub fn known(&self) -> &[Function] {
        &self.known
    }

    /// What is known of one.
    #[must_use]
    pub fn about(&self, index: FunctionIndex) -> About<'_> {
        match self.known.get(index as usize) {
            Some(function) => About {
                id: function.function_id,
                name: Some(&function.name),
                demangled: function.demangled.as_deref(),
                module: self.module(function.function_id),
            },
            None => {
                let id = self.strangers().ids.get((index as usize).saturating_sub(self.known.len())).copied();
                let id = id.unwrap_or(u64::MAX);
                About { id, name: None, demangled: None, module: self.module(id) }
            }
        }
    }

    /// Whether and how its returns are recorded.
    #[must_use]
    pub fn returns(&self, index: FunctionIndex) -> Returns {
        self.known.get(index as usize).map_or(Returns::Unknown, |function| function.returns)
    }

    /// The number of the function with an id; functions that the manifest does not have get one.
    #[must_use]
    #[inline]
    pub fn index(&self, id: u64) -> FunctionIndex {
        let found = self.tables.get((id >> 32) as usize).and_then(|table| table.get((id & 0xffff_ffff) as usize));
        match found {
            Some(&index) if index != NONE => index,
            _ => self.slow(id),
        }
    }

    #[cold]
    fn slow(&self, id: u64) -> FunctionIndex {
        self.beyond.get(&id).copied().unwrap_or_else(|| self.stranger(id))
    }

    fn stranger(&self, id: u64) -> FunctionIndex {
        let mut strangers = self.strangers();
        if let Some(&index) = strangers.by_id.get(&id) {
            return index;
        }
        let place = strangers.ids.len().min(STRANGERS);
        if place == strangers.ids.len() {
            strangers.ids.push(if place == STRANGERS { u64::MAX } else { id });
        }
        let index = u32::try_from(self.known.len() + place).unwrap_or(NONE - 1);
        if place < STRANGERS {
            strangers.by_id.insert(id, index);
        }
        index
    }

    fn strangers(&self) -> std::sync::MutexGuard<'_, Strangers> {
        self.strangers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn module(&self, id: u64) -> Option<&str> {
        self.modules.get(&u32::try_from(id >> 32).ok()?).map(String::as_str)
    }

    fn fill(&mut self) {
        let mut lengths: Vec<usize> = Vec::new();
        for function in &self.known {
            let (module, symbol) = split(function.function_id);
            if module < MODULES {
                if lengths.len() <= module {
                    lengths.resize(module + 1, 0);
                }
                if let Some(length) = lengths.get_mut(module) {
                    *length = (*length).max(symbol + 1);
                }
            }
        }
        let mut left = PLACES;
        for length in lengths {
            let length = if length <= left { length } else { 0 };
            left -= length;
            self.tables.push(vec![NONE; length].into_boxed_slice());
        }
        for (index, function) in self.known.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(NONE - 1);
            let (module, symbol) = split(function.function_id);
            match self.tables.get_mut(module).and_then(|table| table.get_mut(symbol)) {
                // The first of several with the same id counts.
                Some(place) if *place == NONE => *place = index,
                Some(_) => {}
                None => {
                    self.beyond.entry(function.function_id).or_insert(index);
                }
            }
        }
    }
}

fn split(id: u64) -> (usize, usize) {
    ((id >> 32) as usize, (id & 0xffff_ffff) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_one_number() {
        let ids = [1 << 32 | 4, 1 << 32 | 5, 7 << 32, u64::MAX, 3 << 32 | 0xffff_fff0, (1 << 60) | 1];
        let functions =
            ids.map(|function_id| Function { function_id, name: format!("f{function_id:x}"), ..Function::default() });
        let functions = Functions::new(&Manifest { functions: functions.to_vec(), ..Manifest::default() });
        for (place, id) in ids.into_iter().enumerate() {
            assert_eq!(functions.index(id) as usize, place);
            assert_eq!(functions.about(functions.index(id)).id, id);
        }
        let strange = functions.index(99);
        assert_eq!((strange, functions.len()), (6, 7));
        assert_eq!(functions.index(99), strange);
        assert_eq!(functions.about(strange).to_string(), "function 0x63");
    }

    #[test]
    fn strangers_are_bounded() {
        let functions = Functions::default();
        for id in 0..STRANGERS as u64 + 100 {
            let _ = functions.index(id);
        }
        assert_eq!(functions.len(), STRANGERS + 1);
        assert_eq!(functions.index(u64::MAX - 1) as usize, STRANGERS);
    }
}
