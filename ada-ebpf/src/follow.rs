//! Which processes are recorded, as they come and go.
//!
//! Invariant: a new process is in the table of targets before it can run, and leaves it with its last thread; its id can
//! only be given to another one afterwards.

use ada_format::wire::{flags, kind};
use aya_ebpf::helpers::bpf_send_signal;

use crate::{
    ids::Ids,
    kernel::SIGSTOP,
    loss,
    maps::{ENDED, HOLD, TARGETS},
    record,
    task::Task,
};

/// asm-generic/signal.h; the same on x86.
const SIGCONT: u32 = 18;

/// `parent` has made `child`, which cannot run before this returns.
#[inline(always)]
pub fn forked(parent: Ids, child: Task) {
    let Some(child) = child.new_process() else { return };
    if TARGETS.insert(child, 1, 0).is_err() {
        return loss::unfollowed();
    }
    let _ = ENDED.remove(child);
    record::process(parent, kind::FORK, 0, child);
}

/// A thread of a recorded process ends. Whichever of the last ones comes first takes the process out.
#[inline(always)]
pub fn exited(ids: Ids, task: Task) {
    let Some(status) = task.ended_process() else { return };
    let _ = ENDED.insert(ids.tgid, 1, 0);
    if TARGETS.remove(ids.tgid).is_ok() {
        record::process(ids, kind::PROCESS_EXIT, 0, status);
    }
}

/// A recorded process executes another program, of whose code nothing has run yet.
#[inline(always)]
pub fn executed(ids: Ids, name: [u8; 16]) {
    let held = hold();
    let told = record::lifecycle(ids, kind::EXEC, if held { flags::HELD } else { 0 }, name);
    if held && !told {
        let_go();
    }
}

/// A recorded process's loader has mapped libraries, none of whose code has run yet.
#[inline(always)]
pub fn libraries_changed(ids: Ids) {
    if hold() && !record::process(ids, kind::LIBRARIES, flags::HELD, 0) {
        let_go();
    }
}

/// Stops the process before it goes on in user space, if the collector wants to look first. Never without a record that
/// tells: nobody else would let it go on.
#[inline(always)]
fn hold() -> bool {
    // SAFETY: a helper without preconditions. The signal is pending until the task returns to user mode; SIGCONT takes a
    // pending SIGSTOP back, from here as from the collector, whichever comes first.
    HOLD.get(0).is_some_and(|hold| *hold != 0) && unsafe { bpf_send_signal(SIGSTOP) } == 0
}

#[inline(always)]
fn let_go() {
    // SAFETY: a helper without preconditions. It fails only where the signal before it did.
    unsafe { bpf_send_signal(SIGCONT) };
}
