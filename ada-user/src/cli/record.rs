//! `ada-trace -e SPEC… (-p PID… | -- CMD…)`: from arguments to a plan, a recording, and the reasons that end it.

use std::process::ExitCode;

use ada_user::{
    backend::ebpf::{self, EbpfBackend, Route},
    doctor,
    filter::Filters,
    launch::{Command, Ended, Gated},
    plan::Plan,
    privileges::{self, Invoker},
    process::ProcessInfo,
    resolve::{self, ResolveOptions, ReturnsPolicy},
    session::{SessionOptions, Summary, TraceSession},
    spec::ProbeSpec,
    target::Target,
};
use anyhow::{Result, bail};

use super::{
    args::{Attach, RecordArgs, ReturnsHow},
    estimate,
    filters::filters,
    status::StatusLine,
    summary, tell,
    watch::{Reason, Watch},
};

/// Records what `args` ask for.
pub(crate) fn run(args: &RecordArgs) -> Result<ExitCode> {
    if let Some(time) = args.estimate {
        return estimate::run(args, time);
    }
    let Request { plan, pids, gated, invoker, processes, filters } = prepare(args)?;
    let options = SessionOptions { output: args.output.clone(), invoker, processes, max_depth: filters.max_depth };
    // Before anything is attached, so that no Ctrl-C from here on leaves a recording unfinished.
    let mut watch = Watch::new(&pids, args.duration)?;
    let mut session = TraceSession::start(backend(args, filters), &plan, &pids, &options)?;
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
    let told = if args.quiet { summary::losses(&summary.ledger) } else { summary::text(&summary, &plan) };
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
    pub(super) filters: Filters,
}

/// Checks what needs no privileges first, so that a slip of the pen is told as such.
pub(super) fn prepare(args: &RecordArgs) -> Result<Request> {
    if args.uprobe.is_empty() {
        bail!("nothing to record: name a function with -e, such as -e libc:malloc");
    }
    if args.pid.is_empty() && args.command.is_empty() {
        bail!("no target: give a process with -p PID or a command after --");
    }
    if args.pid.contains(&0) {
        bail!("there is no process 0; `ps` lists those that run");
    }
    let specs: Vec<ProbeSpec> = args.uprobe.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let filters = filters(args)?;
    let missing = privileges::missing();
    if !missing.is_empty() {
        bail!("recording needs {}, which this process lacks; run it with sudo", missing.join(" and "));
    }
    let options = ResolveOptions { returns: returns(args) };
    let mut request =
        if args.command.is_empty() { attached(args, &specs, &options)? } else { launched(args, &specs, &options)? };
    filters.check_threads(&request.pids)?;
    filters.leave_out_untimed(&mut request.plan)?;
    request.filters = filters;
    Ok(request)
}

/// Processes that run.
fn attached(args: &RecordArgs, specs: &[ProbeSpec], options: &ResolveOptions) -> Result<Request> {
    let mut pids = args.pid.clone();
    pids.sort_unstable();
    pids.dedup();
    let targets: Vec<Target> = pids.iter().map(|pid| Target::from_pid(*pid)).collect::<Result<_, _>>()?;
    let mut options = *options;
    if options.returns == ReturnsPolicy::Auto && pids.iter().any(|pid| doctor::return_probes_kill(*pid)) {
        tell(
            "ada-trace: a seccomp filter could kill the target for a return probe on this kernel; recording at the exits\n",
        );
        options.returns = ReturnsPolicy::Exits;
    }
    let plan = resolve::resolve(specs, &targets, &options)?;
    let filters = Filters::default();
    Ok(Request { plan, pids, gated: None, invoker: privileges::invoker(), processes: Vec::new(), filters })
}

/// A command, which waits at its gate from here on.
fn launched(args: &RecordArgs, specs: &[ProbeSpec], options: &ResolveOptions) -> Result<Request> {
    let invoker = privileges::invoker();
    let command = Command::new(&args.command, invoker.as_ref())?;
    let target = Target::from_command(&command.program, &command.env)?;
    let plan = resolve::resolve(specs, &[target], options)?;
    let gated = command.start(invoker.as_ref())?;
    let args = command.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let executable = command.program.canonicalize().unwrap_or(command.program).to_string_lossy().into_owned();
    let process = ProcessInfo { pid: gated.pid(), executable, args, ..ProcessInfo::default() };
    let (pids, filters) = (vec![gated.pid()], Filters::default());
    Ok(Request { plan, pids, gated: Some(gated), invoker, processes: vec![process], filters })
}

fn returns(args: &RecordArgs) -> ReturnsPolicy {
    match args.returns {
        _ if args.entry_only => ReturnsPolicy::Off,
        ReturnsHow::Auto => ReturnsPolicy::Auto,
        ReturnsHow::Uretprobe => ReturnsPolicy::Probe,
        ReturnsHow::Ret => ReturnsPolicy::Exits,
    }
}

pub(super) fn backend(args: &RecordArgs, filters: Filters) -> EbpfBackend {
    let route = args.attach.map(|how| match how {
        Attach::Multi => Route::UprobeMulti,
        Attach::Perf => Route::PerfEvent,
    });
    EbpfBackend { ring_size: args.buffer_size, route, registers: args.detail, filters }
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
