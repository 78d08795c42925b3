//! `build-ebpf`: compiles ada-ebpf for the BPF target into the object that ada-user embeds.
//!
//! Invariant: the same sources and toolchain give the same bytes, wherever the checkout lies; the object keeps its BTF
//! and names no path of this machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::toolchain::Toolchain;
use crate::{cmd, rustc, sources};

const TARGET: &str = "bpfel-unknown-none";

/// Runs the subcommand: `[--out FILE]`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    match args {
        [] => commit(),
        [flag, file] if flag == "--out" => build(Path::new(file)).map(|_| ()),
        _ => bail!("usage: cargo xtask build-ebpf [--out FILE]"),
    }
}

/// Builds the object in the repository and the hashes beside it.
fn commit() -> Result<()> {
    let root = cmd::root();
    let object = root.join(sources::OBJECT);
    let before = sources::hashes().ok();
    let toolchain = build(&object)?;
    let hashes = sources::hashes()?;
    if before.is_some_and(|before| before != hashes) {
        bail!("ada-ebpf's sources changed while they were built: run cargo xtask build-ebpf again");
    }
    let text = sources::hash_file(&toolchain.versions()?, &hashes);
    fs::write(root.join(sources::HASHES), text)?;
    println!("{}: {} bytes", sources::OBJECT, fs::metadata(&object)?.len());
    Ok(())
}

/// Builds the object into `out`.
pub(crate) fn build(out: &Path) -> Result<Toolchain> {
    let manifest = cmd::root().join("ada-ebpf/Cargo.toml");
    if !manifest.is_file() {
        bail!("{} is missing", manifest.display());
    }
    let toolchain = Toolchain::find_or_install()?;
    let built = compile(&toolchain)?;
    let built = strip(&toolchain, &built)?;
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if let Some(found) = forbidden(&bytes) {
        bail!(
            "{} contains '{found}', a path of this machine: extend the remapping in xtask's build_ebpf.rs",
            built.display()
        );
    }
    if let Some(dir) = out.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(out, bytes).with_context(|| format!("cannot write {}", out.display()))?;
    Ok(toolchain)
}

fn compile(toolchain: &Toolchain) -> Result<PathBuf> {
    let target = cmd::target_dir().join("ebpf");
    let dir = cmd::root().join("ada-ebpf");
    // The remapping lists the registry's folders, so the dependencies have to be there.
    let mut fetch = toolchain.cargo();
    cmd::run(fetch.current_dir(&dir).args(["fetch", "--quiet"])).context("cannot fetch ada-ebpf's dependencies")?;
    let mut command = toolchain.cargo();
    command
        .current_dir(dir)
        .args(["build", "--quiet", "--release", "--target", TARGET, "-Z", "build-std=core"])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain)?.join("\u{1f}"));
    rustc::wrap(&mut command);
    cmd::run(&mut command).context("the kernel object does not build")?;
    Ok(target.join(TARGET).join("release/ada"))
}

fn rustflags(toolchain: &Toolchain) -> Result<Vec<String>> {
    let mut flags =
        vec![format!("-Clinker={}", toolchain.linker()), "-Clink-arg=--btf".to_owned(), "-Cdebuginfo=2".to_owned()];
    flags.extend(remapping(toolchain)?.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}")));
    Ok(flags)
}

/// What the object calls the folders of this machine; the last that fits counts.
fn remapping(toolchain: &Toolchain) -> Result<Vec<(String, &'static str)>> {
    let sysroot = toolchain.sysroot()?;
    let library = Path::new(&sysroot).join("lib/rustlib/src/rust");
    let home = cmd::cargo_home();
    let mut pairs = vec![
        (cmd::root().display().to_string(), "ada-trace"),
        (home.display().to_string(), "cargo"),
        (sysroot, "rust"),
        (library.display().to_string(), "rust"),
        (fs::canonicalize(library)?.display().to_string(), "rust"),
    ];
    for registry in fs::read_dir(home.join("registry/src"))? {
        pairs.push((registry?.path().display().to_string(), "crates"));
    }
    Ok(pairs)
}

/// Takes DWARF away; BTF, which the kernel reads, stays.
fn strip(toolchain: &Toolchain, object: &Path) -> Result<PathBuf> {
    let stripped = object.with_extension("stripped");
    cmd::run(toolchain.objcopy()?.arg("--strip-debug").args([object, &stripped]))?;
    Ok(stripped)
}

/// The first path of a machine that the object contains.
pub(crate) fn forbidden(object: &[u8]) -> Option<String> {
    let folders = ["work", "root", "home", "usr", "tmp"].map(|name| format!("/{name}/"));
    let contains = |path: &String| object.windows(path.len()).any(|window| window == path.as_bytes());
    folders.into_iter().find(contains)
}
