//! Tests against Go's own `nm`, on tables of every layout, and on damaged ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::elf::fixture::{compile, run, skip};

const PROGRAM: &str = r#"
package main
import "fmt"
type T struct{ n int }
//go:noinline
func (t *T) add(k int) int { return t.n + k }
//go:noinline
func twice[N int | float64](x N) N { return x * 2 }
//go:noinline
func work(n int) int {
	var b [256]byte
	b[n%256] = 1
	if n == 0 { return int(b[0]) }
	return work(n-1) + int(b[n%256])
}
func main() {
	t := &T{1}
	f := func() int { return t.add(3) }
	fmt.Println(twice(2), twice(2.5), f(), work(10))
}
"#;

/// A program made by Go, or `None` where there is no Go.
struct Built {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Built {
    fn new(arguments: &[&str]) -> Option<Self> {
        if Command::new("go").arg("version").output().is_err() {
            skip("go");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("main.go"), PROGRAM).unwrap();
        let path = folder.path().join("program");
        let mut go = Command::new("go");
        // Its cache is of the user who runs it; root may have no home.
        let home = std::env::var_os("HOME").is_none().then(|| ("GOCACHE", folder.path().join("cache")));
        go.args(["build", "-o"]).arg(&path).args(arguments).arg("main.go");
        run(go.current_dir(folder.path()).env("GO111MODULE", "off").env("CGO_ENABLED", "0").envs(home));
        Some(Self { folder, path })
    }

    fn elf(&self) -> Elf {
        Elf::open(&self.path).unwrap()
    }

    /// Bytes of the file and the offset of the table in it.
    fn bytes(&self) -> (Vec<u8>, usize) {
        let elf = self.elf();
        let sections = elf.sections().unwrap();
        let (_, section) = SECTIONS.iter().find_map(|name| sections.section_by_name(elf.endian, name)).unwrap();
        (std::fs::read(&self.path).unwrap(), section.sh_offset(elf.endian).try_into().unwrap())
    }

    /// The program with other bytes.
    fn changed(&self, bytes: &[u8]) -> Elf {
        let path = self.folder.path().join("changed");
        std::fs::write(&path, bytes).unwrap();
        Elf::open(&path).unwrap()
    }
}

/// Address to (name, size) of all functions, by `go tool nm`.
fn by_go_nm(path: &Path) -> BTreeMap<u64, (String, u64)> {
    let text = run(Command::new("go").args(["tool", "nm", "-size"]).arg(path));
    let function = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = u64::from_str_radix(fields.next()?, 16).ok()?;
        let size: u64 = fields.next()?.parse().ok()?;
        let code = matches!(fields.next()?, "T" | "t") && size > 0;
        code.then(|| (address, (fields.collect::<Vec<_>>().join(" "), size)))
    };
    text.lines().filter_map(function).collect()
}

/// `main.f[go.shape.int_0]` and `runtime.f.abi0` (written in assembly) as the table calls them.
fn in_table(name: &str) -> String {
    let name = name.strip_suffix(".abi0").unwrap_or(name);
    match (name.split_once('['), name.rsplit_once(']')) {
        (Some((before, _)), Some((_, after))) => format!("{before}[...]{after}"),
        _ => name.to_owned(),
    }
}

fn check(elf: &Elf, expected: &BTreeMap<u64, (String, u64)>) {
    assert!(elf.is_go());
    let functions = elf.go_functions().unwrap();
    for function in &functions {
        let (name, size) = expected.get(&function.address).unwrap_or_else(|| panic!("{function:?}"));
        assert_eq!((function.name, function.size), (in_table(name).as_str(), *size));
    }
    assert_eq!(functions.len(), expected.len());
    for name in ["main.main", "main.work", "main.(*T).add", "main.twice[...]", "runtime.newstack"] {
        assert!(functions.iter().any(|function| function.name == name), "{name}");
    }
}

#[test]
fn agrees_with_go_nm() {
    for mode in ["-buildmode=exe", "-buildmode=pie"] {
        let Some(plain) = Built::new(&[mode]) else { return };
        let expected = by_go_nm(&plain.path);
        assert!(expected.len() > 1000, "{}", expected.len());
        check(&plain.elf(), &expected);
        let stripped = Built::new(&[mode, "-ldflags=-s -w"]).unwrap();
        assert!(stripped.elf().symtab().is_none());
        check(&stripped.elf(), &expected);
        run(Command::new("strip").arg(&plain.path));
        check(&plain.elf(), &expected);
    }
}

#[test]
fn linked_by_the_system_linker() {
    for mode in ["-buildmode=exe", "-buildmode=pie"] {
        let Some(program) = Built::new(&[mode, "-ldflags=-linkmode=external"]) else { return };
        let expected = by_go_nm(&program.path);
        let agrees = |elf: &Elf| {
            let functions = elf.go_functions().unwrap();
            assert!(elf.is_go() && functions.len() > 1000, "{mode}: {}", functions.len());
            for function in functions {
                let (name, size) = &expected[&function.address];
                assert_eq!((function.name, function.size), (in_table(name).as_str(), *size), "{mode}");
            }
        };
        agrees(&program.elf());
        run(Command::new("strip").arg(&program.path));
        agrees(&program.elf());
    }
}

/// Clears `e_shoff`, `e_shnum` and `e_shstrndx`.
fn without_sections(bytes: &mut [u8]) {
    bytes[0x28..0x30].fill(0);
    bytes[0x3c..0x40].fill(0);
}

#[test]
fn without_section_headers() {
    for mode in ["-buildmode=exe", "-buildmode=pie"] {
        let Some(program) = Built::new(&[mode, "-ldflags=-s -w"]) else { return };
        let functions = program.elf().go_functions().unwrap().len();
        let (mut bytes, _) = program.bytes();
        without_sections(&mut bytes);
        let elf = program.changed(&bytes);
        assert!(elf.sections().is_none_or(|sections| sections.len() <= 1) && elf.is_go(), "{mode}");
        assert_eq!(elf.go_functions().map(|functions| functions.len()), Some(functions), "{mode}");
    }
}

#[test]
fn start_of_the_code_without_the_header() {
    let Some(program) = Built::new(&["-buildmode=pie"]) else { return };
    let (whole, table) = program.bytes();
    let expected = format!("{:?}", program.elf().go_functions().unwrap());
    let mut bytes = whole.clone();
    bytes[table + 24..table + 32].fill(0);
    // By the relocation, where the section would be wrong.
    let elf = program.changed(&bytes);
    assert_eq!(format!("{:?}", elf.go_functions().unwrap()), expected);
    // By the symbol; then, stripped, by the section.
    let field = elf.go_table().unwrap().1 + 24;
    let at = bytes.windows(8).position(|window| window == field.to_le_bytes()).unwrap();
    bytes[at..at + 8].fill(0);
    assert_eq!(format!("{:?}", program.changed(&bytes).go_functions().unwrap()), expected);
    run(Command::new("strip").arg(program.folder.path().join("changed")));
    let stripped = Elf::open(&program.folder.path().join("changed")).unwrap();
    assert_eq!(format!("{:?}", stripped.go_functions().unwrap()), expected);
    // The program begins somewhere else: whose code .text begins with is not known.
    let mut bytes = std::fs::read(stripped.path()).unwrap();
    bytes[0x18..0x20].copy_from_slice(&(stripped.entry() + 1).to_le_bytes());
    assert_eq!(program.changed(&bytes).go_functions(), None);
}

#[test]
fn c_programs_have_no_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = compile(folder.path(), "program", "int main(void) { return 0; }", &[]);
    let mut bytes = std::fs::read(&path).unwrap();
    let elf = Elf::open(&path).unwrap();
    assert!(!elf.is_go() && elf.go_functions().is_none());
    without_sections(&mut bytes);
    std::fs::write(&path, &bytes).unwrap();
    let elf = Elf::open(&path).unwrap();
    assert!(!elf.is_go() && elf.go_functions().is_none());
}

const FUNCTIONS: [(&str, u64, u64); 3] = [("main.main", 0, 32), ("main.f[...]", 64, 60), ("runtime.newstack", 128, 1)];
const TEXT: u64 = 0x40_1000;

/// A table of the layout with this magic number, with [`FUNCTIONS`].
fn made(magic: u32) -> Vec<u8> {
    let word = |value: usize| (value as u64).to_le_bytes();
    let (words, narrow) = match magic {
        0xffff_fffb => (1, false),
        0xffff_fffa => (7, false),
        _ => (8, true),
    };
    let mut names = vec![0_u8];
    let mut pc_tables = vec![0_u8];
    let (mut table, mut records) = (Vec::new(), Vec::new());
    let entry = |into: &mut Vec<u8>, from: u64| {
        if narrow {
            into.extend(u32::try_from(from).unwrap().to_le_bytes());
        } else {
            into.extend((from + TEXT).to_le_bytes());
        }
    };
    let number = if narrow { 4 } else { 8 };
    let header = 8 + 8 * words;
    let table_size = (2 * FUNCTIONS.len() + 1) * number;
    let record_size = number + 16;
    // In 1.2 everything counts from the start of the file's table, later each part from its own.
    let (names_at, pc_tables_at) = match magic {
        0xffff_fffb => (
            header + table_size + FUNCTIONS.len() * record_size,
            header + table_size + FUNCTIONS.len() * record_size + 64,
        ),
        _ => (0, 0),
    };
    for (name, from, size) in FUNCTIONS {
        let record = table_size + records.len() + if magic == 0xffff_fffb { header } else { 0 };
        entry(&mut table, from);
        table.extend(&record.to_le_bytes()[..number]);
        entry(&mut records, from);
        for field in [names_at + names.len(), 0, 0, pc_tables_at + pc_tables.len()] {
            records.extend(u32::try_from(field).unwrap().to_le_bytes());
        }
        names.extend(name.bytes().chain([0]));
        // Stack size 0 for half of it (value -1 + 1), then 8 (+8) for the rest; the end.
        pc_tables.extend(if size == 1 {
            vec![2, 1, 0]
        } else {
            vec![2, (size / 2) as u8, 16, (size - size / 2) as u8, 0]
        });
    }
    entry(&mut table, 192);
    names.resize(64, 0);
    let mut bytes = magic.to_le_bytes().to_vec();
    bytes.extend([0, 0, 1, 8]);
    let (names_from, tables_from) = (header, header + names.len());
    let functions_from = tables_from + pc_tables.len();
    let offsets = [FUNCTIONS.len(), 1, TEXT as usize, names_from, 0, 0, tables_from, functions_from];
    match magic {
        0xffff_fffb => bytes.extend(word(offsets[0])),
        0xffff_fffa => [0, 1, 3, 4, 5, 6, 7].iter().for_each(|&index| bytes.extend(word(offsets[index]))),
        _ => offsets.iter().for_each(|&value| bytes.extend(word(value))),
    }
    let parts =
        if magic == 0xffff_fffb { [table, records, names, pc_tables] } else { [names, pc_tables, table, records] };
    bytes.extend(parts.concat());
    bytes
}

const MAGICS: [u32; 4] = [0xffff_fffb, 0xffff_fffa, 0xffff_fff0, 0xffff_fff1];

fn read(bytes: &[u8]) -> Vec<GoFunction<'_>> {
    let Some(table) = Table::parse(bytes) else {
        return Vec::new();
    };
    let text = match table.text_start() {
        TextStart::Absolute => 0,
        TextStart::Header { address, .. } => address,
    };
    table.functions(text, |start, last| start <= last && last < TEXT + (1 << 20))
}

#[test]
fn every_layout() {
    for magic in MAGICS {
        let bytes = made(magic);
        let functions = read(&bytes);
        let found: Vec<_> = functions.iter().map(|f| (f.name, f.address - TEXT, f.size)).collect();
        assert_eq!(found, FUNCTIONS, "{magic:#x}");
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).len() <= FUNCTIONS.len());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes(magic in 0..4_usize, bytes: Vec<u8>) {
        let mut table = MAGICS[magic].to_le_bytes().to_vec();
        table.extend([0, 0, 1, 8]);
        table.extend(&bytes);
        prop_assert!(read(&table).len() <= table.len() / 8);
    }

    #[test]
    fn changed_bytes(magic in 0..4_usize, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = made(MAGICS[magic]);
        for (at, value) in changes {
            let at = at.index(bytes.len() - 8) + 8;
            bytes[at] = value;
        }
        let functions = read(&bytes);
        prop_assert!(functions.len() <= bytes.len() / 8);
        prop_assert!(functions.is_sorted_by_key(|function| function.address));
    }
}

#[test]
fn changed_bytes_of_a_real_table() {
    let Some(program) = Built::new(&["-ldflags=-s -w"]) else { return };
    let (whole, at) = program.bytes();
    let table = &whole[at..at + 0x5_0000];
    let count = read(table).len();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 1).unwrap()
    };
    for round in 0..200 {
        let mut bytes = table.to_vec();
        for _ in 0..=round % 8 {
            let area = if next() % 2 == 0 { 0x60 } else { bytes.len() };
            let place = next() % area;
            bytes[place] = [0, 1, 0x7f, 0x80, 0xff, next().to_le_bytes()[0]][next() % 6];
        }
        assert!(read(&bytes).len() <= count.max(table.len() / 8));
    }
}
