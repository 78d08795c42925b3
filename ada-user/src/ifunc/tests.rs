//! Tests on this machine's C library, whose debug symbols or disassembly tell what is right, and on small libraries.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::elf::fixture::{compile, run, skip};
use crate::elf::open_debug_file;

/// A process that is killed when dropped.
struct Running(Child);

impl Running {
    /// Starts a command and waits for its first line.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    fn target(&self) -> Target {
        Target::from_pid(self.0.id()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python() -> Option<Running> {
    let script = "import sys, json, ssl; print('ready', flush=True); sys.stdin.read()";
    if Command::new("python3").arg("--version").output().is_err() {
        skip("python3");
        return None;
    }
    Some(Running::start(Command::new("python3").args(["-c", script])))
}

fn libc_of(target: &Target) -> (Elf, TargetFile) {
    let file = target.files_named("libc").remove(0);
    (Elf::open(&file.open_path).unwrap(), file)
}

/// The resolver of libc's default `name`; none where this C library picks nothing.
fn resolver(elf: &Elf, name: &str) -> Option<u64> {
    let table = elf.dynsym()?;
    let mut symbols = table.named(name);
    symbols.find(|s| s.kind == SymbolKind::Ifunc && s.version.is_none_or(|v| v.default)).map(|s| s.address)
}

/// Names at an address in libc's debug file.
fn debug_names(elf: &Elf, address: u64) -> Vec<String> {
    let debug = open_debug_file(elf, elf.path(), Path::new("/"));
    let table = debug.as_ref().and_then(Elf::symtab);
    let at = table.iter().flat_map(SymbolTable::iter).filter(|symbol| symbol.address == address);
    at.map(|symbol| symbol.name.to_owned()).collect()
}

/// Each of the file's answers is a function whose name, if known, is that of an implementation of `name`.
fn check_implementations(elf: &Elf, found: &Implementations, name: &str) {
    let Some(resolver) = resolver(elf, name) else { return };
    let implementations = found.get(resolver);
    assert!(!implementations.is_empty(), "{name}");
    for address in implementations {
        assert!(elf.code_offset(address).is_some() && address != resolver, "{name}");
        let names = debug_names(elf, address);
        // memcpy and memmove share implementations.
        let stems = [format!("__{name}_"), format!("__{}_", name.replace("memcpy", "memmove"))];
        let expected = names.iter().any(|known| stems.iter().any(|stem| known.starts_with(stem.as_str())));
        assert!(names.is_empty() || expected, "{name}: {names:?}");
    }
}

const PICKED: [&str; 6] = ["strlen", "memcpy", "memset", "strchr", "wcslen", "strcasecmp"];

#[test]
fn libc_in_a_process() {
    let Some(python) = python() else { return };
    let target = python.target();
    let (elf, file) = libc_of(&target);
    let found = Implementations::of(&elf, &file, &target);
    for name in PICKED {
        check_implementations(&elf, &found, name);
    }
    // strlen is read from the process, which agrees with this one: the same processor runs both.
    if let Some(strlen) = resolver(&elf, "strlen") {
        assert_eq!(found.in_target.get(&strlen), found.in_own.get(&strlen));
        assert_eq!(implementations(&elf, &file, strlen, &target), found.get(strlen));
    }
}

#[test]
fn libc_without_a_process() {
    let target = Target::from_system();
    let file = target.unloaded_named("libc.so.6").remove(0);
    let elf = Elf::open(&file.open_path).unwrap();
    let found = Implementations::of(&elf, &file, &target);
    for name in PICKED {
        check_implementations(&elf, &found, name);
    }
}

#[test]
fn what_the_vdso_implements_is_none_of_libcs() {
    let target = Target::from_pid(std::process::id()).unwrap();
    let (elf, file) = libc_of(&target);
    let found = Implementations::of(&elf, &file, &target);
    for name in ["time", "gettimeofday"] {
        let Some(resolver) = resolver(&elf, name) else { continue };
        for address in found.get(resolver) {
            // A kernel without a vDSO: then libc's own.
            assert!(debug_names(&elf, address).iter().any(|known| known.contains("syscall")), "{name}");
        }
    }
}

const LIBRARY: &str = r#"
static int first(int x) { return x + 1; }
static int second(int x) { return x + 2; }
extern char **environ;
static void *pick(void) { return second; }
static void *pick_other(void) { return first; }
int chosen(int) __attribute__((ifunc("pick")));
int inside(int) __attribute__((ifunc("pick_other"), visibility("hidden")));
int unused(int) __attribute__((ifunc("pick")));
int call(int x) { return inside(x); }
"#;
const PROGRAM: &str = r#"
#include <stdio.h>
int chosen(int); int call(int);
int main(int argc, char **argv) {
    if (argc > 1) chosen(argc);
    puts("ready"); fflush(stdout); getchar();
    return chosen(call(argc));
}
"#;

struct Small {
    _folder: tempfile::TempDir,
    library: PathBuf,
    program: PathBuf,
}

impl Small {
    fn new(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = compile(folder.path(), "libsmall.so", LIBRARY, &["-shared", "-fPIC"]);
        let rpath = format!("-Wl,-rpath,{}", folder.path().display());
        let program =
            compile(folder.path(), "program", PROGRAM, &[arguments, &[library.to_str().unwrap(), &rpath]].concat());
        Self { _folder: folder, library, program }
    }

    /// Value of a symbol as nm prints it.
    fn address(&self, name: &str) -> u64 {
        let symbols = run(Command::new("nm").arg(&self.library));
        let line = symbols.lines().find(|line| line.split_whitespace().nth(2) == Some(name)).unwrap();
        u64::from_str_radix(line.split_whitespace().next().unwrap(), 16).unwrap()
    }

    fn implementations(&self, target: &Target) -> Implementations {
        let id = FileId::of(&self.library).unwrap();
        let file = target.files().iter().find(|file| file.id == id).unwrap();
        Implementations::of(&Elf::open(&self.library).unwrap(), file, target)
    }
}

#[test]
fn slots_of_the_importer_and_of_the_file_itself() {
    for now in ["-Wl,-z,now", "-no-pie"] {
        let small = Small::new(&[now, "-Wl,-z,relro"]);
        let running = Running::start(Command::new(&small.program).arg("call"));
        let found = small.implementations(&running.target());
        assert_eq!(found.get(small.address("chosen")), [small.address("second")], "{now}");
        assert_eq!(found.get(small.address("inside")), [small.address("first")], "{now}");
    }
}

#[test]
fn what_is_not_bound_yet_or_not_loaded_here_is_not_told() {
    let small = Small::new(&["-Wl,-z,lazy"]);
    let running = Running::start(&mut Command::new(&small.program));
    let found = small.implementations(&running.target());
    assert_eq!(found.get(small.address("chosen")), [0; 0]);
    let running = Running::start(Command::new(&small.program).arg("call"));
    let found = small.implementations(&running.target());
    assert_eq!(found.get(small.address("chosen")), [small.address("second")]);
    let file = Target::from_file(&small.program).unwrap();
    assert_eq!(small.implementations(&file), Implementations::default());
}

#[test]
fn static_programs() {
    let source = format!("{}\n{}", LIBRARY, PROGRAM.replace("int chosen(int); int call(int);", ""));
    for way in ["-static", "-static-pie"] {
        let folder = tempfile::tempdir().unwrap();
        let program = compile(folder.path(), "program", &source, &[way]);
        let running = Running::start(&mut Command::new(&program));
        let target = running.target();
        let (elf, file) = (Elf::open(&program).unwrap(), target.executable().unwrap());
        let found = Implementations::of(&elf, file, &target);
        let table = elf.symtab().unwrap();
        let address = |name: &str| table.named(name).next().unwrap().address;
        assert_eq!(found.get(address("chosen")), [address("second")], "{way}");
        assert_eq!(found.get(address("inside")), [address("first")], "{way}");
        let strlen = found.get(address("strlen"));
        let names: Vec<_> = table.iter().filter(|s| strlen.contains(&s.address)).map(|s| s.name).collect();
        assert!(names.iter().all(|name| name.starts_with("__strlen_")), "{way}: {names:?}");
        // Nothing runs that would have chosen.
        let unstarted = Target::from_file(&program).unwrap();
        let found = Implementations::of(&elf, unstarted.executable().unwrap(), &unstarted);
        assert_eq!(found.get(address("chosen")), [0; 0]);
    }
}
