//! Everything that the programs share with the collector: the configuration they are loaded with, and the maps.

use core::sync::atomic::AtomicU64;

use ada_format::wire::{Capture, Config, Drops, Filter, Follow, Lost, LostKey};
use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuHashMap, RingBuf},
    macros::btf_map,
};

use crate::{frames::Frames, rate::Rate};

/// linux/bpf.h
const BPF_F_MMAPABLE: usize = 1 << 10;

/// Overwritten by the loader; read-only from then on, so that the verifier knows its values.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config {
    pidns_dev: 0,
    pidns_ino: 0,
    tgid: 0,
    arch: 0,
    wake_bytes: 0,
    detail: 0,
    stack_bytes: 0,
    capture_slots: 0,
    capture_bytes: 0,
    spare_ring: 0,
    reserved: 0,
    filter: Filter::NONE,
};

/// Reads a field of [`CONFIG`] as it is in the kernel, not as it is above.
macro_rules! config {
    ($($field:ident).+) => {{
        let field = &raw const $crate::maps::CONFIG.$($field).+;
        // SAFETY: a plain integer of a static that nobody writes once the program is loaded.
        unsafe { core::ptr::read_volatile(field) }
    }};
}
pub(crate) use config;

/// Overwritten by the loader, like [`CONFIG`].
#[unsafe(no_mangle)]
pub static FOLLOW: Follow = Follow {
    enabled: 0,
    known: 0,
    task_pid: 0,
    task_tgid: 0,
    task_thread_pid: 0,
    task_group_leader: 0,
    task_signal: 0,
    task_exit_code: 0,
    signal_live: 0,
    signal_flags: 0,
    signal_group_exit_code: 0,
    pid_level: 0,
    pid_numbers: 0,
    upid_size: 0,
    upid_nr: 0,
    upid_ns: 0,
    namespace_inum: 0,
};

/// Reads a field of [`FOLLOW`], as `config!` does of [`CONFIG`].
macro_rules! follow {
    ($field:ident) => {{
        let field = &raw const $crate::maps::FOLLOW.$field;
        // SAFETY: a plain integer of a static that nobody writes once the program is loaded.
        unsafe { core::ptr::read_volatile(field) }
    }};
}
pub(crate) use follow;

/// One ring per processor, and a spare one. The loader sets the number of entries, makes the rings and chooses their size.
#[btf_map]
pub static RINGS: ArrayOfMaps<RingBuf<u8, 4096>, 1> = ArrayOfMaps::new();

/// Loss counters by processor; the loader sets the number of entries.
#[btf_map]
pub static DROPS: Array<Drops, 1, BPF_F_MMAPABLE> = Array::new();

/// Losses by thread: only touched when something is lost.
#[btf_map]
pub static LOST: HashMap<LostKey, Lost, 16384> = HashMap::new();

/// The collector's epoch, so that a thread's entry in [`LOST`] can say when the current run of losses began.
#[btf_map]
pub static EPOCH: Array<u64, 1, BPF_F_MMAPABLE> = Array::new();

/// The processes to record when there is more than one, or new ones are followed.
#[btf_map]
pub static TARGETS: HashMap<u32, u32, 4096> = HashMap::new();

/// Processes whose last thread has ended, while others of theirs may still be on their way out.
#[btf_map]
pub static ENDED: LruHashMap<u32, u32, 1024> = LruHashMap::new();

/// 1 while the collector wants processes that execute another program to be stopped until it has looked at that.
#[btf_map]
pub static HOLD: Array<u64, 1, BPF_F_MMAPABLE> = Array::new();

/// The threads to record, if not all; the loader sets the number of entries.
#[btf_map]
pub static THREADS: HashMap<u32, u32, 1> = HashMap::new();

/// The calls of each thread that have not returned, where a filter needs them; the loader sets the number of entries.
#[btf_map]
pub static FRAMES: HashMap<LostKey, Frames, 1> = HashMap::new();

/// What a thread begins with in [`FRAMES`]: too large for a program's stack. Nobody writes it.
#[btf_map]
pub static NO_FRAMES: Array<Frames, 1> = Array::new();

/// What memory is copied, by function id; the loader sets the number of entries.
#[btf_map]
pub static CAPTURES: HashMap<u64, Capture, 1> = HashMap::new();

/// Call rates by function id, where they are limited; the loader sets the number of entries.
#[btf_map]
pub static RATES: HashMap<u64, Rate, 1> = HashMap::new();

/// Calls by function, where they are only counted; the loader sets the number of entries.
#[btf_map]
pub static COUNTS: PerCpuHashMap<u64, AtomicU64, 1> = PerCpuHashMap::new();
