//! A fresh folder for each test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder that every user may enter, removed with everything in it when dropped (kept if ADA_KEEP=1).
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// Makes one in the system's folder for temporary files.
    ///
    /// # Panics
    /// If that cannot be done.
    #[must_use]
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// Makes one in memory, if there is enough: a disk may make a writer wait longer than the kernel's rings hold out, and
    /// then it is the disk that is tested.
    #[must_use]
    pub fn in_memory() -> Self {
        const ENOUGH: u64 = 1 << 30;
        let memory = Path::new("/dev/shm");
        let free = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
        if free >= ENOUGH { Self::within(memory) } else { Self::new() }
    }

    fn within(parent: &Path) -> Self {
        let keep = std::env::var_os("ADA_KEEP").is_some_and(|value| value == "1");
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix("ada-e2e-").disable_cleanup(keep).tempdir_in(parent).expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its permissions");
        Self(folder)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A name in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
