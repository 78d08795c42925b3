//! Signatures of what real compilers made, against what the source says.

mod observe;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use ada_format::manifest::{Form, Location, Signature, Value};
use ada_format::values::write_signature;

use super::*;
use crate::elf::fixture::run;

const CPP: &str = include_str!("../../../../tests/fixtures/args.cc");
const RUST: &str = include_str!("../../../../tests/fixtures/args.rs");

/// The plan of a recording of functions in `path`, by their readable names without parameters.
fn plan(path: &Path, wanted: &[&str]) -> Plan {
    let elf = Elf::open(path).unwrap();
    let debug = open_debug_file(&elf, path, Path::new("/"));
    let table = elf.symtab().or_else(|| debug.as_ref()?.symtab()).or_else(|| elf.dynsym()).unwrap();
    let matches = |symbol: &str, wanted: &str| {
        let readable = crate::resolve::demangle(symbol).unwrap_or_else(|| symbol.to_owned());
        let rest = readable.strip_prefix(wanted);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('(') || rest.starts_with("::h"))
    };
    let function = |(index, wanted): (u32, &&str)| {
        let mut functions = table.iter().filter(|symbol| symbol.defined && symbol.is_function());
        let symbol = functions.find(|symbol| matches(symbol.name, wanted)).unwrap_or_else(|| panic!("no {wanted}"));
        plan::Function {
            id: plan::FunctionId::new(plan::ModuleId(0), index),
            name: symbol.name.to_owned(),
            demangled: Some((*wanted).to_owned()),
            address: symbol.address,
            detail: true,
            ..plan::Function::default()
        }
    };
    let module = plan::Module { path: path.to_owned(), open_path: path.to_owned(), ..plan::Module::default() };
    Plan { modules: vec![module], functions: (0..).zip(wanted).map(function).collect(), ..Plan::default() }
}

/// Signatures of functions as text.
fn signatures(path: &Path, symbols: &[PathBuf], wanted: &[&str]) -> Vec<String> {
    let mut plan = plan(path, wanted);
    assert_eq!(annotate(&mut plan, 64, Path::new("/"), symbols), []);
    plan.functions.iter().map(|f| shown(f.demangled.as_ref().unwrap(), f.signature.as_ref().unwrap())).collect()
}

/// Calls and returns of functions as text, in the order in which they happen.
fn calls(path: &Path, wanted: &[&str]) -> Option<Vec<String>> {
    let mut plan = plan(path, wanted);
    assert_eq!(annotate(&mut plan, 64, Path::new("/"), &[]), []);
    let of = |function: &plan::Function| observe::Wanted {
        name: function.demangled.clone().unwrap(),
        address: function.address,
        signature: (**function.signature.as_ref().unwrap()).clone(),
        capture: function.capture.as_deref().copied().unwrap_or_default(),
    };
    observe::observe(path, &plan.functions.iter().map(of).collect::<Vec<_>>())
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

const CPP_NAMES: [&str; 15] = [
    "shapes::Counter::add",
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
];

const RUST_NAMES: [&str; 11] = [
    "args::view",
    "args::owned",
    "args::borrowed",
    "args::bytes",
    "args::kinds",
    "args::maybe",
    "args::points",
    "args::wide",
    "args::make",
    "args::text",
    "args::moved",
];

#[test]
fn cpp_functions() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled_cpp(folder.path(), &["-O1"]);
    println!("{}", signatures(&program, &[], &CPP_NAMES).join("\n"));
    println!("{}", calls(&program, &CPP_NAMES).unwrap().join("\n"));
}

#[test]
fn rust_functions() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled_rust(folder.path());
    println!("{}", signatures(&program, &[], &RUST_NAMES).join("\n"));
    println!("{}", calls(&program, &RUST_NAMES).unwrap().join("\n"));
}

#[test]
fn libc_functions() {
    let libc = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
    println!(
        "{}",
        signatures(libc, &[], &["open", "qsort_r", "getopt_long", "inet_ntop", "regexec", "div"]).join("\n")
    );
}
