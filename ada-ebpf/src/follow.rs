//! Which processes are recorded, as they come and go.
//!
//! Invariant: a new process is in the table of targets before it can run, and leaves it with its last thread; its id can
//! only be given to another one afterwards.

use ada_format::wire::kind;

use crate::{
    ids::Ids,
    loss,
    maps::{ENDED, TARGETS},
    record,
    task::Task,
};

/// `parent` has made `child`, which cannot run before this returns.
#[inline(always)]
pub fn forked(parent: Ids, child: Task) {
    let Some(child) = child.new_process() else { return };
    if TARGETS.insert(child, 1, 0).is_err() {
        return loss::unfollowed();
    }
    let _ = ENDED.remove(child);
    record::process(parent, kind::FORK, child);
}

/// A thread of a recorded process ends. Whichever of the last ones comes first takes the process out.
#[inline(always)]
pub fn exited(ids: Ids, task: Task) {
    let Some(status) = task.ended_process() else { return };
    let _ = ENDED.insert(ids.tgid, 1, 0);
    if TARGETS.remove(ids.tgid).is_ok() {
        record::process(ids, kind::PROCESS_EXIT, status);
    }
}
