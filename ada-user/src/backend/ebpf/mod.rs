//! The eBPF backend: uprobes and return probes write wire records into one ring buffer per processor; this side maps
//! the rings and delivers their records in order.
//!
//! Invariant: aya and bpf(2) appear nowhere else in ada-user.

mod attach;
mod btf;
mod captures;
mod count;
mod follow;
mod followed;
mod losses;
mod mapping;
mod merge;
mod object;
mod pidns;
mod ring;
mod sites;
mod sys;
mod wire_bytes;

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use ada_format::wire::{Config, Detail, Follow, Record, Slot, arch, flags, kind, names};
use aya::{
    Ebpf,
    maps::{ArrayOfMaps, HashMap, Map, MapData},
};
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

pub use attach::{Probes, Route};
pub use count::Counting;

use self::{
    followed::{Adopted, Followed},
    losses::LossCounters,
    merge::{Merge, Source},
    pidns::PidNamespace,
    ring::Ring,
};
use super::{
    AttachError, Backend, CallDetail, LiveGauge, LossGauge, Losses, More, Refusal, Running, Sink, Slots, Waker,
};
use crate::{clock, filter::Filters, plan::Plan};

/// Memory for all rings together, by default, in bytes.
const RINGS_BUDGET: u64 = 64 << 20;
/// Limits of the default size of one ring, in bytes.
const RING_SIZES: std::ops::RangeInclusive<u64> = 1 << 20..=16 << 20;

/// Bytes of the ring for what must not be lost: room for some 700 signals.
const SPARE_RING: u32 = 256 << 10;

/// Threads whose running calls a filter can keep track of at the same time; each takes 5 KiB.
const FRAME_TABLE: usize = 4096;
/// Functions that may be added to a plan and have their rates limited all the same; each takes about 100 bytes.
const GROWTH: usize = 1 << 16;

/// How long the last drain waits for a program that is still writing.
const LAST_DRAIN: Duration = Duration::from_secs(1);

/// What detaching one perf-event probe takes, measured on 6.18 with two processors.
const DETACH_MS: u64 = 107;

/// How the eBPF backend is set up.
#[derive(Debug, Clone, Default)]
pub struct EbpfBackend {
    /// Bytes of each processor's ring: a power of two, at least a page. `None`: by the number of processors.
    pub ring_size: Option<u32>,
    /// How to attach. `None`: the best that the kernel has.
    pub route: Option<Route>,
    /// Whether functions with detail may come later, where functions may be added at all.
    pub detail: bool,
    /// What detail comes to.
    pub layout: DetailLayout,
    /// Whether the processes that recorded ones make are recorded too.
    pub follow: bool,
    /// Whether functions may be added to the plan while it records ([`Attached::extend`](super::Attached::extend)).
    pub grows: bool,
    /// What is left out; all but the call depth, which is not known here.
    pub filters: Filters,
    /// Whether somebody waits for signals or the ends of processes.
    pub needs_lives: bool,
}

/// How much is recorded with a call or return that has detail: the same for all functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DetailLayout {
    /// Bytes of stack at a call: a multiple of 8, at most [`MAX_STACK`](ada_format::layout::MAX_STACK).
    pub stack_bytes: u32,
    /// Pieces of memory: at most [`MAX_SLOTS`](ada_format::wire::MAX_SLOTS).
    pub capture_slots: u32,
    /// Room for bytes of each piece: a multiple of 8, at most [`MAX_CAPTURE_BYTES`](ada_format::wire::MAX_CAPTURE_BYTES).
    pub capture_bytes: u32,
    /// Bytes that are kept of each; at least two fewer, for a zero, and to see that there is more.
    pub string_max: u32,
}

/// Attached probes and the rings they write to.
pub struct EbpfRunning {
    merge: Merge<Ring>,
    losses: LossCounters,
    adopted: Adopted,
    live: Option<LiveGauge>,
    probes: Option<Probes>,
    refusals: Vec<Refusal>,
    route: Route,
    /// Probes that are perf events, each to be detached by itself.
    perf_probes: u64,
    /// Whether signals and the ends of processes are recorded.
    sees_lives: bool,
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    /// What came before the recording began and belongs to it all the same.
    early: Vec<Record>,
    layout: DetailLayout,
}

impl Backend for EbpfBackend {
    type Running = EbpfRunning;

    fn attach(self, plan: &Plan, pids: &[u32]) -> Result<EbpfRunning, AttachError> {
        allow_locked_memory();
        let (online, possible) = processors()?;
        let ring_size = self.ring_size.unwrap_or_else(|| default_ring_size(online.len()));
        let follow = self.kernel_types()?;
        let mut ebpf = object::load(self.config(plan, pids, ring_size, possible)?, follow, possible, &self.room(plan))?;
        set_ids(&mut ebpf, names::TARGETS, pids)?;
        set_ids(&mut ebpf, names::THREADS, &self.filters.threads)?;
        let mut rings = object::array_of_maps(&ebpf)?;
        let (epoll, wake) = wait_set().map_err(|error| AttachError::system("making an epoll set", error))?;
        let mut sources = Vec::with_capacity(online.len());
        for cpu in online {
            sources.push(add_ring(&mut rings, cpu, ring_size, epoll.as_fd())?);
        }
        sources.push(add_ring(&mut rings, possible, SPARE_RING, epoll.as_fd())?);
        let losses = LossCounters::new(&ebpf, possible)?;
        let mut followed = if self.follow { Some(Followed::of(&ebpf)?) } else { None };
        // Children are recorded from their first instruction: the probes are there for every process, and the programs
        // look at whose they are.
        let scope = if self.follow { &attach::EVERYBODY } else { pids };
        let wanted = attach::Wanted { route: self.route, signals: follow.known != 0, captures: self.captures(plan) };
        let (mut probes, route) = attach::attach(ebpf, plan, scope, wanted)?;
        let adopted = followed.as_mut().map_or_else(Adopted::default, |followed| followed.adopt(pids));
        let refusals = probes.take_refusals();
        let perf_probes = if route == Route::PerfEvent { sites::count(plan) * scope.len() as u64 } else { 0 };
        let mut running = EbpfRunning {
            merge: Merge::new(sources),
            losses,
            adopted,
            live: followed.map(Followed::gauge),
            probes: Some(probes),
            refusals,
            route,
            perf_probes,
            sees_lives: follow.known != 0,
            epoll,
            wake: Arc::new(wake),
            early: Vec::new(),
            layout: self.layout,
        };
        running.begin()?;
        Ok(running)
    }
}

/// Programs that do nothing, in place; dropping this detaches them.
#[derive(Debug)]
pub struct EmptyProbes(#[expect(dead_code, reason = "held for its drop")] attach::Links);

/// Attaches programs that do nothing to what `plan` names: what probes cost before anything is recorded.
///
/// # Errors
/// As [`Backend::attach`]; needs uprobe_multi (kernel 6.6).
pub fn attach_empty(plan: &Plan, pids: &[u32]) -> Result<EmptyProbes, AttachError> {
    attach::attach_empty(plan, pids).map(EmptyProbes)
}

impl EbpfBackend {
    fn config(&self, plan: &Plan, pids: &[u32], ring_size: u32, spare_ring: u32) -> Result<Config, AttachError> {
        let namespace = PidNamespace::of_tracer(pids)?;
        let tgid = match pids {
            [pid] if !self.follow => *pid,
            _ => 0,
        };
        let arch = if cfg!(target_arch = "aarch64") { arch::ARM64 } else { arch::X86_64 };
        Ok(Config {
            pidns_dev: namespace.device,
            pidns_ino: namespace.inode,
            tgid,
            arch,
            wake_bytes: u64::from(ring_size / 8).max(64),
            detail: u32::from(plan.functions.iter().any(|function| function.detail) || self.grows && self.detail),
            stack_bytes: self.layout.stack_bytes,
            capture_slots: self.layout.capture_slots,
            capture_bytes: self.layout.capture_bytes,
            spare_ring,
            reserved: 0,
            filter: self.filters.wire(plan, self.grows),
        })
    }

    /// What of the kernel's types the programs need to know: with -f without fail, and otherwise for the ends of processes and
    /// for signals.
    fn kernel_types(&self) -> Result<Follow, AttachError> {
        match follow::offsets() {
            Ok(found) => Ok(Follow { enabled: u32::from(self.follow), ..found }),
            Err(_) if !self.follow && !self.needs_lives => Ok(Follow::default()),
            Err(error) => Err(error),
        }
    }

    /// Whether memory is copied of any function, now or later.
    fn captures(&self, plan: &Plan) -> bool {
        let has = plan.functions.iter().any(|function| function.capture.is_some());
        self.layout.capture_slots > 0 && (has || self.grows)
    }

    /// Room for what the filters keep.
    fn room(&self, plan: &Plan) -> object::Room {
        let filter = self.filters.wire(plan, self.grows);
        let functions = plan.functions.len() + if self.grows { GROWTH } else { 0 };
        object::Room {
            threads: self.filters.threads.len(),
            frames: if filter.frames != 0 { FRAME_TABLE } else { 0 },
            rates: if filter.max_rate != 0 { functions } else { 0 },
            counts: 0,
            captures: if self.captures(plan) { functions } else { 0 },
        }
    }
}

/// Takes notice of all but calls and returns.
struct Early<'a>(&'a mut Vec<Record>);

impl Sink for Early<'_> {
    fn event(&mut self, record: &Record, _more: More<'_>) {
        if !matches!(record.kind, kind::CALL | kind::RETURN) {
            self.0.push(*record);
        }
    }
}

impl EbpfRunning {
    /// The last probe is in place. Calls that the first ones have recorded meanwhile, and lost where the rings were full, belong
    /// to no recording; processes that came and functions that were muted do.
    fn begin(&mut self) -> Result<(), AttachError> {
        let mut early = std::mem::take(&mut self.early);
        self.drain(false, &mut Early(&mut early));
        self.early = early;
        self.losses.begin()
    }

    /// How the probes were attached.
    #[must_use]
    pub fn route(&self) -> Route {
        self.route
    }
}

impl Running for EbpfRunning {
    type Probes = Probes;

    fn take_probes(&mut self) -> Option<Probes> {
        self.probes.take()
    }

    fn note(&self) -> Option<String> {
        let probes = self.perf_probes;
        let slow = (probes * DETACH_MS).div_ceil(1000);
        let slow = format!("{probes} probes are attached one by one; detaching them takes about {slow} s");
        let blind =
            "this kernel does not tell its types (/sys/kernel/btf/vmlinux): signals and exit statuses are not recorded";
        match (probes > 0, self.sees_lives) {
            (true, true) => Some(slow),
            (true, false) => Some(format!("{slow}; {blind}")),
            (false, true) => None,
            (false, false) => Some(blind.to_owned()),
        }
    }

    fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    fn wait(&mut self, timeout: Duration) {
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 8];
        let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        // An interrupted wait is a short one.
        let _ = epoll::wait(&self.epoll, &mut events, Some(&timeout));
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
    }

    fn drain(&mut self, last: bool, sink: &mut dyn Sink) -> usize {
        let layout = self.layout;
        self.early.drain(..).for_each(|record| sink.event(&record, More::Nothing));
        if !last {
            return self.merge.drain(clock::boottime_ns(), &mut |bytes| deliver(bytes, layout, sink));
        }
        // The probes are gone, and the programs behind them; a tracepoint's, which nobody waits for, may still be at work.
        let began = Instant::now();
        let mut count = 0;
        loop {
            count += self.merge.drain(u64::MAX, &mut |bytes| deliver(bytes, layout, sink));
            if self.merge.was_complete(u64::MAX) || began.elapsed() > LAST_DRAIN {
                return count;
            }
            std::thread::yield_now();
        }
    }

    fn losses(&mut self, report: &mut Losses) -> Result<(), AttachError> {
        self.losses.report(report)?;
        report.unfollowed += self.adopted.left_out;
        Ok(())
    }

    fn loss_gauge(&self) -> LossGauge {
        self.losses.gauge()
    }

    fn adopted(&self) -> &[u32] {
        &self.adopted.pids
    }

    fn live_gauge(&self) -> Option<LiveGauge> {
        self.live.clone()
    }

    fn waker(&self) -> Waker {
        Waker::new(Arc::clone(&self.wake))
    }
}

impl std::fmt::Debug for EbpfRunning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EbpfRunning").field("route", &self.route).finish_non_exhaustive()
    }
}

impl Source for Ring {
    fn scan(&mut self) -> bool {
        self.scan()
    }

    fn first_time(&mut self) -> Option<u64> {
        let bytes = self.peek()?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    }

    fn take(&mut self, deliver: &mut impl FnMut(&[u8])) {
        if let Some(bytes) = self.peek() {
            deliver(bytes);
        }
        self.advance();
    }

    fn release(&mut self) {
        Self::release(self);
    }
}

/// Hands a ring's record to the sink.
fn deliver(bytes: &[u8], layout: DetailLayout, sink: &mut dyn Sink) {
    if let Some((record, rest)) = wire_bytes::read::<Record>(bytes) {
        sink.event(record, more(record, rest, layout));
    }
}

/// What follows a record in the ring.
fn more<'a>(record: &Record, rest: &'a [u8], layout: DetailLayout) -> More<'a> {
    if record.kind == kind::SIGNAL {
        return wire_bytes::read(rest).map_or(More::Nothing, |(signal, _)| More::Signal(signal));
    }
    if record.flags & flags::DETAIL == 0 {
        return More::Nothing;
    }
    let stack_bytes = if record.kind == kind::CALL { layout.stack_bytes as usize } else { 0 };
    let Some((detail, (stack, slots))) =
        wire_bytes::read::<Detail>(rest).and_then(|(detail, rest)| Some((detail, rest.split_at_checked(stack_bytes)?)))
    else {
        return More::Nothing;
    };
    let stride = size_of::<Slot>() + layout.capture_bytes as usize;
    let memory = Slots { filled: detail.slots, slots, stride, limit: layout.string_max as usize };
    let memory = if record.flags & flags::MEMORY == 0 { Slots::default() } else { memory };
    More::Detail(CallDetail { detail, stack: stack.get(..detail.stack_size as usize).unwrap_or(stack), memory })
}

/// Makes the ring of processor `cpu`, maps it, and has the epoll set watch it.
fn add_ring(
    rings: &mut ArrayOfMaps<MapData, MapData>,
    cpu: u32,
    size: u32,
    epoll: BorrowedFd<'_>,
) -> Result<Ring, AttachError> {
    let map = object::new_ring(size)?;
    rings.set(cpu, &map, 0).map_err(object::object_error)?;
    let data = epoll::EventData::new_u64(u64::from(cpu));
    epoll::add(epoll, map.fd(), data, epoll::EventFlags::IN | epoll::EventFlags::ET)
        .map_err(|error| AttachError::system("watching a ring buffer", error.into()))?;
    Ring::map(map, size).map_err(|error| AttachError::system("mapping a ring buffer", error))
}

/// An epoll set with an eventfd in it, by which other threads end a wait.
fn wait_set() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    epoll::add(&set, &wake, epoll::EventData::new_u64(u64::MAX), epoll::EventFlags::IN)?;
    Ok((set, wake))
}

/// Puts ids into one of the tables that say what is recorded.
fn set_ids(ebpf: &mut Ebpf, table: &str, ids: &[u32]) -> Result<(), AttachError> {
    let missing = || AttachError::Object(format!("it has no map {table}"));
    let map: &mut Map = ebpf.map_mut(table).ok_or_else(missing)?;
    let mut table: HashMap<_, u32, u32> = HashMap::try_from(map).map_err(object::object_error)?;
    for id in ids {
        table.insert(id, 1, 0).map_err(object::object_error)?;
    }
    Ok(())
}

/// The processors that are online, and the number of those that may ever be.
fn processors() -> Result<(Vec<u32>, u32), AttachError> {
    let failed = |(what, source): (&'static str, std::io::Error)| AttachError::System { what, source };
    let online = aya::util::online_cpus().map_err(failed)?;
    let possible = aya::util::nr_cpus().map_err(failed)?;
    Ok((online, u32::try_from(possible).unwrap_or(u32::MAX)))
}

fn default_ring_size(processors: usize) -> u32 {
    let share = RINGS_BUDGET / processors.max(1) as u64;
    let size = share.clamp(*RING_SIZES.start(), *RING_SIZES.end());
    1 << size.ilog2()
}

/// Kernels before 5.11 charge maps against RLIMIT_MEMLOCK; where the limit cannot be raised, it may still suffice.
fn allow_locked_memory() {
    let unlimited = rustix::process::Rlimit { current: None, maximum: None };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Memlock, unlimited);
}
