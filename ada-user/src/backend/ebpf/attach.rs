//! Puts the probes in place: one uprobe_multi link per file, kind and process; perf-event links on older kernels.
//!
//! Returns and exits are attached before entries, and detached after them, so that no recorded call has an unrecorded
//! return. (The other way round, every call that is running in between would stay open for ever.)

use std::{
    num::NonZeroU32,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::atomic::Ordering,
};

use ada_format::wire::{cookie, names};
use aya::{
    Ebpf,
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
};

use rustix::mm::ProtFlags;

use super::{
    captures::Captures,
    mapping::Mapping,
    object,
    sites::{CLASSES, Class, KINDS, Kind, is_elsewhere, program_name, sites},
    sys,
};
use crate::{
    backend::{AttachError, Attached, Refusal},
    plan::{FunctionId, Module, Plan},
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
    links: Links,
    /// What more links are made of; none where probes are perf events.
    programs: Option<object::MultiPrograms>,
    /// What the loaders' announcements of libraries are watched by, once one is.
    loader: Option<OwnedFd>,
    /// The processes that the probes are confined to.
    pids: Vec<u32>,
    /// One u64: whether processes that execute another program are stopped.
    hold: Mapping,
    captures: Captures,
    /// Dropped last: the tracepoints, and the perf-event probes where those are used.
    ebpf: Ebpf,
}

impl Attached for Probes {
    fn extend(&mut self, addition: &Plan) -> Result<Vec<Refusal>, AttachError> {
        self.captures.add(addition)?;
        match &self.programs {
            Some(programs) => self.links.add(attach_multi(programs, addition, &self.pids)?),
            None => self.links.refusals.extend(attach_perf(&mut self.ebpf, addition, &self.pids)?),
        }
        Ok(self.take_refusals())
    }

    fn watch_loader(&mut self, path: &Path, offset: u64) -> Result<(), AttachError> {
        if self.programs.is_none() {
            return self.watch_loader_perf(path, offset);
        }
        let program = match self.loader.take() {
            Some(program) => program,
            None => object::load_multi_one(&self.ebpf, names::LIBRARIES)?,
        };
        let file = |source| AttachError::File { path: path.to_owned(), source };
        for pid in &self.pids {
            let sites = sys::Sites { path, offsets: &[offset], cookies: &[0], returns: false, pid: *pid };
            self.links.open.push((Kind::Exit, sys::attach_multi(program.as_fd(), sites).map_err(file)?));
        }
        self.loader = Some(program);
        Ok(())
    }

    fn hold(&mut self, hold: bool) {
        // Relaxed: a program that still sees the former value tells what it did, or was told to do nothing.
        self.hold.u64_at(0).store(u64::from(hold), Ordering::Relaxed);
    }
}

impl Probes {
    /// What could not be attached, once.
    pub(super) fn take_refusals(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.links.refusals)
    }

    fn watch_loader_perf(&mut self, path: &Path, offset: u64) -> Result<(), AttachError> {
        let program = object::load_uprobe(&mut self.ebpf, names::LIBRARIES)?;
        for pid in &self.pids {
            let point = UProbeAttachPoint { location: UProbeAttachLocation::AbsoluteOffset(offset), cookie: None };
            program.attach(point, path, scope(*pid)).map_err(object::object_error)?;
        }
        Ok(())
    }
}

fn scope(pid: u32) -> UProbeScope {
    NonZeroU32::new(pid).map_or(UProbeScope::AllProcesses, UProbeScope::OneProcess)
}

/// uprobe_multi links, and what the kernel would not have in them. Dropping them detaches.
#[derive(Debug, Default)]
pub(super) struct Links {
    open: Vec<(Kind, OwnedFd)>,
    refusals: Vec<Refusal>,
    /// Why the first of them was refused: what is told where nothing else was attached.
    first_error: Option<AttachError>,
}

impl Links {
    fn add(&mut self, mut other: Self) {
        self.open.append(&mut other.open);
        self.refusals.append(&mut other.refusals);
    }
}

impl Drop for Links {
    /// Entries first, so that calls that were recorded can still return.
    fn drop(&mut self) {
        let (entries, others) = self.open.drain(..).partition(|(kind, _)| *kind == Kind::Entry);
        close_at_once(entries);
        close_at_once(others);
    }
}

/// Links that are closed at the same time.
const CLOSERS: usize = 32;

/// Closes links side by side: each waits until no processor runs its program any more, some 0.1 s, and they can wait
/// together.
fn close_at_once(mut links: Vec<(Kind, OwnedFd)>) {
    let share = links.len().div_ceil(CLOSERS);
    std::thread::scope(|scope| {
        while !links.is_empty() {
            let rest = links.split_off(links.len().saturating_sub(share));
            // Where no thread can be had, the closure is dropped here, and its links with it.
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(rest));
        }
    });
}

/// In place of process ids: whoever has the file mapped.
pub(super) const EVERYBODY: [u32; 1] = [0];

/// How probes are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// `None`: by the best route.
    pub(super) route: Option<Route>,
    /// Whether signals are recorded.
    pub(super) signals: bool,
    /// Whether there are functions of which memory is copied, now or later.
    pub(super) captures: bool,
}

/// Attaches `plan` in the processes `pids`.
pub(super) fn attach(
    mut ebpf: Ebpf,
    plan: &Plan,
    pids: &[u32],
    wanted: Wanted,
) -> Result<(Probes, Route), AttachError> {
    object::attach_tracepoint(&mut ebpf, names::THREAD_EXIT, "sched_process_exit")?;
    object::attach_tracepoint(&mut ebpf, names::EXEC, "sched_process_exec")?;
    if wanted.signals {
        object::attach_tracepoint(&mut ebpf, names::SIGNAL, "signal_deliver")?;
    }
    let mut captures = Captures::of(&ebpf)?;
    captures.add(plan)?;
    let hold = object::map(&ebpf, names::HOLD)?;
    let hold = Mapping::new(hold.fd(), size_of::<u64>(), 0, ProtFlags::READ | ProtFlags::WRITE);
    let hold = hold.map_err(|error| AttachError::system("mapping a switch of the kernel programs", error))?;
    if pids == EVERYBODY {
        object::attach_tracepoint(&mut ebpf, names::FORK, "sched_process_fork")?;
    }
    if wanted.route != Some(Route::PerfEvent) {
        match object::load_multi(&ebpf, wanted.captures) {
            Ok(programs) if sys::has_uprobe_multi(programs.entry.as_fd()) => {
                let links = attach_multi(&programs, plan, pids)?;
                let (programs, pids) = (Some(programs), pids.to_vec());
                return Ok((Probes { links, programs, loader: None, pids, hold, captures, ebpf }, Route::UprobeMulti));
            }
            // Kernels before 6.6 refuse the attach type when the program is loaded.
            Err(AttachError::Program { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if wanted.route == Some(Route::UprobeMulti) {
            return Err(AttachError::NoUprobeMulti);
        }
    }
    let refusals = attach_perf(&mut ebpf, plan, pids)?;
    let links = Links { open: Vec::new(), refusals, first_error: None };
    Ok((Probes { links, programs: None, loader: None, pids: pids.to_vec(), hold, captures, ebpf }, Route::PerfEvent))
}

/// Attaches programs that do nothing where [`attach`] would attach those that record.
pub(super) fn attach_empty(plan: &Plan, pids: &[u32]) -> Result<Links, AttachError> {
    let load = || sys::load_empty().map_err(|error| AttachError::system("loading an empty eBPF program", error));
    let programs = object::MultiPrograms {
        entry: load()?,
        ret: load()?,
        exit: load()?,
        go_entry: load()?,
        go_exit: load()?,
        capturing: Some(object::Capturing { entry: load()?, ret: load()?, exit: load()? }),
    };
    attach_multi(&programs, plan, pids)
}

/// Attaches the program that counts where [`attach`] would attach the one that records calls.
pub(super) fn attach_count(ebpf: &Ebpf, plan: &Plan, pids: &[u32]) -> Result<Links, AttachError> {
    let program = match object::load_multi_one(ebpf, names::COUNT) {
        Ok(program) if sys::has_uprobe_multi(program.as_fd()) => program,
        Err(AttachError::Program { source, .. }) if source.raw_os_error() != Some(libc::EINVAL) => {
            return Err(AttachError::system("loading an eBPF program", source));
        }
        Ok(_) | Err(AttachError::Program { .. }) => return Err(AttachError::NoEstimate),
        Err(error) => return Err(error),
    };
    attach_kinds(&[Kind::Entry], |_, _| Some(program.as_fd()), plan, pids)
}

impl object::MultiPrograms {
    /// The program behind probes of a kind and class, if there are such.
    fn of(&self, kind: Kind, class: Class) -> Option<&OwnedFd> {
        match (kind, class) {
            (Kind::Entry, Class::Plain) => Some(&self.entry),
            (Kind::Entry, Class::Go) => Some(&self.go_entry),
            (Kind::Entry, Class::Capturing) => self.capturing.as_ref().map(|programs| &programs.entry),
            (Kind::Return, Class::Plain) => Some(&self.ret),
            (Kind::Return, Class::Go) => None,
            (Kind::Return, Class::Capturing) => self.capturing.as_ref().map(|programs| &programs.ret),
            (Kind::Exit, Class::Plain) => Some(&self.exit),
            (Kind::Exit, Class::Go) => Some(&self.go_exit),
            (Kind::Exit, Class::Capturing) => self.capturing.as_ref().map(|programs| &programs.exit),
        }
    }
}

fn attach_multi(programs: &object::MultiPrograms, plan: &Plan, pids: &[u32]) -> Result<Links, AttachError> {
    attach_kinds(&KINDS, |kind, class| programs.of(kind, class).map(AsFd::as_fd), plan, pids)
}

fn attach_kinds<'a>(
    kinds: &[Kind],
    program: impl Fn(Kind, Class) -> Option<BorrowedFd<'a>>,
    plan: &Plan,
    pids: &[u32],
) -> Result<Links, AttachError> {
    let mut links = Links::default();
    for (kind, class) in kinds.iter().flat_map(|kind| CLASSES.map(|class| (*kind, class))) {
        let Some(program) = program(kind, class) else { continue };
        for module in &plan.modules {
            let (offsets, cookies) = sites(plan, module, kind, class);
            for pid in pids.iter().filter(|pid| !offsets.is_empty() && !is_elsewhere(plan, module, **pid)) {
                let sites = sys::Sites {
                    path: &module.open_path,
                    offsets: &offsets,
                    cookies: &cookies,
                    returns: kind == Kind::Return,
                    pid: *pid,
                };
                attach_batch(program, sites, kind, module, &mut links)?;
            }
        }
    }
    match links.first_error.take() {
        Some(error) if links.open.is_empty() => Err(error),
        _ => Ok(links),
    }
}

/// Attaches in one link, or, where the kernel will not have some of the sites, in as few as leave those out.
fn attach_batch(
    program: BorrowedFd<'_>,
    sites: sys::Sites<'_>,
    kind: Kind,
    module: &Module,
    links: &mut Links,
) -> Result<(), AttachError> {
    let error = match sys::attach_multi(program, sites) {
        Ok(link) => {
            links.open.push((kind, link));
            return Ok(());
        }
        Err(error) => error,
    };
    match sites.halves() {
        Some(halves) if is_of_a_site(&error) => {
            halves.into_iter().try_for_each(|half| attach_batch(program, half, kind, module, links))
        }
        None if is_of_a_site(&error) => {
            links.refusals.extend(sites.cookies.iter().map(|cookie| refusal(*cookie, kind, &error)));
            links.first_error.get_or_insert_with(|| attach_error(error, module, sites.pid));
            Ok(())
        }
        _ => Err(attach_error(error, module, sites.pid)),
    }
}

/// Whether the kernel may have meant a single site: its instruction, or its place in the file.
fn is_of_a_site(error: &std::io::Error) -> bool {
    /// include/linux/errno.h: not for user space, but uprobes let it through.
    const ENOTSUPP: i32 = 524;
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EIO | libc::ENOEXEC | ENOTSUPP))
}

fn refusal(cookie: u64, kind: Kind, error: &std::io::Error) -> Refusal {
    let why = match error.raw_os_error() {
        Some(libc::EINVAL) => "the kernel finds no place for a probe there".to_owned(),
        Some(code) if code > 500 => "the kernel takes no probe on its instruction".to_owned(),
        _ => format!("the kernel refuses the probe: {error}"),
    };
    let function = FunctionId(cookie & !cookie::FLAGS);
    Refusal { function, calls_recorded: kind != Kind::Entry, why }
}

fn attach_perf(ebpf: &mut Ebpf, plan: &Plan, pids: &[u32]) -> Result<Vec<Refusal>, AttachError> {
    let (mut attached, mut refusals, mut first_error) = (0u64, Vec::new(), None);
    for (kind, class) in KINDS.into_iter().flat_map(|kind| CLASSES.map(|class| (kind, class))) {
        for module in &plan.modules {
            let (offsets, cookies) = sites(plan, module, kind, class);
            let Some(name) = program_name(kind, class).filter(|_| !offsets.is_empty()) else { continue };
            let program = object::load_uprobe(ebpf, name)?;
            for (offset, cookie) in offsets.iter().zip(cookies) {
                for pid in pids.iter().filter(|pid| !is_elsewhere(plan, module, **pid)) {
                    match attach_perf_one(program, module, *offset, cookie, *pid) {
                        Ok(()) => attached += 1,
                        Err(error) if is_of_a_site(&error) => {
                            refusals.push(refusal(cookie, kind, &error));
                            first_error.get_or_insert_with(|| attach_error(error, module, *pid));
                        }
                        Err(error) => return Err(attach_error(error, module, *pid)),
                    }
                }
            }
        }
    }
    match first_error {
        Some(error) if attached == 0 => Err(error),
        _ => Ok(refusals),
    }
}

fn attach_perf_one(program: &mut UProbe, module: &Module, offset: u64, cookie: u64, pid: u32) -> std::io::Result<()> {
    let point = UProbeAttachPoint { location: UProbeAttachLocation::AbsoluteOffset(offset), cookie: Some(cookie) };
    let attached = program.attach(point, &module.open_path, scope(pid));
    attached.map(drop).map_err(|error| {
        let code = object::os_error(&error).unwrap_or(libc::EIO);
        std::io::Error::from_raw_os_error(code)
    })
}

fn attach_error(source: std::io::Error, module: &Module, pid: u32) -> AttachError {
    match source.raw_os_error() {
        Some(libc::ESRCH) => AttachError::Exited { pid },
        Some(libc::EPERM | libc::EACCES) => AttachError::Permission { what: "attaching a uprobe", source },
        // The file was reached through the process and went with it.
        Some(libc::ENOENT) if !Path::new(&format!("/proc/{pid}")).exists() => AttachError::Exited { pid },
        _ => AttachError::File { path: module.path.clone(), source },
    }
}
