//! The ways to trace a function that `bench hit` compares: how each is attached, stopped, and what it saw.
//!
//! Invariant: all of them probe the same function of the same program, and none decides when the calls begin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::fixture::Fixture;
use super::tracefs;
use crate::cmd;

/// A way to trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracer {
    /// Not at all.
    None,
    /// ada-trace's probes with empty programs.
    Empty,
    /// ada-trace, calls and returns.
    Record,
    /// ada-trace, calls and returns, with its probe on the first instruction as everybody's.
    RecordAtEntry,
    /// ada-trace, calls only.
    RecordEntry,
    /// ada-trace, calls and returns with their registers, and at a call so many bytes of stack.
    Detail(u16),
    /// bpftrace, counting calls in the kernel.
    BpftraceCount,
    /// bpftrace, printing time, thread and first argument of each call.
    BpftracePrintf,
    /// perf record, calls only.
    PerfCall,
    /// perf record, calls and returns.
    Perf,
}

/// What a tracer saw.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Events it has kept.
    pub(super) events: u64,
    /// Events it says it lost.
    pub(super) lost: u64,
}

/// A tracer at work on a fixture.
#[derive(Debug)]
pub(super) struct Running {
    tracer: Tracer,
    child: Option<Child>,
    out: PathBuf,
}

/// Where the tracers and their output are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The ada-trace to measure.
    pub(super) ada_trace: PathBuf,
    /// The program whose function is traced.
    pub(super) program: PathBuf,
    /// Where output may be written.
    pub(super) scratch: PathBuf,
}

impl Tracer {
    /// All, in the order of the table.
    pub(super) const ALL: [Tracer; 12] = [
        Tracer::None,
        Tracer::Empty,
        Tracer::Record,
        Tracer::RecordAtEntry,
        Tracer::RecordEntry,
        Tracer::Detail(0),
        Tracer::Detail(128),
        Tracer::Detail(512),
        Tracer::BpftraceCount,
        Tracer::BpftracePrintf,
        Tracer::PerfCall,
        Tracer::Perf,
    ];

    /// Its name in the table.
    pub(super) fn name(self) -> String {
        let name = match self {
            Tracer::Detail(stack) => return format!("ada-trace --detail --stack {stack}, call+return"),
            Tracer::None => "untraced",
            Tracer::Empty => "empty BPF program, call+return",
            Tracer::Record => "ada-trace, call+return",
            Tracer::RecordAtEntry => "ada-trace --placement entry, call+return",
            Tracer::RecordEntry => "ada-trace --entry-only, call",
            Tracer::BpftraceCount => "bpftrace count(), call",
            Tracer::BpftracePrintf => "bpftrace printf(nsecs, tid, arg0), call",
            Tracer::PerfCall => "perf record, call",
            Tracer::Perf => "perf record, call+return",
        };
        name.to_owned()
    }

    /// Whether it is ada-trace, recording.
    fn records(self) -> bool {
        matches!(self, Tracer::Record | Tracer::RecordAtEntry | Tracer::RecordEntry | Tracer::Detail(_))
    }

    /// Events it should see of each call; 0 if it keeps none.
    pub(super) fn events_per_call(self) -> u64 {
        match self {
            Tracer::None | Tracer::Empty => 0,
            Tracer::RecordEntry | Tracer::BpftraceCount | Tracer::BpftracePrintf | Tracer::PerfCall => 1,
            Tracer::Record | Tracer::RecordAtEntry | Tracer::Detail(_) | Tracer::Perf => 2,
        }
    }

    /// The program that has to be installed for it.
    pub(super) fn needs(self) -> Option<&'static str> {
        match self {
            Tracer::BpftraceCount | Tracer::BpftracePrintf => Some("bpftrace"),
            Tracer::PerfCall | Tracer::Perf => Some("perf"),
            _ => None,
        }
    }

    /// Attaches to a fixture's function and returns when its probes are there.
    pub(super) fn attach(self, place: &Place, fixture: &mut Fixture, function: &str) -> Result<Running> {
        let out = place.scratch.join("out");
        remove(&out)?;
        let mut running = Running { tracer: self, child: None, out };
        if self == Tracer::None {
            return Ok(running);
        }
        let mut command = self.command(place, &running.out, fixture.pid(), function);
        let log = fs::File::create(place.scratch.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        running.child = Some(command.spawn().with_context(|| format!("cannot start {}", self.name()))?);
        running.wait_attached(fixture).with_context(|| running.log(place))?;
        Ok(running)
    }

    fn command(self, place: &Place, out: &Path, pid: u32, function: &str) -> Command {
        let pid = pid.to_string();
        match self {
            Tracer::None | Tracer::Empty => ada(place, &["bench-empty", "-e", &format!("exe:{function}"), "-p", &pid]),
            Tracer::Record => recording(place, out, &pid, function, &[]),
            Tracer::RecordAtEntry => recording(place, out, &pid, function, &["--placement", "entry"]),
            Tracer::RecordEntry => recording(place, out, &pid, function, &["--entry-only"]),
            Tracer::Detail(stack) => {
                recording(place, out, &pid, function, &["--detail", "--stack", &stack.to_string()])
            }
            Tracer::BpftraceCount => bpftrace(place, out, &pid, function, "@ = count();"),
            Tracer::BpftracePrintf => {
                bpftrace(place, out, &pid, function, r#"printf("%llu %d %lld\n", nsecs, tid, arg0);"#)
            }
            Tracer::PerfCall | Tracer::Perf => {
                let [call, back] = tracefs::events(function);
                let returns = ["-e", back.as_str()];
                let returns = if self == Tracer::Perf { returns.as_slice() } else { &[] };
                let mut command = tracefs::perf(&["record", "-e", &call]);
                command.args(returns).args(["-p", &pid, "-o"]).arg(out);
                command
            }
        }
    }
}

fn ada(place: &Place, args: &[&str]) -> Command {
    cmd::command(&place.ada_trace.display().to_string(), args)
}

fn recording(place: &Place, out: &Path, pid: &str, function: &str, more: &[&str]) -> Command {
    let mut command = ada(place, &["-q", "-e", &format!("exe:{function}"), "-p", pid]);
    command.args(more).arg("-o").arg(out);
    command
}

fn bpftrace(place: &Place, out: &Path, pid: &str, function: &str, action: &str) -> Command {
    let script = format!("uprobe:{}:{function} {{ {action} }}", place.program.display());
    let mut command = cmd::command("bpftrace", &["-p", pid, "-e", &script, "-o"]);
    command.arg(out);
    command
}

impl Running {
    /// The first probe shows in the code; ada-trace says when all are there, the others get a moment.
    fn wait_attached(&self, fixture: &mut Fixture) -> Result<()> {
        fixture.wait_armed()?;
        if !self.tracer.records() {
            std::thread::sleep(Duration::from_millis(300));
            return Ok(());
        }
        let manifest = self.out.join("manifest.json");
        let begin = Instant::now();
        while !manifest.exists() {
            if begin.elapsed() > Duration::from_secs(20) {
                bail!("ada-trace wrote no manifest within 20 s");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The most memory that the tracer has used, in bytes.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.as_ref()?.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// Stops the tracer as Ctrl-C would, and reads what it saw.
    pub(super) fn stop(mut self, place: &Place) -> Result<Seen> {
        let Some(mut child) = self.child.take() else { return Ok(Seen::default()) };
        interrupt(&mut child)?;
        let seen = self.seen(place).with_context(|| self.log(place))?;
        remove(&self.out)?;
        Ok(seen)
    }

    fn seen(&self, place: &Place) -> Result<Seen> {
        match self.tracer {
            Tracer::None | Tracer::Empty => Ok(Seen::default()),
            _ if self.tracer.records() => seen_by_ada(&self.out),
            Tracer::BpftraceCount | Tracer::BpftracePrintf => seen_by_bpftrace(&self.out),
            _ => seen_by_perf(&fs::read_to_string(place.scratch.join("log"))?),
        }
    }

    fn log(&self, place: &Place) -> String {
        let log = fs::read_to_string(place.scratch.join("log")).unwrap_or_default();
        format!("{}: {}", self.tracer.name(), log.trim())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Time between signals to a tracer that does not end.
const AGAIN: Duration = Duration::from_secs(10);

/// SIGINT, and again every ten seconds: bpftrace 0.17 sometimes sleeps through one. No recorder here needs so long to end
/// that a second one would cut it short.
fn interrupt(child: &mut Child) -> Result<()> {
    let begin = Instant::now();
    for attempt in 0..6 {
        cmd::run(&mut cmd::command("sh", &["-c", &format!("kill -INT {}", child.id())]))?;
        while begin.elapsed() < AGAIN * (attempt + 1) {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    child.kill()?;
    bail!("did not end within 60 s of SIGINT")
}

/// From the manifest: the events of all threads, and the losses.
pub(super) fn seen_by_ada(session: &Path) -> Result<Seen> {
    let manifest: Value = serde_json::from_str(&fs::read_to_string(session.join("manifest.json"))?)?;
    let threads = manifest["threads"].as_array().context("the manifest lists no threads")?;
    let events = threads.iter().filter_map(|thread| thread["event_count"].as_u64()).sum();
    let lost = manifest["lost"]["total"].as_u64().context("the manifest does not say what was lost")?;
    Ok(Seen { events, lost })
}

/// The count it printed, or the lines; and what it says it lost.
fn seen_by_bpftrace(out: &Path) -> Result<Seen> {
    let mut seen = Seen::default();
    for line in String::from_utf8_lossy(&fs::read(out)?).lines() {
        if let Some(count) = line.strip_prefix("@: ") {
            seen.events = count.trim().parse()?;
        } else if let Some(lost) = line.strip_prefix("Lost ") {
            seen.lost += lost.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        } else if line.starts_with(|c: char| c.is_ascii_digit()) {
            seen.events += 1;
        }
    }
    Ok(seen)
}

/// `[ perf record: Captured and wrote 17.5 MB out (200000 samples) ]`, and losses if there were.
pub(super) fn seen_by_perf(log: &str) -> Result<Seen> {
    let (_, samples) = log.rsplit_once(" (").context("perf names no samples")?;
    let events = samples.split(' ').next().and_then(|n| n.parse().ok()).context("perf names no samples")?;
    let lost = log.split("lost ").nth(1).and_then(|n| n.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    Ok(Seen { events, lost: lost.unwrap_or(0) })
}

fn remove(path: &Path) -> Result<()> {
    match path.is_dir() {
        true => fs::remove_dir_all(path)?,
        false if path.exists() => fs::remove_file(path)?,
        false => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::seen_by_perf;

    #[test]
    fn perf_says_how_many() {
        let log = "[ perf record: Woken up 9 times to write data ]\n[ perf record: Captured and wrote 17.5 MB out (200000 samples) ]\n";
        assert_eq!(seen_by_perf(log).map(|seen| seen.events).ok(), Some(200_000));
        assert!(seen_by_perf("").is_err());
    }
}
