//! Without privileges: refused with a sentence that names what is missing.

use std::process::Command;

use tests::fixture::{self, copied};
use tests::need;
use tests::process::run;
use tests::recorder::ada_trace;
use tests::scratch::Scratch;

use crate::refusals::check_sentence;

/// A recording by a program that runs `ada-trace` with less than it needs.
fn refused(runner: &[&str]) -> String {
    let scratch = Scratch::new();
    let program = copied(&ada_trace(), scratch.path());
    let target = copied(&fixture::build("nested.c", &[]), scratch.path());
    let mut command = Command::new(runner[0]);
    command.args(&runner[1..]).arg(program).args(["-q", "-e", "exe:leaf", "-o"]).arg(scratch.join("out")).arg("--");
    let ended = run(command.arg(target).env_remove("SUDO_UID"), scratch.path());
    assert!(!scratch.join("out").exists(), "nothing was to be recorded");
    check_sentence(ended, &[])
}

const AS_NOBODY: [&str; 6] = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

#[test]
fn another_user_is_told_which_capability_is_missing() {
    let root = rustix::process::geteuid().is_root();
    if root && !need::program("setpriv") {
        return;
    }
    // Who is not root already is another user.
    let said = refused(if root { &AS_NOBODY } else { &["env"] });
    assert!(said.contains("CAP_"), "{said}");
    assert!(said.contains("sudo") || said.contains("root"), "no mend in: {said}");
}

#[test]
fn root_without_a_capability_is_told_which() {
    if need::root() && need::program("setpriv") {
        let said = refused(&["setpriv", "--inh-caps=-bpf,-sys_admin", "--bounding-set=-bpf,-sys_admin"]);
        assert!(said.contains("CAP_BPF"), "{said}");
    }
}
