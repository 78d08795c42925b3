//! The record between probe and collector: what the kernel programs put into their ring, one per event.
//!
//! Builds without std, for the kernel. It versions with a build, unlike the files on disk (`layout`): probe and
//! collector always come from the same tree, because the kernel object is embedded in the collector.
//!
//! ```text
//!  0         8             16   24      28    32     34      36      40
//!  ├ time_ns ┼ function_id ┼ sp ┼ tgid ─┼ tid ┼ kind ┼ flags ┼ stack ─┤
//! ```
//!
//! What follows it: [`Detail`] if [`flags::DETAIL`], and if it is a call [`Config::stack_bytes`] bytes of stack; behind those, if
//! [`flags::MEMORY`], [`Config::capture_slots`] times a [`Slot`] and [`Config::capture_bytes`] bytes. A [`Signal`] if the kind
//! is [`kind::SIGNAL`].

mod detail;

pub use detail::{
    Capture, Detail, MAX_CAPTURE_BYTES, MAX_SIGNAL_REGISTERS, MAX_SLOTS, Piece, Registers, Signal, Slot, piece,
};

/// One event as the probe saw it. 40 bytes, naturally aligned; the module says what follows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    pub time_ns: u64,
    /// The attach cookie. Of a [`kind::THREAD_EXIT`]: the first half of the thread's name.
    pub function_id: u64,
    /// The stack pointer at the function's entry, also for a return; on a goroutine's stack, which moves, its distance from
    /// the stack's end (a negative number, in two's complement). Of a [`kind::THREAD_EXIT`]: the second half of the
    /// thread's name.
    pub sp: u64,
    /// Process id, as the tracer's pid namespace sees it.
    pub tgid: u32,
    /// Thread id, as the tracer's pid namespace sees it.
    pub tid: u32,
    /// One of [`kind`].
    pub kind: u16,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Which stack of the process `sp` belongs to: 0 is the thread's own, others are goroutines'.
    pub stack: u32,
}

/// What a [`Record`] reports.
pub mod kind {
    /// A function was entered.
    pub const CALL: u16 = 1;
    /// A function returned.
    pub const RETURN: u16 = 2;
    /// A thread ended; the record carries its name.
    pub const THREAD_EXIT: u16 = 16;
    /// A process replaced its program (execve).
    pub const EXEC: u16 = 17;
    /// A recorded process made another, which is recorded from its first instruction; in place of the function is the
    /// new one's process id.
    pub const FORK: u16 = 18;
    /// The last thread of a process ended; in place of the function is its wait status.
    pub const PROCESS_EXIT: u16 = 19;
    /// A process's loader has mapped libraries, or is about to, or has unmapped some; always [`HELD`](super::flags::HELD).
    pub const LIBRARIES: u16 = 20;
    /// A signal is delivered to the thread; its stack pointer is among the registers.
    pub const SIGNAL: u16 = 21;
    /// A function went beyond [`Filter::max_rate`](super::Filter::max_rate) and is recorded no longer; `sp` holds its
    /// calls per second. It may come more than once.
    pub const MUTED: u16 = 32;
}

/// Bits of an attach cookie, beside the function id.
pub mod cookie {
    /// The probe sits on the jump of Go's stack check (`jbe`), which is taken if the stack has to grow first: then the
    /// function will be entered once more, and this was no call.
    pub const STACK_CHECK: u64 = 1 << 63;
    /// Registers and stack are recorded.
    pub const DETAIL: u64 = 1 << 62;
    /// What is not part of the function id.
    pub const FLAGS: u64 = STACK_CHECK | DETAIL;
}

/// Bits of [`Record::flags`].
pub mod flags {
    /// CALL: the return address is another return probe's trampoline, so the caller's frame was replaced (a tail call).
    pub const CHAINED: u16 = 1;
    /// [`Detail`](super::Detail) and the stack follow the record.
    pub const DETAIL: u16 = 2;
    /// RETURN: the filters do not know whether its call was written; it counts only if it was.
    pub const UNPAIRED: u16 = 4;
    /// Slots of memory follow the stack.
    pub const MEMORY: u16 = 8;
    /// EXEC, LIBRARIES: the process is stopped (SIGSTOP) until the collector has looked at it and sends SIGCONT.
    pub const HELD: u16 = 1 << 8;
}

/// Why the kernel side could not deliver an event: the index of its counter.
pub mod loss {
    /// The ring had no room.
    pub const RING_FULL: u32 = 0;
    /// There is no ring for the processor the event happened on (it came online after the recording began).
    pub const NO_RING: u32 = 1;
    /// Number of reasons for which events are lost.
    pub const REASONS: usize = 2;
    /// What was lost, for whatever reason, was not an event but the end of a thread or an execve.
    pub const LIFECYCLE: u32 = 2;
    /// A new process could not be followed: the table of targets is full.
    pub const UNFOLLOWED: u32 = 3;
    /// Number of counters.
    pub const COUNTERS: usize = 4;
    /// Their names in manifests and summaries, in the order of their indices.
    pub const NAMES: [&str; REASONS] = ["ring_full", "no_ring"];
}

/// Key of the kernel's table of losses by thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostKey {
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
}

/// What one thread lost. Only that thread writes it; the collector reads differences and never resets it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Events lost since the recording began.
    pub count: u64,
    /// Time of the first loss within `epoch`.
    pub first_ns: u64,
    /// Time of the last loss.
    pub last_ns: u64,
    /// The collector's epoch that `first_ns` belongs to.
    pub epoch: u64,
}

/// What the kernel programs are told before they are loaded (read-only data; the verifier drops dead branches).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Device of the tracer's pid namespace file; 0 = the initial namespace, no translation.
    pub pidns_dev: u64,
    /// Inode of the tracer's pid namespace file.
    pub pidns_ino: u64,
    /// The one process to record; 0 = those in the table of targets.
    pub tgid: u32,
    /// One of [`arch`].
    pub arch: u32,
    /// Wake the collector each time a ring has taken this many bytes; a power of two.
    pub wake_bytes: u64,
    /// 1 = some functions have [`cookie::DETAIL`].
    pub detail: u32,
    /// Bytes of stack that are recorded with detail: a multiple of 8, at most 512.
    pub stack_bytes: u32,
    /// Slots that follow a record with [`flags::MEMORY`]: at most [`MAX_SLOTS`]; 0 if none has any.
    pub capture_slots: u32,
    /// Room for bytes in each slot: a multiple of 8, at most [`MAX_CAPTURE_BYTES`].
    pub capture_bytes: u32,
    /// Which of [`names::RINGS`] is kept for what must not be lost; its processors' come before it.
    pub spare_ring: u32,
    /// 0.
    pub reserved: u32,
    /// What is left out.
    pub filter: Filter,
}

/// Which calls the kernel programs do not write. All zeros: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Calls that took less are left out, in nanoseconds; 0 = none.
    pub min_duration_ns: u64,
    /// Calls per second beyond which a function is muted; 0 = none.
    pub max_rate: u64,
    /// One call in so many is written; 0 and 1 = all.
    pub sample: u32,
    /// 1 = only the threads in the table of threads.
    pub threads: u32,
    /// 1 = calls that have not returned are kept by thread, so that what is decided at a call is known at its return.
    pub frames: u32,
    /// 1 = any of these is used.
    pub any: u32,
}

impl Filter {
    /// Leaves nothing out.
    pub const NONE: Self = Self { min_duration_ns: 0, max_rate: 0, sample: 0, threads: 0, frames: 0, any: 0 };
}

/// What following new processes takes: where the kernel keeps what, in bytes from the start of each struct. Read-only
/// data like [`Config`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Follow {
    /// 1 = new processes of recorded ones are recorded.
    pub enabled: u32,
    /// 1 = the rest is known, so that the ends of processes can be told.
    pub known: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.thread_pid`, a `struct pid *`
    pub task_thread_pid: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.signal`, a `struct signal_struct *`
    pub task_signal: u32,
    /// `task_struct.exit_code`
    pub task_exit_code: u32,
    /// `signal_struct.live`
    pub signal_live: u32,
    /// `signal_struct.flags`
    pub signal_flags: u32,
    /// `signal_struct.group_exit_code`
    pub signal_group_exit_code: u32,
    /// `struct pid`, `level`
    pub pid_level: u32,
    /// `struct pid`, `numbers`: an array of `struct upid`
    pub pid_numbers: u32,
    /// Bytes of a `struct upid`.
    pub upid_size: u32,
    /// `upid.nr`
    pub upid_nr: u32,
    /// `upid.ns`, a `struct pid_namespace *`
    pub upid_ns: u32,
    /// `pid_namespace.ns.inum`
    pub namespace_inum: u32,
}

/// The counters of one processor, each in its own cache line; the kernel adds, the collector reads through a mapping.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Drops {
    /// By [`loss`] reason, then [`loss::LIFECYCLE`] and [`loss::UNFOLLOWED`].
    pub counters: [core::sync::atomic::AtomicU64; loss::COUNTERS],
}

/// Names of programs, maps and globals in the kernel object, as the loader asks for them.
pub mod names {
    /// The program behind every function entry.
    pub const ENTRY: &str = "function_entry";
    /// The program behind every function return that a return probe sees.
    pub const RETURN: &str = "function_return";
    /// The program behind the entries of functions of which memory is copied ([`CAPTURES`]); it may sleep.
    pub const ENTRY_CAPTURING: &str = "entry_capturing";
    /// The same for returns that a return probe sees.
    pub const RETURN_CAPTURING: &str = "return_capturing";
    /// The same for the instructions by which they are left.
    pub const EXIT_CAPTURING: &str = "exit_capturing";
    /// The program behind the instructions by which a function is left.
    pub const EXIT: &str = "function_exit";
    /// The program behind the entries of Go's functions.
    pub const GO_ENTRY: &str = "go_entry";
    /// The program behind the instructions by which Go's functions are left.
    pub const GO_EXIT: &str = "go_exit";
    /// Raw tracepoint program: a thread ends.
    pub const THREAD_EXIT: &str = "thread_exit";
    /// Raw tracepoint program: a process executes another program.
    pub const EXEC: &str = "process_exec";
    /// Array of maps: a ring buffer for each processor, and one for what must not be lost.
    pub const RINGS: &str = "RINGS";
    /// Array of [`Drops`](super::Drops) by processor, mappable.
    pub const DROPS: &str = "DROPS";
    /// Hash of [`Lost`](super::Lost) by [`LostKey`](super::LostKey).
    pub const LOST: &str = "LOST";
    /// Array of one u64: the collector's epoch, mappable.
    pub const EPOCH: &str = "EPOCH";
    /// Hash of process ids to record.
    pub const TARGETS: &str = "TARGETS";
    /// The program behind every function entry while calls are only counted.
    pub const COUNT: &str = "function_count";
    /// Hash by function id of u64s by processor: calls that were only counted.
    pub const COUNTS: &str = "COUNTS";
    /// Hash of [`Capture`](super::Capture) by function id.
    pub const CAPTURES: &str = "CAPTURES";
    /// Raw tracepoint program: a signal is delivered.
    pub const SIGNAL: &str = "signal_deliver";
    /// Hash of thread ids to record.
    pub const THREADS: &str = "THREADS";
    /// Hash of the calls that have not returned, by thread; for [`Filter::frames`](super::Filter::frames).
    pub const FRAMES: &str = "FRAMES";
    /// Hash of call rates by function id; for [`Filter::max_rate`](super::Filter::max_rate).
    pub const RATES: &str = "RATES";
    /// The [`Config`](super::Config) global.
    pub const CONFIG: &str = "CONFIG";
    /// Raw tracepoint program: a process or thread is made.
    pub const FORK: &str = "process_fork";
    /// The program behind the loader's announcement of new libraries.
    pub const LIBRARIES: &str = "libraries_changed";
    /// Array of one u64, mappable: 1 = a process that executes another program is stopped.
    pub const HOLD: &str = "HOLD";
    /// The [`Follow`](super::Follow) global.
    pub const FOLLOW: &str = "FOLLOW";
}

/// Architectures a kernel program can serve; the object is one for all of them.
pub mod arch {
    /// x86_64.
    pub const X86_64: u32 = 1;
    /// arm64.
    pub const ARM64: u32 = 2;
}

const _: () = assert!(size_of::<Record>() == 40);
const _: () = assert!(size_of::<Lost>() == 32);
const _: () = assert!(size_of::<Config>() == 88);
const _: () = assert!(size_of::<Filter>() == 32);
const _: () = assert!(size_of::<Drops>() == 64);
const _: () = assert!(size_of::<Follow>() == 17 * 4);
