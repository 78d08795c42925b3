//! The session folder: creating, locking, listing and recovering sessions.
//!
//! Invariant: only names of the format (`manifest.json`, `functions.json`, `thread_<n>`, `.deleted_<n>`, `.lock`) are
//! ever touched; whatever else lies in a session stays as it is.

mod finalise;
mod list;
mod lock;
mod recover;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use self::finalise::{RecoveredLane, RecoveredThread};
pub use self::list::{SessionEntry, list};
pub use self::lock::{LOCK_FILE, SessionLock, lock};
pub use self::recover::{RecoverReport, recover};
use crate::manifest::ManifestError;

/// Why something could not be done with a session's folder.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The folder for a new session holds something already.
    #[error("{} is not empty (it holds {found:?}); name an empty or a new folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// The recorder is still at work.
    #[error("{} is still being recorded; stop the recording first", path.display())]
    Locked {
        /// The session.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The manifest could not be read or written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl SessionError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Creates the folder of a new session, with its parents; an empty one may be there already.
///
/// # Errors
/// [`SessionError::NotEmpty`] if there is something in it, [`SessionError::Io`] if the system refuses.
///
/// # Examples
/// ```
/// use ada_format::session;
///
/// # let dir = tempfile::tempdir()?;
/// let folder = dir.path().join("session_20260101_120000/pid_00042");
/// session::create(&folder)?;
/// let _lock = session::lock(&folder)?;
/// assert!(session::create(&folder).unwrap_err().to_string().contains("is not empty"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn create(dir: &Path) -> Result<(), SessionError> {
    fs::create_dir_all(dir).map_err(SessionError::io("create", dir))?;
    match fs::read_dir(dir).map_err(SessionError::io("read", dir))?.next() {
        None => Ok(()),
        Some(Ok(entry)) => {
            let found = entry.file_name().to_string_lossy().into_owned();
            Err(SessionError::NotEmpty { path: dir.to_owned(), found })
        }
        Some(Err(source)) => Err(SessionError::io("read", dir)(source)),
    }
}

/// The folder of the thread with the ordinal `id`.
#[must_use]
pub fn thread_folder(dir: &Path, id: u32) -> PathBuf {
    dir.join(format!("thread_{id}"))
}

/// Deletes the folder of the thread with the ordinal `id`, in one step for readers; one that is not there is fine.
///
/// The manifest must say so first: it has its [`complete_from_ns`](crate::manifest::Manifest::complete_from_ns), and the
/// thread is not in it any more.
///
/// # Errors
/// [`SessionError::Io`] if the system refuses. What is left is deleted by [`recover`], and no reader looks at it.
pub fn delete_thread(dir: &Path, id: u32) -> Result<(), SessionError> {
    let (folder, deleted) = (thread_folder(dir, id), dir.join(format!("{DELETED}{id}")));
    match fs::rename(&folder, &deleted) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(SessionError::io("delete", &folder)(source)),
        Ok(()) => fs::remove_dir_all(&deleted).map_err(SessionError::io("delete", &deleted)),
    }
}

/// Deletes what a recorder that was killed in [`delete_thread`] has left.
fn delete_leftovers(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_ours = |name: &str| ordinal(name, DELETED).is_some();
        if entry.file_name().to_str().is_some_and(is_ours) && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// What a thread's folder is called while it is being deleted, but for its ordinal.
const DELETED: &str = ".deleted_";

/// The ordinals of the thread folders in `dir`, in order.
pub(crate) fn thread_ids(dir: &Path) -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir)? {
        ids.extend(entry?.file_name().to_str().and_then(thread_id));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// The ordinal in a thread folder's name.
pub(crate) fn folder_id(folder: &Path) -> Option<u32> {
    thread_id(folder.file_name()?.to_str()?)
}

/// The ordinal in a thread folder's name.
fn thread_id(name: &str) -> Option<u32> {
    ordinal(name, "thread_")
}

/// The ordinal behind `prefix`, which must be written as we write it.
fn ordinal(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let id: u32 = digits.parse().ok()?;
    (id.to_string() == digits).then_some(id)
}
