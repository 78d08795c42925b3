//! The commands as a user runs them: wall-clock time, and peak resident memory as the kernel has it.
//!
//! Invariant: output goes to /dev/null; memory is asked for once a millisecond, so that what is shown was really used.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ada_query::export::Format;

use crate::Failure;
use crate::row::Row;

/// Peak memory of every command.
const MEMORY: f64 = 200.0;

pub(crate) fn bench(program: &Path, dir: &Path, other: &Path, rounds: usize) -> Result<Vec<Row>, Failure> {
    let commands: [(&str, &[&str]); 7] = [
        ("report", &[]),
        ("report", &["--by", "thread", "--rate"]),
        ("graph", &[]),
        ("timeline", &[]),
        ("replay", &["--limit", "1000000"]),
        ("verify", &[]),
        ("diff", &[]),
    ];
    let mut rows = Vec::new();
    for (name, options) in commands {
        let line = [&[name], options].concat().join(" ");
        let other = (name == "diff").then_some(other);
        rows.extend(best(&line, rounds, || {
            let mut command = Command::new(program);
            command.arg(name).arg(dir).args(other).args(options);
            command
        })?);
    }
    Ok(rows)
}

/// What depends on how many functions there are: `dir` has 5 000, and most of the paths that a tree has room for.
pub(crate) fn bench_many(program: &Path, dir: &Path, rounds: usize) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for name in ["report", "graph"] {
        rows.extend(best(&format!("{name}, 5 000 functions"), rounds, || {
            let mut command = Command::new(program);
            command.arg(name).arg(dir);
            command
        })?);
    }
    Ok(rows)
}

/// The exports: to standard output, or into a folder below `scratch`.
pub(crate) fn bench_exports(program: &Path, dir: &Path, scratch: &Path) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for format in Format::ALL {
        let folder = scratch.join(format.name());
        let output = if format.is_folder() { folder.as_path() } else { Path::new("-") };
        rows.extend(best(&format!("export --as {}", format.name()), 1, || {
            let mut command = Command::new(program);
            command.arg("export").arg(dir).args(["--as", format.name(), "-o"]).arg(output);
            command
        })?);
        if format.is_folder() {
            fs::remove_dir_all(folder)?;
        }
    }
    Ok(rows)
}

/// The least time and the most memory of several rounds.
fn best(line: &str, rounds: usize, command: impl Fn() -> Command) -> Result<[Row; 2], Failure> {
    let (mut shortest, mut most) = (Duration::MAX, 0.0_f64);
    for _ in 0..rounds {
        let (time, memory) = measure(&mut command())?;
        (shortest, most) = (shortest.min(time), most.max(memory));
    }
    let seconds = shortest.as_secs_f64();
    let is_report = matches!(line, "report" | "report, 5 000 functions");
    let (target, met) = if is_report { ("< 0.7 s on 2 cores", seconds < 0.7) } else { ("", true) };
    let memory = format!("{line}: peak memory");
    Ok([
        Row { name: line.to_owned(), value: seconds, unit: "s", target, met },
        Row { name: memory, value: most, unit: "MiB", target: "< 200 MiB", met: most < MEMORY },
    ])
}

/// Time, and peak memory in MiB.
fn measure(command: &mut Command) -> Result<(Duration, f64), Failure> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let mut peak = 0.0_f64;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        peak = peak.max(high_water(&child));
        std::thread::sleep(Duration::from_millis(1));
    };
    let time = start.elapsed();
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok((time, peak))
}

/// `VmHWM` in MiB; 0 once the process is gone.
fn high_water(child: &Child) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
