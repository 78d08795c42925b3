//! The functions of a stripped file that have no name: those that its unwind table knows. They are called by their address in
//! the file, `sub_1a2b0`, as disassemblers do.
//!
//! Invariant: only what starts as a function that is called does; parts of functions and stubs of the linker are none.

use super::catalogue::{Catalogue, Entry};
use crate::elf::{Elf, UnwindStart};
use crate::pattern::Pattern;

/// What stands before the address.
const PREFIX: &str = "sub_";

/// `jmp *disp(%rip)`, as the linker's stubs begin; with a prefix `bnd`; and `endbr64`, which may stand before.
const STUB: [&[u8]; 2] = [&[0xff, 0x25], &[0xf2, 0xff, 0x25]];
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
const STUB_HEAD: u64 = 8;

/// The functions that lie in none of `named`, by address.
pub(super) fn functions(elf: &Elf, named: &Catalogue) -> Vec<Entry> {
    let starts = elf.unwind_starts().filter(|address| {
        let is_function = elf.unwind_start(*address) == UnwindStart::Function;
        is_function && named.containing(*address).is_none() && !is_stub(elf, *address)
    });
    starts.map(|address| entry(elf, address)).collect()
}

/// Whether a pattern means such functions: it says so itself.
pub(super) fn are_meant_by(pattern: &Pattern) -> bool {
    pattern.text().trim_start_matches(['/', '^']).starts_with(PREFIX)
}

/// Whether it may be such a name; `sub_add` is one, too.
pub(super) fn is_name(name: &str) -> bool {
    let address = name.strip_prefix(PREFIX);
    address.is_some_and(|address| !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn entry(elf: &Elf, address: u64) -> Entry {
    let name = format!("{PREFIX}{address:x}");
    Entry { nameless: true, ..Entry::named(address, elf.unwind_size(address).unwrap_or(0), &name, false) }
}

fn is_stub(elf: &Elf, address: u64) -> bool {
    let head = elf.code(address, STUB_HEAD).unwrap_or_default();
    let head = head.strip_prefix(&ENDBR64).unwrap_or(head);
    STUB.iter().any(|stub| head.starts_with(stub))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        for (name, is) in [("sub_1a2b0", true), ("sub_", false), ("sub_total", false), ("subs", false)] {
            assert_eq!(is_name(name), is, "{name}");
        }
        let glob = |text: &str| Pattern::glob(text).expect("a glob");
        assert!(are_meant_by(&glob("sub_*")) && !are_meant_by(&glob("*")) && !are_meant_by(&glob("s*")));
    }
}
