//! What the kernel programs need to follow new processes: where the kernel keeps what it knows of them.
//!
//! Invariant: all of it, or an error; a kernel that lacks one member is not followed by guesses.

use std::fs;

use ada_format::wire::Follow;

use super::btf::Btf;
use crate::backend::AttachError;

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
