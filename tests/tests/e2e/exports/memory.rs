//! Memory does not grow with events.
//!
//! Invariant: what is measured is the kernel's own high-water mark of a process that runs the command.

use std::path::Path;
use std::process::{Command, Stdio};

use tests::need;
use tests::recorder::ada_trace;
use tests::scratch::Scratch;

use super::session::{Faults, write};

/// Above what a session of a few events takes.
const MOST_MIB: u64 = 40;

/// What tells the most memory of a command in KiB, as the kernel has it for those who wait.
const MEASURE: &str = "\
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";

/// The most memory that an export took, in MiB.
fn peak(scratch: &Scratch, session: &Path, format: &str) -> u64 {
    let target = scratch.join(format);
    let mut command = Command::new("python3");
    command.args(["-c", MEASURE]).arg(ada_trace()).arg("export").arg(session);
    command.args(["--as", format, "--force", "-o"]).arg(&target).stdin(Stdio::null());
    let output = command.output().expect("started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{format}: {said}");
    println!("{}", said.lines().next().unwrap_or_default());
    // One of them is not there.
    let _ = (std::fs::remove_file(&target), std::fs::remove_dir_all(&target));
    String::from_utf8_lossy(&output.stdout).trim().parse::<u64>().expect("a number") / 1024
}

const FORMATS: [&str; 10] =
    ["perfetto", "chrome", "folded", "flamegraph", "speedscope", "firefox", "csv", "jsonl", "ctf", "atf4"];

#[test]
fn a_million_events_take_no_more_memory_than_a_thousand() {
    if !need::program("python3") {
        return;
    }
    let _alone = need::the_machine();
    let scratch = Scratch::new();
    let (few, many) = (scratch.join("few"), scratch.join("many"));
    write(&few, 2, 1000, Faults::All);
    write(&many, 2, 1_000_000, Faults::All);
    for format in FORMATS {
        let (before, after) = (peak(&scratch, &few, format), peak(&scratch, &many, format));
        assert!(after <= before + MOST_MIB, "{format}: {before} MiB for a thousand events, {after} for a million");
    }
}

/// Above what a session of a few events takes: paths take up to 18 bytes each.
const MOST_MIB_FOR_PATHS: u64 = 30;

#[test]
fn a_million_paths_of_a_profile_fit_into_little_memory() {
    if !need::program("python3") {
        return;
    }
    let _alone = need::the_machine();
    let scratch = Scratch::new();
    let (few, many) = (scratch.join("few"), scratch.join("many"));
    write(&few, 1, 1000, Faults::None);
    write(&many, 1, 3_000_000, Faults::None);
    let (before, after) = (peak(&scratch, &few, "firefox"), peak(&scratch, &many, "firefox"));
    assert!(after <= before + MOST_MIB_FOR_PATHS, "{before} MiB for few paths, {after} for many");
}

/// `ADA_TRACE_BIN=target/release/ada-trace cargo test -p tests figures -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes and ten gigabytes; for the figures in docs/exports.md"]
fn figures_of_ten_million_calls() {
    let scratch = Scratch::new();
    let session = scratch.join("session");
    write(&session, 4, 5_000_000, Faults::None);
    for format in FORMATS {
        let begin = std::time::Instant::now();
        let memory = peak(&scratch, &session, format);
        println!("{format}: {:.1} s, {memory} MiB", begin.elapsed().as_secs_f64());
    }
}
