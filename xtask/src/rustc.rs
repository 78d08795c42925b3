//! xtask as cargo's RUSTC_WRAPPER while it builds the kernel object.
//!
//! Invariant: a crate's identity does not depend on where its folder lies. Cargo hashes the absolute path of a path
//! dependency outside the workspace into `-C metadata`, rustc hashes that into symbol names, and so the object would
//! differ from checkout to checkout.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cmd;

const AS_RUSTC: &str = "ADA_XTASK_AS_RUSTC";

/// Makes a cargo command compile through this program.
pub(crate) fn wrap(cargo: &mut Command) {
    // Not current_exe(): a build of the workspace may have replaced that file since we started.
    cargo.env("RUSTC_WRAPPER", format!("/proc/{}/exe", std::process::id())).env(AS_RUSTC, "1");
}

/// Whether cargo started this process in rustc's stead.
pub(crate) fn is_wrapped() -> bool {
    std::env::var_os(AS_RUSTC).is_some()
}

/// Becomes rustc; returns only if that fails.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (rustc, args) = args.split_first().context("cargo gave no rustc")?;
    let args = args.iter().map(|arg| match (arg.starts_with("metadata="), identity()) {
        (true, Some(identity)) => format!("metadata={identity}"),
        _ => arg.clone(),
    });
    Err(Command::new(rustc).args(args).exec()).with_context(|| format!("cannot start {rustc}"))
}

/// The package's name and version, unless it comes from a registry: those are known by their source already.
fn identity() -> Option<String> {
    let var = |name| std::env::var(name).ok();
    let from_registry =
        var("CARGO_MANIFEST_DIR")?.starts_with(&cmd::cargo_home().join("registry").display().to_string());
    let identity = format!("{}-{}", var("CARGO_PKG_NAME")?, var("CARGO_PKG_VERSION")?);
    (!from_registry).then_some(identity)
}
