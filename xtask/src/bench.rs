//! `bench [NAME] [--short]`: measures, prints tables, and in full runs keeps them in docs/bench.
//!
//! Invariant: what is compared is measured in one run on one machine; a short run proves that a bench still runs, it
//! keeps nothing and judges no speed.

mod attach;
mod beside;
mod fixture;
mod format;
mod hit;
mod loss;
mod query;
mod report;
mod tracefs;
mod tracer;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cmd;

const USAGE: &str = "usage: cargo xtask bench [format|query|hit|attach] [--short] [--rounds N] [--loss-seconds S]";

type Bench = (&'static str, fn(&Options) -> Result<()>);

/// The benches and their names.
const BENCHES: [Bench; 4] =
    [("format", format::run), ("query", query::run), ("hit", hit::run), ("attach", attach::run)];

/// How thoroughly to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Only see whether it runs.
    short: bool,
    /// Measurements of each kind, interleaved.
    rounds: usize,
    /// How long to call the function in one measurement.
    measure: Duration,
    /// How long to look for lost events.
    loss: Duration,
}

/// Runs the subcommand.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (name, options) = parse(args)?;
    let chosen: Vec<_> =
        BENCHES.iter().filter(|(bench, _)| name.as_deref().is_none_or(|name| name == *bench)).collect();
    if chosen.is_empty() {
        bail!("no bench of that name; {USAGE}");
    }
    for (name, bench) in chosen {
        println!("-- bench {name}");
        bench(&options).with_context(|| format!("bench {name}"))?;
    }
    Ok(())
}

fn parse(args: &[String]) -> Result<(Option<String>, Options)> {
    let short = args.iter().any(|arg| arg == "--short");
    let (rounds, measure, loss) = if short { (1, 0.05, 1.0) } else { (5, 0.5, 30.0) };
    let seconds = Duration::from_secs_f64;
    let mut options = Options { short, rounds, measure: seconds(measure), loss: seconds(loss) };
    let mut name = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || -> Result<u32> { args.next().and_then(|n| n.parse().ok()).context(USAGE) };
        match arg.as_str() {
            "--short" => {}
            "--rounds" => options.rounds = usize::try_from(number()?.max(1))?,
            "--loss-seconds" => options.loss = Duration::from_secs(number()?.into()),
            other if name.is_none() && !other.starts_with('-') => name = Some(other.to_owned()),
            _ => bail!(USAGE),
        }
    }
    Ok((name, options))
}

impl Options {
    /// Cargo's profile: a short run takes what the tests have built already.
    fn profile(&self) -> &'static str {
        if self.short { "dev" } else { "release" }
    }

    /// Builds ada-trace and says where it is, or takes the one that `ADA_TRACE_BIN` names, as the tests do.
    fn ada_trace(&self) -> Result<PathBuf> {
        if let Some(named) = std::env::var_os("ADA_TRACE_BIN") {
            return Ok(named.into());
        }
        if self.short {
            cmd::run(&mut cmd::cargo(&["build", "--quiet", "--workspace", "--bins", "--tests"]))?;
            return Ok(cmd::target_dir().join("debug/ada-trace"));
        }
        cmd::run(&mut cmd::cargo(&["build", "--quiet", "--package", "ada-user", "--release"]))?;
        Ok(cmd::target_dir().join("release/ada-trace"))
    }
}
