//! `ci`: what a change must pass. `.ci/run` calls it, and so can anyone.
//!
//! Invariant: every step is something that a person can type, and the tests are the README's own command.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{bench, build_ebpf, cmd, sources, tidy};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 8] = [
    ("fmt", fmt),
    ("clippy", clippy),
    ("tidy", || tidy::run(&[])),
    ("README's test command", readme_tests),
    ("bench --short", || bench::run(&["--short".to_owned()])),
    ("build-ebpf, afresh", rebuild_object),
    ("ada-trace with the fresh object", build_with_fresh_object),
    ("end-to-end tests on the fresh object", test_fresh_object),
];

/// Runs the subcommand.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("usage: cargo xtask ci");
    }
    let begin = Instant::now();
    for (name, step) in STEPS {
        println!("== {name}");
        let step_begin = Instant::now();
        step().with_context(|| format!("CI stopped at '{name}'"))?;
        println!("== {name}: ok in {:.1} s\n", step_begin.elapsed().as_secs_f64());
    }
    println!("== CI passed in {} s", begin.elapsed().as_secs());
    Ok(())
}

fn fmt() -> Result<()> {
    cmd::run(&mut cmd::cargo(&["fmt", "--all", "--check"]))?;
    cmd::run(&mut cmd::cargo(&["fmt", "--manifest-path", "ada-ebpf/Cargo.toml", "--check"]))
}

fn clippy() -> Result<()> {
    cmd::run(&mut cmd::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// What a newcomer types: the first fenced block under the README's heading "Tests", run by bash.
fn readme_tests() -> Result<()> {
    let readme = fs::read_to_string(cmd::root().join("README.md")).context("README.md")?;
    let block = first_block(&readme, "tests").context("README.md has no fenced block under a heading 'Tests'")?;
    println!("$ {}", block.trim());
    let mut command = cmd::command("bash", &["-e", "-c", &block]);
    cmd::forget_cargo(&mut command);
    require_root(&mut command);
    cmd::run(&mut command)
}

/// The object is compared with the committed one for information: another compiler gives other bytes.
fn rebuild_object() -> Result<()> {
    let fresh = fresh_object();
    build_ebpf::build(&fresh)?;
    let same = fs::read(&fresh)? == fs::read(cmd::root().join(sources::OBJECT))?;
    let note = if same { "the same bytes as" } else { "not the bytes of (another toolchain built that)" };
    println!("the fresh object has {note} {}", sources::OBJECT);
    Ok(())
}

/// Only ada-user embeds the object, so only it is compiled again.
fn build_with_fresh_object() -> Result<()> {
    let mut build = cmd::cargo(&["build", "--workspace", "--bins", "--tests"]);
    cmd::run(build.env("ADA_BPF_OBJECT", fresh_object()))?;
    fs::copy(cmd::target_dir().join("debug/ada-trace"), fresh_ada_trace())?;
    Ok(())
}

fn test_fresh_object() -> Result<()> {
    let mut tests = cmd::cargo(&["test", "--workspace", "--test", "*"]);
    tests.env("ADA_BPF_OBJECT", fresh_object()).env("ADA_TRACE_BIN", fresh_ada_trace());
    require_root(&mut tests);
    cmd::run(&mut tests)
}

fn fresh_object() -> PathBuf {
    cmd::target_dir().join("fresh/ada.bpf.o")
}

fn fresh_ada_trace() -> PathBuf {
    cmd::target_dir().join("fresh/ada-trace")
}

/// As root no privileged test may be skipped.
fn require_root(command: &mut std::process::Command) {
    if cmd::is_root() {
        command.env("ADA_REQUIRE_ROOT", "1");
    }
}

/// The first fenced block under the first heading that contains a word, as a newcomer finds it.
fn first_block(markdown: &str, word: &str) -> Option<String> {
    let is_heading = |line: &&str| line.starts_with('#') && line.to_lowercase().contains(word);
    let after = markdown.lines().skip_while(|line| !is_heading(line));
    let block = after.skip_while(|line| !line.starts_with("```")).skip(1);
    let lines: Vec<&str> = block.take_while(|line| !line.starts_with("```")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::first_block;

    #[test]
    fn the_first_block_under_the_heading_counts() {
        let readme = "# A\n```\nno\n```\n## Tests\nText.\n```sh\ncargo xtask test\n```\n```\nno\n```\n";
        assert_eq!(first_block(readme, "tests").as_deref(), Some("cargo xtask test"));
        assert_eq!(first_block("# Tests\n", "tests"), None);
    }
}
