//! Compiles the fixtures, once per build of the tests, and looks into what came out.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSymbol};

use crate::process::Process;

/// Without optimisation every function begins with `push %rbp`, which the kernel need not single-step: a probe on it costs
/// a fifth of one on most other instructions. `trees` has other builds.
const FLAGS: &[&str] = &["-O0", "-g0", "-Wall", "-Wextra", "-Werror", "-pthread"];

/// A library instead of a program.
pub const LIBRARY: &[&str] = &["-shared", "-fPIC"];

/// Builds `fixtures/<source>` with the usual flags and `flags` after them.
///
/// # Panics
/// If it does not compile.
#[must_use]
pub fn build(source: &str, flags: &[&str]) -> PathBuf {
    let (stem, extension) = source.split_once('.').expect("a source file");
    let name = if flags.starts_with(LIBRARY) { format!("{stem}.so") } else { stem.to_owned() };
    cached(source, &name, flags, |output| {
        let mut compiler = Command::new(if extension == "cc" { "c++" } else { "cc" });
        compiler.args(FLAGS).args(flags).arg("-o").arg(output).arg(folder().join(source));
        done(&mut compiler);
    })
}

/// Assembles and links `fixtures/<source>`.
///
/// # Panics
/// If it does not assemble.
#[must_use]
pub fn assembled(source: &str) -> PathBuf {
    let name = source.trim_end_matches(".s");
    cached(source, name, &[], |output| done(Command::new("cc").arg("-o").arg(output).arg(folder().join(source))))
}

/// Builds `fixtures/<source>` by Go's compiler, with `flags` for its linker.
///
/// # Panics
/// If it does not compile.
#[must_use]
pub fn go(source: &str, flags: &str) -> PathBuf {
    let name = source.trim_end_matches(".go");
    cached(source, name, &["go", flags], |output| {
        let cache = build_folder().join("ada-fixtures").join("go");
        let mut compiler = Command::new("go");
        compiler.env("GOCACHE", &cache).env("GOPATH", &cache).env("GO111MODULE", "off").env("HOME", &cache);
        done(compiler.args(["build", "-ldflags", flags, "-o"]).arg(output).arg(folder().join(source)));
    })
}

/// Builds `fixtures/<source>`, one file of Rust, with debug information and the optimisation of a usual test build.
///
/// # Panics
/// If it does not compile.
#[must_use]
pub fn rust(source: &str) -> PathBuf {
    let flags = ["-g", "-C", "opt-level=1", "--edition", "2024"];
    cached(source, &format!("{}-rust", source.trim_end_matches(".rs")), &flags, |output| {
        done(Command::new("rustc").args(flags).arg("-o").arg(output).arg(folder().join(source)));
    })
}

/// The 32-bit program, which no compiler for it need be there for.
///
/// # Panics
/// If binutils cannot make it.
#[must_use]
pub fn build_32_bit() -> PathBuf {
    cached("wait32.s", "wait32", &["--32"], |output| {
        let object = output.with_extension("o");
        done(Command::new("as").arg("--32").arg("-o").arg(&object).arg(folder().join("wait32.s")));
        done(Command::new("ld").args(["-m", "elf_i386", "-o"]).arg(output).arg(&object));
    })
}

/// The same program without its symbol table.
///
/// # Panics
/// If strip does not work.
#[must_use]
pub fn stripped(program: &Path) -> PathBuf {
    let name = program.file_name().expect("a file").to_string_lossy().into_owned();
    let key = program.to_string_lossy().into_owned();
    cached("common.h", &name, &["strip", &key], |output| {
        done(Command::new("strip").arg("--strip-all").arg("-o").arg(output).arg(program));
    })
}

/// A copy of `program` in `folder`, which anyone may run and the test may delete.
///
/// # Panics
/// If it cannot be copied.
#[must_use]
pub fn copied(program: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join(program.file_name().expect("a file"));
    fs::copy(program, &copy).expect("a copy");
    copy
}

/// Address of `symbol` in the file, as its symbol table gives it.
///
/// # Panics
/// If the program has no such symbol.
#[must_use]
pub fn address(program: &Path, symbol: &str) -> u64 {
    let bytes = fs::read(program).expect("the program");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    file.symbols().find(|each| each.name() == Ok(symbol)).expect("the symbol").address()
}

/// What objdump says of `function`, one instruction a line.
///
/// # Panics
/// If objdump does not work.
#[must_use]
pub fn disassembled(program: &Path, function: &str) -> String {
    let wanted = format!("--disassemble={function}");
    let output = Command::new("objdump").args([&wanted, "--no-show-raw-insn"]).arg(program).output().expect("objdump");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| line.starts_with(' ')).collect::<Vec<_>>().join("\n")
}

/// Starts `program`, which waits for `go` before it works.
pub fn waiting(program: &Path, arguments: &[&str], report: &Path, folder: &Path) -> Process {
    let mut command = Command::new(program);
    command.args(arguments).env("ADA_WAIT", "1").env("ADA_REPORT", report);
    let mut process = Process::start(&mut command, folder);
    process.said("ready");
    process
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// target/debug or the like: the folder above this test binary's.
///
/// # Panics
/// If the test binary is not where cargo puts it.
#[must_use]
pub fn build_folder() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    this.parent().and_then(Path::parent).expect("target/<profile>/deps").to_owned()
}

/// Makes the file `name` unless this very source was built this very way before.
fn cached(source: &str, name: &str, flags: &[&str], make: impl FnOnce(&Path)) -> PathBuf {
    let mut hash = DefaultHasher::new();
    for file in [source, "common.h"] {
        fs::read(folder().join(file)).expect("the source").hash(&mut hash);
    }
    (FLAGS, flags).hash(&mut hash);
    let folder = build_folder().join("ada-fixtures").join(format!("{name}-{:016x}", hash.finish()));
    let file = folder.join(name);
    if !file.exists() {
        fs::create_dir_all(&folder).expect("a folder for fixtures");
        let own = tempfile::tempdir_in(&folder).expect("a folder to build in");
        let built = own.path().join(name);
        make(&built);
        put(&built, &file);
    }
    file
}

/// Never in the place of one that another test has made meanwhile, and runs: probes sit on files, not on names.
fn put(built: &Path, file: &Path) {
    let put = fs::hard_link(built, file);
    assert!(put.is_ok() || file.exists(), "cannot put {} in its place: {put:?}", file.display());
}

fn done(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
