//! Memory does not grow with events.
//!
//! Invariant: what is measured is the kernel's own high-water mark of a process that runs the command.

use std::process::{Command, Stdio};

use tests::need;
use tests::recorder::ada_trace;
use tests::scratch::Scratch;

use super::session::{Faults, write};

/// Above what a session of a few events takes.
const MOST_MIB: u64 = 40;

/// The most memory that a command had, in MiB: what the kernel tells who waits for it.
fn peak(session: &str, format: &str, target: &str) -> u64 {
    let mut command = Command::new("python3");
    command.args(["-c", "import os, resource, subprocess, sys\nsubprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)\nprint(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"]);
    command.arg(ada_trace()).args(["export", session, "--as", format, "--force", "-o", target]);
    let output = command.stdin(Stdio::null()).output().expect("started");
    assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().expect("a number") / 1024
}

#[test]
fn a_million_spans_take_no_more_memory_than_a_thousand() {
    if !need::program("python3") {
        return;
    }
    let _alone = need::the_machine();
    let scratch = Scratch::new();
    let (few, many) = (scratch.join("few"), scratch.join("many"));
    write(&few, 2, 1000, Faults::All);
    write(&many, 2, 1_000_000, Faults::All);
    for format in ["perfetto", "chrome", "folded", "flamegraph", "speedscope", "firefox", "csv", "jsonl", "ctf", "atf4"]
    {
        let target = scratch.join(format);
        let of = |session: &std::path::Path| peak(session.to_str().unwrap(), format, target.to_str().unwrap());
        let (before, after) = (of(&few), of(&many));
        assert!(after <= before + MOST_MIB, "{format}: {before} MiB for a thousand events, {after} for a million");
        let _ = std::fs::remove_file(&target);
        let _ = std::fs::remove_dir_all(&target);
    }
}
