//! `test [FILTER]`: everything there is to test: unit, property and end-to-end tests, with root's if run as root.
//!
//! Invariant: cargo's own lines ("test result: ok. N passed") are the report; nothing is swallowed.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{cmd, setup};

/// Runs the subcommand.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.len() > 1 || args.iter().any(|arg| arg.starts_with('-')) {
        bail!("usage: cargo xtask test [FILTER]");
    }
    let begin = Instant::now();
    setup::install_missing();
    build()?;
    let filter = args.iter().map(String::as_str);
    let words: Vec<&str> = ["test", "--workspace"].into_iter().chain(filter).collect();
    cmd::run(&mut cmd::cargo(&words))?;
    let who = if cmd::is_root() { "as root" } else { "without root: privileged tests were skipped" };
    println!("cargo xtask test: all passed, {who}, in {} s", begin.elapsed().as_secs());
    Ok(())
}

/// Builds ada-trace and the test binaries with the very features that `cargo test --workspace` uses: nothing builds twice.
pub(crate) fn build() -> Result<()> {
    cmd::run(&mut cmd::cargo(&["build", "--workspace", "--bins", "--tests"]))
}
