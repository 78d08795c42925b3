//! What a recording will probe, decided and validated before anything is attached: the only thing that flows from
//! the command line to a backend.
//!
//! Invariant: a `Plan` needs no further look-up; every path in it could be opened when it was made.

use std::path::PathBuf;

use ada_format::manifest::Signature;
use ada_format::wire::{Capture, Piece, piece};

use crate::backend::Refusal;
use crate::exits::Exit;
use crate::placement::Price;
use crate::types::Missing;

/// Index into [`Plan::modules`]; also the upper half of a function id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleId(pub u32);

/// `(module_id << 32) | symbol_index`, unique within a session; what the kernel hands back as the attach cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub u64);

impl FunctionId {
    /// The id of the `symbol_index`th chosen function of `module`.
    #[must_use]
    pub fn new(module: ModuleId, symbol_index: u32) -> Self {
        Self((u64::from(module.0) << 32) | u64::from(symbol_index))
    }

    /// The module that the function belongs to.
    #[must_use]
    pub fn module(self) -> ModuleId {
        ModuleId(u32::try_from(self.0 >> 32).unwrap_or(u32::MAX))
    }
}

/// An ELF file that holds probed functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Its id within the session.
    pub id: ModuleId,
    /// The path as the target sees it.
    pub path: PathBuf,
    /// The path by which the tracer reaches exactly that file (through /proc/PID/root or /proc/PID/map_files where
    /// the target's view differs).
    pub open_path: PathBuf,
    /// GNU build-id in lower-case hex, if the file has one.
    pub build_id: Option<String>,
    /// Whether Go's compiler made it: its functions run on stacks of their own.
    pub is_go: bool,
    /// Where it is loaded: (pid, the address that the file's virtual address 0 has there).
    pub bases: Vec<(u32, u64)>,
}

/// A function that will be probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Its id; `id.module()` indexes [`Plan::modules`].
    pub id: FunctionId,
    /// The name as in the symbol table, with a version only if it is an old one; `exe+0x1139`-like for a bare offset.
    pub name: String,
    /// `@@VERSION` or `@VERSION`, where the symbol has one.
    pub version: Option<String>,
    /// Other names of the same code.
    pub aliases: Vec<String>,
    /// The demangled name, where it differs.
    pub demangled: Option<String>,
    /// File offset of the function's first instruction, in bytes.
    pub offset: u64,
    /// Virtual address of the function in its file.
    pub address: u64,
    /// Size in bytes as the symbol table gives it; 0 = unknown.
    pub size: u64,
    /// File offset of the probe, in bytes.
    pub probe_offset: u64,
    /// How far the probe was moved from where it was asked for, in bytes: to a cheaper instruction that sees the same calls.
    pub moved: u64,
    /// Whether the probe sits on the jump of Go's stack check.
    pub stack_check: bool,
    /// The instruction there, as text.
    pub first_instruction: String,
    /// What a hit costs there.
    pub price: Price,
    /// What it would cost at the function's first instruction.
    pub entry_price: Price,
    /// How its returns are recorded.
    pub returns: Returns,
    /// Whether registers and stack are recorded with its calls and returns.
    pub detail: bool,
    /// The memory that is copied at its calls and returns, if any; only with `detail`.
    pub capture: Option<Box<Capture>>,
    /// What it takes and gives back, if that is known; only with `detail`.
    pub signature: Option<Box<Signature>>,
}

impl Function {
    /// File offset of the instruction that was asked for, whether the probe is there or has been moved.
    #[must_use]
    pub fn asked_offset(&self) -> u64 {
        self.probe_offset.wrapping_sub(self.moved)
    }
}

/// How the returns of a function are recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Returns {
    /// They are not; why, as a clause.
    NotRecorded(&'static str),
    /// By a return probe, which replaces the return address: cheap, but an exception or a stack switch that
    /// crosses the frame ends the target.
    #[default]
    Probe,
    /// By a probe on each instruction that leaves the function: changes nothing on the stack.
    Exits(Vec<Exit>),
}

impl Returns {
    /// Why returns of a function are not recorded that has none: its calls end when something else shows that they did.
    pub const NO_EXIT: &str = "neither a return nor a jump to another function was found in it";

    /// Whether they are recorded at all.
    #[must_use]
    pub fn are_recorded(&self) -> bool {
        !matches!(self, Self::NotRecorded(_))
    }
}

/// A function that a spec matched and that cannot be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name.
    pub symbol: String,
    /// Why not, as a clause ("the symbol has no code").
    pub why: String,
}

/// What became of one spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// The spec as it was typed.
    pub spec: String,
    /// The functions that it chose.
    pub functions: Vec<FunctionId>,
    /// Those it matched in vain.
    pub skipped: Vec<Skipped>,
    /// How many it matched that are excluded.
    pub excluded: usize,
    /// How many functions without a name there are in the program where the spec, a pattern, found but few others.
    pub nameless: usize,
}

impl Plan {
    /// Takes note that the kernel would not have a probe: without its entry a function is skipped by all specs.
    pub fn refuse(&mut self, refusal: &Refusal) {
        let Ok(index) = self.functions.binary_search_by_key(&refusal.function, |function| function.id) else { return };
        let Some(function) = self.functions.get_mut(index) else { return };
        if refusal.calls_recorded {
            function.returns = Returns::NotRecorded("the kernel refuses a probe on its exit");
            return;
        }
        let skipped = Skipped { symbol: function.name.clone(), why: refusal.why.clone() };
        self.functions.remove(index);
        for probe in self.probes.iter_mut().filter(|probe| probe.functions.contains(&refusal.function)) {
            probe.functions.retain(|id| *id != refusal.function);
            probe.skipped.push(skipped.clone());
        }
    }
}

/// Everything that will be probed. `modules[i].id == ModuleId(i)`; functions are sorted by id, one per site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The files.
    pub modules: Vec<Module>,
    /// The functions.
    pub functions: Vec<Function>,
    /// What each spec gave.
    pub probes: Vec<ProbeReport>,
    /// Files of names that belong to none of the modules.
    pub unused_symbols: Vec<PathBuf>,
    /// Functions with detail whose types were looked for in vain.
    pub untyped: Vec<Missing>,
}

impl Plan {
    /// Pieces of memory that are copied at a call or return of one of its functions: the most of any.
    #[must_use]
    pub fn capture_slots(&self) -> u32 {
        let last = |pieces: &[Piece]| pieces.iter().rposition(|piece| piece.kind != piece::NONE).map_or(0, |at| at + 1);
        let of = |capture: &Capture| last(&capture.call).max(last(&capture.ret));
        let captures = self.functions.iter().filter_map(|function| function.capture.as_deref());
        captures.map(of).max().map_or(0, |slots| slots as u32)
    }
}
