//! Paths below another root folder: a container's or a chroot's.
//!
//! Invariant: symbolic links are followed within that root. A plain open of /proc/PID/root/PATH would follow an absolute
//! link into our own.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::elf::FileId;

/// The file that `path` is below `root`: a path by which we reach it, and its id.
pub(super) fn find(root: &Path, path: &Path) -> Option<(PathBuf, FileId)> {
    let plain = below(root, path);
    let Some((real, id)) = follow(root, path) else {
        // openat2(2) needs Linux 5.6 and may be filtered.
        let id = FileId::of(&plain).ok()?;
        return Some((plain, id));
    };
    let candidates = [below(root, &real), plain];
    candidates.into_iter().find(|path| FileId::of(path).is_ok_and(|found| found == id)).map(|path| (path, id))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The path without symbolic links, as seen below the root.
fn follow(root: &Path, path: &Path) -> Option<(PathBuf, FileId)> {
    let folder =
        rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(folder, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let status = rustix::fs::fstat(file.as_fd()).ok()?;
    let id = FileId { device: status.st_dev, inode: status.st_ino };
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    // Where our root is above theirs (chroot), the link shows our path.
    let prefix = std::fs::read_link(root).or_else(|_| root.canonicalize()).unwrap_or_default();
    let seen = real.strip_prefix(prefix).map_or_else(|_| real.clone(), Path::to_owned);
    Some((seen, id))
}
