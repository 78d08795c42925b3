//! Separate debug files, for the names that `strip` took away.
//!
//! Invariant: a debug file is used only if its build-id, or without one its code sections' addresses and sizes, are
//! those of the stripped file: a name at a wrong address would probe the middle of another function.

use std::path::{Path, PathBuf};

use object::elf as raw;
use object::read::elf::SectionHeader;

use super::Elf;

/// Below a root folder, where distributions put debug files.
pub(super) const DEBUG_ROOT: &str = "usr/lib/debug";

/// Finds and opens the debug file of `elf`, whose path is `path` in the target; `root` is the target's root folder.
#[must_use]
pub fn open_debug_file(elf: &Elf, path: &Path, root: &Path) -> Option<Elf> {
    let mut roots = vec![root];
    if root != Path::new("/") {
        roots.push(Path::new("/"));
    }
    let candidates = roots.iter().flat_map(|root| candidates(elf, path, root));
    candidates.filter_map(|path| Elf::open(&path).ok()).find(|debug| belongs(elf, debug))
}

/// In gdb's order: by build-id, then by .gnu_debuglink beside the file, in .debug/, and below /usr/lib/debug.
fn candidates(elf: &Elf, path: &Path, root: &Path) -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    let debug_root = root.join(DEBUG_ROOT);
    if let Some((first, rest)) = elf.build_id().as_deref().and_then(|id| id.split_at_checked(2)) {
        candidates.push(debug_root.join(".build-id").join(first).join(format!("{rest}.debug")));
    }
    if let (Some(name), Some(folder)) = (debug_link(elf), path.parent()) {
        let folder = folder.strip_prefix("/").unwrap_or(folder);
        let beside = root.join(folder);
        candidates.extend([beside.join(&name), beside.join(".debug").join(&name), debug_root.join(folder).join(&name)]);
    }
    candidates
}

/// The file name in .gnu_debuglink.
fn debug_link(elf: &Elf) -> Option<String> {
    let sections = elf.sections()?;
    let (_, section) = sections.section_by_name(elf.endian, b".gnu_debuglink")?;
    let data = section.data(elf.endian, &elf.cache).ok()?;
    let name = data.split(|&byte| byte == 0).next()?;
    let name = std::str::from_utf8(name).ok()?;
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

fn belongs(elf: &Elf, debug: &Elf) -> bool {
    elf.id() != debug.id() && debug.symtab().is_some() && same_build(elf, debug)
}

/// Whether addresses in the one file are addresses in the other.
pub(super) fn same_build(elf: &Elf, other: &Elf) -> bool {
    match (elf.build_id(), other.build_id()) {
        (Some(ours), Some(theirs)) => ours == theirs,
        (None, None) => {
            let code = code_sections(elf);
            !code.is_empty() && code == code_sections(other)
        }
        _ => false,
    }
}

/// (address, size) of each section that holds code.
fn code_sections(elf: &Elf) -> Vec<(u64, u64)> {
    let Some(sections) = elf.sections() else {
        return Vec::new();
    };
    let code = sections.iter().filter(|section| section.sh_flags(elf.endian).contains(raw::SHF_EXECINSTR));
    code.map(|section| (section.sh_addr(elf.endian), section.sh_size(elf.endian))).collect()
}
