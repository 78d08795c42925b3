//! The one seam between where events come from and what becomes of them.
//!
//! Invariant: the collector knows only these traits; records reach it ordered by time within each thread.

pub mod ebpf;

use std::{os::fd::OwnedFd, path::Path, sync::Arc, time::Duration};

use ada_format::wire::{Detail, Record, Signal, Slot};

use crate::plan::{FunctionId, Plan};

/// Where events come from.
pub trait Backend {
    /// What attaching yields.
    type Running: Running;

    /// Attaches everything that `plan` names to the processes `pids`, as seen in the tracer's pid namespace.
    ///
    /// # Errors
    /// An [`AttachError`] that says what could not be attached; nothing stays attached then.
    fn attach(self, plan: &Plan, pids: &[u32]) -> Result<Self::Running, AttachError>;
}

/// A source that is delivering.
pub trait Running: Send {
    /// What keeps the probes in place; dropping it detaches them, possibly from another thread.
    type Probes: Attached + 'static;

    /// Hands over the probes, so that they can be detached while the events still flow. `None` after the first time.
    fn take_probes(&mut self) -> Option<Self::Probes>;

    /// What the user should know about how it records, as a sentence without its end.
    fn note(&self) -> Option<String> {
        None
    }

    /// The probes that could not be attached although the others were.
    fn refusals(&self) -> &[Refusal] {
        &[]
    }

    /// Waits until there is plenty to drain, or for `timeout`, or until a [`Waker`] calls.
    fn wait(&mut self, timeout: Duration);

    /// Delivers what is there, in time order within each thread; returns the number of events. With `last`, once
    /// nothing is attached any more, everything that remains.
    fn drain(&mut self, last: bool, sink: &mut dyn Sink) -> usize;

    /// Reports the losses since the last call, if there were any.
    ///
    /// # Errors
    /// If the source cannot be asked; then losses go unreported and the recording must not be called complete.
    fn losses(&mut self, report: &mut Losses) -> Result<(), AttachError>;

    /// Tells the number of events lost so far; at any time it counts all that were lost before any event delivered.
    fn loss_gauge(&self) -> LossGauge;

    /// The processes that were taken in while attaching, because those to be followed had made them before.
    fn adopted(&self) -> &[u32] {
        &[]
    }

    /// Tells which processes are recorded, if new ones are followed.
    fn live_gauge(&self) -> Option<LiveGauge> {
        None
    }

    /// Something that ends a [`Running::wait`] from another thread.
    fn waker(&self) -> Waker;
}

/// A probe that the kernel would not take, while it took others of the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The function it was for.
    pub function: FunctionId,
    /// Whether the function's calls are recorded even so: only the probe for its return was refused.
    pub calls_recorded: bool,
    /// Why, as a clause.
    pub why: String,
}

/// Probes in place; dropping this detaches them.
pub trait Attached: Send {
    /// Attaches what `addition` names as well, wherever the others are.
    ///
    /// # Errors
    /// [`AttachError`]; nothing of the addition stays attached then.
    fn extend(&mut self, addition: &Plan) -> Result<Vec<Refusal>, AttachError>;

    /// From now on, while processes are stopped at all, they are also stopped when they call the function at `offset` of the
    /// file `path`, by which a loader tells that it has mapped libraries.
    ///
    /// # Errors
    /// [`AttachError`].
    fn watch_loader(&mut self, path: &Path, offset: u64) -> Result<(), AttachError>;

    /// Whether, from now on, a followed process that executes another program is stopped (SIGSTOP) before that begins:
    /// [`Sink::event`] then shows it with [`HELD`](ada_format::wire::flags::HELD), and somebody has to let it go on (SIGCONT).
    fn hold(&mut self, hold: bool);
}

/// Reads a running count of losses, without a system call.
pub type LossGauge = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Reads which processes are recorded and have not ended.
pub type LiveGauge = Arc<dyn Fn() -> Vec<u32> + Send + Sync>;

/// What takes delivery of events.
pub trait Sink {
    /// Takes one event.
    fn event(&mut self, record: &Record, more: More<'_>);
}

/// What an event carries besides its record.
#[derive(Debug, Clone, Copy)]
pub enum More<'a> {
    /// Nothing.
    Nothing,
    /// A call or return with detail.
    Detail(CallDetail<'a>),
    /// A signal.
    Signal(&'a Signal),
}

/// Registers, stack and memory at a call or return.
#[derive(Debug, Clone, Copy)]
pub struct CallDetail<'a> {
    /// The registers.
    pub detail: &'a Detail,
    /// The stack, upwards from the stack pointer at the probe (of a return: at the function's entry).
    pub stack: &'a [u8],
    /// Copies of memory; the slots that were not filled are missing.
    pub memory: Slots<'a>,
}

/// Pieces of memory that came with an event, by slot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slots<'a> {
    /// Bit `n`: slot `n` was filled.
    pub filled: u32,
    /// All slots, each of `stride` bytes: a [`Slot`](ada_format::wire::Slot) and room for bytes.
    pub slots: &'a [u8],
    /// Bytes from one slot to the next.
    pub stride: usize,
    /// The most bytes that are kept of one; what was copied beyond them only tells that there is more.
    pub limit: usize,
}

impl<'a> Slots<'a> {
    /// The slots that were filled: number, head and bytes.
    pub fn pieces(self) -> impl Iterator<Item = (u8, Slot, &'a [u8])> {
        let slots = self.slots.chunks_exact(self.stride.max(size_of::<Slot>()));
        let filled = (0u8..).zip(slots).filter(move |(number, _)| self.filled >> number & 1 != 0);
        filled.filter_map(move |(number, slot)| {
            let (address, rest) = slot.split_first_chunk()?;
            let (length, rest) = rest.split_first_chunk()?;
            let (full_length, bytes) = rest.split_first_chunk()?;
            let slot = Slot {
                address: u64::from_ne_bytes(*address),
                length: u32::from_ne_bytes(*length),
                full_length: u32::from_ne_bytes(*full_length),
            };
            let kept = bytes.get(..(slot.length as usize).min(self.limit)).unwrap_or(bytes);
            Some((number, slot, kept))
        })
    }
}

/// Ends a wait from another thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(crate) fn new(eventfd: Arc<OwnedFd>) -> Self {
        Self(eventfd)
    }

    /// Ends the wait that is under way, or the next one.
    pub fn wake(&self) {
        // An eventfd's counter cannot overflow by ones, so there is nothing to do about an error.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

/// Losses, as counted where they happened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Losses {
    /// Events lost since the recording began, by reason (`ring_full`, …).
    pub by_reason: Vec<(&'static str, u64)>,
    /// Ends of threads and executions of programs that went unseen since the recording began.
    pub lifecycle: u64,
    /// New processes that were not followed since the recording began, because too many live at once.
    pub unfollowed: u64,
    /// Losses by thread since the last report.
    pub threads: Vec<ThreadLoss>,
}

/// Events that one thread lost within a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadLoss {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Number of events.
    pub count: u64,
    /// Time of the first, `CLOCK_BOOTTIME` in nanoseconds.
    pub first_ns: u64,
    /// Time of the last.
    pub last_ns: u64,
}

/// Why a recording could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// A capability is missing.
    #[error(
        "{what} was refused ({source}): ada-trace needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE; run it with sudo"
    )]
    Permission {
        /// What was refused.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The kernel refused a system call.
    #[error("{what} failed: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The kernel refused a program.
    #[error("the kernel refused the program {program}: {source}{log}")]
    Program {
        /// The program's name.
        program: &'static str,
        /// What the kernel said.
        source: std::io::Error,
        /// The verifier's last words, on a new line; empty if it had none.
        log: String,
    },
    /// The kernel object cannot be loaded.
    #[error("the kernel object cannot be loaded: {0}")]
    Object(String),
    /// The kernel is too old for what was asked for.
    #[error("this kernel has no uprobe_multi, which came with Linux 6.6; leave --attach out")]
    NoUprobeMulti,
    /// The kernel does not tell where it keeps what following processes needs.
    #[error(
        "this kernel does not tell its types (/sys/kernel/btf/vmlinux), which -f and the triggers signal and exit need; leave them out"
    )]
    NoKernelTypes,
    /// The kernel is too old to copy memory.
    #[error(
        "--args copies memory by programs that may sleep, which came with Linux 6.0; say --string-max 0 to go without"
    )]
    NoSleepingPrograms,
    /// The kernel is too old to count calls.
    #[error(
        "this kernel has no uprobe_multi, which came with Linux 6.6 and which --estimate needs; record for a moment instead"
    )]
    NoEstimate,
    /// The process went away.
    #[error("process {pid} ended while the probes were being attached; start the recording again on a running one")]
    Exited {
        /// The process.
        pid: u32,
    },
    /// The functions of one file could not be probed.
    #[error("the kernel cannot probe {path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The target lives in a pid namespace that this tracer cannot number.
    #[error(
        "process {pid} is in a pid namespace below this one; run ada-trace in that namespace or on the host itself"
    )]
    NestedNamespace {
        /// The process.
        pid: u32,
    },
}

impl AttachError {
    /// The right variant for an error that the kernel returned.
    pub(crate) fn system(what: &'static str, source: std::io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission { what, source },
            _ => Self::System { what, source },
        }
    }
}
