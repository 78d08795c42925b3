//! What the kernel programs need to follow new processes, and which processes they follow.

use std::{fs, sync::Arc};

use ada_format::wire::{Follow, names};
use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData},
};

use super::{btf::Btf, object};
use crate::backend::{AttachError, LiveGauge};
use crate::target::{descendants, has_ended};

/// The kernel's types, as it tells them itself.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";

/// To insert only what is not there (`linux/bpf.h`).
const BPF_NOEXIST: u64 = 1;

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

/// The processes that are recorded and have not ended, as the kernel programs keep them.
pub(super) struct Followed(HashMap<MapData, u32, u32>);

impl Followed {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Followed, AttachError> {
        let map = Map::HashMap(object::map(ebpf, names::TARGETS)?);
        HashMap::try_from(map).map(Followed).map_err(object::object_error)
    }

    /// Takes in what processes made before the programs saw to that. From now on nobody of the family is made unseen, so
    /// that looking until there is no new one finds all of them, which are returned.
    pub(super) fn adopt(&mut self, pids: &[u32]) -> Vec<u32> {
        let mut adopted = Vec::new();
        loop {
            let before = adopted.len();
            adopted.extend(descendants(pids).into_iter().filter(|pid| self.take_in(*pid)));
            if adopted.len() == before {
                return adopted;
            }
        }
    }

    /// Whether it is a new one that has not ended.
    fn take_in(&mut self, pid: u32) -> bool {
        // Without room the programs leave children out, too.
        if self.0.insert(pid, 1, BPF_NOEXIST).is_err() {
            return false;
        }
        let ended = has_ended(pid);
        if ended {
            // The programs saw it end if it was here by then.
            let _ = self.0.remove(&pid);
        }
        !ended
    }

    /// Tells which they are.
    pub(super) fn gauge(self) -> LiveGauge {
        Arc::new(move || self.0.keys().filter_map(Result::ok).collect())
    }
}
