//! `setup`: installs what the tests and benches run beside ada-trace, on Debian as root.
//!
//! Invariant: it never fails: what cannot be installed is named, and the tests that need it say so themselves.

use anyhow::{Result, bail};

use crate::{apt, cmd};

/// A program that the tests or the benches start, and the Debian package it is in.
const PROGRAMS: [(&str, &str); 27] = [
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
    ("pgbench", "postgresql"),
    ("script", "bsdutils"),
    ("sudo", "sudo"),
    ("unshare", "util-linux"),
    ("timeout", "coreutils"),
    ("xz", "xz-utils"),
    ("protoc", "protobuf-compiler"),
    ("babeltrace2", "babeltrace2"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("jsonschema", "python3-jsonschema"),
];

/// What npm has: readers of exports. Neither is part of the build.
const NPM: [&str; 2] = ["speedscope@1.25.0", "@firefox-devtools/profiler-cli@0.10.0"];

/// How long npm may take, as timeout(1) has it.
const NPM_PATIENCE: &str = "120s";

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
    if !missing.is_empty() {
        println!("setup: installing {}", missing.join(" "));
        if let Err(error) = apt::install(&missing) {
            install_singly(&missing, &error);
        }
    }
    install_modules();
    let still: Vec<&str> = self::missing().map(|(program, _)| program).collect();
    if !still.is_empty() {
        println!("setup: missing: {}; tests that need them are skipped", still.join(", "));
    }
}

/// Into the build folder, once for each version.
fn install_modules() {
    let folder = cmd::target_dir().join("npm");
    let (list, wanted) = (folder.join("installed.txt"), NPM.join(" "));
    if std::fs::read_to_string(&list).is_ok_and(|installed| installed == wanted) || cmd::find("npm").is_none() {
        return;
    }
    println!("setup: installing {wanted}");
    let prefix = folder.display().to_string();
    // Without a way to the registry, npm tries for a quarter of an hour.
    let options = [NPM_PATIENCE, "npm", "install", "--fetch-timeout=20000", "--fetch-retries=1", "--no-save"];
    let mut command = cmd::command("timeout", &options);
    command
        .args(["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"])
        .arg(&prefix)
        .args(NPM)
        .stdout(std::process::Stdio::null());
    let installed = std::fs::create_dir_all(&folder)
        .map_err(Into::into)
        .and_then(|()| cmd::run(&mut command))
        .and_then(|()| Ok(std::fs::write(&list, &wanted)?));
    if let Err(error) = installed {
        println!("setup: {error:#}");
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
