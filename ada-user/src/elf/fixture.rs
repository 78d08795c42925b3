//! Small programs compiled for tests.
//!
//! Invariant: `cc` is there; every machine that tests this crate has it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source` (C++ if `name` says so) to `folder/name`.
pub(crate) fn compile(folder: &Path, name: &str, source: &str, arguments: &[&str]) -> PathBuf {
    let cpp = arguments.contains(&"-xc++");
    let source_path = folder.join(format!("{name}.{}", if cpp { "cc" } else { "c" }));
    std::fs::write(&source_path, source).unwrap();
    let output = folder.join(name);
    let compiler = if cpp { "c++" } else { "cc" };
    run(Command::new(compiler)
        .args(["-O1", "-g", "-o"])
        .arg(&output)
        .arg(&source_path)
        .args(arguments.iter().filter(|argument| **argument != "-xc++")));
    output
}

/// Runs a command and gives its standard output; it must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Says that a test cannot run here; where CI promises that all can (`ADA_REQUIRE_ROOT=1`), that is a failure.
pub(crate) fn skip(needs: &str) {
    assert!(std::env::var_os("ADA_REQUIRE_ROOT").is_none_or(|value| value != "1"), "needs {needs}");
    println!("skipped: needs {needs}");
}
