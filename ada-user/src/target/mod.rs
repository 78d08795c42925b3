//! What is traced: a process, a command to be launched, or a file to be listed; and the ELF files in it.
//!
//! Invariant: a target is a snapshot; it holds paths and ids, no open files.

mod command;
mod descendants;
mod maps;
mod process;
mod root;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use crate::elf::{ElfError, FileId, Mapping};
use crate::loader::{Environment, Loader, NameMatch, match_name};

pub use command::program_of;
pub use descendants::{descendants, has_ended};

/// Why something cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is no process of this id.
    #[error("there is no process {pid}: see ps for those that run")]
    NoSuchProcess {
        /// As given.
        pid: u32,
    },
    /// It ended while it was looked at.
    #[error("process {pid} has just exited: give the pid of a running process, or launch it with -- COMMAND")]
    Exited {
        /// As given.
        pid: u32,
    },
    /// It has ended, and its parent has not yet taken note.
    #[error("process {pid} ({name}) is a zombie, it has already ended: give the pid of a running process")]
    Zombie {
        /// As given.
        pid: u32,
        /// Its command name.
        name: String,
    },
    /// It has no user code.
    #[error("process {pid} ({name}) is a kernel thread, which runs no user code: give the pid of a program")]
    KernelThread {
        /// As given.
        pid: u32,
        /// Its command name.
        name: String,
    },
    /// The id is that of a thread.
    #[error("{tid} is a thread of process {pid} ({name}): use -p {pid}, which traces all of its threads")]
    Thread {
        /// As given.
        tid: u32,
        /// The process.
        pid: u32,
        /// The thread's name.
        name: String,
    },
    /// A running 32-bit program.
    #[error("process {pid} runs the 32-bit program {executable}: only 64-bit programs can be traced",
        executable = executable.display())]
    ThirtyTwoBit {
        /// As given.
        pid: u32,
        /// Its path as the process sees it.
        executable: PathBuf,
    },
    /// The kernel does not show the process to us.
    #[error("process {pid} may not be looked at: run ada-trace as root, or with CAP_SYS_PTRACE")]
    PermissionDenied {
        /// As given.
        pid: u32,
    },
    /// Anything else that reading /proc gives.
    #[error("process {pid} cannot be looked at, since reading {path} failed ({source}): check that /proc is mounted",
        path = path.display())]
    Proc {
        /// As given.
        pid: u32,
        /// The file of /proc.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A command that is in none of the folders of PATH.
    #[error("there is no command '{command}' in PATH: check its spelling, or give its path")]
    NoSuchCommand {
        /// As typed.
        command: String,
    },
    /// A script whose interpreter is a script, and so on.
    #[error("{path} is a script whose interpreters are scripts themselves, more than the kernel follows: \
        name the program that runs it", path = path.display())]
    ScriptLoop {
        /// The script.
        path: PathBuf,
    },
    /// The program's file.
    #[error(transparent)]
    Elf(#[from] ElfError),
}

/// What is traced.
#[derive(Debug)]
pub struct Target {
    kind: Kind,
    files: Vec<TargetFile>,
    /// The target's root folder as the tracer reaches it.
    root: PathBuf,
}

#[derive(Debug)]
enum Kind {
    Process(u32),
    /// A program that does not run yet; its file is the first.
    Program(Loader),
    /// Nothing but the loader's cache.
    System(Loader),
}

/// An ELF file that is mapped into a target, or will be.
#[derive(Clone, Debug)]
pub struct TargetFile {
    /// Its path as the target sees it, without symbolic links.
    pub path: PathBuf,
    /// The path by which the tracer reaches exactly this file.
    pub open_path: PathBuf,
    /// File names that it goes by.
    pub names: Vec<String>,
    /// Which file it is.
    pub id: FileId,
    /// Whether it is the program's own file.
    pub is_program: bool,
    /// Where it is mapped; empty if it is not, or not yet.
    pub mappings: Vec<Mapping>,
}

impl TargetFile {
    /// A file that is not mapped, by a path that the tracer and the target share.
    fn unmapped(path: PathBuf, id: FileId, names: Vec<String>) -> Self {
        Self { open_path: path.clone(), path, names, id, is_program: false, mappings: Vec::new() }
    }

    fn matches(&self, typed: &str) -> Option<NameMatch> {
        self.names.iter().filter_map(|name| match_name(name, typed)).min()
    }
}

impl Target {
    /// A running process.
    ///
    /// # Errors
    /// [`TargetError`]: no such process, no process of its own, not traceable.
    pub fn from_pid(pid: u32) -> Result<Self, TargetError> {
        let files = process::mapped_files(pid)?;
        Ok(Self { kind: Kind::Process(pid), files, root: process::folder(pid).join("root") })
    }

    /// A command that will be launched with this environment. A script stands for the program that runs it.
    ///
    /// # Errors
    /// [`TargetError`]: not found, no 64-bit ELF program.
    pub fn from_command(
        executable: &Path,
        environment: &[(std::ffi::OsString, std::ffi::OsString)],
    ) -> Result<Self, TargetError> {
        let environment = Environment::new(environment);
        let program = program_of(executable, &environment)?;
        Self::from_program(&program, &environment)
    }

    /// A program or a library to look into, with what it needs.
    ///
    /// # Errors
    /// [`TargetError::Elf`].
    pub fn from_file(path: &Path) -> Result<Self, TargetError> {
        Self::from_program(path, &Environment::current())
    }

    /// No target at all: libraries come from the loader's cache.
    #[must_use]
    pub fn from_system() -> Self {
        Self { kind: Kind::System(Loader::without_program()), files: Vec::new(), root: PathBuf::from("/") }
    }

    /// The process, if it is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self.kind {
            Kind::Process(pid) => Some(pid),
            Kind::Program(_) | Kind::System(_) => None,
        }
    }

    /// The program's own file; for a script, its interpreter.
    #[must_use]
    pub fn executable(&self) -> Option<&TargetFile> {
        self.files.iter().find(|file| file.is_program)
    }

    /// All files that are mapped executable, or will be when the program starts.
    #[must_use]
    pub fn files(&self) -> &[TargetFile] {
        &self.files
    }

    /// The target's root folder as the tracer reaches it.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How messages call it: `process 4242`, `/usr/bin/ls`.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.kind {
            Kind::Process(pid) => format!("process {pid}"),
            Kind::Program(_) => self.executable().map_or_else(String::new, |file| file.path.display().to_string()),
            Kind::System(_) => "the loader's cache".to_owned(),
        }
    }

    /// The mapped files that go by a name: those of exactly this file name, else those of this stem, else those with
    /// such a soname.
    #[must_use]
    pub fn files_named(&self, typed: &str) -> Vec<TargetFile> {
        for wanted in [NameMatch::Exact, NameMatch::Stem] {
            let matching = self.files.iter().filter(|file| file.matches(typed) == Some(wanted));
            let matching: Vec<TargetFile> = matching.cloned().collect();
            if !matching.is_empty() {
                return matching;
            }
        }
        if self.pid().is_none() {
            return Vec::new();
        }
        self.files.iter().filter(|file| process::has_soname(file, typed)).cloned().collect()
    }

    /// Libraries of this name that are not mapped but that the program could load; for a running process, whose loader's
    /// environment is not ours, those of the loader's cache, if it sees the same files.
    #[must_use]
    pub fn unloaded_named(&self, typed: &str) -> Vec<TargetFile> {
        let system;
        let loader = match &self.kind {
            Kind::Program(loader) | Kind::System(loader) => loader,
            Kind::Process(pid) if process::sees_our_files(*pid) => {
                system = Loader::without_program();
                &system
            }
            Kind::Process(_) => return Vec::new(),
        };
        let found = loader.find_unloaded(typed).into_iter();
        let files = found.map(|object| TargetFile::unmapped(object.path, object.id, object.names));
        let files: Vec<TargetFile> = files.collect();
        let exact = files.iter().filter(|file| file.matches(typed) == Some(NameMatch::Exact)).cloned();
        let exact: Vec<TargetFile> = exact.collect();
        if exact.is_empty() { files } else { exact }
    }

    /// The file at a path: in the target's view first, then in ours; mapped or not.
    #[must_use]
    pub fn file_at(&self, path: &Path) -> Option<TargetFile> {
        let theirs = if path.is_absolute() { root::find(&self.root, path) } else { None };
        let ours = path.canonicalize().ok().and_then(|path| FileId::of(&path).ok().map(|id| (path, id)));
        let ids = [&theirs, &ours].map(|found| found.as_ref().map(|&(_, id)| id));
        let mapped = ids.into_iter().flatten().find_map(|id| self.files.iter().find(|file| file.id == id));
        // A deleted file can only be found by the name that its mapping kept.
        let deleted = || self.files.iter().find(|file| file.path == path);
        if let Some(file) = mapped.or_else(deleted) {
            return Some(file.clone());
        }
        let names = || path.file_name().and_then(|name| name.to_str()).map(str::to_owned).into_iter().collect();
        match (theirs, ours) {
            (Some((open_path, id)), ours) if ours.as_ref().is_none_or(|&(_, our)| our != id) => {
                Some(TargetFile { open_path, ..TargetFile::unmapped(path.to_owned(), id, names()) })
            }
            // The same file by a plain path stays right when the process is gone.
            (_, ours) => ours.map(|(path, id)| TargetFile::unmapped(path, id, names())),
        }
    }

    /// Whether the program needs a library of this name that its loader will not find.
    #[must_use]
    pub fn lacks(&self, typed: &str) -> bool {
        let Kind::Program(loader) = &self.kind else {
            return false;
        };
        loader.missing().iter().any(|name| match_name(name, typed).is_some())
    }

    /// File names of libraries, for near matches: the mapped ones, then those of the loader's cache where they count.
    pub fn known_names(&self) -> impl Iterator<Item = &str> {
        let cached = match &self.kind {
            Kind::Process(_) => None,
            Kind::Program(loader) | Kind::System(loader) => Some(loader.cached_names()),
        };
        let mapped = self.files.iter().flat_map(|file| file.names.iter().map(String::as_str));
        mapped.chain(cached.into_iter().flatten())
    }

    fn from_program(program: &Path, environment: &Environment) -> Result<Self, TargetError> {
        let loader = command::load(program, environment)?;
        let file = |(index, object): (usize, &crate::loader::Object)| TargetFile {
            is_program: index == 0,
            ..TargetFile::unmapped(object.path.clone(), object.id, object.names.clone())
        };
        let files = loader.objects().iter().enumerate().map(file).collect();
        Ok(Self { kind: Kind::Program(loader), files, root: PathBuf::from("/") })
    }
}
