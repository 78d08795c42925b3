//! Signatures of what real compilers made, against what the source says.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use ada_format::manifest::{Form, Location, Signature, Value};
use ada_format::values::write_signature;

use super::*;
use crate::elf::fixture::run;

const CPP: &str = include_str!("../../../tests/fixtures/args.cc");
const RUST: &str = include_str!("../../../tests/fixtures/args.rs");

/// What is known of a function in `path`, by a part of its readable name.
fn lookup(path: &Path, symbols: &[PathBuf], wanted: &str) -> Result<Signature, TypesError> {
    let elf = Elf::open(path).unwrap();
    let debug;
    let table = match elf.symtab() {
        Some(table) => table,
        None => {
            debug = open_debug_file(&elf, path, Path::new("/"));
            debug.as_ref().and_then(|debug| debug.symtab()).or_else(|| elf.dynsym()).unwrap()
        }
    };
    let named = |name: &str| {
        let readable = crate::resolve::demangle(name).unwrap_or_else(|| name.to_owned());
        readable == wanted
            || readable.starts_with(&format!("{wanted}("))
            || readable.starts_with(&format!("{wanted}::h"))
    };
    let symbol = table.iter().find(|symbol| symbol.defined && symbol.is_function() && named(symbol.name));
    let symbol = symbol.unwrap_or_else(|| panic!("no {wanted}"));
    let module = plan::Module { path: path.to_owned(), open_path: path.to_owned(), ..plan::Module::default() };
    let function = plan::Function { name: symbol.name.to_owned(), address: symbol.address, ..Default::default() };
    Signatures::new(Path::new("/"), symbols, 64).signature_of(&module, &function)
}

/// A signature with the places of its values: `int f(int x: r0)`.
fn shown(name: &str, signature: &Signature) -> String {
    let mut text = String::new();
    write_signature(&mut text, name, signature).unwrap();
    text.push_str(" @");
    for parameter in &signature.parameters {
        write!(text, " {}", place(&parameter.value)).unwrap();
    }
    if let Some(value) = &signature.returns {
        write!(text, " -> {}", place(value)).unwrap();
    }
    text
}

fn place(value: &Value) -> String {
    let part = |part: &Part| match part.at {
        Location::Register(register) if part.offset == 0 => format!("r{register}"),
        Location::Register(register) => format!("r{register}+{}", part.offset),
        Location::Stack(at) if part.size == 8 => format!("s{at}"),
        Location::Stack(at) => format!("s{at}..{}", at + part.size),
    };
    let parts = value.place.iter().map(part).collect::<Vec<_>>().join(",");
    let sign = if matches!(value.form, Form::Reference { .. }) { "*" } else { "" };
    if parts.is_empty() { "?".to_owned() } else { format!("{sign}{parts}") }
}

fn compiled_cpp(folder: &Path, flags: &[&str]) -> PathBuf {
    let flags: Vec<&str> = [&["-xc++"], flags].concat();
    crate::elf::fixture::compile(folder, "args", CPP, &flags)
}

fn compiled_rust(folder: &Path) -> PathBuf {
    let (source, program) = (folder.join("args.rs"), folder.join("args-rust"));
    std::fs::write(&source, RUST).unwrap();
    run(Command::new("rustc").args(["-g", "-C", "opt-level=1", "--edition", "2024", "-o"]).arg(&program).arg(&source));
    program
}

#[test]
fn cpp_functions() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled_cpp(folder.path(), &[]);
    let names = [
        "paint",
        "greet",
        "eight",
        "cross",
        "by_reference",
        "by_value",
        "view",
        "make[abi:cxx11]",
        "big",
        "point",
        "average",
        "mixed",
        "large",
        "first",
        "shapes::Counter::add",
    ];
    for function in names {
        println!("{}", shown(function, &lookup(&program, &[], function).unwrap()));
    }
}

#[test]
fn rust_functions() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled_rust(folder.path());
    for function in
        ["view", "owned", "borrowed", "bytes", "kinds", "maybe", "points", "wide", "make", "text", "nothing"]
    {
        println!("{}", shown(function, &lookup(&program, &[], &format!("args::{function}")).unwrap()));
    }
}

#[test]
fn libc_functions() {
    let libc = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
    for function in ["open", "qsort_r", "getopt_long", "inet_ntop", "regexec", "div", "lfind"] {
        println!("{}", lookup(libc, &[], function).map_or_else(|e| e.to_string(), |s| shown(function, &s)));
    }
}
