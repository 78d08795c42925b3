//! What functions and threads are called, by the manifest alone.
//!
//! Invariant: whatever a trace calls itself, nothing in these names can move a terminal's cursor.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use ada_format::manifest::{Function, Manifest, Signature, Thread};
use ada_format::read::ThreadReader;

/// A map by ids of a session, which nobody chooses against us.
pub(super) type IdMap<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

/// Spreads an id by one multiplication.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The product's upper bits are the good ones, the table takes the lower ones.
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Something for each function of the manifest, by id. `make` gets the function and its module's path.
pub(super) fn by_function<V>(manifest: &Manifest, make: impl Fn(&Function, Option<&str>) -> V) -> IdMap<V> {
    let modules: HashMap<u32, &str> =
        manifest.modules.iter().map(|module| (module.module_id, module.path.as_str())).collect();
    let path = |id: u64| u32::try_from(id >> 32).ok().and_then(|module| modules.get(&module).copied());
    let pair = |function: &Function| (function.function_id, make(function, path(function.function_id)));
    manifest.functions.iter().map(pair).collect()
}

/// A function with a signature.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    /// The name for people, without the types that the signature has, too.
    pub(super) name: String,
    /// What it takes and gives back.
    pub(super) signature: Signature,
}

/// The functions that have a signature, by id.
pub(super) fn with_signatures(manifest: &Manifest) -> IdMap<Typed> {
    let typed = |function: &Function| {
        let signature = function.signature.as_deref()?.clone();
        let name = readable(function);
        Some((function.function_id, Typed { name: without_parameters(&name).to_owned(), signature }))
    };
    manifest.functions.iter().filter_map(typed).collect()
}

/// `a::f` of `a::f(int (*)(char)) const`; `f::operator()` of `f::operator()(int)`.
fn without_parameters(name: &str) -> &str {
    let Some(end) = name.rfind(')') else { return name };
    // What follows can only qualify a method.
    if name.get(end + 1..).is_some_and(|rest| rest.contains("::")) {
        return name;
    }
    let mut open = 0_usize;
    for (index, character) in name.char_indices().rev().skip_while(|(index, _)| *index > end) {
        match character {
            ')' => open += 1,
            '(' if open == 1 => {
                return if index == 0 || name.ends_with("operator()") {
                    name
                } else {
                    name.get(..index).unwrap_or(name)
                };
            }
            '(' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    name
}

/// The name for people: demangled where it was mangled.
pub(super) fn readable(function: &Function) -> Cow<'_, str> {
    printable(function.demangled.as_ref().unwrap_or(&function.name))
}

/// The file name of a module's path.
pub(super) fn short_module(path: &str) -> Cow<'_, str> {
    printable(path.rsplit('/').next().unwrap_or(path))
}

/// Text without control characters.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) { text.replace(char::is_control, "?").into() } else { text.into() }
}

/// Who a thread is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// The ordinal.
    pub(super) id: u32,
    /// The process, if it is known.
    pub(super) pid: Option<u32>,
    /// The operating system's thread id.
    pub(super) tid: u32,
    /// As the manifest has it, printable; may be empty.
    pub(super) name: String,
}

impl Who {
    /// Who `thread` is. The manifest of a session under way may not have it yet.
    pub(super) fn of(thread: &ThreadReader, manifest: &Manifest) -> Self {
        let entry = manifest.threads.iter().find(|entry| entry.id == thread.id());
        Self::new(thread.id(), thread.tid(), entry, manifest)
    }

    /// Who a thread is of which there may be no folder.
    pub(super) fn of_id(id: u32, manifest: &Manifest) -> Self {
        let entry = manifest.threads.iter().find(|entry| entry.id == id);
        Self::new(id, entry.map_or(0, |entry| entry.tid), entry, manifest)
    }

    fn new(id: u32, tid: u32, entry: Option<&Thread>, manifest: &Manifest) -> Self {
        let only = if let [process] = manifest.process.as_slice() { Some(process.pid) } else { None };
        let pid = entry.map(|entry| entry.pid).filter(|pid| *pid != 0).or(only);
        let name = entry.map_or_else(String::new, |entry| printable(&entry.name).into_owned());
        Self { id, pid, tid, name }
    }

    /// `4242/4243`; what is not known is a question mark.
    pub(super) fn ids(&self) -> String {
        self.pid.map_or_else(|| format!("?/{}", self.tid), |pid| format!("{pid}/{}", self.tid))
    }
}

#[cfg(test)]
mod tests {
    use ada_format::manifest::{Module, Process};

    use super::*;

    #[test]
    fn functions_find_their_modules() {
        let id = |module: u64, index: u64| (module << 32) | index;
        let function = |function_id| Function { function_id, name: "f".into(), ..Function::default() };
        let manifest = Manifest {
            modules: vec![Module { module_id: 7, path: "/lib/x.so".into(), ..Module::default() }],
            functions: vec![function(id(7, 3)), function(id(8, 3))],
            ..Manifest::default()
        };
        let names = by_function(&manifest, |_, path| path.map(str::to_owned));
        assert_eq!(names[&id(7, 3)].as_deref(), Some("/lib/x.so"));
        assert_eq!(names[&id(8, 3)], None);
        assert_eq!(short_module("/lib/x.so"), "x.so");
    }

    #[test]
    fn signatures_have_the_types_of_a_name() {
        let pairs = [
            ("f", "f"),
            ("f(int)", "f"),
            ("(anonymous namespace)::f(int (*)(char), long) const", "(anonymous namespace)::f"),
            ("f::operator()(int)", "f::operator()"),
            ("f::operator()", "f::operator()"),
            ("<T as (A, B)>::f", "<T as (A, B)>::f"),
            (")(", ")("),
            ("f(", "f("),
        ];
        for (name, want) in pairs {
            assert_eq!(without_parameters(name), want);
        }
    }

    #[test]
    fn names_cannot_control_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a?[2Jb?");
        assert_eq!(printable("größe<T>"), "größe<T>");
    }

    #[test]
    fn a_thread_that_the_manifest_lacks_belongs_to_the_only_process() {
        let one = Manifest { process: vec![Process { pid: 5, ..Process::default() }], ..Manifest::default() };
        assert_eq!(Who::of_id(1, &one).pid, Some(5));
        assert_eq!(Who::of_id(1, &Manifest::default()).ids(), "?/0");
    }
}
