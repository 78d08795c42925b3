//! The pump's place in the scheduler: where every processor is busy with the target, the thread that empties the rings must
//! not wait its turn, or they overflow. It sleeps most of the time, so it takes no more than it needs.

use rustix::process::{getpriority_process, setpriority_process};

/// The highest that setpriority(2) gives.
const HIGHEST: i32 = -20;

/// The priority of this thread, raised as far as it may be. Threads inherit it when they are started.
#[derive(Debug)]
pub(super) struct Priority {
    before: i32,
}

impl Priority {
    /// Raises this thread's priority; must be called while privileged. Where it may not be raised, nothing changes.
    pub(super) fn raise() -> Self {
        let before = getpriority_process(None).unwrap_or(0);
        let _ = setpriority_process(None, HIGHEST);
        Self { before }
    }

    /// Runs `start` at the raised priority, then goes back to the one before.
    pub(super) fn while_raised<T>(self, start: impl FnOnce() -> T) -> T {
        start()
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        // Lowering needs no privilege.
        let _ = setpriority_process(None, self.before);
    }
}
