//! `setup`: installs what the tests and benches run beside ada-trace, on Debian as root.
//!
//! Invariant: it never fails: what cannot be installed is named, and the tests that need it say so themselves.

use anyhow::{Result, bail};

use crate::{apt, cmd};

/// A program that the tests or the benches start, and the Debian package it is in.
const PROGRAMS: [(&str, &str); 21] = [
    ("gcc", "gcc"),
    ("g++", "g++"),
    ("objdump", "binutils"),
    ("go", "golang-go"),
    ("python3", "python3"),
    ("bpftrace", "bpftrace"),
    ("bpftool", "bpftool"),
    ("perf", "linux-perf"),
    ("uftrace", "uftrace"),
    ("gdb", "gdb"),
    ("dwz", "dwz"),
    ("strace", "strace"),
    ("podman", "podman"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
    ("redis-server", "redis-server"),
    ("script", "bsdutils"),
    ("sudo", "sudo"),
    ("unshare", "util-linux"),
    ("timeout", "coreutils"),
    ("xz", "xz-utils"),
];

/// Runs the subcommand.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("usage: cargo xtask setup");
    }
    install_missing();
    Ok(())
}

/// Installs what is missing, if it can.
pub(crate) fn install_missing() {
    let missing: Vec<&str> = missing().map(|(_, package)| package).collect();
    if missing.is_empty() {
        return;
    }
    println!("setup: installing {}", missing.join(" "));
    if let Err(error) = apt::install(&missing) {
        install_singly(&missing, &error);
    }
    let still: Vec<&str> = self::missing().map(|(program, _)| program).collect();
    if !still.is_empty() {
        println!("setup: missing: {}; tests that need them are skipped", still.join(", "));
    }
}

/// One package that this Debian does not have must not keep the others away.
fn install_singly(packages: &[&str], error: &anyhow::Error) {
    if !cmd::is_root() || packages.len() == 1 {
        println!("setup: {error:#}");
        return;
    }
    for package in packages {
        if let Err(error) = apt::install(&[package]) {
            println!("setup: {error:#}");
        }
    }
}

fn missing() -> impl Iterator<Item = (&'static str, &'static str)> {
    PROGRAMS.into_iter().filter(|(program, _)| cmd::find(program).is_none())
}
