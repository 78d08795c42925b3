//! `cargo bench -p ada-query --bench query -- [--short] [--json PATH] [--ada-trace PATH]`: one synthetic recording of 20 M
//! events, opened, paired and reported; each command's time and peak memory; and some of them of 5 000 functions.
//!
//! Invariant: the files are in the page cache before anything is measured, and of several rounds the best counts: what
//! else the machine does only adds.

#[path = "query/commands.rs"]
mod commands;
#[path = "query/library.rs"]
mod library;
#[path = "query/row.rs"]
mod row;
#[path = "query/synthetic.rs"]
mod synthetic;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use row::Row;
use synthetic::{Calls, Shape};

type Failure = Box<dyn std::error::Error>;

/// What was asked for on the command line.
#[derive(Debug, Default)]
struct Options {
    short: bool,
    json: Option<PathBuf>,
    /// The program whose commands are measured; none are without it.
    ada_trace: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = parse(env::args_os().skip(1)).and_then(|options| run(&options));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}; usage: [--short] [--json PATH] [--ada-trace PATH]");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Options, Failure> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--short") => options.short = true,
            Some("--json") => options.json = Some(arguments.next().ok_or("--json needs a path")?.into()),
            Some("--ada-trace") => options.ada_trace = Some(arguments.next().ok_or("--ada-trace needs a path")?.into()),
            // cargo adds it.
            Some("--bench") => {}
            _ => return Err(format!("unknown argument {}", argument.display()).into()),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), Failure> {
    let temp = tempfile::Builder::new().prefix("ada-bench-").tempdir()?;
    let [dir, other, many] = ["session", "other", "many"].map(|name| temp.path().join(name));
    let events = if options.short { 400_000 } else { 20_000_000 };
    let shape = Shape { events, threads: 4, functions: 200, calls: Calls::Any };
    synthetic::write(&dir, shape)?;
    synthetic::write(&other, Shape { threads: 3, ..shape })?;
    synthetic::write(&many, Shape { functions: 5000, calls: Calls::Few(3), ..shape })?;
    let mut rows = library::bench(&dir, if options.short { 1 } else { 9 })?;
    if let Some(program) = &options.ada_trace {
        let rounds = if options.short { 1 } else { 5 };
        rows.extend(commands::bench(program, &dir, &other, rounds)?);
        rows.extend(commands::bench_many(program, &many, rounds)?);
        rows.extend(commands::bench_exports(program, &dir, temp.path())?);
    }
    print!("{}", row::table(&rows));
    if let Some(path) = &options.json {
        let results: Vec<_> = rows.iter().map(Row::json).collect();
        let document =
            serde_json::json!({ "bench": "query", "short": options.short, "events": events, "results": results });
        fs::write(path, format!("{document:#}\n"))?;
    }
    Ok(())
}
