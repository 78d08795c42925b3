//! Whose event it is, in the numbering of the tracer's pid namespace, and whether that process is recorded.

use aya_ebpf::{
    bindings::bpf_pidns_info,
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_ns_current_pid_tgid},
};

use crate::{
    maps::{ENDED, TARGETS, config, follow},
    task,
};

/// Process and thread of the current task.
#[derive(Clone, Copy)]
pub struct Ids {
    pub tgid: u32,
    pub tid: u32,
}

/// The current task's ids if its process is recorded.
///
/// The link's own filter is not enough: before kernel 6.10 it compared threads, not processes, and the tracepoints
/// have none.
#[inline(always)]
pub fn recorded() -> Option<Ids> {
    let ids = current()?;
    let recorded = match config!(tgid) {
        0 => TARGETS.get_ptr(ids.tgid).is_some(),
        tgid => tgid == ids.tgid,
    };
    recorded.then_some(ids)
}

/// The same for a thread that ends: its process may have left the table a moment ago, with a thread that was quicker.
#[inline(always)]
pub fn ending() -> Option<Ids> {
    let ended = || current().filter(|ids| follow!(known) != 0 && ENDED.get_ptr(ids.tgid).is_some());
    recorded().or_else(ended)
}

#[inline(always)]
fn current() -> Option<Ids> {
    let (device, inode) = (config!(pidns_dev), config!(pidns_ino));
    if inode == 0 {
        let both = bpf_get_current_pid_tgid();
        return Some(Ids { tgid: (both >> 32) as u32, tid: both as u32 });
    }
    let mut info = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: `info` is a bpf_pidns_info and the size is its own.
    let failed =
        unsafe { bpf_get_ns_current_pid_tgid(device, inode, &raw mut info, size_of::<bpf_pidns_info>() as u32) };
    if failed == 0 {
        return Some(Ids { tgid: info.tgid, tid: info.pid });
    }
    // That helper answers for tasks of exactly this namespace; a child may have gone into one below.
    let mut ids = Ids { tgid: 0, tid: 0 };
    (follow!(enabled) != 0 && task::current_ids(&mut ids) == 0).then_some(ids)
}
