//! What a command has begun to write and removes if a signal ends it.
//!
//! Invariant: after such a signal what was begun is gone, or it is whole and stays; never both half.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::cli::{tell, watch};

/// How often a folder is emptied into which this process still writes.
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
    /// The folder was there, and was empty.
    keeps_folder: bool,
}

impl Unfinished {
    /// From here on a signal removes `path`, which does not exist yet, or is an empty folder: that one is emptied. When it
    /// is whole, it is to be called `name`.
    ///
    /// # Errors
    /// If signals cannot be watched.
    pub(super) fn at(path: &Path, name: &Path) -> io::Result<Self> {
        let begun = Begun { path: path.to_owned(), name: name.to_owned(), keeps_folder: path.is_dir() };
        let begun = Arc::new(Mutex::new(Some(begun)));
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
                    begun.remove();
                    let clear = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
                    let name = begun.name.display();
                    tell(&format!("{clear}ada-trace: interrupted; what was written of {name} is removed\n"));
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
    /// Takes it away, although the rest of this process may still add to it.
    fn remove(&self) {
        for _ in 0..ATTEMPTS {
            let removed = match fs::symlink_metadata(&self.path) {
                Ok(there) if there.is_dir() && self.keeps_folder => empty(&self.path),
                Ok(there) if there.is_dir() => fs::remove_dir_all(&self.path),
                Ok(_) => fs::remove_file(&self.path),
                Err(_) => Ok(()),
            };
            if removed.is_ok() {
                return;
            }
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
