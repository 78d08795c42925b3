//! `bench attach`: how long it takes to probe thousands of functions of a running program, and to let go of them.
//!
//! Invariant: the functions begin with endbr64, as in distributions' binaries, and each has a probe for its calls and one for its
//! returns; all times are seen from outside, by the clock that the session's timestamps are of.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::Options;
use super::report::{self, median};
use crate::cmd;

/// Functions, and what starting and ending may take, in seconds: from the command's start to its first event, and from Ctrl-C to its
/// end.
const SIZES: [(usize, f64, f64); 2] = [(5_363, 0.5, 0.5), (50_000, 2.0, 2.0)];

/// The medians of one size.
#[derive(Debug)]
struct Line {
    functions: usize,
    first_event: f64,
    end: f64,
    allowed: (f64, f64),
}

/// Runs the bench.
pub(super) fn run(options: &Options) -> Result<()> {
    if !cmd::is_root() {
        println!("skipped: needs root");
        return Ok(());
    }
    let scratch = cmd::target_dir().join("bench-attach");
    fs::create_dir_all(&scratch)?;
    let ada_trace = options.ada_trace()?;
    let sizes = SIZES.iter().take(if options.short { 1 } else { SIZES.len() });
    let lines = sizes.map(|size| measure(*size, &ada_trace, &scratch, options)).collect::<Result<Vec<_>>>()?;
    let text = table(&lines);
    print!("{text}");
    if !options.short {
        let numbers: Vec<Value> = lines.iter().map(Line::json).collect();
        report::keep("attach", &text, &json!(numbers))?;
        if let Some(line) = lines.iter().find(|line| line.first_event > line.allowed.0 || line.end > line.allowed.1) {
            bail!("{} functions took longer than allowed", line.functions);
        }
    }
    Ok(())
}

fn measure((functions, first, end): (usize, f64, f64), ada: &Path, scratch: &Path, options: &Options) -> Result<Line> {
    let program = compile(functions, scratch)?;
    let (mut firsts, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (first_event, end) = once(&program, ada, scratch)?;
        firsts.push(first_event);
        ends.push(end);
    }
    Ok(Line { functions, first_event: median(&firsts), end: median(&ends), allowed: (first, end) })
}

/// One recording: seconds from the start to the first event, and from Ctrl-C to the end.
fn once(program: &Path, ada: &Path, scratch: &Path) -> Result<(f64, f64)> {
    let session = scratch.join("session");
    if session.exists() {
        fs::remove_dir_all(&session)?;
    }
    let mut target = Target::start(program)?;
    let pid = target.0.id().to_string();
    let began = boottime();
    let mut recorder = Command::new(ada).args(["-q", "-e", "exe:f[0-9]*", "-p", &pid, "-o"]).arg(&session).spawn()?;
    wait_for(&session.join("manifest.json"))?;
    std::thread::sleep(Duration::from_millis(500));
    let interrupted = boottime();
    cmd::run(&mut cmd::command("kill", &["-INT", &recorder.id().to_string()]))?;
    if !recorder.wait()?.success() {
        bail!("ada-trace failed");
    }
    let end = boottime() - interrupted;
    target.0.stdin = None;
    let manifest: Value = serde_json::from_str(&fs::read_to_string(session.join("manifest.json"))?)?;
    let first = manifest["time_start_ns"].as_u64().context("the manifest has no first event")?;
    if manifest["lost"]["total"] != 0 || first == 0 {
        bail!("the recording is not complete: {}", manifest["lost"]);
    }
    fs::remove_dir_all(&session)?;
    Ok((first as f64 / 1e9 - began, end))
}

/// A fixture at work; it ends when its standard input does, or this is dropped.
struct Target(Child);

impl Target {
    fn start(program: &Path) -> Result<Self> {
        let child = Command::new(program).stdin(Stdio::piped()).spawn().context("cannot start the fixture")?;
        std::thread::sleep(Duration::from_millis(100));
        Ok(Self(child))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(path: &Path) -> Result<()> {
    for _ in 0..20_000 {
        if path.exists() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("ada-trace did not begin to record within 20 s")
}

fn compile(functions: usize, scratch: &Path) -> Result<PathBuf> {
    let (source, program) = (scratch.join(format!("{functions}.s")), scratch.join(format!("many-{functions}")));
    let mut text = String::from(".text\n");
    for i in 0..functions {
        writeln!(
            text,
            ".globl f{i}\n.type f{i},@function\nf{i}: endbr64; push %rbp; pop %rbp; ret\n.size f{i},.-f{i}"
        )?;
    }
    text.push_str(".section .rodata\n.globl table,table_size\n.balign 8\ntable:\n");
    for i in 0..functions {
        writeln!(text, ".quad f{i}")?;
    }
    writeln!(text, "table_size: .quad {functions}\n.section .note.GNU-stack")?;
    fs::write(&source, text)?;
    let mut command = cmd::command("gcc", &["-O1", "-no-pie", "xtask/fixtures/attach.c"]);
    cmd::run(command.arg(&source).arg("-o").arg(&program))?;
    Ok(program)
}

/// Seconds since the machine started.
fn boottime() -> f64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

impl Line {
    fn json(&self) -> Value {
        json!({ "functions": self.functions, "start_to_first_event_s": self.first_event, "interrupt_to_end_s": self.end })
    }
}

fn table(lines: &[Line]) -> String {
    let header = ["functions of a running program", "start to first event", "Ctrl-C to end", "allowed"];
    let row = |line: &Line| {
        let (first, end) = line.allowed;
        vec![
            line.functions.to_string(),
            format!("{:.0} ms", line.first_event * 1e3),
            format!("{:.0} ms", line.end * 1e3),
            format!("{:.0} and {:.0} ms", first * 1e3, end * 1e3),
        ]
    };
    report::table(&header.map(str::to_owned), &lines.iter().map(row).collect::<Vec<_>>())
}
