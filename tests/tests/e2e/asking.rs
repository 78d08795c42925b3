//! Commands that record nothing: list, doctor, completions, help and version.

use std::path::Path;
use std::process::Command;

use tests::fixture;
use tests::need;
use tests::recorder::ada;
use tests::scratch::Scratch;

fn said<const N: usize>(arguments: [&str; N]) -> String {
    ada(&Scratch::new(), arguments).success().out
}

fn path(program: &Path) -> &str {
    program.to_str().expect("UTF-8")
}

#[test]
fn list_shows_what_would_be_probed_in_a_file() {
    let program = fixture::build("nested.c", &[]);
    let address = fixture::address(&program, "outer");
    let listed = said(["list", "exe:outer", "--path", path(&program)]);
    for fact in [path(&program), "outer", &format!("{address:#x}"), "push"] {
        assert!(listed.contains(fact), "no {fact:?} in: {listed}");
    }
}

#[test]
fn list_shows_what_would_be_probed_in_a_process() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let mut target = fixture::waiting(&fixture::build("nested.c", &[]), &[], &scratch.join("report"), scratch.path());
    let listed = said(["list", "exe:leaf", "libc:malloc", "-p", &target.pid().to_string()]);
    for fact in ["leaf", "malloc", "libc.so.6"] {
        assert!(listed.contains(fact), "no {fact:?} in: {listed}");
    }
    target.tell("go");
    drop(target.end().success());
}

#[test]
fn doctor_tells_about_the_machine() {
    let ended = ada(&Scratch::new(), ["doctor"]);
    assert!(ended.status.code().is_some(), "{}", ended.status);
    let kernel = rustix::system::uname();
    let release = kernel.release().to_string_lossy().into_owned();
    for fact in [release.as_str(), "BTF", "CAP_BPF", "lockdown", "tracefs", "rlimit"] {
        let found = ended.out.to_lowercase().contains(&fact.to_lowercase());
        assert!(found, "no {fact:?} in: {}", ended.out);
    }
}

#[test]
fn completions_are_scripts_that_the_shell_understands() {
    let script = said(["completions", "bash"]);
    assert!(script.contains("ada-trace") && script.contains("--uprobe"));
    assert!(Command::new("bash").args(["-n", "-c", &script]).status().expect("bash").success());
    for shell in ["zsh", "fish"] {
        assert!(said(["completions", shell]).contains("ada-trace"));
    }
    let unknown = ada(&Scratch::new(), ["completions", "perfect-shell"]).code(2);
    assert!(unknown.err.contains("perfect-shell"), "{}", unknown.err);
}

#[test]
fn help_and_version() {
    for option in ["-p", "-d", "-o", "-q", "--uprobe", "--entry-only", "--attach", "--buffer-size", "--strict"] {
        assert!(said(["--help"]).contains(option), "no {option} in --help");
    }
    assert!(said(["--version"]).starts_with("ada-trace "));
}
