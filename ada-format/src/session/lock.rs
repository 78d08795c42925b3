//! The lock that says a session is still being recorded.
//!
//! Invariant: it is held on the file that [`LOCK_FILE`] names, and vanishes with the process that holds it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::SessionError;

/// Name of the file that is locked; it is removed when the lock is released.
pub const LOCK_FILE: &str = ".lock";

/// A session that only this process may change.
#[derive(Debug)]
pub struct SessionLock {
    path: PathBuf,
    file: File,
}

impl SessionLock {
    /// Keeps `bytes` of the disk for the final manifest: should the disk fill up meanwhile, there is still room to end
    /// the session properly. The room is the lock file's own.
    ///
    /// # Errors
    /// [`SessionError::Io`] if even that much does not fit.
    pub fn reserve(&self, bytes: usize) -> Result<(), SessionError> {
        let written = (&self.file).write_all(&vec![0; bytes]);
        written.map_err(SessionError::io("reserve room in", &self.path))
    }

    /// Gives the room back, for the final manifest to take.
    pub fn release_reserve(&self) {
        // If this fails the manifest will say so.
        let _ = self.file.set_len(0);
    }
}

impl Drop for SessionLock {
    fn drop(&mut self) {
        // Before the file closes, so that whoever locks next finds either this file locked or none.
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes the session in `dir` for this process, until the lock is dropped or the process ends.
///
/// # Errors
/// [`SessionError::Locked`] if another process has it, [`SessionError::Io`] if the system refuses.
pub fn lock(dir: &Path) -> Result<SessionLock, SessionError> {
    let path = dir.join(LOCK_FILE);
    loop {
        let file = open(&path).map_err(SessionError::io("lock", &path))?;
        match file.try_lock() {
            Ok(()) if is_at(&file, &path) => return Ok(SessionLock { path, file }),
            // Its last owner removed it between our opening and locking it: try the new one.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SessionError::Locked { path: dir.to_owned() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(SessionError::io("lock", &path)(source));
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Linux's O_NOFOLLOW, of which std has no name: a link that somebody put there is not written through.
    const O_NOFOLLOW: i32 = if cfg!(any(target_arch = "aarch64", target_arch = "arm")) { 0o100_000 } else { 0o400_000 };
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    if cfg!(target_os = "linux") {
        options.custom_flags(O_NOFOLLOW);
    }
    options.open(path)
}

/// Whether `file` is still the one that `path` names.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |data: fs::Metadata| (data.dev(), data.ino());
    file.metadata().map(identity).ok() == fs::metadata(path).map(identity).ok()
}
