//! What the kernel programs need to follow new processes, and which processes they follow.

use std::{fs, sync::Arc};

use ada_format::wire::{Follow, names};
use aya::{
    Ebpf,
    maps::{HashMap, Map},
};

use super::{btf::Btf, object};
use crate::backend::{AttachError, LiveGauge};

/// The kernel's types, as it tells them itself.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Where this kernel keeps what the programs read.
pub(super) fn offsets() -> Result<Follow, AttachError> {
    let found = fs::read(KERNEL_TYPES).ok().and_then(|bytes| find(&Btf::parse(&bytes)?));
    found.ok_or(AttachError::NoKernelTypes)
}

fn find(btf: &Btf<'_>) -> Option<Follow> {
    let task = |member| btf.offset("task_struct", member);
    let signal = |member| btf.offset("signal_struct", member);
    Some(Follow {
        enabled: 1,
        known: 1,
        task_pid: task("pid")?,
        task_tgid: task("tgid")?,
        task_thread_pid: task("thread_pid")?,
        task_group_leader: task("group_leader")?,
        task_signal: task("signal")?,
        task_exit_code: task("exit_code")?,
        signal_live: signal("live")?,
        signal_flags: signal("flags")?,
        signal_group_exit_code: signal("group_exit_code")?,
        pid_level: btf.offset("pid", "level")?,
        pid_numbers: btf.offset("pid", "numbers")?,
        upid_size: btf.size("upid")?,
        upid_nr: btf.offset("upid", "nr")?,
        upid_ns: btf.offset("upid", "ns")?,
        namespace_inum: btf.offset("pid_namespace", "ns.inum")?,
    })
}

/// Tells which processes are recorded and have not ended.
pub(super) fn gauge(ebpf: &Ebpf) -> Result<LiveGauge, AttachError> {
    let map = Map::HashMap(object::map(ebpf, names::TARGETS)?);
    let targets: HashMap<_, u32, u32> = HashMap::try_from(map).map_err(object::object_error)?;
    Ok(Arc::new(move || targets.keys().filter_map(Result::ok).collect()))
}
