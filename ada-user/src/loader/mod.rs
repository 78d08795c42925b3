//! What a dynamic loader will map for a program that does not run yet: its closure of needed libraries, found as ld.so
//! finds them; and libraries that the program may load later.
//!
//! Invariant: only files are read; nothing is run (ldd runs the program's loader).

mod cache;
mod names;
mod search;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use cache::{Cache, CacheEntry};
pub use names::{NameMatch, match_name, stems};

use crate::elf::{Dynamic, Elf, FileId, Machine};
use search::{Flavour, Search};

/// No program comes near.
const MAX_OBJECTS: usize = 4096;

/// The names that musl's loader takes for itself.
const MUSL_OWN: [&str; 7] = ["c", "pthread", "rt", "m", "dl", "util", "xnet"];

/// Environment variables of a program to be run.
#[derive(Clone, Debug, Default)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// From pairs of name and value.
    #[must_use]
    pub fn new(variables: &[(OsString, OsString)]) -> Self {
        Self(variables.to_vec())
    }

    /// This process's own.
    #[must_use]
    pub fn current() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.0.iter().find(|(key, _)| key.as_os_str() == name).map(|(_, value)| value)
    }
}

/// A file that will be mapped.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its path without symbolic links, as /proc/PID/maps will show it.
    pub path: PathBuf,
    /// Which file it is.
    pub id: FileId,
    /// File names that it goes by: as it was asked for, as it is, and its soname.
    pub names: Vec<String>,
    /// What the loader reads of it.
    pub dynamic: Dynamic,
    /// The folder that `$ORIGIN` stands for.
    origin: PathBuf,
    /// Index of the object that needs it.
    parent: Option<usize>,
}

impl Object {
    fn new(found: &Path, elf: &Elf, parent: Option<usize>) -> Option<Self> {
        let path = found.canonicalize().ok()?;
        let dynamic = elf.dynamic();
        // ld.so takes the main program's origin from /proc/self/exe, and a library's from the path that it used.
        let origin = if parent.is_none() { path.clone() } else { std::path::absolute(found).ok()? };
        let origin = origin.parent().unwrap_or(Path::new("/")).to_owned();
        let mut object = Self { path, id: elf.id(), names: Vec::new(), dynamic, origin, parent };
        for path in [found.to_owned(), object.path.clone()] {
            object.add_name(path.file_name().and_then(|name| name.to_str()));
        }
        object.add_name(object.dynamic.soname.clone().as_deref());
        Some(object)
    }

    fn add_name(&mut self, name: Option<&str>) {
        if let Some(name) = name
            && !self.names.iter().any(|known| known == name)
        {
            self.names.push(name.to_owned());
        }
    }
}

/// A loader about to start one program.
#[derive(Clone, Debug)]
pub struct Loader {
    machine: Machine,
    search: Search,
    objects: Vec<Object>,
    missing: Vec<String>,
}

impl Loader {
    /// Follows what `program` needs. A static program needs nothing.
    #[must_use]
    pub fn load(program: &Elf, environment: &Environment) -> Self {
        let main = Object::new(program.path(), program, None);
        let dynamic = main.as_ref().map(|main| main.dynamic.clone()).unwrap_or_default();
        let search = Search::new(&dynamic, program.machine(), environment);
        let mut loader =
            Self { machine: program.machine(), search, objects: main.into_iter().collect(), missing: Vec::new() };
        if let Some(interpreter) = dynamic.interpreter {
            loader.add(Path::new(&interpreter), 0);
            for name in loader.search.preload.clone() {
                loader.need(&name, 0);
            }
        }
        loader.follow();
        loader.missing.retain(|name| !loader.search.preload.contains(name));
        loader
    }

    /// This machine's glibc loader, with no program: only its cache.
    #[must_use]
    pub fn without_program() -> Self {
        let search = Search::new(&Dynamic::default(), Machine::NATIVE, &Environment::default());
        Self { machine: Machine::NATIVE, search, objects: Vec::new(), missing: Vec::new() }
    }

    /// The program itself, then everything that is mapped with it, its loader included.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// Names of needed libraries that the loader will not find.
    #[must_use]
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Libraries that the program does not need but could load later, whose file name fits `typed`: of the loader's
    /// cache, LD_LIBRARY_PATH, and the program's own search path; musl has no cache, so of its default folders.
    #[must_use]
    pub fn find_unloaded(&self, typed: &str) -> Vec<Object> {
        let cached = self.search.cache.entries().iter();
        let cached = cached.filter(|entry| match_name(&entry.name, typed).is_some()).map(|entry| entry.path.clone());
        let in_folders = self.folders().into_iter().flat_map(|folder| matching_files(&folder, typed));
        let mut found: Vec<Object> = Vec::new();
        for path in cached.chain(in_folders) {
            let Some(object) = self.open(&path, Some(0)) else {
                continue;
            };
            match found.iter_mut().find(|known| known.id == object.id) {
                Some(known) => object.names.iter().for_each(|name| known.add_name(Some(name))),
                None => found.push(object),
            }
        }
        found
    }

    /// File names of the libraries that [`Self::find_unloaded`] knows of in the cache, for near matches.
    pub fn cached_names(&self) -> impl Iterator<Item = &str> {
        self.search.cache.entries().iter().map(|entry| entry.name.as_str())
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = self.objects.first().map(|main| self.search.own_folders(main)).unwrap_or_default();
        if self.search.flavour == Flavour::Musl {
            folders.extend(self.search.default_folders.iter().cloned());
        }
        folders
    }

    /// Breadth first, as ld.so does it.
    fn follow(&mut self) {
        let mut next = 0;
        while let Some(object) = self.objects.get(next) {
            for name in object.dynamic.needed.clone() {
                self.need(&name, next);
            }
            next += 1;
        }
    }

    fn need(&mut self, name: &str, parent: usize) {
        if self.is_loaded(name) || self.objects.len() >= MAX_OBJECTS {
            return;
        }
        let mut tried = HashSet::new();
        for path in self.search.candidates(name, &self.objects, parent) {
            if tried.insert(path.clone()) && self.add(&path, parent) {
                return;
            }
        }
        if !self.missing.iter().any(|missing| missing == name) {
            self.missing.push(name.to_owned());
        }
    }

    fn is_loaded(&self, name: &str) -> bool {
        let own = name.strip_prefix("lib").and_then(|rest| rest.split_once('.')).map(|(stem, _)| stem);
        let of_musl = self.search.flavour == Flavour::Musl && own.is_some_and(|stem| MUSL_OWN.contains(&stem));
        of_musl || self.objects.iter().any(|object| object.names.iter().any(|known| known == name))
    }

    /// Maps a file if it exists and fits; the same file under another name is the same object.
    fn add(&mut self, path: &Path, parent: usize) -> bool {
        let Some(object) = self.open(path, Some(parent)) else {
            return false;
        };
        match self.objects.iter_mut().find(|known| known.id == object.id) {
            Some(known) => object.names.iter().for_each(|name| known.add_name(Some(name))),
            None => self.objects.push(object),
        }
        true
    }

    fn open(&self, path: &Path, parent: Option<usize>) -> Option<Object> {
        let elf = Elf::open(path).ok().filter(|elf| elf.machine() == self.machine)?;
        Object::new(path, &elf, parent)
    }
}

fn matching_files(folder: &Path, typed: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let matching = entries.filter(|entry| entry.file_name().to_str().is_some_and(|n| match_name(n, typed).is_some()));
    matching.map(|entry| entry.path()).collect()
}
