//! `ada-trace -e SPEC… (-p PID… | -- CMD…)`: from arguments to a plan, a recording, and the reasons that end it.

use std::{path::Path, process::ExitCode};

use ada_user::{
    backend::ebpf::{self, EbpfBackend, Route},
    doctor,
    elf::FileId,
    filter::Filters,
    follow::Wanted,
    launch::{Command, Ended, Gated},
    plan::Plan,
    privileges::{self, Invoker},
    process::ProcessInfo,
    resolve::{self, DetailChoice, ResolveError, ReturnsPolicy},
    session::{SessionOptions, Summary, TraceSession},
    target::{Target, descendants},
};
use anyhow::{Result, anyhow, bail};

use super::{
    args::{Attach, RecordArgs},
    choice, detail, estimate,
    filters::filters,
    status::StatusLine,
    summary, tell,
    watch::{Reason, Watch},
};

/// With more functions than this, probing every process takes its time.
const MANY_EVERYWHERE: usize = 1000;

/// Records what `args` ask for.
pub(crate) fn run(args: &RecordArgs) -> Result<ExitCode> {
    if let Some(time) = args.estimate {
        return estimate::run(args, time);
    }
    let Request { plan, pids, gated, invoker, processes, wanted, filters } = prepare(args)?;
    choice::tell_unused_symbols(&plan);
    if !args.quiet {
        choice::tell_nameless(&plan);
    }
    detail::tell_untyped(&plan);
    if args.follow_forks && plan.functions.len() > MANY_EVERYWHERE && !args.quiet {
        let functions = summary::count(plan.functions.len() as u64);
        tell(&format!(
            "ada-trace: with -f, {functions} functions are probed in every process; that takes some seconds\n"
        ));
    }
    let max_depth = filters.max_depth;
    let (output, flight, rotation) = (args.output.clone(), detail::flight(&args.detail), args.size.rotation());
    let options = SessionOptions { output, invoker, processes, follow: wanted, max_depth, flight, rotation };
    // Before anything is attached, so that no Ctrl-C from here on leaves a recording unfinished.
    let mut watch = Watch::new(&pids, args.duration)?;
    let mut session = TraceSession::start(backend(args, &plan, filters), &plan, &pids, &options)?;
    if options.flight.is_some() {
        watch.marks_go_to(session.control());
    }
    if let Some(gated) = gated {
        match gated.release() {
            Ok(launched) => watch.launched(launched),
            Err(error) => {
                session.discard();
                return Err(error.into());
            }
        }
    }
    if let Some(note) = session.note().filter(|_| !args.quiet) {
        tell(&format!("ada-trace: {note}\n"));
    }
    let mut status = StatusLine::new(args.quiet);
    let reason = watch.run(&mut session, &mut status)?;
    status.clear();
    let summary = session.stop()?;
    let told = if args.quiet { summary::losses(&summary.ledger) } else { summary::text(&summary, &summary.plan) };
    tell(&told);
    outcome(args, &summary, &reason, watch.ended_command())
}

/// Attaches programs that do nothing, until a signal: what a probe costs by itself (`cargo xtask bench hit`).
pub(crate) fn run_empty(args: &RecordArgs) -> Result<ExitCode> {
    let request = prepare(args)?;
    let probes = ebpf::attach_empty(&request.plan, &request.pids)?;
    tell("ada-trace: empty programs attached\n");
    Watch::new(&request.pids, args.duration)?.wait()?;
    drop(probes);
    Ok(ExitCode::SUCCESS)
}

/// A request that was looked into and can be tried.
pub(super) struct Request {
    pub(super) plan: Plan,
    pub(super) pids: Vec<u32>,
    pub(super) gated: Option<Gated>,
    invoker: Option<Invoker>,
    processes: Vec<ProcessInfo>,
    wanted: Option<Wanted>,
    pub(super) filters: Filters,
}

/// Checks what needs no privileges first, so that a slip of the pen is told as such.
pub(super) fn prepare(args: &RecordArgs) -> Result<Request> {
    let mut specs = choice::specs(&args.uprobe, &args.choice)?;
    for spec in detail::specs(&args.detail) {
        if !specs.contains(&spec) {
            specs.push(spec);
        }
    }
    if specs.is_empty() {
        bail!("nothing to record: name functions with -e, such as -e libc:malloc or -e 'exe:*', or use --all");
    }
    if args.pid.is_empty() && args.command.is_empty() {
        bail!("no target: give a process with -p PID or a command after --");
    }
    if args.pid.contains(&0) {
        bail!("there is no process 0; `ps` lists those that run");
    }
    let mut options = choice::options(&args.choice, Some(&args.detail))?;
    options.everywhere = args.follow_forks;
    if args.entry_only {
        options.returns = ReturnsPolicy::Off;
    }
    let filters = filters(args)?;
    let missing = privileges::missing();
    if !missing.is_empty() {
        bail!("recording needs {}, which this process lacks; run it with sudo", missing.join(" and "));
    }
    let wanted = Wanted { specs, options, programs: args.follow_forks, filters };
    if args.command.is_empty() { attached(args, wanted) } else { launched(args, wanted) }
}

/// Processes that run.
fn attached(args: &RecordArgs, mut wanted: Wanted) -> Result<Request> {
    let mut pids = args.pid.clone();
    pids.sort_unstable();
    pids.dedup();
    wanted.filters.check_threads(&pids)?;
    let mut targets: Vec<Target> = pids.iter().map(|pid| Target::from_pid(*pid)).collect::<Result<_, _>>()?;
    let family = if args.follow_forks { descendants(&pids) } else { Vec::new() };
    // One that cannot be looked at has ended, or runs what cannot be traced.
    targets.extend(family.iter().filter_map(|pid| Target::from_pid(*pid).ok()));
    if wanted.options.returns == ReturnsPolicy::Auto
        && pids.iter().chain(&family).any(|pid| doctor::return_probes_kill(*pid))
    {
        tell(
            "ada-trace: a seccomp filter could kill the target for a return probe on this kernel; recording at the exits\n",
        );
        wanted.options.returns = ReturnsPolicy::Exits;
    }
    let (plan, wanted, filters) = plan(args, wanted, &targets)?;
    let (invoker, processes) = (privileges::invoker(), Vec::new());
    Ok(Request { plan, pids, gated: None, invoker, processes, wanted, filters })
}

/// A command, which waits at its gate from here on.
fn launched(args: &RecordArgs, wanted: Wanted) -> Result<Request> {
    let invoker = privileges::invoker();
    let command = Command::new(&args.command, invoker.as_ref())?;
    let target = Target::from_command(&command.program, &command.env)?;
    let script = script_of(&target, &command.program);
    let (plan, wanted, filters) = plan(args, wanted, &[target]).map_err(|error| match script {
        Some(script) if error.downcast_ref().is_some_and(ResolveError::is_absence) => anyhow!("{error:#}; {script}"),
        _ => error,
    })?;
    let gated = command.start(invoker.as_ref())?;
    let args = command.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let executable = command.program.canonicalize().unwrap_or(command.program).to_string_lossy().into_owned();
    let process = ProcessInfo { pid: gated.pid(), executable, args, ..ProcessInfo::default() };
    let (pids, processes) = (vec![gated.pid()], vec![process]);
    Ok(Request { plan, pids, gated: Some(gated), invoker, processes, wanted, filters })
}

/// Where the command is a script: that what was looked for may be in what it starts.
fn script_of(target: &Target, command: &Path) -> Option<String> {
    let program = target.executable()?;
    let is_program = FileId::of(command).is_ok_and(|id| id == program.id);
    let (command, program) = (command.display(), program.path.display());
    (!is_program).then(|| {
        format!(
            "{command} is a script that {program} runs: launch the program itself, or record what it starts, with -f"
        )
    })
}

/// What is probed from the start, what is looked for later (with `-f` and `--wait`), and what is left out of either.
fn plan(args: &RecordArgs, wanted: Wanted, targets: &[Target]) -> Result<(Plan, Option<Wanted>, Filters)> {
    let filters = wanted.filters.clone();
    if !(args.follow_forks || args.wait) {
        let mut plan = resolve::resolve(&wanted.specs, targets, &wanted.options)?;
        filters.fit(&mut plan)?;
        detail::check(args, &plan)?;
        return Ok((plan, None, filters));
    }
    let (mut plan, absent) = wanted.resolve(targets)?;
    filters.fit(&mut plan)?;
    for reason in absent.iter().filter(|_| !args.quiet) {
        tell(&format!("ada-trace: {reason}; waiting until it is there\n"));
    }
    Ok((plan, Some(wanted), filters))
}

pub(super) fn backend(args: &RecordArgs, plan: &Plan, filters: Filters) -> EbpfBackend {
    let route = args.attach.map(|how| match how {
        Attach::Multi => Route::UprobeMulti,
        Attach::Perf => Route::PerfEvent,
    });
    let grows = args.follow_forks || args.wait;
    let (ring_size, follow) = (args.buffer_size, args.follow_forks);
    let detail =
        detail::choice(&args.choice.detail, Some(&args.detail)).is_ok_and(|choice| choice != DetailChoice::None);
    let layout = detail::layout(args, plan, grows);
    let needs_lives = detail::waits_for_lives(&args.detail);
    EbpfBackend { ring_size, route, detail, layout, follow, grows, filters, needs_lives }
}

fn outcome(args: &RecordArgs, summary: &Summary, reason: &Reason, ended: Option<Ended>) -> Result<ExitCode> {
    if let Some(failure) = &summary.ledger.failure {
        bail!(
            "the recording ended early: {failure}; {} events are safe in {}",
            summary.ledger.events(),
            summary.dir.display()
        );
    }
    match (ended, reason) {
        (Some(ended), _) if ended.status() != 0 => Ok(ExitCode::from(ended.status())),
        _ if args.strict && summary.ledger.lost() > 0 => Ok(ExitCode::from(1)),
        _ => Ok(ExitCode::SUCCESS),
    }
}
