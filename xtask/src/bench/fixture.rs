//! The program that is measured, `xtask/fixtures/hit.c`: compiling it and driving it over its standard input.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cmd;

const HIT: &str = "xtask/fixtures/hit.c";

/// The compiled programs.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// As it is.
    pub(super) plain: PathBuf,
    /// Instrumented by `gcc -pg`, as uftrace wants it.
    pub(super) instrumented: PathBuf,
}

/// A fixture that runs and waits for orders; dropping it ends it.
#[derive(Debug)]
pub(super) struct Fixture {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What a run of the fixture measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ran {
    /// Calls in all.
    pub(super) calls: u64,
    /// Nanoseconds per call, on the thread that made it.
    pub(super) ns: f64,
}

/// Compiles the fixture into a folder.
pub(super) fn compile(dir: &Path) -> Result<Programs> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the fixture's functions are x86_64 assembly; run this bench there");
    }
    let programs = Programs { plain: dir.join("hit"), instrumented: dir.join("hit-pg") };
    gcc(HIT, &programs.plain, &[])?;
    gcc(HIT, &programs.instrumented, &["-pg"])?;
    Ok(programs)
}

/// Compiles a source of the workspace.
pub(super) fn gcc(source: &str, out: &Path, flags: &[&str]) -> Result<()> {
    cmd::run(cmd::command("gcc", &["-O2", "-pthread", source, "-o"]).arg(out).args(flags))
}

impl Fixture {
    /// Starts the program by a command that ends in its path.
    pub(super) fn start(command: &mut Command, function: &str, duration: Duration, threads: usize) -> Result<Fixture> {
        let seconds = duration.as_secs_f64().to_string();
        command.args([function, &seconds, &threads.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the fixture")?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the fixture has no output")?);
        Ok(Fixture { child, orders, answers })
    }

    /// Process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the function's code was changed: until a probe is there.
    pub(super) fn wait_armed(&mut self) -> Result<()> {
        match self.order("wait")?.as_str() {
            "armed" => Ok(()),
            answer => bail!("no probe was placed within 20 s ({answer})"),
        }
    }

    /// Calls the function.
    pub(super) fn go(&mut self) -> Result<Ran> {
        let answer = self.order("go")?;
        let numbers = answer.strip_prefix("ran ").and_then(|numbers| numbers.split_once(' '));
        let (calls, ns) = numbers.with_context(|| format!("the fixture answered '{answer}'"))?;
        Ok(Ran { calls: calls.parse()?, ns: ns.parse()? })
    }

    /// Lets the program end by itself.
    pub(super) fn end(&mut self) -> Result<()> {
        self.orders = None;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the fixture ended with {status}");
        }
        Ok(())
    }

    fn order(&mut self, order: &str) -> Result<String> {
        let orders = self.orders.as_mut().context("the fixture has ended")?;
        writeln!(orders, "{order}").context("the fixture died")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
