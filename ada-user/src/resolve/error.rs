//! Why a spec chooses nothing that can be probed: one sentence each, with what to do about it.
//!
//! Invariant: every variant names the spec's function or module as it was typed.

use std::path::PathBuf;

use crate::elf::{ElfError, SymbolFileError};

/// Why specs cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No mapped library of this name.
    #[error("{library} is not loaded in {target}{near}{elsewhere} (give its path to probe it once it is loaded)",
        near = list("; loaded and near: ", .near), elsewhere = list("; the function is defined in: ", .elsewhere))]
    NotLoaded {
        /// As typed.
        library: String,
        /// The target's label.
        target: String,
        /// File names of mapped libraries.
        near: Vec<String>,
        /// Specs of the same function in files that are loaded.
        elsewhere: Vec<String>,
    },
    /// Neither needed by the program nor in the loader's cache.
    #[error("{library} is neither needed by {target} nor known to the loader{near}{elsewhere} (give its path instead)",
        near = list("; near: ", .near), elsewhere = list("; the function is defined in: ", .elsewhere))]
    UnknownLibrary {
        /// As typed.
        library: String,
        /// The target's label.
        target: String,
        /// File names of libraries.
        near: Vec<String>,
        /// Specs of the same function in files that are loaded.
        elsewhere: Vec<String>,
    },
    /// Needed by the program, and not there.
    #[error("{target} needs {library}, but its loader will not find it: install it, or set LD_LIBRARY_PATH")]
    Missing {
        /// As typed.
        library: String,
        /// The target's label.
        target: String,
    },
    /// Several files of one name.
    #[error("{library} is ambiguous in {target}: give one of these instead: {}", .paths.join(", "))]
    Ambiguous {
        /// As typed.
        library: String,
        /// The target's label.
        target: String,
        /// Their paths.
        paths: Vec<String>,
    },
    /// `vdso`.
    #[error(
        "{library} is code of the kernel's and no file, which uprobes need: probe the C library's function \
        that calls it, such as libc:clock_gettime"
    )]
    Vdso {
        /// As typed.
        library: String,
    },
    /// `exe:` without a program.
    #[error("'{spec}' means the program's own file, but no program is given: add -p PID, -- COMMAND or a path")]
    NoProgram {
        /// The spec.
        spec: String,
    },
    /// No process, command or file at all.
    #[error("nothing is given to probe: add -p PID or -- COMMAND")]
    NoTarget,
    /// A pattern over files that none of them matches.
    #[error("no file of {target} matches '{pattern}': its files are in /proc/PID/maps, a program's in ldd")]
    NoFileMatches {
        /// As typed.
        pattern: String,
        /// The target's label.
        target: String,
    },
    /// A pattern that no function matches.
    #[error("'{spec}' matches no function of {target}: `ada-trace list` shows what a wider pattern would choose")]
    NothingMatches {
        /// The spec.
        spec: String,
        /// The targets' labels.
        target: String,
    },
    /// Everything that a spec chose is excluded.
    #[error("all that '{spec}' chooses is excluded: narrow --exclude, or use --no-default-excludes with --all")]
    AllExcluded {
        /// The spec.
        spec: String,
    },
    /// No probe can sit there.
    #[error(
        "the kernel accepts no probe on the instruction at '{function}' in {module}, or would corrupt the program by it: give an \
        offset behind it, as in +4"
    )]
    Refused {
        /// The symbol.
        function: String,
        /// Path of the module.
        module: String,
    },
    /// A part of a function, matched by a pattern.
    #[error(
        "'{function}' in {module} is a part of a function that the compiler put elsewhere: probe the function itself"
    )]
    Part {
        /// The symbol.
        function: String,
        /// Path of the module.
        module: String,
    },
    /// A path that leads nowhere.
    #[error("there is no file {path} in {target}'s view or in ours: check the path", path = path.display())]
    NoSuchFile {
        /// As typed.
        path: PathBuf,
        /// The target's label.
        target: String,
    },
    /// A module that cannot be read.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// A file of names that is of no use for a module.
    #[error(transparent)]
    Symbols(#[from] SymbolFileError),
    /// No symbol of this name.
    #[error("{module} has no function '{function}'{stripped}{near}{elsewhere}",
        stripped = if *.stripped { " (it is stripped of all names but the exported ones: install its debug symbols)" } else { "" },
        near = list("; near: ", .near), elsewhere = list("; it is defined in: ", .elsewhere))]
    NotFound {
        /// As typed.
        function: String,
        /// Path of the module.
        module: String,
        /// Whether its full symbol table is gone.
        stripped: bool,
        /// Names of its functions.
        near: Vec<String>,
        /// Specs of the same function in other files of the target.
        elsewhere: Vec<String>,
    },
    /// No names in it at all.
    #[error(
        "{module} is stripped, so '{function}' cannot be found by name: install its debug symbols, give its \
        address in the file as {spec_module}:+0xADDRESS, or record all that have no name with '{spec_module}:sub_*'"
    )]
    Stripped {
        /// As typed.
        function: String,
        /// Path of the module.
        module: String,
        /// The module as typed.
        spec_module: String,
    },
    /// The function is another file's.
    #[error("{module} only calls '{function}' and does not define it{definer}", definer = definer_hint(.elsewhere))]
    Imported {
        /// As typed.
        function: String,
        /// Path of the module.
        module: String,
        /// Specs of the function in the target's other files.
        elsewhere: Vec<String>,
    },
    /// A variable, or a symbol of no type.
    #[error(
        "'{function}' in {module} is {kind}: give the name of a function, or an address as {spec_module}:+0xADDRESS"
    )]
    NotAFunction {
        /// As typed.
        function: String,
        /// Path of the module.
        module: String,
        /// The module as typed.
        spec_module: String,
        /// What it is, as a clause.
        kind: &'static str,
    },
    /// The name exists, this version of it does not.
    #[error("'{function}' in {module} has no version {version}: choose from {}", .versions.join(", "))]
    NoSuchVersion {
        /// The name without its version.
        function: String,
        /// As typed.
        version: String,
        /// Path of the module.
        module: String,
        /// Those that exist, as `name@VERSION`.
        versions: Vec<String>,
    },
    /// An IFUNC without another function of its name.
    #[error("'{function}' in {module} is resolved at run time (IFUNC), and what to cannot be told{near}",
        near = ifunc_hint(.near))]
    Ifunc {
        /// As typed.
        function: String,
        /// Path of the module.
        module: String,
        /// Names of functions that may be its implementations.
        near: Vec<String>,
    },
    /// An address without code.
    #[error(
        "'{function}' lies at {address:#x} in {module}, outside of its executable segments: give an address \
        within its code (readelf -lW shows the segments)"
    )]
    NotExecutable {
        /// As typed.
        function: String,
        /// Path of the module.
        module: String,
        /// Virtual address.
        address: u64,
    },
    /// Code whose bytes do not decode.
    #[error(
        "there is no valid instruction at {address:#x} in {module}, where '{function}' lies: check the address \
        (objdump -d shows the code)"
    )]
    NoInstruction {
        /// As typed.
        function: String,
        /// Path of the module.
        module: String,
        /// Virtual address.
        address: u64,
    },
    /// A 5-byte nop inside the function.
    #[error(
        "at {offset:#x} in '{function}' of {module} lies a 5-byte nop, on which a probe can overwrite the function's data \
        (kernel 6.18): probe the instruction after it, +{:#x}", offset + 5
    )]
    InteriorNop {
        /// As typed.
        function: String,
        /// Path of the module.
        module: String,
        /// In bytes from the function's start.
        offset: u64,
    },
    /// The offset leaves the function.
    #[error("'{function}' in {module} is only {size} bytes long: give an offset smaller than {size:#x}")]
    OffsetBeyond {
        /// The function's name.
        function: String,
        /// Path of the module.
        module: String,
        /// Bytes.
        size: u64,
    },
    /// The offset lies inside an instruction.
    #[error(
        "there is no instruction at +{offset:#x} of '{function}' in {module}: the nearest start at +{before:#x} \
        and +{after:#x}"
    )]
    InsideInstruction {
        /// The function's name.
        function: String,
        /// Path of the module.
        module: String,
        /// As typed, in bytes from the function.
        offset: u64,
        /// Start of the instruction that it lies in.
        before: u64,
        /// Start of the next.
        after: u64,
    },
    /// Instructions cannot be followed up to the offset.
    #[error("'{function}' in {module} cannot be decoded beyond +{at:#x}: give an offset up to there")]
    Undecodable {
        /// The function's name.
        function: String,
        /// Path of the module.
        module: String,
        /// Bytes from the function.
        at: u64,
    },
}

impl ResolveError {
    /// Whether it only says that a file does not have the function: no matter where a pattern looks into many files.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. } | Self::Imported { .. } | Self::Stripped { .. } | Self::NotAFunction { .. }
        )
    }

    /// The reason in a few words, for a function that is skipped while others of its spec are probed.
    pub(super) fn clause(&self) -> String {
        match self {
            Self::Ifunc { .. } => "resolved at run time (IFUNC), and what to cannot be told".to_owned(),
            Self::NotExecutable { .. } => "it lies outside of the executable segments".to_owned(),
            Self::NoInstruction { .. } => "its first bytes are no valid instruction".to_owned(),
            Self::OffsetBeyond { size, .. } => format!("it is only {size} bytes long"),
            Self::InsideInstruction { .. } => "no instruction starts at the offset".to_owned(),
            Self::Refused { .. } => "the kernel accepts no probe on its first instruction".to_owned(),
            Self::Part { .. } => "a part of a function that the compiler put elsewhere".to_owned(),
            Self::Undecodable { at, .. } => format!("it cannot be decoded beyond +{at:#x}"),
            other => other.to_string(),
        }
    }
}

fn list(before: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{before}{}", names.join(", ")) }
}

fn definer_hint(specs: &[String]) -> String {
    match specs {
        [] => ", nor does any file that is loaded with it: name the library that does".to_owned(),
        specs => format!(": probe it where it is defined, {}", specs.join(", ")),
    }
}

fn ifunc_hint(near: &[String]) -> String {
    match near {
        [] => ": name the implementation that the machine uses (its debug symbols list them)".to_owned(),
        near => format!(": name the implementation that the machine uses, near are {}", near.join(", ")),
    }
}
