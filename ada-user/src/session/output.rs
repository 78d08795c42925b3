//! The folder of a session that is being started: made first, so that a bad one is refused before anything is attached;
//! removed again if the start fails.

use std::{
    fs, io,
    os::unix::fs::lchown,
    path::{Path, PathBuf},
};

use ada_format::session::{self, SessionLock};

use super::{DEFAULT_ROOT, SessionOptions, TraceError, drop_privileges};
use crate::privileges::Invoker;

/// The least that is kept for the final manifest, in bytes: enough for some hundred threads.
const SMALLEST_RESERVE: usize = 128 << 10;

/// A new session folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The folders that were made for it, outermost first.
    made: Vec<PathBuf>,
    lock: Option<SessionLock>,
    keep: bool,
}

impl Folder {
    /// Makes the folder that `options` name, or the default one for a recording of `pids`, and locks it.
    pub(super) fn create(options: &SessionOptions, pids: &[u32]) -> Result<Self, TraceError> {
        let path = options.output.clone().unwrap_or_else(|| default_path(pids));
        let made = missing(&path);
        session::create(&path)?;
        let lock = session::lock(&path);
        let mut folder = Self { path, made, lock: None, keep: false };
        folder.lock = Some(lock?);
        Ok(folder)
    }

    /// Keeps room on the disk for the final manifest, by the size of the first.
    pub(super) fn reserve(&self) -> Result<(), TraceError> {
        let first = fs::metadata(self.path.join(ada_format::manifest::MANIFEST_FILE)).map_or(0, |file| file.len());
        let bytes = usize::try_from(first).unwrap_or(0).saturating_mul(2).max(SMALLEST_RESERVE);
        self.lock.as_ref().map_or(Ok(()), |lock| lock.reserve(bytes)).map_err(TraceError::Session)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folders and files that were made here to the invoker; then becomes them. A folder that was there before
    /// stays whose it is: if they may not write to it, that is for its owner to say.
    ///
    /// With `signals`, the right to signal any process is kept: stopped ones must be let go on.
    pub(super) fn give_to(&self, invoker: Option<&Invoker>, signals: bool) -> Result<(), TraceError> {
        let Some(invoker) = invoker else { return Ok(()) };
        let output = |path: &Path, source| TraceError::Output { what: "give away", path: path.to_owned(), source };
        let own = |path: &Path| lchown(path, Some(invoker.uid), Some(invoker.gid));
        for path in &self.made {
            own(path).map_err(|error| output(path, error))?;
        }
        for path in self.files().iter().filter(|path| path.symlink_metadata().is_ok()) {
            own(path).map_err(|error| output(path, error))?;
        }
        drop_privileges(invoker, signals, &self.path)
    }

    /// The files that are made before the recording begins.
    fn files(&self) -> [PathBuf; 3] {
        [session::LOCK_FILE, ada_format::manifest::MANIFEST_FILE, ada_format::manifest::FUNCTIONS_FILE]
            .map(|name| self.path.join(name))
    }

    /// The recording has begun: the folder stays.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }

    /// Gives the room back that was kept for the final manifest.
    pub(super) fn release_reserve(&self) {
        self.lock.iter().for_each(SessionLock::release_reserve);
    }

    /// The recording never began: what was made goes, threads included.
    pub(super) fn discard(&mut self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let thread = entry.file_name().to_str().is_some_and(|name| name.starts_with("thread_"));
            if thread {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        self.keep = false;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        self.lock = None;
        // Nothing but our own files is in it: it was empty. What cannot be removed stays.
        for path in self.files() {
            let _ = fs::remove_file(path);
        }
        for path in self.made.iter().rev() {
            let _: io::Result<()> = fs::remove_dir(path);
        }
    }
}

/// The folders on the way to `path` that do not exist yet, outermost first; `path` itself is the last.
fn missing(path: &Path) -> Vec<PathBuf> {
    let absent = |part: &&Path| !part.as_os_str().is_empty() && !part.exists();
    let mut missing: Vec<PathBuf> = path.ancestors().take_while(absent).map(Path::to_owned).collect();
    missing.reverse();
    missing
}

fn default_path(pids: &[u32]) -> PathBuf {
    let now = jiff::Zoned::now().strftime("session_%Y%m%d_%H%M%S").to_string();
    let pid = pids.first().copied().unwrap_or(0);
    let first = |number: u32| {
        let name = if number == 0 { now.clone() } else { format!("{now}_{number}") };
        Path::new(DEFAULT_ROOT).join(name).join(format!("pid_{pid:05}"))
    };
    // A second recording of the process within the same second gets a folder of its own.
    (0..).map(first).find(|path| !path.exists()).unwrap_or_else(|| first(0))
}
