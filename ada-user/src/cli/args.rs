//! The command line as it is typed. Below this folder only validated values are passed on.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use ada_user::timespan;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    detail::DetailArgs,
    filters::FilterArgs,
    keep::KeepArgs,
    query::{
        DiffArgs, ExportArgs, FollowArgs, GraphArgs, MergeArgs, ReplayArgs, ReportArgs, TimelineArgs, TopArgs,
        VerifyArgs,
    },
};

/// Record every call and return of chosen functions of a running or launched program, without rebuilding it.
#[derive(Debug, Parser)]
#[command(name = "ada-trace", version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
}

const EXAMPLES: &str = "\
Examples:
  sudo ada-trace -e libc:malloc -p 4242 -d 10s      ten seconds of a running process
  sudo ada-trace -e exe:main -e libc:read -- ./app   a command from its first instruction to its end
  ada-trace dump ada_traces/session_*/pid_*          what was recorded, in time order

SPEC is LIB:FUNCTION (libc:malloc), PATH:FUNCTION (/opt/app/lib.so:parse) or exe:FUNCTION, each with an optional +OFFSET in bytes.
FUNCTION may be a glob (libssl:SSL_*) or a regular expression (libc:/^mem(cpy|set)$/), over mangled and readable names; LIB may be
a glob too (*:malloc is every malloc, exe:* every function of the program). --all is *:* without what is hardly ever wanted.
`ada-trace list SPEC -p PID` shows what would be probed, `ada-trace doctor` what this machine can do.

Exit status: that of the launched command (128+N if signal N killed it), otherwise 0; 1 with --strict if events were
lost; 2 if something was wrong with the request.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Record (the same as giving no command)
    #[command(after_help = EXAMPLES)]
    Record(RecordArgs),
    /// Tell what a session holds: when, what, how much, what was lost
    Info(InfoArgs),
    /// Print the events of a session in time order over all threads
    Dump(DumpArgs),
    /// Tell which functions were called how often and how long they took
    Report(ReportArgs),
    /// Show the call tree, what calls a function, or what it calls
    Graph(GraphArgs),
    /// Show calls as they nested, in time order over all threads
    Replay(ReplayArgs),
    /// Show calls and returns as they are recorded, until the recording ends
    Follow(FollowArgs),
    /// Watch the functions of a recording, full screen: calls per second, time, percentiles
    Top(TopArgs),
    /// Put sessions of several processes or hosts together, on one clock
    Merge(MergeArgs),
    /// Draw a stretch of time as a flame chart
    Timeline(TimelineArgs),
    /// Tell what changed between two sessions, function by function, and whether it is more than noise
    Diff(DiffArgs),
    /// Check that a session is whole: checksums, links, order
    Verify(VerifyArgs),
    /// Write a session in the format of another tool: Perfetto, Chrome, flame graphs, speedscope, Firefox Profiler, CSV, …
    Export(ExportArgs),
    /// Finalise a session whose recorder was killed, in place, and tell what was kept
    Recover(RecoverArgs),
    /// Show what specs would probe: module, names, address, file offset, size, site, instruction, price, returns
    List(ListArgs),
    /// Check what this machine and a target allow, with the mend for what they do not
    Doctor(DoctorArgs),
    /// Keep the details around this moment, in a recording whose flight recorder waits for it (docs/flight.md)
    Mark(MarkArgs),
    /// Steer a recording that is under way: its triggers, its state, its end
    Control(ControlArgs),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    #[command(hide = true)]
    BenchEmpty(RecordArgs),
}

/// Which functions.
#[derive(Debug, Default, Args)]
pub(crate) struct ChoiceArgs {
    /// Every function of the program and of every loaded library, but for a list of exclusions (`ada-trace list
    /// --default-excludes` prints it)
    #[arg(long)]
    pub(crate) all: bool,
    /// Leave out what SPEC means, in all modules if it names none (malloc, 'PyMem_*', libc:*); repeatable
    #[arg(short = 'x', long, value_name = "SPEC")]
    pub(crate) exclude: Vec<String>,
    /// With --all: leave nothing out that --exclude does not name
    #[arg(long)]
    pub(crate) no_default_excludes: bool,
    /// How to record returns: by return probes, which are cheap, or by probes on the instructions that leave a function,
    /// which exceptions, panics and stack switches do not disturb
    #[arg(long, value_enum, default_value_t = ReturnsHow::Auto, value_name = "HOW")]
    pub(crate) returns: ReturnsHow,
    /// Where in a function its probe goes: at the cheapest instruction that sees the same calls, or at its first
    #[arg(long, value_enum, default_value_t = Place::Cheapest, value_name = "WHERE")]
    pub(crate) placement: Place,
    /// Record the registers of every call and return as well, and at a call the stack; with a SPEC, only of those functions;
    /// repeatable
    #[arg(long, value_name = "SPEC", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) detail: Vec<String>,
    /// More names: an ELF file of the same build with symbols, or text as nm or perf-PID.map write it; for one library
    /// as LIB=FILE; repeatable
    #[arg(long, value_name = "[LIB=]FILE")]
    pub(crate) symbols: Vec<OsString>,
}

/// What to record and how.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Functions to record, as LIB:FUNCTION, PATH:FUNCTION or exe:FUNCTION; repeatable
    #[arg(short = 'e', long = "uprobe", value_name = "SPEC")]
    pub(crate) uprobe: Vec<String>,
    #[command(flatten)]
    pub(crate) choice: ChoiceArgs,
    /// Process to attach to, with all of its threads; repeatable
    #[arg(short, long, value_name = "PID", conflicts_with = "command")]
    pub(crate) pid: Vec<u32>,
    /// Also record the processes that the targets have made and will make (fork, vfork, clone) and what these execute, until
    /// the last one has ended. The probes are then in place for every process that uses the same files: those pay for each hit, too. A
    /// process that executes a program is stopped for a moment if a spec may mean something in it (docs/follow.md)
    #[arg(short, long)]
    pub(crate) follow_forks: bool,
    /// Accept a function that no file of the targets has yet, and record it once a library that has it is loaded (dlopen);
    /// -f implies this. The target is then stopped for a moment whenever it loads a library (docs/follow.md)
    #[arg(long)]
    pub(crate) wait: bool,
    /// End the recording after this time, such as 500ms, 10s or 2m
    #[arg(short, long, value_name = "TIME", value_parser = recording_time)]
    pub(crate) duration: Option<Duration>,
    /// Folder of the session; it must be empty or not exist [default: ada_traces/session_…/pid_…]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Record calls only, not returns: cheaper, and safe for functions that exceptions leave
    #[arg(long, conflicts_with = "returns")]
    pub(crate) entry_only: bool,
    /// Size of each processor's ring buffer, such as 4M: a power of two, at least 4K [default: by the machine, 1M to 16M]
    #[arg(long, value_name = "SIZE", value_parser = ring_size)]
    pub(crate) buffer_size: Option<u32>,
    /// How to attach: one link for many functions (kernel 6.6), or a perf event for each
    #[arg(long, value_name = "HOW")]
    pub(crate) attach: Option<Attach>,
    /// Exit with status 1 if events were lost
    #[arg(long)]
    pub(crate) strict: bool,
    /// No status line and no summary
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Record nothing: count calls for this time (1s if none is given), then print what recording them would cost, and which
    /// functions dominate
    #[arg(long, value_name = "TIME", value_parser = recording_time, num_args = 0..=1, default_missing_value = "1s")]
    #[arg(conflicts_with_all = ["duration", "output", "follow_forks", "wait"])]
    pub(crate) estimate: Option<Duration>,
    /// Command to start and record, after --
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
    /// Last, for the headings that they set.
    #[command(flatten)]
    pub(crate) detail: DetailArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) size: KeepArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Attach {
    /// uprobe_multi links
    Multi,
    /// perf-event links
    Perf,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Place {
    /// Where a hit costs least: an instruction that the kernel need not single-step (docs/placement.md)
    #[default]
    Cheapest,
    /// At the first instruction, which a call that faults at once reaches too (of Go's functions, at their stack check)
    Entry,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum ReturnsHow {
    /// Return probes, but probes on the exits of code that can throw or that moves its stacks (C++, Rust, Go)
    #[default]
    Auto,
    /// Return probes everywhere
    Uretprobe,
    /// Probes on the exits everywhere
    Ret,
}

#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// The session's folder [default: the newest below ada_traces]
    pub(crate) session: Option<PathBuf>,
    /// Count the calls of each function, and compare checksums, even in a session of more than 200 million events
    #[arg(long)]
    pub(crate) full: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The session's folder [default: the newest below ada_traces]
    pub(crate) session: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Only this thread: the N of its folder thread_N; repeatable
    #[arg(long, value_name = "N")]
    pub(crate) thread: Vec<u32>,
    /// At most so many events
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// From this time on: since the session's first event (1.5s, 20ms), or absolute in nanoseconds of the boot clock (@123)
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Up to and including this time, in the same forms
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// The session's folder [default: the newest below ada_traces]
    pub(crate) session: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct MarkArgs {
    /// The session's folder [default: the newest below ada_traces that is being recorded]; and a text for the manifest
    #[arg(value_name = "SESSION|TEXT", num_args = 0..=2)]
    pub(crate) words: Vec<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    /// The session's folder [default: the newest below ada_traces that is being recorded]; and what to do: mark [TEXT],
    /// add-trigger TRIGGER, remove-trigger N, list-triggers, status, or stop
    #[arg(value_name = "SESSION|COMMAND", num_args = 1..=3, required = true)]
    pub(crate) words: Vec<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// What to look up; a path after the last one is the program to look into
    #[arg(value_name = "SPEC")]
    pub(crate) spec: Vec<String>,
    #[command(flatten)]
    pub(crate) choice: ChoiceArgs,
    /// Print what --all leaves out, and why
    #[arg(long, exclusive = true)]
    pub(crate) default_excludes: bool,
    /// In this process
    #[arg(short, long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// In this program and the libraries it would load
    #[arg(long, value_name = "PATH", conflicts_with = "pid")]
    pub(crate) path: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Also look at this process as a target
    #[arg(short, long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object per line
    Jsonl,
}

/// A time span: a number with ns, us, ms, s, m or h; seconds without.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    timespan::parse(text).map_err(|error| error.to_string())
}

/// A time span that a recording can take: a century at most, which every clock can add.
pub(super) fn recording_time(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
    let complaint = || format!("'{text}' is longer than a century; leave it out to record until Ctrl-C");
    duration(text).and_then(|time| if time <= LONGEST { Ok(time) } else { Err(complaint()) })
}

fn ring_size(text: &str) -> Result<u32, String> {
    let complaint = || format!("'{text}' is not a ring size; write a power of two from 4K to 1G, like 4M");
    let valid = |size: &u32| size.is_power_of_two() && (4096..=1 << 30).contains(size);
    size(text).and_then(|size| u32::try_from(size).ok()).filter(valid).ok_or_else(complaint)
}

/// A number of bytes as people type it: with K, M, G or T, which are powers of 1024.
pub(super) fn size(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim_end_matches(['B', 'b', 'i']) {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn recordings_end_within_a_century() {
        assert_eq!(recording_time("24h"), Ok(Duration::from_secs(86_400)));
        assert!(recording_time("10000000000000000000").is_err());
    }

    #[test]
    fn ring_sizes() {
        assert_eq!(ring_size("4096"), Ok(4096));
        assert_eq!(ring_size("4K"), Ok(4096));
        assert_eq!(ring_size("8MiB"), Ok(8 << 20));
        for wrong in ["", "0", "5000", "2K", "4G", "1T", "99999999999999999999"] {
            assert!(ring_size(wrong).is_err(), "{wrong}");
        }
    }
}
