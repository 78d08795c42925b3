//! The second half of `bench query`: the same question put to ada-trace, uftrace and perf, each on its own recording of
//! `xtask/fixtures/calls.c`, which calls the same functions equally often each time.
//!
//! Invariant: all recordings are in the page cache before anything is measured, the rounds are interleaved and of each
//! asker the best one counts; time is shared among the events of its recording, as the recorder counts them (uftrace does
//! not: as the program makes them).

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{fixture, report, tracefs, tracer};
use crate::cmd;

/// Calls in a tree of the fixture, and the functions that they are of.
const CALLS_PER_TREE: u64 = 1023;
const FUNCTIONS: [&str; 10] =
    ["level0", "level1", "level2", "level3", "level4", "level5", "level6", "level7", "level8", "level9"];
/// Threads of the fixture.
const THREADS: u64 = 2;
/// How many times faster than the fastest of the others ada-trace has to be.
const FASTER: f64 = 10.0;

/// What is measured: so many trees in each thread, asked so often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) trees: u64,
    pub(super) rounds: usize,
}

/// Somebody who answers from a recording.
struct Asker {
    name: &'static str,
    command: Vec<String>,
    events: u64,
    times: Vec<Duration>,
}

impl Asker {
    fn new(name: &'static str, command: &[&str], recording: &Path, events: u64) -> Asker {
        let command = command.iter().map(ToString::to_string).chain([recording.display().to_string()]).collect();
        Asker { name, command, events, times: Vec::new() }
    }

    fn ask(&mut self) -> Result<()> {
        let Some((program, arguments)) = self.command.split_first() else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        let begin = Instant::now();
        cmd::run(&mut command)?;
        self.times.push(begin.elapsed());
        Ok(())
    }

    fn best(&self) -> Duration {
        self.times.iter().copied().min().unwrap_or(Duration::MAX)
    }

    fn ns_per_event(&self) -> f64 {
        self.best().as_secs_f64() * 1e9 / self.events as f64
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) table: String,
    pub(super) numbers: Value,
    /// Whether ada-trace is as fast as it has to be; yes if nobody else is installed.
    pub(super) met: bool,
}

/// Records and asks; who is not installed is left out, and named. The folder `scratch` is made anew, and removed afterwards.
pub(super) fn run(ada_trace: &Path, scratch: &Path, size: Size) -> Result<Compared> {
    // A run that was interrupted has left its own.
    let _ = fs::remove_dir_all(scratch);
    fs::create_dir_all(scratch)?;
    let compared = compare(ada_trace, scratch, size);
    let _ = fs::remove_dir_all(scratch);
    compared
}

fn compare(ada_trace: &Path, scratch: &Path, size: Size) -> Result<Compared> {
    let mut askers = vec![ada(ada_trace, scratch, size)?];
    let mut absent = String::new();
    for (program, record) in [("uftrace", uftrace as Recording), ("perf", perf)] {
        match cmd::find(program) {
            Some(_) => askers.extend(record(scratch, size)?),
            None => {
                let _ = writeln!(absent, "{program} is not installed: left out");
            }
        }
    }
    for round in 0..size.rounds {
        for asker in &mut askers {
            // perf takes long: once is enough to see that.
            if round == 0 || asker.best() < Duration::from_secs(10) {
                asker.ask()?;
            }
        }
    }
    let numbers = Value::Array(askers.iter().map(numbers).collect());
    Ok(Compared { table: table(&askers) + &absent, numbers, met: faster(&askers).is_none_or(|times| times >= FASTER) })
}

type Recording = fn(&Path, Size) -> Result<Vec<Asker>>;

fn ada(ada_trace: &Path, scratch: &Path, size: Size) -> Result<Asker> {
    let (program, session) = (compiled(scratch, "calls", &[])?, scratch.join("session"));
    let mut command = Command::new(ada_trace);
    command.args(["--quiet", "--strict", "--buffer-size", "64M", "-e", "exe:level*", "-o"]);
    command.arg(&session).arg("--").arg(program);
    cmd::run(calls(&mut command, size))?;
    let events = tracer::seen_by_ada(&session)?.events;
    let ada_trace = ada_trace.display().to_string();
    Ok(Asker::new("ada-trace report", &[&ada_trace, "report"], &session, events))
}

fn uftrace(scratch: &Path, size: Size) -> Result<Vec<Asker>> {
    let (program, data) = (compiled(scratch, "calls-pg", &["-pg"])?, scratch.join("uftrace.data"));
    let mut command = cmd::command("uftrace", &["record", "--no-libcall", "--no-event", "--data"]);
    cmd::run(calls(command.arg(&data).arg(program), size))?;
    // It records what the program calls once besides, such as main.
    let events = 2 * CALLS_PER_TREE * THREADS * size.trees;
    Ok(vec![Asker::new("uftrace report", &["uftrace", "report", "--data"], &data, events)])
}

fn perf(scratch: &Path, size: Size) -> Result<Vec<Asker>> {
    let (program, data, log) =
        (compiled(scratch, "calls-perf", &[])?, scratch.join("perf.data"), scratch.join("perf.log"));
    let definitions = tracefs::Definitions::add(&program, &FUNCTIONS)?;
    let mut command = tracefs::perf(&["record", "--mmap-pages", "16M"]);
    for event in FUNCTIONS.into_iter().flat_map(tracefs::events) {
        command.args(["--event", &event]);
    }
    command.arg("--output").arg(&data).arg(program).stderr(File::create(&log)?);
    cmd::run(calls(&mut command, size)).with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    drop(definitions);
    let events = tracer::seen_by_perf(&fs::read_to_string(&log)?)?.events;
    let asker = |name, command: &[&str]| Asker::new(name, command, &data, events);
    Ok(vec![
        asker("perf report", &["perf", "report", "--stdio", "--input"]),
        asker("perf script", &["perf", "script", "--input"]),
    ])
}

fn compiled(scratch: &Path, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let program = scratch.join(name);
    fixture::gcc("xtask/fixtures/calls.c", &program, flags)?;
    Ok(program)
}

fn calls(command: &mut Command, size: Size) -> &mut Command {
    command.args([THREADS.to_string(), size.trees.to_string()])
}

/// How many times as long the fastest of the others took for an event.
fn faster(askers: &[Asker]) -> Option<f64> {
    let (own, others) = askers.split_first()?;
    let least = others.iter().map(Asker::ns_per_event).min_by(f64::total_cmp)?;
    Some(least / own.ns_per_event())
}

fn table(askers: &[Asker]) -> String {
    let header = ["", "events", "seconds", "ns/event", "times ada-trace's"].map(str::to_owned);
    let own = askers.first().map_or(f64::NAN, Asker::ns_per_event);
    let row = |asker: &Asker| {
        let seconds = asker.best().as_secs_f64();
        let each = asker.ns_per_event();
        vec![
            asker.name.to_owned(),
            asker.events.to_string(),
            format!("{seconds:.2}"),
            format!("{each:.1}"),
            format!("{:.1}", each / own),
        ]
    };
    let mut text = report::table(&header, &askers.iter().map(row).collect::<Vec<_>>());
    if let Some(times) = faster(askers) {
        let met = if times >= FASTER { "met" } else { "MISSED" };
        let _ = writeln!(text, "\n{times:.1} times faster per event than the fastest of them; target {FASTER} ({met})");
    }
    text
}

fn numbers(asker: &Asker) -> Value {
    let seconds: Vec<f64> = asker.times.iter().map(Duration::as_secs_f64).collect();
    json!({ "name": asker.name, "events": asker.events, "seconds": seconds, "ns_per_event": asker.ns_per_event() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(events: u64, seconds: &[u64]) -> Asker {
        let times = seconds.iter().copied().map(Duration::from_secs).collect();
        Asker { name: "x", command: Vec::new(), events, times }
    }

    #[test]
    fn the_fastest_of_the_others_is_the_measure() {
        let askers = [asker(1000, &[2, 1]), asker(2000, &[50]), asker(1000, &[30, 20, 40])];
        assert_eq!(faster(&askers), Some(20.0));
        assert_eq!(faster(&askers[..1]), None);
    }
}
