//! What the kernel's own structs tell of a task. The loader found the offsets in the kernel's type information.
//!
//! Invariant: everything is read by a helper that fails on a bad address, so a wrong offset gives no answer, not a fault.

use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};

use crate::{
    ids::Ids,
    maps::{config, follow},
};

/// include/linux/sched/signal.h
const SIGNAL_GROUP_EXIT: u32 = 4;
/// Where a wait status has the signal that ended the process (wait(2)).
const SIGNAL_MASK: u32 = 0x7f;
/// include/linux/pid_namespace.h
const MAX_PID_NS_LEVEL: u32 = 32;

/// A `struct task_struct`.
#[derive(Clone, Copy)]
pub struct Task(*const u8);

impl Task {
    /// The task that a tracepoint gave as an argument.
    #[inline(always)]
    pub fn at(address: u64) -> Self {
        Self(address as *const u8)
    }

    #[inline(always)]
    fn current() -> Self {
        // SAFETY: a helper without preconditions.
        Self::at(unsafe { bpf_get_current_task() })
    }

    /// The process that this new task is, or none if it is one more thread of an old one.
    #[inline(always)]
    pub fn new_process(self) -> Option<u32> {
        let (pid, tgid) = (read::<u32>(self.0, follow!(task_pid))?, read::<u32>(self.0, follow!(task_tgid))?);
        if pid == tgid { self.id() } else { None }
    }

    /// The current task.
    #[inline(always)]
    pub fn now() -> Self {
        Self::current()
    }

    /// The signal that ends its process, if one does.
    #[inline(always)]
    pub fn fatal_signal(self) -> Option<u32> {
        let signal: *const u8 = read(self.0, follow!(task_signal))?;
        if read::<u32>(signal, follow!(signal_flags))? & SIGNAL_GROUP_EXIT == 0 {
            return None;
        }
        let number = read::<u32>(signal, follow!(signal_group_exit_code))? & SIGNAL_MASK;
        if number == 0 { None } else { Some(number) }
    }

    /// The wait status of its process, if no thread of that is left.
    ///
    /// The kernel's own rule: kernel/exit.c, `wait_task_zombie`.
    #[inline(always)]
    pub fn ended_process(self) -> Option<u32> {
        let signal: *const u8 = read(self.0, follow!(task_signal))?;
        if read::<u32>(signal, follow!(signal_live))? != 0 {
            return None;
        }
        if read::<u32>(signal, follow!(signal_flags))? & SIGNAL_GROUP_EXIT != 0 {
            return read(signal, follow!(signal_group_exit_code));
        }
        read(self.leader()?.0, follow!(task_exit_code))
    }

    #[inline(always)]
    fn leader(self) -> Option<Self> {
        read(self.0, follow!(task_group_leader)).map(Self)
    }

    /// Its id in the tracer's pid namespace; none if it is not in that or one below.
    #[inline(always)]
    fn id(self) -> Option<u32> {
        let pid: *const u8 = read(self.0, follow!(task_thread_pid))?;
        let first = pid.wrapping_add(follow!(pid_numbers) as usize);
        if config!(pidns_ino) == 0 {
            return read(first, follow!(upid_nr));
        }
        // It has an id in each namespace from the initial one down to its own.
        let level: u32 = read(pid, follow!(pid_level))?;
        for number in 0..=MAX_PID_NS_LEVEL {
            if number > level {
                return None;
            }
            let upid = first.wrapping_add((number * follow!(upid_size)) as usize);
            let namespace: *const u8 = read(upid, follow!(upid_ns))?;
            if u64::from(read::<u32>(namespace, follow!(namespace_inum))?) == config!(pidns_ino) {
                return read(upid, follow!(upid_nr));
            }
        }
        None
    }
}

/// The current task's ids, also if its own pid namespace is one below the tracer's.
#[inline(never)]
pub fn current_ids(ids: &mut Ids) -> i32 {
    let task = Task::current();
    let found = task.leader().and_then(Task::id).zip(task.id());
    let Some((tgid, tid)) = found else { return -1 };
    *ids = Ids { tgid, tid };
    0
}

#[inline(always)]
fn read<T>(base: *const u8, offset: u32) -> Option<T> {
    // SAFETY: a helper that fails on an address that cannot be read.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset as usize).cast()) }.ok()
}
