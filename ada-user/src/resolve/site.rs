//! Where in a function a probe goes, and whether its return can be recorded from there.
//!
//! Invariant: a site is the start of an instruction in an executable segment.

use std::path::Path;

use super::demangle::demangle;
use super::error::ResolveError;
use super::functions::{Code, Found};
use super::{PlacementPolicy, ResolveOptions};
use crate::disasm::{self, Boundary, MAX_INSTRUCTION};
use crate::elf::{Machine, UnwindStart};
use crate::go;
use crate::placement::{self, Kernel, Needs, Placement, Placer, Price};
use crate::plan::{Function, FunctionId, Returns};
use crate::spec::{FunctionSpec, ModuleSpec, ProbeSpec};

/// Functions that return more than once or save their return address for later: a return probe's replacement of it
/// would be used when the kernel no longer knows of it, which kills the target. And the signal trampoline, which is
/// returned to. Without leading underscores.
const KEEP_RETURN_ADDRESS: [&str; 6] =
    ["setjmp", "sigsetjmp", "sigsetjmp_cancel", "getcontext", "swapcontext", "restore_rt"];

/// Functions that look at their return address to tell who calls them: a return probe's in its place would mislead them.
/// Without leading underscores.
const READ_RETURN_ADDRESS: [&str; 9] =
    ["dlopen", "dlmopen", "dlsym", "dlvsym", "libc_dlopen_mode", "libc_dlsym", "mcount", "fentry__", "gmon_start__"];

/// Bytes at a function's start that a site is looked for in.
const MAX_PLACED: u64 = 512;

/// Bytes at a Go function's start that its stack check is looked for in.
const MAX_CHECK: u64 = 64;

/// What is known of how the code at a site is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is called: the return address lies on top of the stack, and may be replaced.
    Called,
    /// It is called as far as can be told, but its return address had better be left alone.
    CalledAsIs,
    /// By a jump, or more than once, or in the middle: there is no return to record.
    Otherwise,
}

/// A place for a probe.
#[derive(Debug)]
pub(super) struct Site {
    name: String,
    version: Option<String>,
    aliases: Vec<String>,
    demangled: Option<String>,
    /// Virtual address, file offset and size of the function.
    pub(super) address: u64,
    offset: u64,
    pub(super) size: u64,
    /// File offset of the probe.
    pub(super) probe_offset: u64,
    /// How far that is from where it was asked for, and what it costs.
    placement: Placement,
    /// Whether it is the jump of Go's stack check.
    stack_check: bool,
    /// Whether it has detail.
    detail: bool,
    first_instruction: String,
    /// How the code there is entered.
    pub(super) entered: Entered,
}

impl Site {
    /// File offset of the instruction that was asked for, whether the probe is there or has been moved.
    pub(super) fn asked_offset(&self) -> u64 {
        self.probe_offset.wrapping_sub(self.placement.offset)
    }

    /// Adds its names to those of the function that was found there before.
    pub(super) fn add_names_to(&self, function: &mut Function) {
        let names = std::iter::once(&self.name).chain(&self.aliases);
        let new: Vec<String> =
            names.filter(|name| **name != function.name && !function.aliases.contains(name)).cloned().collect();
        function.aliases.extend(new);
    }

    pub(super) fn into_function(self, id: FunctionId, returns: Returns) -> Function {
        Function {
            id,
            name: self.name,
            version: self.version,
            aliases: self.aliases,
            demangled: self.demangled,
            offset: self.offset,
            address: self.address,
            size: self.size,
            probe_offset: self.probe_offset,
            moved: self.placement.offset,
            stack_check: self.stack_check,
            first_instruction: self.first_instruction,
            price: self.placement.price,
            entry_price: self.placement.first_price,
            returns,
            detail: self.detail,
            capture: None,
            signature: None,
        }
    }
}

/// Finds the sites of one file.
pub(super) struct Sites<'a> {
    code: &'a Code,
    /// The file's path, for messages.
    module: &'a str,
    spec: &'a ModuleSpec,
    /// Whether nobody has named the functions.
    by_pattern: bool,
    kernel: Kernel,
    /// For functions without detail, and with: their probe must find the argument registers as the caller left them.
    placers: Option<[Placer<'a>; 2]>,
}

impl<'a> Sites<'a> {
    /// For a file that a spec means, with probes where `options` want them.
    pub(super) fn new(code: &'a Code, module: &'a str, spec: &'a ProbeSpec, options: &ResolveOptions) -> Self {
        let kernel = Kernel::of_release(&rustix::system::uname().release().to_string_lossy());
        let moves = options.placement == PlacementPolicy::Cheapest && code.elf.machine() == Machine::X86_64;
        let placer = |arguments| Placer::new(code.targets(), Needs { arguments, faults: false }, kernel);
        let placers = moves.then(|| [false, true].map(placer));
        let by_pattern = matches!(spec.function, FunctionSpec::Pattern(_));
        Self { code, module, spec: &spec.module, by_pattern, kernel, placers }
    }

    /// The site `offset` bytes into a function.
    pub(super) fn in_function(&mut self, found: &Found, offset: u64, detail: bool) -> Result<Site, ResolveError> {
        let code = self.code;
        let asked = found.address.wrapping_add(offset);
        if offset > 0 {
            self.check_offset(found, offset)?;
        }
        let (start, _) = self.instruction_at(&found.name, asked)?;
        let size = if found.size > 0 { found.size } else { code.elf.unwind_size(found.address).unwrap_or(0) };
        let check = if offset == 0 { stack_check(code, found) } else { None };
        let placement = match check {
            Some(offset) => Placement { offset, ..self.placement(asked, size, false, detail) },
            None => self.placement(asked, size, offset == 0, detail),
        };
        let address = asked.wrapping_add(placement.offset);
        let (probe_offset, first_instruction) = self.instruction_at(&found.name, address)?;
        let placement =
            if check.is_some() { Placement { price: self.price(address, false), ..placement } } else { placement };
        self.check_price(&found.name, placement.price)?;
        Ok(Site {
            name: found.name.clone(),
            version: found.version.clone(),
            aliases: found.aliases.clone(),
            demangled: demangle(&found.name),
            address: found.address,
            offset: code.elf.code_offset(found.address).unwrap_or(start),
            size,
            probe_offset,
            placement,
            stack_check: check.is_some(),
            detail,
            first_instruction,
            entered: if offset == 0 { entered(code, found, self.by_pattern) } else { Entered::Otherwise },
        })
    }

    /// The site at a virtual address: a function's start if one is known there.
    pub(super) fn at_address(&mut self, address: u64, detail: bool) -> Result<Site, ResolveError> {
        let name = format!("{}+{address:#x}", label(self.spec));
        // First of all, so that an address without code is not said to lie in a function.
        let (probe_offset, first_instruction) = self.instruction_at(&name, address)?;
        match self.code.at(address) {
            Some(found) if found.address == address => return self.in_function(&found, 0, detail),
            Some(found) => self.check_offset(&found, address - found.address)?,
            None => {}
        }
        let elf = &self.code.elf;
        let called = address != elf.entry() && elf.unwind_start(address) == UnwindStart::Function;
        let size = elf.unwind_size(address).unwrap_or(0);
        let price = self.price(address, called);
        self.check_price(&name, price)?;
        Ok(Site {
            name,
            version: None,
            aliases: Vec::new(),
            demangled: None,
            address,
            offset: probe_offset,
            size,
            probe_offset,
            placement: Placement::at_entry(price),
            stack_check: false,
            detail,
            first_instruction,
            entered: if called { Entered::Called } else { Entered::Otherwise },
        })
    }

    /// Where the probe of a function goes; at `address` itself if it may not move.
    fn placement(&mut self, address: u64, size: u64, may_move: bool, detail: bool) -> Placement {
        let at_entry = Placement::at_entry(self.price(address, may_move));
        match self.placers.as_mut().filter(|_| may_move) {
            Some([plain, with_detail]) => {
                let placer = if detail { with_detail } else { plain };
                placer.place(address, size, self.code.elf.code(address, MAX_PLACED).unwrap_or_default())
            }
            None => at_entry,
        }
    }

    /// Where the kernel takes no probe, or would change what the program does with it, there is none.
    fn check_price(&self, function: &str, price: Price) -> Result<(), ResolveError> {
        let (function, module) = (function.to_owned(), self.module.to_owned());
        if price == Price::Refused { Err(ResolveError::Refused { function, module }) } else { Ok(()) }
    }

    fn price(&self, address: u64, at_entry: bool) -> Price {
        if self.code.elf.machine() != Machine::X86_64 {
            return Price::Unknown;
        }
        let code = self.code.elf.code(address, MAX_INSTRUCTION).unwrap_or_default();
        placement::price_of(address, code, at_entry, self.kernel)
    }

    fn instruction_at(&self, function: &str, address: u64) -> Result<(u64, String), ResolveError> {
        let (function, module) = (function.to_owned(), self.module.to_owned());
        let elf = &self.code.elf;
        let Some(offset) = elf.code_offset(address) else {
            return Err(ResolveError::NotExecutable { function, module, address });
        };
        let bytes = elf.code(address, MAX_INSTRUCTION).unwrap_or_default();
        match disasm::first_instruction(elf.machine(), address, bytes) {
            Some(text) => Ok((offset, text)),
            None => Err(ResolveError::NoInstruction { function, module, address }),
        }
    }

    /// The offset must be that of an instruction of the function.
    fn check_offset(&self, found: &Found, offset: u64) -> Result<(), ResolveError> {
        let (function, module) = (found.name.clone(), self.module.to_owned());
        if found.size > 0 && offset >= found.size {
            return Err(ResolveError::OffsetBeyond { function, module, size: found.size });
        }
        let elf = &self.code.elf;
        let bytes = elf.code(found.address, offset.saturating_add(MAX_INSTRUCTION)).unwrap_or_default();
        match disasm::boundary(elf.machine(), found.address, bytes, offset) {
            Boundary::Start if offset > 0 && is_five_byte_nop(self.code, found.address.wrapping_add(offset)) => {
                Err(ResolveError::InteriorNop { function, module, offset })
            }
            Boundary::Start => Ok(()),
            Boundary::Inside { before, after } => {
                Err(ResolveError::InsideInstruction { function, module, offset, before, after })
            }
            Boundary::Undecodable { at } => Err(ResolveError::Undecodable { function, module, at }),
        }
    }
}

/// Where Go's function checks its stack: at its entry, a call that first needs a larger one would count twice.
fn stack_check(code: &Code, found: &Found) -> Option<u64> {
    if !code.is_go() || code.elf.machine() != Machine::X86_64 {
        return None;
    }
    go::stack_check(found.address, code.elf.code(found.address, found.size.min(MAX_CHECK))?)
}

fn label(spec: &ModuleSpec) -> String {
    match spec {
        ModuleSpec::Path(path) => {
            path.file_name().unwrap_or(Path::new("file").as_os_str()).to_string_lossy().into_owned()
        }
        other => other.to_string(),
    }
}

/// Whether the return address lies on top of the stack at the function's start. A program's entry finds argc there, and
/// what the compiler split off for rare cases (`.cold`) some variable.
fn entered(code: &Code, found: &Found, by_pattern: bool) -> Entered {
    let named = |list: &[&str]| {
        let mut names = std::iter::once(&found.name).chain(&found.aliases);
        names.any(|name| list.contains(&name.trim_start_matches('_')))
    };
    if found.address == code.elf.entry() || is_part(&found.name) || named(&KEEP_RETURN_ADDRESS) {
        return Entered::Otherwise;
    }
    // In a static program or a C library one of them may be setjmp.
    let unknown = found.nameless && code.elf.dynamic().needed.is_empty();
    match code.elf.unwind_start(found.address) {
        UnwindStart::Part => Entered::Otherwise,
        UnwindStart::Function if !unknown && !named(&READ_RETURN_ADDRESS) => Entered::Called,
        // Assembly that its author wrote no unwind table for, in a file that has one: whoever names it knows it.
        UnwindStart::Unknown if !(named(&READ_RETURN_ADDRESS) || by_pattern && code.elf.has_unwind_table()) => {
            Entered::Called
        }
        UnwindStart::Function | UnwindStart::Unknown => Entered::CalledAsIs,
    }
}

/// Whether a symbol names what the compiler split off a function for rare cases.
pub(super) fn is_part(name: &str) -> bool {
    name.ends_with(".cold") || name.contains(".cold.")
}

/// Kernel 6.18 turns a probe on `nopl 0x0(%rax,%rax,1)` into a call, which pushes onto the target's stack: fine at a
/// function's entry, but elsewhere the function may keep data right there (linux-trace-kernel, May 2026).
fn is_five_byte_nop(code: &Code, address: u64) -> bool {
    code.elf.machine() == Machine::X86_64 && code.elf.code(address, 5) == Some(&[0x0f, 0x1f, 0x44, 0x00, 0x00])
}
