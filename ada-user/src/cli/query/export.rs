//! `ada-trace export SESSION`: a session in the format of another tool.
//!
//! Invariant: what stands under the target's name is a whole export or what stood there before; a partial one is removed.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ada_query::export::{ExportError, Exported, Format, Options, Weight, export, export_folder};
use ada_query::tree::MOST_NODES;
use anyhow::{Result, anyhow, bail};

use super::args::ExportArgs;
use super::progress::Progress;
use super::{Question, notes};
use crate::cli::summary::{count, plural};

mod target;

use self::target::Target;

/// Viewers that read JSON as one text fail on more: V8's strings end at 512 MiB.
const TOO_LONG_FOR_JSON: u64 = 500_000_000;

/// Writes what `args` ask for.
pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode> {
    let (format, options) = (args.format, Options { weight: args.weight });
    if format == Format::Flamegraph && options.weight == Weight::Total {
        return Err(ExportError::TotalFlamegraph.into());
    }
    let to_stdout = args.output.as_deref() == Some(Path::new("-"));
    if to_stdout {
        check_stdout(format)?;
    }
    let question = Question::new(args.session.as_deref(), &args.select)?;
    let progress = Progress::of_readings(&question.trace, format.readings());
    if to_stdout {
        let exported = export(&question.trace, &question.selection, format, options, io::stdout().lock())?;
        drop(progress);
        return Ok(question.complain(&exported.outcome));
    }
    let path = args.output.clone().unwrap_or_else(|| default_path(&question, format));
    let exported = to_path(&question, format, options, &path, args.force)?;
    drop(progress);
    tell(&path, format, &exported);
    Ok(question.complain(&exported.outcome))
}

fn check_stdout(format: Format) -> Result<()> {
    if format.is_folder() {
        bail!("{} is a folder of several files: name one with -o", format.name());
    }
    if !format.is_text() && io::stdout().is_terminal() {
        bail!("{} is not text for a terminal: name a file with -o, or send it on with |", format.name());
    }
    Ok(())
}

fn to_path(question: &Question, format: Format, options: Options, path: &Path, force: bool) -> Result<Exported> {
    let target = Target::new(path, format, force)?;
    let (trace, selection) = (&question.trace, &question.selection);
    let written = match target.file() {
        Some(file) => export(trace, selection, format, options, file),
        None => export_folder(trace, selection, format, target.place()),
    };
    match written {
        Ok(exported) => target.keep().map(|()| exported),
        Err(error) => {
            target.remove();
            Err(explain(error, path))
        }
    }
}

/// One sentence about the target, not about the partial file under another name.
fn explain(error: ExportError, path: &Path) -> anyhow::Error {
    let path = path.display();
    match error.io() {
        Some(io)
            if matches!(
                io.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            ) =>
        {
            anyhow!(
                "cannot write {path}: {io}; what was written of it is removed: make room, or export less with --from, --to or -F"
            )
        }
        Some(io) if io.kind() != io::ErrorKind::BrokenPipe => anyhow!("cannot write {path}: {io}"),
        _ => error.into(),
    }
}

/// The session's name with the format's ending, in the current folder.
fn default_path(question: &Question, format: Format) -> PathBuf {
    let id = question.trace.manifest().session.id.replace(['/', '\0'], "_");
    let folder = question.trace.session().dir().file_name().map(|name| name.to_string_lossy().into_owned());
    let name = if id.is_empty() { folder.unwrap_or_else(|| "session".to_owned()) } else { id };
    PathBuf::from(format!("{name}.{}", format.extension()))
}

fn tell(path: &Path, format: Format, exported: &Exported) {
    let (bytes, accounting) = (exported.bytes, &exported.outcome.accounting);
    let spans = plural(accounting.spans, "span");
    eprintln!("{}: {spans}, {} bytes, for {}", path.display(), count(bytes), reader(format));
    if matches!(format, Format::Chrome | Format::Speedscope | Format::Firefox) && bytes > TOO_LONG_FOR_JSON {
        eprintln!(
            "ada-trace: viewers read {} as one text and fail somewhere between 500 and 900 MB: export less with --from, --to, -F or -t, or as perfetto",
            format.name()
        );
    }
    if exported.cut_short > 0 {
        eprintln!(
            "{} cut short: stacks take turns in a thread, and {} wants calls to nest; csv, jsonl and chrome have the times",
            plural(exported.cut_short, "call"),
            format.name()
        );
    }
    if exported.without_path > 0 {
        let (calls, most) = (plural(exported.without_path, "call"), count(MOST_NODES as u64));
        let how = match format {
            Format::Firefox => "their time is that of the calls around them",
            _ => "they are counted together",
        };
        eprintln!("{calls} by more than {most} different paths, which is the most that are kept: {how}");
    }
    eprint!("{}", notes::text(accounting));
}

fn reader(format: Format) -> &'static str {
    match format {
        Format::Perfetto => "https://ui.perfetto.dev",
        Format::Chrome => "about:tracing or https://ui.perfetto.dev",
        Format::Folded => "flamegraph.pl, inferno or https://www.speedscope.app",
        Format::Flamegraph => "a browser",
        Format::Speedscope => "https://www.speedscope.app",
        Format::Firefox => "https://profiler.firefox.com",
        Format::Csv => "spreadsheets and databases",
        Format::Jsonl => "programs: docs/exports.md has the schema",
        Format::Ctf => "babeltrace2 and Trace Compass",
        Format::Atf4 => "readers of ATF v4",
    }
}
