//! The pid namespace that ids are given in: the tracer's own.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use super::AttachError;

/// `PROC_PID_INIT_INO` in include/linux/proc_ns.h: the initial pid namespace.
const INITIAL: u64 = 0xEFFF_FFFC;

/// A pid namespace, as bpf_get_ns_current_pid_tgid takes it. (0, 0) is the initial one, which needs no translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PidNamespace {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl PidNamespace {
    /// The tracer's own, after checking that ids of `pids` can be given in it.
    pub(super) fn of_tracer(pids: &[u32]) -> Result<Self, AttachError> {
        let failed = |source| AttachError::System { what: "reading /proc/self/ns/pid", source };
        let own = Self::read(Path::new("/proc/self/ns/pid")).map_err(failed)?;
        if own.inode == INITIAL {
            return Ok(Self { device: 0, inode: 0 });
        }
        // The helper only answers for tasks of exactly the namespace that it is asked for.
        for pid in pids {
            let theirs = Self::read(Path::new(&format!("/proc/{pid}/ns/pid")));
            if theirs.is_ok_and(|theirs| theirs.inode != own.inode) {
                return Err(AttachError::NestedNamespace { pid: *pid });
            }
        }
        Ok(own)
    }

    fn read(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: kernel_device(metadata.dev()), inode: metadata.ino() })
    }
}

/// stat(2) gives st_dev as new_encode_dev() packs it; the helper compares with the kernel's own dev_t (major << 20 | minor).
fn kernel_device(st_dev: u64) -> u64 {
    u64::from(rustix::fs::major(st_dev)) << 20 | u64::from(rustix::fs::minor(st_dev))
}
