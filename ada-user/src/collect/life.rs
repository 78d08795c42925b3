//! What became of the recorded processes: made, replaced by another program, ended. Rare, and told in the order of time.

use ada_format::wire::{Record, kind};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::ProcessInfo;

/// Something that happened to a recorded process. Times are `CLOCK_BOOTTIME` in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It was made by another one and is recorded from now on.
    Forked {
        /// The new process.
        pid: u32,
        /// Who made it.
        parent: u32,
        /// When.
        time_ns: u64,
    },
    /// It executes another program.
    Executed {
        /// The process, as it was when somebody first looked: with nothing but its id if it had gone by then.
        now: ProcessInfo,
        /// The task's name from then on.
        name: String,
        /// When.
        time_ns: u64,
    },
    /// Its last thread ended.
    Ended {
        /// The process.
        pid: u32,
        /// Exit code or signal, as wait(2) gives them.
        status: i32,
        /// When.
        time_ns: u64,
    },
}

impl Life {
    /// What a lifecycle record tells of a process; none if it tells of a thread. Looks at a process that has just
    /// begun another program, while it is there.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let value = (record.function_id & u64::from(u32::MAX)) as u32;
        let (pid, time_ns) = (record.tgid, record.time_ns);
        match record.kind {
            kind::FORK => Some(Self::Forked { pid: value, parent: pid, time_ns }),
            kind::EXEC => Some(Self::Executed { now: ProcessInfo::read(pid), name: name_of(record), time_ns }),
            kind::PROCESS_EXIT => Some(Self::Ended { pid, status: value.cast_signed(), time_ns }),
            _ => None,
        }
    }
}

/// A process that is stopped until somebody has looked at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It is about to begin another program.
    AtExec(u32),
    /// Its loader has mapped libraries.
    AtLoad(u32),
}

impl Stopped {
    pub(super) fn of(record: &Record) -> Self {
        if record.kind == kind::EXEC { Self::AtExec(record.tgid) } else { Self::AtLoad(record.tgid) }
    }

    pub(crate) fn pid(self) -> u32 {
        let (Self::AtExec(pid) | Self::AtLoad(pid)) = self;
        pid
    }
}

/// Lets a process go on that was stopped.
pub(crate) fn go_on(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed());
    // One that has gone needs nothing.
    let _ = pid.map(|pid| kill_process(pid, Signal::CONT));
}

/// A lifecycle record's task name, which the kernel puts where function and stack pointer would be.
pub(super) fn name_of(record: &Record) -> String {
    let mut bytes = Vec::with_capacity(16);
    bytes.extend_from_slice(&record.function_id.to_le_bytes());
    bytes.extend_from_slice(&record.sp.to_le_bytes());
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
