//! Choosing the files that a spec's module part means in a target.
//!
//! Invariant: a name means one file or is an error: one that fits several files is refused, not guessed. Only a pattern
//! means several.

use std::path::Path;
use std::rc::Rc;

use super::OpenSymbols;
use super::error::ResolveError;
use super::functions::Code;
use crate::elf::Elf;
use crate::loader::{match_name, stems};
use crate::pattern::Pattern;
use crate::spec::{FunctionSpec, ModuleSpec, ProbeSpec};
use crate::suggest;
use crate::target::{Target, TargetFile};

const VDSO: [&str; 5] = ["vdso", "[vdso]", "linux-vdso", "linux-vdso.so.1", "linux-gate"];

/// At most this many other files are named that define a function.
const MAX_ELSEWHERE: usize = 3;

/// What a module part means.
#[derive(Debug)]
pub(super) enum Located {
    /// The file that was named.
    One(TargetFile),
    /// Files that match a pattern; at least one.
    Matching(Vec<TargetFile>),
}

/// The files that `spec` means in `target`.
pub(super) fn locate(spec: &ProbeSpec, target: &Target) -> Result<Located, ResolveError> {
    let file = match &spec.module {
        ModuleSpec::Executable => {
            let program = target.executable().cloned();
            program.ok_or_else(|| ResolveError::NoProgram { spec: spec.text.clone() })
        }
        ModuleSpec::Path(path) => locate_path(path, target),
        ModuleSpec::Library(library) => locate_library(library, spec, target),
        ModuleSpec::Pattern(pattern) => return locate_matching(pattern, target),
    };
    file.map(Located::One)
}

/// Whether a module part means this file of a target. Unlike [`locate`], it looks at names alone.
pub(super) fn means(module: &ModuleSpec, file: &TargetFile) -> bool {
    match module {
        ModuleSpec::Executable => file.is_program,
        ModuleSpec::Path(path) => file.path == *path || path.canonicalize().is_ok_and(|path| path == file.path),
        ModuleSpec::Library(library) => file.names.iter().any(|name| match_name(name, library).is_some()),
        ModuleSpec::Pattern(pattern) => matches(pattern, file),
    }
}

/// By path, or by the names that people call it by.
fn matches(pattern: &Pattern, file: &TargetFile) -> bool {
    if pattern.text().contains('/') {
        return pattern.matches(&file.path.to_string_lossy());
    }
    let by_name = |name: &String| pattern.matches(name) || stems(name).iter().any(|stem| pattern.matches(stem));
    file.names.iter().any(by_name) || (file.is_program && pattern.matches("exe"))
}

fn locate_matching(pattern: &Pattern, target: &Target) -> Result<Located, ResolveError> {
    let files: Vec<TargetFile> = target.files().iter().filter(|file| matches(pattern, file)).cloned().collect();
    if files.is_empty() {
        return Err(ResolveError::NoFileMatches { pattern: pattern.to_string(), target: target.label() });
    }
    Ok(Located::Matching(files))
}

fn locate_path(path: &Path, target: &Target) -> Result<TargetFile, ResolveError> {
    let not_there = || ResolveError::NoSuchFile { path: path.to_owned(), target: target.label() };
    target.file_at(path).ok_or_else(not_there)
}

fn locate_library(library: &str, spec: &ProbeSpec, target: &Target) -> Result<TargetFile, ResolveError> {
    let mut files = target.files_named(library);
    if files.is_empty() {
        if VDSO.contains(&library) {
            return Err(ResolveError::Vdso { library: library.to_owned() });
        }
        files = target.unloaded_named(library);
    }
    files.sort_by_key(|file| file.id);
    files.dedup_by_key(|file| file.id);
    match files.as_slice() {
        [] => Err(not_loaded(library, spec, target)),
        [file] => Ok(file.clone()),
        several => {
            let mut paths: Vec<String> = several.iter().map(|file| file.path.display().to_string()).collect();
            paths.sort_unstable();
            Err(ResolveError::Ambiguous { library: library.to_owned(), target: target.label(), paths })
        }
    }
}

fn not_loaded(library: &str, spec: &ProbeSpec, target: &Target) -> ResolveError {
    let names: Vec<&str> = target.known_names().collect();
    let keys = names.iter().flat_map(|name| stems(name).into_iter().chain([*name]).map(move |key| (key, *name)));
    let near = suggest::near_keys(library, keys);
    let elsewhere = match &spec.function {
        FunctionSpec::Named { name, .. } => defined_elsewhere(name, None, target),
        FunctionSpec::Address(_) | FunctionSpec::Pattern(_) => Vec::new(),
    };
    let (library, label) = (library.to_owned(), target.label());
    if target.pid().is_some() {
        ResolveError::NotLoaded { library, target: label, near, elsewhere }
    } else if target.lacks(&library) {
        ResolveError::Missing { library, target: label }
    } else {
        ResolveError::UnknownLibrary { library, target: label, near, elsewhere }
    }
}

/// Opens a file of a target, with those of `symbols` that belong to it.
pub(super) fn open(file: &TargetFile, target: &Target, symbols: &[OpenSymbols]) -> Result<Code, ResolveError> {
    let elf = Elf::open(&file.open_path)?;
    let mut own = Vec::new();
    for OpenSymbols { module, names } in symbols {
        match module {
            Some(module) if means(module, file) => names.check(&elf)?,
            // Text tells nothing of the file that it is for.
            None if names.is_text() && !file.is_program => continue,
            None if names.check(&elf).is_ok() => {}
            _ => continue,
        }
        own.push(Rc::clone(names));
    }
    Ok(Code::new(elf, file.path.clone(), target.root().to_owned(), own))
}

/// Specs of `function` in the target's files that define it: exported ones, and all of the program's own.
pub(super) fn defined_elsewhere(function: &str, except: Option<&TargetFile>, target: &Target) -> Vec<String> {
    let others = target.files().iter().filter(|file| except.is_none_or(|except| except.id != file.id));
    let defining =
        others.filter(|file| open(file, target, &[]).is_ok_and(|code| code.defines(function, !file.is_program)));
    defining.take(MAX_ELSEWHERE).map(|file| format!("{}:{function}", short_name(file))).collect()
}

/// What a person would type for a file.
fn short_name(file: &TargetFile) -> String {
    if file.is_program {
        return "exe".to_owned();
    }
    let stem = file.names.iter().find_map(|name| stems(name).last().map(|stem| (*stem).to_owned()));
    stem.unwrap_or_else(|| file.path.display().to_string())
}
