//! Everything that the programs share with the collector: the configuration they are loaded with, and the maps.

use ada_format::wire::{Config, Drops, Lost, LostKey};
use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, RingBuf},
    macros::btf_map,
};

/// linux/bpf.h
const BPF_F_MMAPABLE: usize = 1 << 10;

/// Overwritten by the loader; read-only from then on, so that the verifier knows its values.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config { pidns_dev: 0, pidns_ino: 0, tgid: 0, arch: 0, wake_bytes: 0, registers: 0 };

/// Reads a field of [`CONFIG`] as it is in the kernel, not as it is above.
macro_rules! config {
    ($field:ident) => {{
        let field = &raw const $crate::maps::CONFIG.$field;
        // SAFETY: a plain integer of a static that nobody writes once the program is loaded.
        unsafe { core::ptr::read_volatile(field) }
    }};
}
pub(crate) use config;

/// One ring per processor. The loader sets the number of entries, makes the rings and chooses their size.
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

/// The processes to record when there is more than one.
#[btf_map]
pub static TARGETS: HashMap<u32, u32, 4096> = HashMap::new();
