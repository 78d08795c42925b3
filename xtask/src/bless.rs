//! `bless`: rewrites the expected call trees of the end-to-end tests with what was recorded.
//!
//! Invariant: ada-format's golden sessions stay as they are; a format that no longer reads them is broken.

use anyhow::{Result, bail};

use crate::{cmd, test};

/// Runs the subcommand.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.len() > 1 {
        bail!("usage: cargo xtask bless [FILTER]");
    }
    test::build()?;
    let mut command = cmd::cargo(&["test", "--package", "tests"]);
    cmd::run(command.args(args).env("ADA_BLESS", "1"))?;
    println!("blessed; look at `git diff tests`");
    Ok(())
}
