//! The parts of a manifest that say what was traced: processes, modules, functions and the probes that chose them.
//!
//! Invariant: every number that a later look-up needs is here; nothing refers to a file of the traced machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Signature;

/// A traced process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Process id, as the tracer saw it.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Path of its program.
    pub executable: String,
    /// Its command line.
    pub args: Vec<String>,
    /// When it started, or was attached to.
    pub start_ns: u64,
    /// When it ended, if it did.
    pub end_ns: Option<u64>,
    /// Its exit status, if it exited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that killed it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// What was asked for, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// As typed.
    pub spec: String,
    /// Functions it matched.
    pub functions: u64,
    /// What it matched but could not be traced.
    pub skipped: Vec<SkippedSymbol>,
}

/// A symbol without a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SkippedSymbol {
    /// Its name.
    pub symbol: String,
    /// The reason, for people.
    pub why: String,
}

/// A file that traced functions are in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Module {
    /// The upper half of its functions' ids.
    pub module_id: u32,
    /// Its path, as the traced process sees it.
    pub path: String,
    /// In hexadecimal, if it has one.
    pub build_id: Option<String>,
    /// Where each process, by pid, has it: what to add to an ELF address.
    pub bases: BTreeMap<u32, u64>,
}

/// How the ends of a function's calls are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Returns {
    /// By a return probe.
    Probe,
    /// By probes at its exits.
    Exits,
    /// They are not: its calls have no return events.
    None,
    /// The manifest does not say, or says something that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Returns {
    // By reference, for serde.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

/// A traced function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Function {
    /// `(module_id << 32) | symbol_index`.
    pub function_id: u64,
    /// As in the symbol table.
    pub name: String,
    /// For people; none if the name is not mangled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demangled: Option<String>,
    /// Other names of the same address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// ELF address of its first instruction.
    pub offset: u64,
    /// Its length in bytes, 0 if unknown.
    pub size: u64,
    /// Offset in the module's file at which the probe sits.
    pub probe_offset: u64,
    /// Whether and how its returns are recorded.
    #[serde(skip_serializing_if = "Returns::is_unknown")]
    pub returns: Returns,
    /// What it takes and gives back, if that was asked for and is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Box<Signature>>,
}
