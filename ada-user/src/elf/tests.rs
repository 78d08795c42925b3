//! Tests of reading ELF files: against readelf, and on damaged files.

use std::path::Path;
use std::process::Command;

use super::fixture::{compile, run};
use super::*;

const SMALL: &str = r#"
#include <stdio.h>
__attribute__((noinline)) static int inner(int x) { return x * 3; }
int outer(int x) { if (x == 77) __builtin_trap(); return inner(x) + 1; }
extern void exit(int) __attribute__((noreturn, cold));
int main(int argc, char **argv) {
    int many[100];
    for (int i = 0; i < 100; i++) many[i] = outer(i + argc);
    if (argc > 5) { puts(argv[5]); exit(many[argc]); }
    puts(argv[0]);
    printf("%d\n", many[argc]);
    return 0;
}
"#;

/// Every read that resolving does, on whatever the file says.
fn read_all(path: &Path) {
    let Ok(elf) = Elf::open(path) else { return };
    let _ = (elf.dynamic(), elf.build_id(), elf.is_go(), elf.segments().len());
    let _ = open_debug_file(&elf, path, Path::new("/"));
    for table in [elf.symtab(), elf.dynsym()].into_iter().flatten() {
        for symbol in table.iter() {
            let _ = (
                elf.unwind_start(symbol.address),
                elf.unwind_size(symbol.address),
                elf.code(symbol.address, symbol.size),
            );
            let _ = elf.code_offset(symbol.address);
        }
        let _ = table.named("main").count();
    }
    let _ = (
        elf.mini_debug().is_some(),
        elf.slots().len(),
        elf.go_functions().map(|functions| functions.len()),
        elf.unload(0x7000_0000, &[]),
    );
    let mapping = Mapping { start: 0x7000_0000, end: 0x7100_0000, offset: 0x1000, executable: true };
    let _ = elf.load_bases(&[mapping], 4096);
}

#[test]
fn agrees_with_readelf() {
    let folder = tempfile::tempdir().unwrap();
    let path = compile(folder.path(), "small", SMALL, &["-Wl,--build-id"]);
    let elf = Elf::open(&path).unwrap();
    let notes = run(Command::new("readelf").arg("-n").arg(&path));
    let expected = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
    assert_eq!(elf.build_id().as_deref(), expected);

    let symbols = run(Command::new("readelf").arg("-sW").arg(&path));
    let functions = symbols.lines().filter(|line| line.contains(" FUNC ") && !line.contains(" UND "));
    let table = elf.symtab().unwrap();
    let mut count = 0;
    for line in functions {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let name = fields[7].split('@').next().unwrap();
        let found: Vec<Symbol<'_>> = table.named(name).filter(Symbol::is_function).collect();
        let address = u64::from_str_radix(fields[1], 16).unwrap();
        assert!(found.iter().any(|symbol| symbol.address == address && symbol.size.to_string() == fields[2]), "{line}");
        count += 1;
    }
    assert!(count >= 5, "{count}");
    assert_eq!(elf.dynamic().needed, ["libc.so.6"]);
    assert!(elf.dynsym().unwrap().named("printf").all(|symbol| !symbol.defined));
}

#[test]
fn what_is_no_elf_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "#!/bin/sh\n").unwrap();
    assert!(matches!(Elf::open(&text), Err(ElfError::NotElf { .. })));
    assert!(matches!(Elf::open(folder.path()), Err(ElfError::NotElf { .. })));
    assert!(matches!(Elf::open(Path::new("/dev/zero")), Err(ElfError::NotElf { .. })));
    assert!(matches!(Elf::open(Path::new("/nope")), Err(ElfError::Read { .. })));
    std::fs::write(&text, b"\x7fELF\x01\x01\x01").unwrap();
    assert!(matches!(Elf::open(&text), Err(ElfError::ThirtyTwoBit { .. })));
    std::fs::write(&text, b"\x7fELF\x02\x01\x01").unwrap();
    assert!(matches!(Elf::open(&text), Err(ElfError::Damaged { .. })));
}

#[test]
fn unwind_table_knows_functions_from_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = compile(folder.path(), "small", SMALL, &["-O2"]);
    let elf = Elf::open(&path).unwrap();
    let table = elf.symtab().unwrap();
    let start = |name: &str| elf.unwind_start(table.named(name).next().unwrap().address);
    assert_eq!(start("outer"), UnwindStart::Function);
    assert_eq!(start("main"), UnwindStart::Function);
    assert_eq!(start("main.cold"), UnwindStart::Part);
    assert_eq!(elf.unwind_start(elf.entry() + 1), UnwindStart::Unknown);
    for name in ["outer", "main", "main.cold"] {
        let symbol = table.named(name).next().unwrap();
        assert_eq!(elf.unwind_size(symbol.address), Some(symbol.size), "{name}");
    }
    assert_eq!(elf.unwind_size(elf.entry() + 1), None);
}

#[test]
fn bases_take_pages_into_account() {
    let folder = tempfile::tempdir().unwrap();
    let path = compile(folder.path(), "small", SMALL, &[]);
    let elf = Elf::open(&path).unwrap();
    let text = *elf.segments().iter().find(|segment| segment.executable).unwrap();
    let page = |value: u64| value & !0xfff;
    let start = 0x5555_5555_0000 + page(text.address);
    let mapping = |start| Mapping { start, end: start + 0x1000, offset: page(text.offset), executable: true };
    assert_eq!(elf.load_bases(&[mapping(start)], 4096), [0x5555_5555_0000]);
    assert_eq!(elf.load_bases(&[mapping(start), mapping(start + 0x10_0000)], 4096).len(), 2);
    assert_eq!(elf.load_bases(&[Mapping { executable: false, ..mapping(start) }], 4096), [0; 0]);
}

#[test]
fn cut_and_changed_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = compile(folder.path(), "small", SMALL, &["-Wl,--build-id", "-s"]);
    let whole = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged");
    for end in (0..whole.len()).step_by(97) {
        std::fs::write(&damaged, &whole[..end]).unwrap();
        read_all(&damaged);
    }
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 1).unwrap()
    };
    for round in 0..600 {
        let mut bytes = whole.clone();
        for _ in 0..=round % 8 {
            // Headers and tables get most of the changes.
            let area = if next() % 2 == 0 { 0x400.min(bytes.len()) } else { bytes.len() };
            let at = next() % area;
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff, next().to_le_bytes()[0]][next() % 6];
        }
        std::fs::write(&damaged, &bytes).unwrap();
        read_all(&damaged);
    }
}
