//! Where a loader looks for a library, in its order: glibc's ld.so (`_dl_map_object`, elf/dl-load.c) and musl's
//! (`load_library`, ldso/dynlink.c).
//!
//! Invariant: the order of candidates is the loader's; whether one exists and fits is for the caller to see.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::cache::Cache;
use super::{Environment, Object};
use crate::elf::{Dynamic, Machine};

/// Which C library's loader it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Glibc,
    Musl,
}

/// Everything about the system and the environment that decides where a loader looks.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) flavour: Flavour,
    pub(super) library_path: Vec<String>,
    pub(super) preload: Vec<String>,
    pub(super) cache: Cache,
    pub(super) default_folders: Vec<PathBuf>,
    /// What `$LIB` stands for.
    lib: String,
    /// What `$PLATFORM` stands for.
    platform: &'static str,
    /// Sub-folders of glibc-hwcaps that this processor can use, best first.
    levels: Vec<&'static str>,
}

impl Search {
    /// For a program (or a library) with these dynamic entries, in this environment.
    pub(super) fn new(dynamic: &Dynamic, machine: Machine, environment: &Environment) -> Self {
        let flavour = flavour(dynamic);
        let interpreter = dynamic.interpreter.as_deref().map(Path::new);
        let loader_folder =
            interpreter.and_then(|path| path.canonicalize().ok()).and_then(|path| path.parent().map(Path::to_owned));
        let separators: &[char] = if flavour == Flavour::Glibc { &[':', ';'] } else { &[':'] };
        Self {
            flavour,
            library_path: environment.list("LD_LIBRARY_PATH", separators),
            preload: preload(environment, flavour),
            cache: system_cache(flavour),
            lib: lib_token(loader_folder.as_deref(), machine),
            default_folders: match flavour {
                Flavour::Glibc => glibc_folders(loader_folder, machine),
                Flavour::Musl => musl_folders(interpreter),
            },
            platform: platform(machine),
            levels: if machine == Machine::NATIVE { processor_levels() } else { Vec::new() },
        }
    }

    /// Paths to try for `name`, needed by `objects[parent]`; the main program is `objects[0]`.
    pub(super) fn candidates(&self, name: &str, objects: &[Object], parent: usize) -> Vec<PathBuf> {
        let origin = objects.get(parent).map_or(Path::new("/"), |object| object.origin.as_path());
        if name.contains('/') {
            return vec![self.expand(name, origin)];
        }
        match self.flavour {
            Flavour::Glibc => self.glibc_candidates(name, objects, parent),
            Flavour::Musl => self.musl_candidates(name, objects, parent),
        }
    }

    /// The folders that a program's own settings add: LD_LIBRARY_PATH, DT_RPATH, DT_RUNPATH.
    pub(super) fn own_folders(&self, program: &Object) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self.split(&self.library_path.join(":"), &program.origin);
        for list in [&program.dynamic.rpath, &program.dynamic.runpath].into_iter().flatten() {
            folders.extend(self.split(list, &program.origin));
        }
        folders
    }

    fn glibc_candidates(&self, name: &str, objects: &[Object], parent: usize) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let Some(needing) = objects.get(parent) else {
            return found;
        };
        let mut folders = Vec::new();
        if needing.dynamic.runpath.is_none() {
            for object in ancestors(objects, parent).filter(|object| object.dynamic.runpath.is_none()) {
                folders.extend(object.dynamic.rpath.iter().flat_map(|list| self.split(list, &object.origin)));
            }
        }
        let main = objects.first().map_or(Path::new("/"), |main| main.origin.as_path());
        folders.extend(self.library_path.iter().map(|folder| self.expand(folder, main)));
        folders.extend(needing.dynamic.runpath.iter().flat_map(|list| self.split(list, &needing.origin)));
        found.extend(folders.iter().flat_map(|folder| self.in_folder(folder, name)));
        if !needing.dynamic.no_default_folders {
            found.extend(self.cache.lookup(name, &self.levels).into_iter().map(Path::to_owned));
            found.extend(self.default_folders.iter().flat_map(|folder| self.in_folder(folder, name)));
        }
        found
    }

    fn musl_candidates(&self, name: &str, objects: &[Object], parent: usize) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = self.library_path.iter().map(PathBuf::from).collect();
        for object in ancestors(objects, parent) {
            let list = object.dynamic.runpath.as_ref().or(object.dynamic.rpath.as_ref());
            folders.extend(list.iter().flat_map(|list| self.split(list, &object.origin)));
        }
        folders.extend(self.default_folders.iter().cloned());
        folders.iter().map(|folder| folder.join(name)).collect()
    }

    /// A folder's better sub-folders for this processor, then itself.
    fn in_folder(&self, folder: &Path, name: &str) -> Vec<PathBuf> {
        let levels = self.levels.iter().map(|level| folder.join("glibc-hwcaps").join(level).join(name));
        levels.chain([folder.join(name)]).collect()
    }

    fn split(&self, list: &str, origin: &Path) -> Vec<PathBuf> {
        list.split(':').map(|folder| self.expand(folder, origin)).collect()
    }

    /// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM` (ld.so(8)); nothing is the current folder.
    fn expand(&self, text: &str, origin: &Path) -> PathBuf {
        if text.is_empty() {
            return PathBuf::from(".");
        }
        let mut expanded = text.to_owned();
        let origin = origin.to_string_lossy();
        for (token, value) in [("ORIGIN", &*origin), ("LIB", self.lib.as_str()), ("PLATFORM", self.platform)] {
            expanded = expanded.replace(&format!("${{{token}}}"), value).replace(&format!("${token}"), value);
        }
        PathBuf::from(expanded)
    }
}

/// The object and those that needed it, up to the main program.
fn ancestors(objects: &[Object], index: usize) -> impl Iterator<Item = &Object> {
    let mut next = Some(index);
    std::iter::from_fn(move || {
        let object = objects.get(next?)?;
        // A parent always comes before its child, which ends the walk.
        next = object.parent.filter(|parent| Some(*parent) < next);
        Some(object)
    })
}

fn flavour(dynamic: &Dynamic) -> Flavour {
    let interpreter = dynamic.interpreter.as_deref().and_then(|path| path.rsplit('/').next());
    let by_interpreter = interpreter.is_some_and(|name| name.starts_with("ld-musl"));
    let by_need = dynamic.needed.iter().any(|name| name.starts_with("libc.musl-"));
    if by_interpreter || by_need { Flavour::Musl } else { Flavour::Glibc }
}

fn system_cache(flavour: Flavour) -> Cache {
    match flavour {
        Flavour::Glibc => Cache::read(Path::new("/etc/ld.so.cache")),
        Flavour::Musl => Cache::default(),
    }
}

fn preload(environment: &Environment, flavour: Flavour) -> Vec<String> {
    let mut preload = environment.list("LD_PRELOAD", &[':', ' ', '\t', '\n']);
    if flavour == Flavour::Glibc {
        let file = std::fs::read_to_string("/etc/ld.so.preload").unwrap_or_default();
        let words = file.lines().filter_map(|line| line.split('#').next());
        preload.extend(words.flat_map(|line| line.split([':', ' ', '\t'])).map(str::to_owned));
    }
    preload.retain(|name| !name.is_empty());
    preload
}

/// glibc has its folders compiled in: Debian's, those of the 64-bit distributions, and wherever ld.so itself lies.
fn glibc_folders(loader: Option<PathBuf>, machine: Machine) -> Vec<PathBuf> {
    let triplet = format!("{}-linux-gnu", platform(machine));
    let known = [format!("/lib/{triplet}"), format!("/usr/lib/{triplet}")];
    let common = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(str::to_owned);
    let known = known.into_iter().chain(common).map(PathBuf::from);
    loader.into_iter().chain(known).collect()
}

/// /etc/ld-musl-ARCH.path (below the prefix that the loader lies in), else musl's defaults.
fn musl_folders(interpreter: Option<&Path>) -> Vec<PathBuf> {
    let path_file = interpreter.and_then(|interpreter| {
        let name = interpreter.file_name()?.to_str()?.strip_suffix(".so.1")?;
        let prefix = interpreter.parent()?.parent()?;
        std::fs::read_to_string(prefix.join("etc").join(format!("{name}.path"))).ok()
    });
    let list = path_file.unwrap_or_else(|| "/lib:/usr/local/lib:/usr/lib".to_owned());
    list.split([':', '\n']).filter(|folder| !folder.is_empty()).map(PathBuf::from).collect()
}

fn platform(machine: Machine) -> &'static str {
    match machine {
        Machine::X86_64 => "x86_64",
        Machine::Aarch64 => "aarch64",
        Machine::Other(_) => "unknown",
    }
}

/// ld.so lies in the folder that `$LIB` names, once symbolic links are followed.
fn lib_token(loader: Option<&Path>, machine: Machine) -> String {
    let Some(loader) = loader else {
        return format!("lib/{}-linux-gnu", platform(machine));
    };
    let relative = loader.strip_prefix("/usr").or_else(|_| loader.strip_prefix("/")).unwrap_or(loader);
    if relative.starts_with("lib") || relative.starts_with("lib64") {
        return relative.display().to_string();
    }
    loader.file_name().map_or_else(|| "lib".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The x86-64 micro-architecture levels that the processor has, best first (sysdeps/x86/get-isa-level.h).
#[cfg(target_arch = "x86_64")]
fn processor_levels() -> Vec<&'static str> {
    macro_rules! has {
        ($($feature:tt)*) => { $(std::is_x86_feature_detected!($feature))&&* };
    }
    let v2 = has!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "cmpxchg16b");
    let v3 = v2 && has!("avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe");
    let v4 = v3 && has!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl");
    let levels = [(v4, "x86-64-v4"), (v3, "x86-64-v3"), (v2, "x86-64-v2")];
    levels.into_iter().filter(|&(has, _)| has).map(|(_, name)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_levels() -> Vec<&'static str> {
    Vec::new()
}

impl Environment {
    /// The parts of a variable; none if it is unset or empty.
    fn list(&self, name: &str, separators: &[char]) -> Vec<String> {
        let value = self.get(name).map(OsString::as_os_str).unwrap_or_default();
        if value.is_empty() {
            return Vec::new();
        }
        let value = String::from_utf8_lossy(value.as_bytes());
        value.split(separators).map(str::to_owned).collect()
    }
}
