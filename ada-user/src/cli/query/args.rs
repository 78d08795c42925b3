//! What the commands that answer questions have in common, as it is typed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ada_query::export;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::cli::args::{Format, duration};

/// Parts of the time, if nobody says how many.
const DEFAULT_PARTS: usize = 20;
const PARTS: &str = "write a number from 1 to 1000";

/// Which part of a session.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Selection")]
pub(crate) struct SelectArgs {
    /// From this time on: since the session's first event (1.5s, 20ms), or absolute in nanoseconds of the boot clock (@123)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Up to and including this time, in the same forms
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// Only this thread: the N of its folder thread_N; repeatable
    #[arg(long, value_name = "N")]
    pub(crate) thread: Vec<u32>,
    /// Only threads of this process; repeatable
    #[arg(short, long, value_name = "PID")]
    pub(crate) pid: Vec<u32>,
    /// Only these functions and what they call: a name, a glob ('mem*') or a regular expression ('/^mem/'); repeatable
    #[arg(short = 'F', long, value_name = "FUNC")]
    pub(crate) function: Vec<String>,
    /// Without these functions and what they call: their time is their caller's own then; repeatable
    #[arg(short = 'N', long, value_name = "FUNC")]
    pub(crate) without: Vec<String>,
    /// Only calls that are known to have taken at least this long, such as 50us
    #[arg(short = 't', long, value_name = "TIME", value_parser = duration)]
    pub(crate) min_duration: Option<Duration>,
}

/// How to print it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct PrintArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// At most so many lines of results; 0 for all
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Print long names whole
    #[arg(long)]
    pub(crate) full: bool,
}

/// One finished session, what is looked at of it, and how it is printed.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    /// The session's folder [default: the newest below ada_traces]
    pub(crate) session: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    #[command(flatten)]
    pub(crate) print: PrintArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// What to sort by, the greatest first
    #[arg(short, long, value_enum, default_value_t = SortBy::Total)]
    pub(crate) sort: SortBy,
    /// Tell functions apart by process or thread
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) by: Option<By>,
    /// Draw the distribution of the durations of these functions
    #[arg(long, value_name = "FUNC")]
    pub(crate) histogram: Option<String>,
    /// Show when the calls began, in this many equal parts of the time [default: 20]
    #[arg(long, value_name = "PARTS", num_args = 0..=1, default_missing_value = "20", value_parser = rate)]
    pub(crate) rate: Option<Rate>,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

/// What stands behind `--rate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rate {
    /// In how many parts.
    Parts(usize),
    /// Something else: the session's folder, if that is not named elsewhere.
    Session(PathBuf),
}

impl ReportArgs {
    /// The session's folder, if one is named.
    ///
    /// # Errors
    /// If two are, as it seems.
    pub(crate) fn session(&self) -> anyhow::Result<Option<&Path>> {
        match (&self.asked.session, &self.rate) {
            (Some(_), Some(Rate::Session(path))) => {
                anyhow::bail!("--rate {}: that is not a number of parts; {PARTS}", path.display())
            }
            (None, Some(Rate::Session(path))) => Ok(Some(path)),
            (session, _) => Ok(session.as_deref()),
        }
    }

    /// In how many parts of the time calls are counted, if they are to be.
    pub(crate) fn parts(&self) -> Option<usize> {
        self.rate.as_ref().map(|rate| if let Rate::Parts(parts) = rate { *parts } else { DEFAULT_PARTS })
    }
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// Show what called these functions instead
    #[arg(long, value_name = "FUNC", conflicts_with = "callees")]
    pub(crate) callers: Option<String>,
    /// Show what these functions called, from wherever they were called
    #[arg(long, value_name = "FUNC")]
    pub(crate) callees: Option<String>,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Show the time since the session's first event as well
    #[arg(long)]
    pub(crate) time: bool,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    /// The session's folder [default: the newest below ada_traces that is being recorded]
    pub(crate) session: Option<PathBuf>,
    /// Show the time since the session's first event as well
    #[arg(long)]
    pub(crate) time: bool,
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    #[command(flatten)]
    pub(crate) print: PrintArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// The session's folder [default: the newest below ada_traces that is being recorded, or else the newest]
    pub(crate) session: Option<PathBuf>,
    /// What to sort by at first, the greatest first
    #[arg(short, long, value_enum, default_value_t = TopSort::Rate)]
    pub(crate) sort: TopSort,
    /// How often to draw, such as 500ms or 2s
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    pub(crate) every: Duration,
    #[command(flatten)]
    pub(crate) select: SelectArgs,
}

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The sessions' folders; the clock of the first one is kept
    #[arg(value_name = "SESSION", required = true, num_args = 2..)]
    pub(crate) sessions: Vec<PathBuf>,
    /// The folder of the new session
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopSort {
    /// Calls per second, of late
    #[value(name = "calls")]
    Rate,
    /// Time in the function and what it calls
    Total,
    /// Time in the function itself
    #[value(name = "self")]
    SelfTime,
    /// What 99 % of the calls do not exceed
    P99,
}

#[derive(Debug, Args)]
pub(crate) struct TimelineArgs {
    /// Columns of the picture [default: the terminal's]
    #[arg(long, value_name = "COLUMNS", value_parser = columns)]
    pub(crate) width: Option<usize>,
    #[command(flatten)]
    pub(crate) asked: Asked,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The session before the change
    #[arg(value_name = "A")]
    pub(crate) before: PathBuf,
    /// The session after it
    #[arg(value_name = "B")]
    pub(crate) after: PathBuf,
    /// Also show functions without a change
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) select: SelectArgs,
    #[command(flatten)]
    pub(crate) print: PrintArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The session's folder [default: the newest below ada_traces]
    pub(crate) session: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The session's folder [default: the newest below ada_traces]
    pub(crate) session: Option<PathBuf>,
    /// The format (docs/exports.md tells what each keeps, and which tools open it)
    #[arg(long = "as", value_name = "FORMAT", default_value = "perfetto", value_parser = formats())]
    pub(crate) format: export::Format,
    /// The file or folder to write, or - for stdout [default: the session's name with the format's ending]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace what is there
    #[arg(long)]
    pub(crate) force: bool,
    /// What a stack weighs in folded and flamegraph
    #[arg(long, value_name = "WHAT", default_value = "self", value_parser = weights())]
    pub(crate) weight: export::Weight,
    #[command(flatten)]
    pub(crate) select: SelectArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SortBy {
    /// Number of calls
    Calls,
    /// Time in the function and what it calls
    Total,
    /// Time in the function itself
    #[value(name = "self")]
    SelfTime,
    /// Mean duration
    Mean,
    /// What 99 % of the calls do not exceed
    P99,
    /// The longest call
    Max,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum By {
    /// Processes
    Process,
    /// Threads
    Thread,
}

/// The library's list, each with a line for `--help`.
fn formats() -> impl TypedValueParser<Value = export::Format> {
    let about = |format| match format {
        export::Format::Perfetto => "Perfetto's protobuf, for ui.perfetto.dev and trace_processor",
        export::Format::Chrome => "Chrome's trace events (JSON), for about:tracing and Perfetto",
        export::Format::Folded => "Stacks with a weight, for flamegraph.pl, inferno, speedscope",
        export::Format::Flamegraph => "A flame graph (SVG), for a browser",
        export::Format::Speedscope => "JSON for speedscope.app",
        export::Format::Firefox => "JSON for profiler.firefox.com",
        export::Format::Csv => "A line for each call, for spreadsheets and databases",
        export::Format::Jsonl => "A JSON object for each call, for programs",
        export::Format::Ctf => "Common Trace Format 1.8 (a folder), for babeltrace2 and Trace Compass",
        export::Format::Atf4 => "The older stream of ATF v4 (a folder)",
    };
    let value = |format: export::Format| PossibleValue::new(format.name()).help(about(format));
    let parser = PossibleValuesParser::new(export::Format::ALL.map(value));
    // The parser has refused every other name.
    parser.map(|name| export::Format::named(&name).unwrap_or(export::Format::Perfetto))
}

fn weights() -> impl TypedValueParser<Value = export::Weight> {
    let about = |weight| match weight {
        export::Weight::Calls => "Number of calls",
        export::Weight::SelfTime => "Nanoseconds in the function itself",
        export::Weight::Total => "Nanoseconds in the function and what it calls; folded only",
    };
    let value = |weight: export::Weight| PossibleValue::new(weight.name()).help(about(weight));
    let parser = PossibleValuesParser::new(export::Weight::ALL.map(value));
    parser.map(|name| export::Weight::named(&name).unwrap_or_default())
}

/// A number of parts; all else is taken for the session, which may follow a bare `--rate`.
fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<u64>() {
        Ok(parts @ 1..=1000) => Ok(Rate::Parts(usize::try_from(parts).unwrap_or(DEFAULT_PARTS))),
        Ok(_) => Err(format!("{PARTS} (a session of that name is ./{text})")),
        Err(_) => Ok(Rate::Session(text.into())),
    }
}

fn columns(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|columns| (10..=10_000).contains(columns));
    number.ok_or_else(|| format!("'{text}' is not a number of columns; write one from 10 to 10000"))
}
