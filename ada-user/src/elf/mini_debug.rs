//! MiniDebugInfo: the function names that Fedora and its kin leave in stripped files, compressed in `.gnu_debugdata`.
//!
//! Invariant: what is unpacked is bounded, whatever the file says; it lies in memory that only this process has.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::num::NonZeroUsize;

use object::read::elf::SectionHeader;
use rustix::fs::{MemfdFlags, memfd_create};
use xz4rust::{XzDecoder, XzReader};

use super::Elf;

const SECTION: &[u8] = b".gnu_debugdata";
/// Chromium's symbol table has 200 MiB, and nobody packs that one.
const MAX_UNPACKED: u64 = 256 << 20;
/// Symbol tables shrink to a fifth or so; what shrinks more than this is made to fill memory.
const MAX_RATIO: u64 = 200;
/// The window that xz's highest preset uses.
const MAX_WINDOW: usize = 64 << 20;
const BUFFER: NonZeroUsize = NonZeroUsize::new(64 << 10).expect("not 0");

impl Elf {
    /// The small ELF file inside this one, which has the names of functions that are not exported; `None` if there is
    /// none, or if it is damaged, larger than 256 MiB, or packed tighter than 200 to 1.
    #[must_use]
    pub fn mini_debug(&self) -> Option<Elf> {
        let sections = self.sections()?;
        let (_, section) = sections.section_by_name(self.endian, SECTION)?;
        let packed = section.data(self.endian, &self.cache).ok()?;
        let inner = Elf::from_file(unpack(packed).ok()?, &self.path).ok()?;
        let same_build = match (self.build_id(), inner.build_id()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        (same_build && inner.machine == self.machine && inner.symtab().is_some()).then_some(inner)
    }
}

/// Unpacks into a file in memory.
fn unpack(packed: &[u8]) -> io::Result<File> {
    let limit = MAX_UNPACKED.min(MAX_RATIO.saturating_mul(packed.len() as u64));
    let decoder = XzDecoder::in_heap_with_alloc_dict_size(0, MAX_WINDOW);
    let unpacked = XzReader::new_with_buffer_size_and_decoder(Cursor::new(packed.to_vec()), BUFFER, decoder);
    let mut file = File::from(memfd_create(c"ada-mini-debug", MemfdFlags::CLOEXEC)?);
    let size = io::copy(&mut unpacked.take(limit.saturating_add(1)), &mut file)?;
    if size > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(file) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::elf::fixture::{compile, run, skip};

    const PROGRAM: &str = r#"
__attribute__((noinline)) static int hidden(int x) { __asm__ volatile(""); return x * 3; }
int main(int argc, char **argv) { return hidden(argc); }
"#;

    fn has_xz() -> bool {
        let found = Command::new("xz").arg("--version").output().is_ok();
        if !found {
            skip("xz");
        }
        found
    }

    /// Adds `packed` to a program as its mini debug data.
    fn embed(program: &Path, packed: &Path) {
        let section = format!(".gnu_debugdata={}", packed.display());
        run(Command::new("objcopy").arg("--add-section").arg(section).arg(program));
    }

    /// A stripped program with mini debug data, made as rpm's find-debuginfo makes them: (program, packed data).
    fn stripped_with_names(folder: &Path) -> (PathBuf, PathBuf) {
        let program = compile(folder, "program", PROGRAM, &["-Wl,--build-id"]);
        let debug = folder.join("mini");
        run(Command::new("objcopy").arg("--only-keep-debug").arg(&program).arg(&debug));
        let names = |arguments: &[&str]| -> BTreeSet<String> {
            let text = run(Command::new("nm").args(arguments).arg(&program));
            text.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
        };
        let exported = names(&["-D", "--format=posix", "--defined-only"]);
        let mut keep: Vec<String> =
            names(&["--format=posix", "--defined-only"]).difference(&exported).cloned().collect();
        keep.sort_unstable();
        let list = folder.join("keep");
        std::fs::write(&list, keep.join("\n")).unwrap();
        let keep = format!("--keep-symbols={}", list.display());
        run(Command::new("objcopy").args(["-S", "--remove-section", ".comment", &keep]).arg(&debug));
        run(Command::new("xz").arg(&debug));
        run(Command::new("strip").args(["--strip-all", "-R", ".comment"]).arg(&program));
        let packed = folder.join("mini.xz");
        embed(&program, &packed);
        (program, packed)
    }

    #[test]
    fn names_of_a_stripped_program() {
        if !has_xz() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (program, _) = stripped_with_names(folder.path());
        let elf = Elf::open(&program).unwrap();
        assert!(elf.symtab().is_none());
        let inner = elf.mini_debug().unwrap();
        assert_eq!(inner.path(), program);
        assert_ne!(inner.id(), elf.id());
        let table = inner.symtab().unwrap();
        let hidden = table.named("hidden").next().unwrap();
        assert!(hidden.is_function() && hidden.size > 0);
        // It is where the unwind table of the stripped program has a function.
        assert_eq!(elf.unwind_size(hidden.address), Some(hidden.size));
        assert!(inner.mini_debug().is_none());
    }

    #[test]
    fn what_fills_memory_is_refused() {
        if !has_xz() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let zeros = folder.path().join("zeros");
        File::create(&zeros).unwrap().set_len(32 << 20).unwrap();
        run(Command::new("xz").arg("--lzma2=preset=1,dict=64MiB").arg(&zeros));
        let packed = std::fs::read(folder.path().join("zeros.xz")).unwrap();
        assert!((packed.len() as u64) * MAX_RATIO < 32 << 20);
        assert_eq!(unpack(&packed).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn what_is_damaged_or_another_builds_is_not_used() {
        if !has_xz() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (_, packed) = stripped_with_names(folder.path());
        let other = compile(folder.path(), "other", &PROGRAM.replace('3', "5"), &["-s", "-Wl,--build-id"]);
        embed(&other, &packed);
        assert!(Elf::open(&other).unwrap().mini_debug().is_none());
        let whole = std::fs::read(&packed).unwrap();
        assert!(unpack(&whole).is_ok());
        for end in (0..whole.len()).step_by(7) {
            assert!(unpack(&whole[..end]).is_err(), "{end}");
        }
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        assert!(unpack(&changed).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = unpack(&[b"\xfd7zXZ\0".as_slice(), &bytes].concat());
        }
    }
}
