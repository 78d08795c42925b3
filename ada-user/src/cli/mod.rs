//! The command: what is typed becomes a plan, what came of it is printed. The only place that knows clap, stdout and
//! stderr.

mod args;
mod choice;
mod control;
mod detail;
mod doctor;
mod dump;
mod estimate;
mod filters;
mod info;
mod keep;
mod list;
mod mark;
mod names;
mod open;
mod out;
mod query;
mod record;
mod recover;
mod status;
mod summary;
mod table;
mod watch;

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, Parser};

use self::args::{Cli, Command};

/// Exit status of a request that cannot be fulfilled.
const REFUSED: u8 = 2;

/// Runs what the command line asks for.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let prints = !matches!(cli.command, None | Some(Command::Record(_) | Command::BenchEmpty(_)));
    let result = match cli.command {
        None => record::run(&cli.record),
        Some(Command::Record(args)) => record::run(&args),
        Some(Command::BenchEmpty(args)) => record::run_empty(&args),
        Some(Command::Info(args)) => info::run(&args),
        Some(Command::Dump(args)) => dump::run(&args),
        Some(Command::Report(args)) => query::report::run(&args),
        Some(Command::Graph(args)) => query::graph::run(&args),
        Some(Command::Replay(args)) => query::replay::run(&args),
        Some(Command::Follow(args)) => query::follow::run(&args),
        Some(Command::Top(args)) => query::top::run(&args),
        Some(Command::Merge(args)) => query::merge::run(&args),
        Some(Command::Timeline(args)) => query::timeline::run(&args),
        Some(Command::Diff(args)) => query::diff::run(&args),
        Some(Command::Verify(args)) => query::verify::run(&args),
        Some(Command::Export(args)) => query::export::run(&args),
        Some(Command::Recover(args)) => recover::run(&args),
        Some(Command::List(args)) => list::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Mark(args)) => mark::run(&args),
        Some(Command::Control(args)) => control::run(&args),
        Some(Command::Completions { shell }) => completions(shell),
    };
    result.unwrap_or_else(|error| if prints && is_broken_pipe(&error) { ExitCode::SUCCESS } else { refuse(&error) })
}

/// Prints the completions of a shell. By way of memory: clap's own writing panics where nobody reads to the end.
fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ada-trace", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a reader of our output has seen enough (`| head`).
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(broken_pipe)
}

/// One sentence on stderr.
fn refuse(error: &anyhow::Error) -> ExitCode {
    tell(&format!("ada-trace: {}\n", sentence(error)));
    ExitCode::from(REFUSED)
}

/// Writes to stderr, if anybody is there.
fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The error and its causes, without those that it has already told.
fn sentence(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told.replace('\n', " ")
}
