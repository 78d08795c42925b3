//! Tests against nm and stripped programs, and on text that is none.

use std::collections::BTreeSet;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::elf::fixture::{compile, run};

const PROGRAM: &str = r#"
#include <stdio.h>
int counter; static int b = 4;
__attribute__((noinline)) static int hidden(int x) { __asm__ volatile(""); return x * 3; }
__attribute__((weak)) int soft(int x) { return hidden(x) + b; }
static void *pick(void) { return hidden; }
int chosen(int) __attribute__((ifunc("pick")));
int main(int argc, char **argv) { puts(argv[0]); return soft(argc) + chosen(argc) + counter; }
"#;

/// (name, address, size) of what a file of names has.
type Functions = BTreeSet<(String, u64, u64)>;

fn functions(file: &SymbolFile) -> Functions {
    file.functions().map(|f| (f.name.to_owned(), f.address, f.size)).collect()
}

fn written(folder: &Path, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join("names.txt");
    std::fs::write(&path, text).unwrap();
    path
}

/// What opening a text gives.
fn open(text: impl AsRef<[u8]>) -> Result<SymbolFile, SymbolFileError> {
    let folder = tempfile::tempdir().unwrap();
    SymbolFile::open(&written(folder.path(), text))
}

#[test]
fn names_of_the_same_build() {
    for flags in [["-Wl,--build-id"], ["-Wl,--build-id=none"]] {
        let folder = tempfile::tempdir().unwrap();
        let whole = compile(folder.path(), "program", PROGRAM, &flags);
        let stripped = folder.path().join("stripped");
        run(Command::new("strip").arg("-o").arg(&stripped).arg(&whole));
        let elf = Elf::open(&stripped).unwrap();

        let by_elf = SymbolFile::open(&whole).unwrap();
        by_elf.check(&elf).unwrap();
        by_elf.check(&Elf::open(&whole).unwrap()).unwrap();
        let names: Vec<NamedFunction<'_>> = by_elf.functions().collect();
        assert!(names.iter().any(|f| f.name == "hidden" && elf.unwind_size(f.address) == Some(f.size)));
        assert!(names.iter().any(|f| f.name == "chosen" && f.ifunc));
        assert!(names.iter().all(|f| f.name != "counter" && f.name != "puts"));

        // nm also has functions without a type or a size, of the start code.
        let sized = run(Command::new("nm").arg("-S").arg(&whole));
        let by_nm = SymbolFile::open(&written(folder.path(), &sized)).unwrap();
        by_nm.check(&elf).unwrap();
        assert!(functions(&by_nm).is_superset(&functions(&by_elf)));
        let is_code = |f: &NamedFunction<'_>| elf.code_offset(f.address).is_some() || f.name == "data_start";
        assert!(by_nm.functions().all(|f| is_code(&f)), "{by_nm:?}");
        assert!(by_nm.functions().any(|f| f.name == "chosen" && f.ifunc));

        let plain = run(Command::new("nm").arg(&whole));
        let plain = SymbolFile::open(&written(folder.path(), &plain)).unwrap();
        let without_sizes = |all: Functions| all.into_iter().map(|(name, at, _)| (name, at)).collect::<BTreeSet<_>>();
        assert_eq!(without_sizes(functions(&plain)), without_sizes(functions(&by_nm)));

        let error = SymbolFile::open(&stripped).unwrap_err();
        assert!(matches!(error, SymbolFileError::NoTable { .. }), "{error}");
        let other = compile(folder.path(), "other", &PROGRAM.replace("* 3", "* 3 + counter * 5"), &flags);
        let error = SymbolFile::open(&other).unwrap().check(&elf).unwrap_err();
        assert!(matches!(error, SymbolFileError::OtherBuild { .. }), "{error}");
    }
}

#[test]
fn perf_maps() {
    let file = open("1000 20 work\n1020 b LazyCompile:~f /a b.js:1\n0x1040 0x8 g\n\n").unwrap();
    let expected = [("work", 0x1000, 0x20), ("LazyCompile:~f /a b.js:1", 0x1020, 11), ("g", 0x1040, 8)];
    assert_eq!(functions(&file), expected.map(|(name, at, size)| (name.to_owned(), at, size)).into());
}

#[test]
fn nm_with_readable_names_versions_and_imports() {
    let text = "0000000000001000 0000000000000010 T std::vector<int, A<int> >::f(int) const\r\n\
                0000000000001010 T malloc@@GLIBC_2.2.5\n\
                0000000000004010 b counter\n0000000000004018 0000000000000004 D value\n\
                \x20                U puts\n                 w __cxa_finalize\n";
    let expected = [("std::vector<int, A<int> >::f(int) const", 0x1000, 16), ("malloc", 0x1010, 0)];
    let file = open(text).unwrap();
    assert_eq!(functions(&file), expected.map(|(name, at, size)| (name.to_owned(), at, size)).into());
}

#[test]
fn errors_name_file_and_line() {
    let sentences = [
        ("1000 20 work\nrubbish\n", "names.txt:2: it does not begin with an address: "),
        ("1000 T work\n1000 20\n", "names.txt:2: it has no name: "),
        ("1000 T\n", "names.txt:1: it has no name: "),
        ("1000\n", "names.txt:1: its address is followed by neither a size nor a type: "),
        ("1000 work\n", "names.txt:1: its address is followed by neither a size nor a type: "),
        ("10000000000000000 20 work\n", "names.txt:1: it does not begin with an address: "),
        ("+1000 20 work\n", "names.txt:1: it does not begin with an address: "),
        ("", "names.txt names no function: "),
        ("0000000000004010 B counter\n", "names.txt names no function: "),
    ];
    for (text, expected) in sentences {
        let error = open(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
        assert!(!error.contains('\n') && !error.ends_with('.'), "{error}");
    }
    let error = open(b"1000 20 \xff\n").unwrap_err().to_string();
    assert!(error.contains("names.txt:1: it is no UTF-8 text: "), "{error}");
    let error = SymbolFile::open(Path::new("/nope")).unwrap_err();
    assert!(matches!(error, SymbolFileError::Read { .. }), "{error}");
    let error = SymbolFile::open(Path::new("/")).unwrap_err();
    assert!(matches!(error, SymbolFileError::Read { .. }), "{error}");
    assert!(matches!(open(b"\x7fELF\x01").unwrap_err(), SymbolFileError::Elf(_)));
}

#[test]
fn addresses_of_a_process_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let elf = Elf::open(&compile(folder.path(), "program", PROGRAM, &[])).unwrap();
    let file = open("7f0011223344 20 work\n").unwrap();
    let error = file.check(&elf).unwrap_err();
    assert!(matches!(error, SymbolFileError::NoCode { .. }), "{error}");
}

proptest! {
    #[test]
    fn any_line(line: String) {
        let _ = text::parse(&line);
    }

    #[test]
    fn whatever_nm_prints(address in 0_u64..1 << 56, size in 0_u64..1 << 48, kind in "[tTwWiu]", name in "[a-zA-Z_][a-zA-Z0-9_<>: ]{0,20}[a-z]") {
        for line in [format!("{address:016x} {size:016x} {kind} {name}"), format!("{address:016x} {kind} {name}")] {
            let line = text::parse(&line).unwrap().unwrap();
            prop_assert_eq!((line.function().name, line.address), (name.as_str(), address));
        }
        let map = format!("{address:x} {size:x} {name}");
        let line = text::parse(&map).unwrap().unwrap();
        // A name that begins like nm's type and name is taken for these.
        let ambiguous = name.split_once(' ').is_some_and(|(first, _)| ["t", "T", "w", "W", "i", "u"].contains(&first));
        prop_assert!(line.function().name == name || ambiguous, "{map}");
    }
}
