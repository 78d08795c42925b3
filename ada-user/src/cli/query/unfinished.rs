//! What a command has begun to write and removes if a signal ends it.
//!
//! Invariant: after such a signal what was begun is gone, or it is whole and stays; never both half.

use std::fs::{self, Metadata};
use std::io::{self, IsTerminal};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::cli::{tell, watch};

/// How often a folder is removed into which this process still writes.
const ATTEMPTS: usize = 1000;

/// A file or folder that is not whole yet.
#[derive(Debug)]
pub(super) struct Unfinished {
    begun: Arc<Mutex<Option<Begun>>>,
    /// Whether the next signal ends this process at once.
    armed: Arc<AtomicBool>,
    watch: Handle,
}

#[derive(Debug)]
struct Begun {
    path: PathBuf,
    /// What it is to be called.
    name: PathBuf,
    /// The empty folder that was there.
    before: Option<Metadata>,
}

impl Unfinished {
    /// From here on a signal removes `path`, which does not exist yet, or is an empty folder: that one is emptied. When it
    /// is whole, it is to be called `name`.
    ///
    /// # Errors
    /// If signals cannot be watched.
    pub(super) fn at(path: &Path, name: &Path) -> io::Result<Self> {
        let begun = Arc::new(Mutex::new(Some(Begun::new(path, name))));
        let armed = Arc::new(AtomicBool::new(false));
        let wanted = || [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !watch::is_ignored(*signal));
        for signal in wanted() {
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&armed))?;
        }
        let mut signals = Signals::new(wanted())?;
        let watch = signals.handle();
        let (ours, arms) = (Arc::clone(&begun), Arc::clone(&armed));
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // Relaxed: nothing else is passed on.
                arms.store(true, Ordering::Relaxed);
                // Held until the end: nothing is finished any more.
                let begun = lock(&ours);
                if let Some(begun) = &*begun {
                    let clear = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
                    let name = begun.name.display();
                    let outcome = if begun.remove() { "is removed" } else { "could not be removed" };
                    tell(&format!("{clear}ada-trace: interrupted; what was written of {name} {outcome}\n"));
                    // Last: the rest of this process could write into it again.
                    begun.restore();
                }
                std::process::exit(128 + signal);
            }
        });
        Ok(Self { begun, armed, watch })
    }

    /// It is whole, or was removed: `last` is done to it, and signals leave it alone from then on.
    pub(super) fn end<R>(self, last: impl FnOnce() -> R) -> R {
        let mut begun = lock(&self.begun);
        let result = last();
        *begun = None;
        drop(begun);
        result
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Waits where a signal is ending this process.
        *lock(&self.begun) = None;
        // Relaxed: as above.
        self.armed.store(true, Ordering::Relaxed);
        self.watch.close();
    }
}

impl Begun {
    fn new(path: &Path, name: &Path) -> Self {
        let before = fs::metadata(path).ok().filter(Metadata::is_dir);
        // A link to the folder stays.
        let folder = before.as_ref().and_then(|_| path.canonicalize().ok());
        Self { path: folder.unwrap_or_else(|| path.to_owned()), name: name.to_owned(), before }
    }

    /// Takes it away, with a folder that was there before, so that the rest of this process cannot add to it any more. Whether
    /// nothing is left that was written.
    fn remove(&self) -> bool {
        for _ in 0..ATTEMPTS {
            let removed = match fs::symlink_metadata(&self.path) {
                Ok(there) if there.is_dir() => fs::remove_dir_all(&self.path),
                Ok(_) => fs::remove_file(&self.path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            if removed.is_ok() {
                return true;
            }
        }
        // The folder may lie where nothing may be removed.
        self.before.is_some() && empty(&self.path).is_ok()
    }

    /// Makes the folder that was there before.
    fn restore(&self) {
        let Some(before) = &self.before else { return };
        if fs::create_dir(&self.path).is_ok() {
            // An empty folder of somebody else is better than none.
            let _ = chown(&self.path, Some(before.uid()), Some(before.gid()));
            let _ = fs::set_permissions(&self.path, before.permissions());
        }
    }
}

fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }?;
    }
    Ok(())
}

fn lock(begun: &Mutex<Option<Begun>>) -> MutexGuard<'_, Option<Begun>> {
    begun.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_that_was_there_is_there_again_and_so_is_a_link_to_it() {
        let temp = tempfile::tempdir().unwrap();
        let (folder, link) = (temp.path().join("folder"), temp.path().join("link"));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        symlink(&folder, &link).unwrap();
        for path in [&folder, &link] {
            let begun = Begun::new(path, path);
            fs::create_dir(folder.join("thread_0")).unwrap();
            assert!(begun.remove());
            assert!(fs::create_dir(path.join("thread_1")).is_err(), "who goes on writes nothing");
            begun.restore();
            assert_eq!(fs::read_dir(path).unwrap().count(), 0);
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o750);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
    }

    #[test]
    fn what_was_not_there_is_not_there_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("new");
        let begun = Begun::new(&path, &path);
        assert!(begun.remove(), "nothing was written yet");
        fs::create_dir_all(path.join("thread_0")).unwrap();
        assert!(begun.remove());
        begun.restore();
        assert!(!path.exists());
    }

    #[test]
    fn what_cannot_be_removed_is_not_said_to_be() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        let path = file.join("below");
        assert!(!Begun::new(&path, &path).remove());
    }
}
