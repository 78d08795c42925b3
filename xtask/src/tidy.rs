//! `tidy`: checks what neither the compiler nor clippy checks: STYLE's rules about files, the architecture's invariants,
//! the kernel object.
//!
//! Invariant: every finding is one line, `path:line: what, mend`, and all of them are printed.

mod architecture;
mod crates;
mod files;
mod object;
mod usage;

use std::fmt;

use anyhow::{Result, bail};

use crate::cmd;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    what: String,
    severity: Severity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Warning,
    Error,
}

/// A text file of the repository.
#[derive(Clone, Debug)]
struct File {
    /// Relative to the workspace.
    path: String,
    text: String,
}

/// Runs the subcommand.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("usage: cargo xtask tidy");
    }
    let files = tracked()?;
    let mut findings = files::check(&files)?;
    findings.extend(usage::check(&files));
    findings.extend(crates::check()?);
    findings.extend(architecture::check(&files)?);
    findings.extend(object::check());
    report(&findings, files.len())
}

fn report(findings: &[Finding], files: usize) -> Result<()> {
    for finding in findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if errors > 0 {
        bail!("tidy: {errors} findings in {files} files");
    }
    println!("tidy: {files} files, no errors");
    Ok(())
}

/// The text files that are in the repository or about to be.
fn tracked() -> Result<Vec<File>> {
    let list = cmd::output(&mut cmd::command("git", &["ls-files", "-z", "-co", "--exclude-standard"]))?;
    let root = cmd::root();
    let read = |path: &str| {
        let text = std::fs::read_to_string(root.join(path)).ok()?;
        Some(File { path: path.to_owned(), text })
    };
    Ok(list.split_terminator('\0').filter_map(read).collect())
}

impl Finding {
    fn error(path: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, what: what.into(), severity: Severity::Error }
    }

    fn warning(path: &str, line: usize, what: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(path, line, what) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warning = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, "{}:{}: {warning}{}", self.path, self.line, self.what)
    }
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The lines with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}
