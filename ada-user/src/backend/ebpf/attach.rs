//! Puts the probes in place: one uprobe_multi link per file, kind and process; perf-event links on older kernels.
//!
//! Returns and exits are attached before entries, and detached after them, so that no recorded call has an unrecorded
//! return. (The other way round, every call that is running in between would stay open for ever.)

use std::{
    num::NonZeroU32,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    slice,
};

use ada_format::wire::names;
use aya::{
    Ebpf,
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
};

use super::{object, sys};
use crate::{
    backend::AttachError,
    plan::{Module, Plan, Returns},
};

/// How probes are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// One link for many functions; kernel 6.6 and later.
    UprobeMulti,
    /// One perf event for each function: detaching takes about 0.1 s each.
    PerfEvent,
}

/// What keeps the probes in place. Dropping it detaches them, which may take a while.
#[derive(Debug)]
pub struct Probes {
    /// In the order of attaching.
    links: Vec<OwnedFd>,
    /// Dropped last: the tracepoints, and the perf-event probes where those are used.
    _ebpf: Ebpf,
}

impl Drop for Probes {
    /// Entries first, so that calls that were recorded can still return.
    fn drop(&mut self) {
        while self.links.pop().is_some() {}
    }
}

/// Attaches `plan` by the best route, or by `wanted`.
pub(super) fn attach(
    mut ebpf: Ebpf,
    plan: &Plan,
    pids: &[u32],
    wanted: Option<Route>,
) -> Result<(Probes, Route), AttachError> {
    object::attach_tracepoint(&mut ebpf, names::THREAD_EXIT, "sched_process_exit")?;
    object::attach_tracepoint(&mut ebpf, names::EXEC, "sched_process_exec")?;
    if wanted != Some(Route::PerfEvent) {
        match object::load_multi(&ebpf) {
            Ok(programs) if sys::has_uprobe_multi(programs.entry.as_fd()) => {
                let links = attach_multi(&programs, plan, pids)?;
                return Ok((Probes { links, _ebpf: ebpf }, Route::UprobeMulti));
            }
            // Kernels before 6.6 refuse the attach type when the program is loaded.
            Err(AttachError::Program { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if wanted == Some(Route::UprobeMulti) {
            return Err(AttachError::NoUprobeMulti);
        }
    }
    attach_perf(&mut ebpf, plan, pids)?;
    Ok((Probes { links: Vec::new(), _ebpf: ebpf }, Route::PerfEvent))
}

/// Number of probes that `plan` needs in each process.
pub(super) fn count(plan: &Plan) -> u64 {
    let of = |module: &Module| KINDS.iter().map(|kind| sites(plan, module, *kind).0.len() as u64).sum::<u64>();
    plan.modules.iter().map(of).sum()
}

/// Attaches programs that do nothing where [`attach`] would attach those that record.
pub(super) fn attach_empty(plan: &Plan, pids: &[u32]) -> Result<Vec<OwnedFd>, AttachError> {
    let load = || sys::load_empty().map_err(|error| AttachError::system("loading an empty eBPF program", error));
    attach_multi(&object::MultiPrograms { entry: load()?, ret: load()?, exit: load()? }, plan, pids)
}

/// Attaches the program that counts where [`attach`] would attach the one that records calls.
pub(super) fn attach_count(ebpf: &Ebpf, plan: &Plan, pids: &[u32]) -> Result<Vec<OwnedFd>, AttachError> {
    let program = match object::load_count(ebpf) {
        Ok(program) if sys::has_uprobe_multi(program.as_fd()) => program,
        Err(AttachError::Program { source, .. }) if source.raw_os_error() != Some(libc::EINVAL) => {
            return Err(AttachError::system("loading an eBPF program", source));
        }
        Ok(_) | Err(AttachError::Program { .. }) => return Err(AttachError::NoEstimate),
        Err(error) => return Err(error),
    };
    attach_kinds(&[Kind::Entry], |_| program.as_fd(), plan, pids)
}

/// What a probe is there for; in the order of attaching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Return,
    Exit,
    Entry,
}

const KINDS: [Kind; 3] = [Kind::Return, Kind::Exit, Kind::Entry];

fn attach_multi(programs: &object::MultiPrograms, plan: &Plan, pids: &[u32]) -> Result<Vec<OwnedFd>, AttachError> {
    let program = |kind| match kind {
        Kind::Return => programs.ret.as_fd(),
        Kind::Exit => programs.exit.as_fd(),
        Kind::Entry => programs.entry.as_fd(),
    };
    attach_kinds(&KINDS, program, plan, pids)
}

fn attach_kinds<'a>(
    kinds: &[Kind],
    program: impl Fn(Kind) -> BorrowedFd<'a>,
    plan: &Plan,
    pids: &[u32],
) -> Result<Vec<OwnedFd>, AttachError> {
    let mut links = Vec::new();
    for kind in kinds.iter().copied() {
        for module in &plan.modules {
            let (offsets, cookies) = sites(plan, module, kind);
            for pid in pids.iter().filter(|pid| !offsets.is_empty() && !is_elsewhere(plan, module, **pid)) {
                let sites = sys::Sites {
                    path: &module.open_path,
                    offsets: &offsets,
                    cookies: &cookies,
                    returns: kind == Kind::Return,
                    pid: *pid,
                };
                let link = sys::attach_multi(program(kind), sites);
                links.push(link.map_err(|error| attach_error(error, module, *pid))?);
            }
        }
    }
    Ok(links)
}

/// Whether process `pid` has the same file under another identity: containers made of one image see its files through
/// mounts of their own, while the kernel's probes sit on the file below all of them. One of the two must do.
fn is_elsewhere(plan: &Plan, module: &Module, pid: u32) -> bool {
    let has = |module: &Module| module.bases.iter().any(|(owner, _)| *owner == pid);
    let same = |other: &&Module| other.id != module.id && other.build_id.is_some() && other.build_id == module.build_id;
    !has(module) && plan.modules.iter().filter(same).any(has)
}

/// File offsets and cookies of the probes of one kind in `module`.
fn sites(plan: &Plan, module: &Module, kind: Kind) -> (Vec<u64>, Vec<u64>) {
    let mut sites = (Vec::new(), Vec::new());
    for function in plan.functions.iter().filter(|function| function.id.module() == module.id) {
        let offsets: &[u64] = match (kind, &function.returns) {
            (Kind::Entry, _) | (Kind::Return, Returns::Probe) => slice::from_ref(&function.probe_offset),
            (Kind::Exit, Returns::Exits(offsets)) => offsets,
            _ => &[],
        };
        sites.0.extend_from_slice(offsets);
        sites.1.extend(offsets.iter().map(|_| function.id.0));
    }
    sites
}

fn attach_perf(ebpf: &mut Ebpf, plan: &Plan, pids: &[u32]) -> Result<(), AttachError> {
    for kind in KINDS {
        let name = match kind {
            Kind::Return => names::RETURN,
            Kind::Exit => names::EXIT,
            Kind::Entry => names::ENTRY,
        };
        let program = object::load_uprobe(ebpf, name)?;
        for module in &plan.modules {
            let (offsets, cookies) = sites(plan, module, kind);
            for (offset, cookie) in offsets.iter().zip(cookies) {
                for pid in pids.iter().filter(|pid| !is_elsewhere(plan, module, **pid)) {
                    attach_perf_one(program, module, *offset, cookie, *pid)?;
                }
            }
        }
    }
    Ok(())
}

fn attach_perf_one(
    program: &mut UProbe,
    module: &Module,
    offset: u64,
    cookie: u64,
    pid: u32,
) -> Result<(), AttachError> {
    let point = UProbeAttachPoint { location: UProbeAttachLocation::AbsoluteOffset(offset), cookie: Some(cookie) };
    let scope = NonZeroU32::new(pid).map_or(UProbeScope::AllProcesses, UProbeScope::OneProcess);
    let attached = program.attach(point, &module.open_path, scope);
    attached.map(drop).map_err(|error| {
        let code = object::os_error(&error).unwrap_or(libc::EIO);
        attach_error(std::io::Error::from_raw_os_error(code), module, pid)
    })
}

fn attach_error(source: std::io::Error, module: &Module, pid: u32) -> AttachError {
    match source.raw_os_error() {
        Some(libc::ESRCH) => AttachError::Exited { pid },
        Some(libc::EPERM | libc::EACCES) => AttachError::Permission { what: "attaching a uprobe", source },
        // The file was reached through the process and went with it.
        Some(libc::ENOENT) if !std::path::Path::new(&format!("/proc/{pid}")).exists() => AttachError::Exited { pid },
        _ => AttachError::File { path: module.path.clone(), source },
    }
}
