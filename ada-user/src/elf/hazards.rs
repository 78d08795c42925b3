//! Signs of code that a return probe would harm: exceptions and panics, stacks that are switched, stacks that move.
//!
//! Invariant: a file without these signs may still be harmed through code of another file that it calls back; a file with
//! them is only treated with more care than it may need.

use super::{Elf, SymbolTable};

/// What files define or import whose functions exceptions or panics may pass.
const UNWINDING: [&str; 5] =
    ["__gxx_personality_v0", "rust_eh_personality", "__cxa_throw", "_Unwind_RaiseException", "_Unwind_Resume"];
/// Functions by which a program switches stacks. The C library defines one and calls none.
const SWITCHES: [&str; 3] = ["swapcontext", "jump_fcontext", "ontop_fcontext"];

impl Elf {
    /// Whether exceptions or panics may pass through its functions: it was compiled by a language that has them.
    #[must_use]
    pub fn unwinds(&self) -> bool {
        if UNWINDING.iter().any(|sign| self.tables().any(|table| table.named(sign).next().is_some())) {
            return true;
        }
        // Stripped of the names that would tell, as when the C++ library is linked in: the exception tables are still
        // there.
        self.symtab().is_none() && self.has_section(b".gcc_except_table")
    }

    /// Whether it switches stacks (coroutines).
    #[must_use]
    pub fn switches_stacks(&self) -> bool {
        let is_used = |name: &str| {
            let mut symbols = self.tables().flat_map(|table| table.named(name).collect::<Vec<_>>());
            symbols.any(|symbol| !symbol.defined || name.ends_with("fcontext"))
        };
        SWITCHES.into_iter().any(is_used)
    }

    /// Whether it is (a part of) the C library.
    #[must_use]
    pub fn is_c_library(&self) -> bool {
        let soname = self.dynamic().soname.unwrap_or_default();
        ["libc.", "libpthread.", "ld-linux", "ld-musl"].iter().any(|stem| soname.starts_with(stem))
    }

    fn tables(&self) -> impl Iterator<Item = SymbolTable<'_>> {
        self.symtab().into_iter().chain(self.dynsym())
    }

    pub(super) fn has_section(&self, name: &[u8]) -> bool {
        self.sections().is_some_and(|sections| sections.section_by_name(self.endian, name).is_some())
    }
}
