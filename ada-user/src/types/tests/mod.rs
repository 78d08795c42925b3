//! Signatures of what real compilers made, against what the source says.

mod observe;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use ada_format::manifest::{Form, Location, Signature, Value};
use ada_format::values::write_signature;

use super::*;
use crate::elf::fixture::{run, skip};

const CPP: &str = include_str!("../../../../tests/fixtures/args.cc");
const ALIGNED: &str = include_str!("../../../../tests/fixtures/aligned.cc");
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
        Location::Stack(at) if part.size <= 8 => format!("s{at}"),
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

const CPP_SIGNATURES: &str = "\
int shapes::Counter::add(shapes::Counter *const this, int amount, bool twice) @ r0 r1 r2 -> r0
int paint(Color color, Mode mode, bool wet) @ r0 r1 r2 -> r0
const char *greet(const char *name, char initial) @ r0 r1 -> r0
int eight(int a, int b, int c, int d, int e, int f, int g, int h) @ r0 r1 r2 r3 r4 r5 s8 s16 -> r0
int cross(const Point *p, Point q, int64_t scale) @ r0 r1 r2 -> r0
std::size_t by_reference(const std::string &text) @ *r0 -> r0
std::size_t by_value(std::string text, int after) @ *r0 r1 -> r0
std::size_t view(std::string_view text) @ r0,r1+8 -> r0
std::string make[abi:cxx11](int count) @ r1 -> *r0
Big big(int seed) @ r1 -> *r0
Point point(int x, int y) @ r0 r1 -> r0
double average(float a, double b, int n) @ ? ? r0 -> ?
long mixed(Mixed m, long after) @ r0+8 r1 -> r0
int large(Big b, int after) @ s8..40 r0 -> r0
int &first(int [3] &numbers, void *nothing, int (*)(int) callback) @ *r0 r1 r2 -> *r0";

/// Addresses are written as `@`.
const CPP_CALLS: &str = "\
shapes::Counter::add(this=@ -> {total_=40}, amount=1, twice=true)
shapes::Counter::add = 42
paint(color=GREEN, mode=On, wet=true)
paint = 13
greet(name=\"world\", initial='w')
greet = \"hello\"
eight(a=1, b=2, c=3, d=4, e=5, f=6, g=-7, h=8)
eight = 22
cross(p=@ -> {x=3, y=4}, q={x=1, y=2}, scale=1000)
cross = 2000
by_reference(text=\"by reference\")
by_reference = 12
by_value(text=\"a string by value, too long for its buffer\", after=1)
by_value = 43
view(text=\"a view\")
view = 6
make[abi:cxx11](count=5)
make[abi:cxx11] = \"+++++\"
big(seed=11)
big = {a=11, b=2.5, c=@, d=BLUE}
point(x=-1, y=1)
point = {x=-1, y=1}
average(a=?, b=?, n=2)
average = ?
mixed(m={weight=?, count=6}, after=7)
mixed = 13
big(seed=1)
big = {a=1, b=2.5, c=@, d=BLUE}
large(b={a=1, b=2.5, c=@, d=BLUE}, after=2)
large = 3
first(numbers={7, 8, 9}, nothing=NULL, callback=@)
first = 7";

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

const RUST_CALLS: &str = "\
args::view(text=\"a view\", count=3)
args::view = 9
args::owned(text=\"owned\", after=2)
args::owned = 7
args::borrowed(text=\"borrowed\")
args::borrowed = 8
args::bytes(data=\"ab\\0\\377\", numbers={data_ptr=@, length=3})
args::bytes = 7
args::kinds(color=Green, flag=true, letter='ä', small=-3, large=5)
args::kinds = true
args::kinds(color=Red, flag=false, letter='\\n', small=3, large=1)
args::kinds = false
args::maybe(number={1, 4294967289}, place=@, after=2)
args::maybe = 4
args::maybe(number={0, 4294967289}, place=NULL, after=1)
args::maybe = 1
args::points(p={x=1, y=2}, q={x=3, y=4}, after=1)
args::points = {x=5, y=6}
args::wide(w={a=1, b=2, c=3}, after=4)
args::wide = {a=5, b=2, c=3}
args::make(count=5)
args::make = \"+++++\"
args::text(index=1)
args::text = \"text\"
args::moved(unused=?, text=?, length=7)
args::moved = 10";

/// Addresses differ from run to run.
fn without_addresses(lines: &[String]) -> String {
    let address = regex::Regex::new("0x[0-9a-f]{8,}").unwrap();
    address.replace_all(&lines.join("\n"), "@").into_owned()
}

#[test]
fn cpp_functions() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled_cpp(folder.path(), &["-O1"]);
    assert_eq!(signatures(&program, &[], &CPP_NAMES).join("\n").replace("long int", "long"), CPP_SIGNATURES);
    if let Some(calls) = calls(&program, &CPP_NAMES) {
        assert_eq!(without_addresses(&calls), CPP_CALLS);
    }
}

/// Places are the ABI's, whatever says so: without optimisation, in older debug information, and compressed.
#[test]
fn cpp_functions_built_otherwise() {
    for flags in [&["-O0"][..], &["-O2", "-gdwarf-4", "-fdebug-types-section"], &["-O1", "-gz"]] {
        let folder = tempfile::tempdir().unwrap();
        let program = compiled_cpp(folder.path(), flags);
        let shown = signatures(&program, &[], &CPP_NAMES).join("\n").replace("long int", "long");
        assert_eq!(shown, CPP_SIGNATURES, "{flags:?}");
    }
}

const ALIGNED_NAMES: [&str; 10] = [
    "after_extended",
    "after_wide",
    "not_split",
    "after_quad",
    "after_line",
    "after_block",
    "after_packed",
    "after_vector",
    "extended",
    "complex",
];

/// What the source passes. `a` to `f` fill the registers.
const ALIGNED_CALLS: &str = "\
after_extended(a=1, b=2, c=3, d=4, e=5, f=6, g=7, x=?, h=9)
after_extended = 37
after_wide(a=1, b=2, c=3, d=4, e=5, f=6, g=7, x=8, h=9)
after_wide = 45
not_split(a=1, b=2, c=3, d=4, e=5, x=8, f=6, g=7)
not_split = 36
after_quad(a=1, b=2, c=3, d=4, e=5, f=6, g=7, x=?, h=9)
after_quad = 45
after_line(a=1, b=2, c=3, d=4, e=5, f=6, g=7, x={a={8, 0, 0}}, h=9)
after_line = 45
after_block(a=1, b=2, c=3, d=4, e=5, f=6, g=7, x={a={8, 0, 0, 0}}, h=9)
after_block = 45
after_packed(a=1, b=2, c=3, d=4, e=5, f=6, g=7, x={tag=8, value=0}, h=9)
after_packed = 45
after_vector(a=1, x={...}, b=4)
after_vector = 7
extended(a=11)
extended = {value=?}
complex(a=12)
complex = {...}";

/// With every optimisation, since without any the debug information does not tell all places, and with some it does.
#[test]
fn behind_what_is_aligned_to_more_than_a_word() {
    for level in ["-O0", "-O1", "-O2"] {
        let folder = tempfile::tempdir().unwrap();
        let program = crate::elf::fixture::compile(folder.path(), "aligned", ALIGNED, &["-xc++", level, "-Wno-psabi"]);
        let Some(calls) = calls(&program, &ALIGNED_NAMES) else { return };
        assert_eq!(without_addresses(&calls), ALIGNED_CALLS, "{level}");
    }
}

/// Rust (since 1.87, with LLVM 20) does not split a number between a register and the stack either.
const RUST_WIDE: &str = "
use std::hint::black_box;
#[inline(never)]
fn wide(a: u64, b: u64, c: u64, d: u64, e: u64, x: i128, f: u64, g: u64, y: i128, h: u64) -> u64 {
    black_box((a, b, c, d, e, x, y));
    f + g + h
}
fn main() {
    let n = black_box(1);
    let all = wide(n, n + 1, n + 2, n + 3, n + 4, i128::from(n + 5), n + 6, n + 7, i128::from(n + 8), n + 9);
    println!(\"{all}\");
}";

#[test]
fn wide_numbers_in_rust() {
    for level in ["opt-level=0", "opt-level=2"] {
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("wide.rs"), folder.path().join("wide"));
        std::fs::write(&source, RUST_WIDE).unwrap();
        run(Command::new("rustc").args(["-g", "-C", level, "--edition", "2024", "-o"]).arg(&program).arg(&source));
        let Some(calls) = calls(&program, &["wide::wide"]) else { return };
        assert_eq!(calls[0], "wide::wide(a=1, b=2, c=3, d=4, e=5, x=6, f=7, g=8, y=9, h=10)", "{level}");
    }
}

#[test]
fn rust_functions() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled_rust(folder.path());
    if let Some(calls) = calls(&program, &RUST_NAMES) {
        assert_eq!(without_addresses(&calls), RUST_CALLS);
    }
}

#[test]
fn a_separate_debug_file() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled_cpp(folder.path(), &["-O1", "-Wl,--build-id"]);
    let (whole, beside) = (folder.path().join("whole"), folder.path().join("args.debug"));
    std::fs::copy(&program, &whole).unwrap();
    let mut plan = plan(&program, &["paint"]);
    run(Command::new("strip").arg("--strip-all").arg(&program));
    let missing = annotate(&mut plan, 64, Path::new("/"), &[]);
    assert_eq!(missing[0].why.to_string(), format!("no debug information for paint in {}", program.display()));
    assert_eq!(annotate(&mut plan, 64, Path::new("/"), &[PathBuf::from("/bin/sh"), whole.clone()]), []);
    run(Command::new("objcopy").arg("--only-keep-debug").arg(&whole).arg(&beside));
    run(Command::new("objcopy").arg(format!("--add-gnu-debuglink={}", beside.display())).arg(&program));
    assert_eq!(annotate(&mut plan, 64, Path::new("/"), &[]), []);
}

#[test]
fn a_supplementary_file() {
    if Command::new("dwz").arg("--version").output().is_err() {
        return skip("dwz");
    }
    let folder = tempfile::tempdir().unwrap();
    let first = compiled_cpp(folder.path(), &["-O1", "-Wl,--build-id"]);
    let second = folder.path().join("second");
    std::fs::copy(&first, &second).unwrap();
    let shared = folder.path().join("shared.debug");
    run(Command::new("dwz").arg("-m").arg(&shared).arg(&first).arg(&second));
    assert!(Elf::open(&second).unwrap().open_supplement(Path::new("/")).is_some());
    let shown = signatures(&second, &[], &CPP_NAMES).join("\n").replace("long int", "long");
    assert_eq!(shown, CPP_SIGNATURES);
}

#[test]
fn damaged_debug_information_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let program = compiled_cpp(folder.path(), &["-O1"]);
    let bytes = std::fs::read(&program).unwrap();
    let plan = plan(&program, &CPP_NAMES);
    let start = bytes.len() / 4;
    for step in [7, 31, 101, 997] {
        let mut damaged = bytes.clone();
        for at in (start..bytes.len() - 4096).step_by(step) {
            damaged[at] ^= 0x55;
        }
        std::fs::write(&program, damaged).unwrap();
        let _ = annotate(&mut plan.clone(), 64, Path::new("/"), &[]);
    }
}

#[test]
fn libc_functions() {
    let libc = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
    if !libc.exists() {
        return skip("glibc");
    }
    let known = signatures(libc, &[], &["open64", "write", "getenv", "mmap64", "printf"]).join("\n");
    let want = "\
int open64(const char *path, int flags, mode_t mode) @ r0 r1 r2 -> r0
ssize_t write(int fd, const void *buf, size_t count) @ r0 r1 r2 -> r0
char *getenv(const char *name) @ r0 -> r0
void *mmap64(void *addr, size_t length, int prot, int flags, int fd, off_t offset) @ r0 r1 r2 r3 r4 r5 -> r0
int printf(const char *format, ...) @ r0 -> r0";
    assert_eq!(known, want);
    if open_debug_file(&Elf::open(libc).unwrap(), libc, Path::new("/")).is_none() {
        // Not every distribution has it in a package.
        return println!("skipped: needs libc's debug information");
    }
    let by_dwarf = signatures(libc, &[], &["qsort_r", "div"]).join("\n");
    let want = "\
void qsort_r(void *b, size_t n, size_t s, __compar_d_fn_t cmp, void *arg) @ r0 r1 r2 r3 r4
div_t div(int numer, int denom) @ r0 r1 -> r0";
    assert_eq!(by_dwarf, want);
}

/// Every function of a large file: no panic, and slots and pieces are in step.
#[test]
fn whole_libc() {
    let libc = Path::new("/lib/x86_64-linux-gnu/libc.so.6");
    let Ok(elf) = Elf::open(libc) else { return skip("glibc") };
    let Some(table) = elf.dynsym() else { return skip("glibc") };
    let functions = table.iter().filter(|symbol| symbol.defined && symbol.is_function());
    let function = |symbol: crate::elf::Symbol<'_>| plan::Function {
        name: symbol.name.to_owned(),
        address: symbol.address,
        detail: true,
        ..plan::Function::default()
    };
    let module = plan::Module { path: libc.to_owned(), open_path: libc.to_owned(), ..plan::Module::default() };
    let mut plan = Plan { modules: vec![module], functions: functions.map(function).collect(), ..Plan::default() };
    let missing = annotate(&mut plan, 64, Path::new("/"), &[]);
    // Without debug information, too, those of the table are known.
    assert!(plan.functions.len() - missing.len() > 200, "{} of {} have none", missing.len(), plan.functions.len());
    for function in &plan.functions {
        let slots = function.signature.iter().flat_map(|of| &of.parameters).filter(|of| of.value.slot.is_some());
        let pieces = function.capture.iter().flat_map(|capture| capture.call).filter(|piece| piece.kind != 0);
        assert_eq!(slots.count(), pieces.count(), "{}", function.name);
    }
}
