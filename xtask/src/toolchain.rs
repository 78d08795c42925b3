//! The compiler and the linker of the kernel object: found, or installed where they are missing.
//!
//! The BPF target has no prebuilt core, so the compiler's own library source is needed: rustup's nightly with rust-src,
//! else Debian's rustc-web with rust-web-src. bpf-linker reads LLVM bitcode, so it must be as new as the compiler's LLVM.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{apt, cmd};

const LINKER_VERSION: &str = "0.13";
const LINKER_LLVM: u32 = 22;
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can build `core`, and the linker.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    RustupNightly,
    DebianWeb,
}

impl Toolchain {
    /// Finds the toolchain, installing what is missing.
    pub(crate) fn find_or_install() -> Result<Toolchain> {
        let compiler = Compiler::find().map_or_else(Compiler::install, Ok)?;
        let linker = linker().map_or_else(install_linker, Ok)?;
        Ok(Toolchain { compiler, linker })
    }

    /// A cargo command that compiles with this compiler, free of the settings of the cargo that runs us.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = match self.compiler {
            Compiler::RustupNightly => cmd::command("rustup", &["run", "nightly", "cargo"]),
            Compiler::DebianWeb => cmd::command("cargo", &[]),
        };
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name != "CARGO_HOME" && (name.starts_with("CARGO") || name.starts_with("RUSTC") || name == "RUSTFLAGS") {
                command.env_remove(name);
            }
        }
        if self.compiler == Compiler::DebianWeb {
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    /// The linker's path.
    pub(crate) fn linker(&self) -> String {
        self.linker.display().to_string()
    }

    /// Where the compiler is installed: its library source lies below.
    pub(crate) fn sysroot(&self) -> Result<String> {
        self.compiler.rustc(&["--print", "sysroot"]).map(|path| path.trim().to_owned())
    }

    /// LLVM's objcopy: the compiler's own, else that of the LLVM which bpf-linker was built with.
    pub(crate) fn objcopy(&self) -> Result<Command> {
        let sysroot = PathBuf::from(self.sysroot()?);
        let own = sysroot.join(format!("lib/rustlib/{}-unknown-linux-gnu/bin/rust-objcopy", std::env::consts::ARCH));
        let llvm = PathBuf::from(format!("/usr/lib/llvm-{LINKER_LLVM}/bin/llvm-objcopy"));
        let found = [own, llvm].into_iter().find(|file| file.is_file()).or_else(|| cmd::find("llvm-objcopy"));
        let found = found.with_context(|| format!("no llvm-objcopy: apt-get install llvm-{LINKER_LLVM}"))?;
        let mut command = cmd::command(&found.display().to_string(), &[]);
        command.env("LD_LIBRARY_PATH", sysroot.join("lib"));
        Ok(command)
    }

    /// The versions, a line each.
    pub(crate) fn versions(&self) -> Result<Vec<String>> {
        let linker = cmd::output(&mut cmd::command(&self.linker(), &["--version"]))?;
        let compiler = self.compiler.rustc(&["--version"])?;
        Ok(vec![compiler.trim().to_owned(), linker.trim().to_owned()])
    }
}

impl Compiler {
    fn find() -> Option<Compiler> {
        [Compiler::RustupNightly, Compiler::DebianWeb].into_iter().find(|compiler| compiler.usable())
    }

    /// Has its library's source, and an LLVM that the linker can read.
    fn usable(self) -> bool {
        let Ok(sysroot) = self.rustc(&["--print", "sysroot"]) else { return false };
        let source = PathBuf::from(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
        source.is_file() && self.llvm().is_some_and(|major| major <= LINKER_LLVM)
    }

    fn llvm(self) -> Option<u32> {
        let verbose = self.rustc(&["-vV"]).ok()?;
        let version = verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
        version.split('.').next()?.parse().ok()
    }

    fn rustc(self, args: &[&str]) -> Result<String> {
        let mut command = match self {
            Compiler::RustupNightly => cmd::command("rustup", &["run", "nightly", "rustc"]),
            Compiler::DebianWeb => cmd::command(DEBIAN_RUSTC, &[]),
        };
        cmd::output(command.args(args))
    }

    fn install() -> Result<Compiler> {
        if cmd::find("rustup").is_some() {
            install_nightly();
        }
        if let Some(compiler) = Compiler::find() {
            return Ok(compiler);
        }
        eprintln!("xtask: no nightly with rust-src to be had; installing Debian's rustc-web");
        let debian = apt::install(&["rustc-web", "rust-web-src"]);
        debian.context("the kernel object needs `rustup toolchain install nightly --component rust-src`, or else")?;
        let missing = "the installed compilers cannot build the kernel object";
        Compiler::find()
            .with_context(|| format!("{missing}: install a nightly whose LLVM is at most {LINKER_LLVM}, with rust-src"))
    }
}

/// Without a network rustup tries for minutes: it gets one.
fn install_nightly() {
    let add = ["60", "rustup", "component", "add", "rust-src", "--toolchain", "nightly"];
    let install =
        ["180", "rustup", "toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];
    let have = cmd::succeeds(&mut cmd::command("rustup", &["run", "nightly", "rustc", "--version"]));
    let args: &[&str] = if have { &add } else { &install };
    eprintln!("xtask: {}", args[1..].join(" "));
    cmd::succeeds(&mut cmd::command("timeout", args));
}

/// bpf-linker in PATH or in cargo's home, if its version fits.
fn linker() -> Option<PathBuf> {
    let installed = Some(cmd::cargo_home().join("bin/bpf-linker")).filter(|file| file.is_file());
    let found = installed.or_else(|| cmd::find("bpf-linker"))?;
    let version = cmd::output(&mut cmd::command(&found.display().to_string(), &["--version"])).ok()?;
    version.starts_with(&format!("bpf-linker {LINKER_VERSION}.")).then_some(found)
}

fn install_linker() -> Result<PathBuf> {
    eprintln!("xtask: installing bpf-linker {LINKER_VERSION} (about two minutes)");
    let llvm = format!("llvm-{LINKER_LLVM}-dev");
    let clang = format!("libclang-{LINKER_LLVM}-dev");
    if !apt::is_installed(&llvm) {
        apt::install(&[&llvm, &clang]).context("bpf-linker needs LLVM's development files")?;
    }
    let (version, feature) = (format!("{LINKER_VERSION}.0"), format!("llvm-{LINKER_LLVM}"));
    let mut command = cmd::cargo(&["install", "--quiet", "--locked", "bpf-linker", "--version", &version]);
    command.args(["--no-default-features", "--features", &feature]);
    command.env("LLVM_PREFIX", format!("/usr/lib/llvm-{LINKER_LLVM}")).env_remove("CARGO_TARGET_DIR");
    cmd::run(&mut command).with_context(|| format!("the kernel object needs bpf-linker {LINKER_VERSION}"))?;
    let Some(linker) = linker() else { bail!("bpf-linker {LINKER_VERSION} was installed, but is not in PATH") };
    Ok(linker)
}
