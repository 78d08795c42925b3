//! `cargo bench -p ada-format --bench format -- [--short] [--json PATH]`: the format against the machine it runs on.
//!
//! Every number stands beside what the same bytes cost without the format, measured in the same run and interleaved
//! with it, because a virtual disk or a busy neighbour changes both. Invariant: a ratio compares equal work, and is our
//! speed by the other one.

#[path = "format/measure.rs"]
mod measure;
#[path = "format/reading.rs"]
mod reading;
#[path = "format/writing.rs"]
mod writing;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use measure::Row;

/// What was asked for on the command line.
#[derive(Debug, Default)]
struct Options {
    short: bool,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = match parse(env::args_os().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}; usage: [--short] [--json PATH]");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--short") => options.short = true,
            Some("--json") => {
                options.json = Some(arguments.next().ok_or("--json needs a path")?.into());
            }
            // cargo adds it.
            Some("--bench") => {}
            _ => return Err(format!("unknown argument {}", argument.display())),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::Builder::new().prefix("ada-bench-").tempdir()?;
    let mut rows = writing::bench(dir.path(), options.short)?;
    rows.extend(reading::bench(dir.path(), options.short)?);
    print!("{}", measure::table(&rows));
    if let Some(path) = &options.json {
        let results: Vec<_> = rows.iter().map(Row::json).collect();
        let document = serde_json::json!({ "bench": "format", "short": options.short, "results": results });
        fs::write(path, format!("{document:#}\n"))?;
    }
    Ok(())
}
