//! Small file systems in memory, to fill up.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs, unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of `kib` KiB in the new folder `folder`. Needs root.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn new(folder: PathBuf, kib: u64) -> Self {
        std::fs::create_dir(&folder).expect("a folder to mount on");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "none"]).arg(&folder);
        assert!(mount.status().expect("mount").success(), "{mount:?} failed");
        Self(folder)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}
