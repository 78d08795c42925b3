//! Sessions in the formats of other tools.
//!
//! ```text
//! threads ─▶ pairing ─▶ Nest: begins and ends that nest ─▶ a format's Sink ─▶ Write
//!                  └──▶ call tree ─▶ folded, flamegraph
//!                  └──▶ replay: all threads by time ─▶ atf4
//! ```
//!
//! docs/exports.md says what each format keeps. Invariant: all formats stream: memory grows with functions, threads, paths
//! and running calls, never with events.

mod atf4;
mod chrome;
mod csv;
mod ctf;
mod firefox;
mod flamegraph;
mod folded;
mod jsonl;
mod names;
mod nest;
mod out;
mod paths;
mod perfetto;
mod speedscope;
mod values;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use self::nest::{Nest, Sink};
use crate::run::{Outcome, run};
use crate::select::Selection;
use crate::switches::Switches;
use crate::trace::Trace;

/// A format to export to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Perfetto's protobuf.
    Perfetto,
    /// Chrome's trace events, JSON.
    Chrome,
    /// Stacks with a weight, a line each.
    Folded,
    /// A flame graph, SVG.
    Flamegraph,
    /// speedscope's JSON.
    Speedscope,
    /// Firefox Profiler's JSON.
    Firefox,
    /// Spans as comma-separated values.
    Csv,
    /// Spans as JSON, a line each.
    Jsonl,
    /// Common Trace Format 1.8, a folder.
    Ctf,
    /// The stream of ATF v4, a folder.
    Atf4,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Perfetto,
        Self::Chrome,
        Self::Folded,
        Self::Flamegraph,
        Self::Speedscope,
        Self::Firefox,
        Self::Csv,
        Self::Jsonl,
        Self::Ctf,
        Self::Atf4,
    ];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Perfetto => "perfetto",
            Self::Chrome => "chrome",
            Self::Folded => "folded",
            Self::Flamegraph => "flamegraph",
            Self::Speedscope => "speedscope",
            Self::Firefox => "firefox",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Ctf => "ctf",
            Self::Atf4 => "atf4",
        }
    }

    /// The one that is called so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// How its files' names end, without the first dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Perfetto => "perfetto-trace",
            Self::Chrome => "chrome.json",
            Self::Folded => "folded",
            Self::Flamegraph => "svg",
            Self::Speedscope => "speedscope.json",
            Self::Firefox => "firefox.json",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Ctf => "ctf",
            Self::Atf4 => "atf4",
        }
    }

    /// Whether it is a folder of several files.
    #[must_use]
    pub fn is_folder(self) -> bool {
        matches!(self, Self::Ctf | Self::Atf4)
    }

    /// Whether it is text, fit for a terminal.
    #[must_use]
    pub fn is_text(self) -> bool {
        !self.is_folder() && self != Self::Perfetto
    }

    /// How many times an export reads the events, unless threads have calls that overlap.
    #[must_use]
    pub fn readings(self) -> u64 {
        match self {
            Self::Folded | Self::Flamegraph | Self::Atf4 => 1,
            Self::Firefox => 4,
            _ => 2,
        }
    }
}

/// What a stack weighs in [`Format::Folded`] and [`Format::Flamegraph`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// Calls.
    Calls,
    /// Nanoseconds in the function itself.
    #[default]
    SelfTime,
    /// Nanoseconds in the function and what it calls: for reading, as sums over stacks count time several times.
    Total,
}

impl Weight {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Calls, Self::SelfTime, Self::Total];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::SelfTime => "self",
            Self::Total => "total",
        }
    }

    /// The one that is called so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|weight| weight.name() == name)
    }
}

/// What an export is to be like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What stacks weigh.
    pub weight: Weight,
}

/// What came of an export.
#[derive(Debug, Default)]
pub struct Exported {
    /// What became of every event, and what could not be read.
    pub outcome: Outcome,
    /// Bytes written.
    pub bytes: u64,
    /// Calls that outlive what is taken for their caller, as goroutines' may, and end with it here: in formats that nest.
    pub cut_short: u64,
    /// Calls for whose path there was no room: in formats that number paths.
    pub without_path: u64,
}

/// Why a session was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The stream that takes the export failed.
    #[error("cannot write the export: {0}")]
    Write(#[from] io::Error),
    /// A file of the export failed.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The format is a folder, or is none.
    #[error("{} is {}", format.name(), if format.is_folder() { "a folder of several files" } else { "one file, not a folder" })]
    Shape {
        /// The format.
        format: Format,
    },
    /// The session changed between two readings of it.
    #[error("the session's files changed while they were exported")]
    Changed,
    /// A flame graph's widths are sums of what is in them.
    #[error("a flame graph adds up weights: choose calls or self")]
    TotalFlamegraph,
}

impl ExportError {
    /// The system's reason, if writing failed.
    #[must_use]
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Write(source) | Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Writes the selected part of a session to `out`, in a format that is one file.
///
/// # Errors
/// [`ExportError`]; what was written until then is of no use. Threads that cannot be read are in the outcome instead.
pub fn export<W: Write>(
    trace: &Trace,
    selection: &Selection,
    format: Format,
    options: Options,
    out: W,
) -> Result<Exported, ExportError> {
    match format {
        Format::Perfetto => perfetto::export(trace, selection, out),
        Format::Chrome => chrome::export(trace, selection, out),
        Format::Folded => folded::export(trace, selection, options.weight, out),
        Format::Flamegraph => flamegraph::export(trace, selection, options.weight, out),
        Format::Speedscope => speedscope::export(trace, selection, out),
        Format::Firefox => firefox::export(trace, selection, out),
        Format::Csv => csv::export(trace, selection, out),
        Format::Jsonl => jsonl::export(trace, selection, out),
        Format::Ctf | Format::Atf4 => Err(ExportError::Shape { format }),
    }
}

/// Writes the selected part of a session into the folder `dir`, which exists and is empty, in a format that is a folder.
///
/// # Errors
/// As [`export`].
pub fn export_folder(
    trace: &Trace,
    selection: &Selection,
    format: Format,
    dir: &Path,
) -> Result<Exported, ExportError> {
    match format {
        Format::Ctf => ctf::export(trace, selection, dir),
        Format::Atf4 => atf4::export(trace, selection, dir),
        _ => Err(ExportError::Shape { format }),
    }
}

/// Leads a sink over all selected threads and gives it back.
fn lead<S: Sink>(
    trace: &Trace,
    selection: &Selection,
    switches: &Switches,
    sink: S,
) -> Result<(S, Exported), ExportError> {
    let mut nest = Nest::new(trace, selection, switches, sink);
    let mut outcome = run(trace, selection, &mut nest);
    outcome.failed.append(&mut nest.values.failed);
    match nest.error {
        Some(error) => Err(error),
        None => Ok((nest.sink, Exported { outcome, cut_short: nest.cut_short, ..Exported::default() })),
    }
}

/// Creates a file of a folder.
fn create(path: &Path) -> Result<std::fs::File, ExportError> {
    std::fs::File::create(path).map_err(|source| ExportError::File { path: path.to_owned(), source })
}
