//! What lies in the folder of a session that is being recorded: the manifest, and threads that come and go.
//!
//! Invariant: a folder is told once, when its first header is there; a manifest is read again only if it was replaced.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ada_format::manifest::{MANIFEST_FILE, Manifest, SessionStatus};
use ada_format::session::{LOCK_FILE, thread_folder};
use ada_format::write::INDEX_FILE;

use super::tail::Tail;
use crate::QueryError;

/// How often is looked whether the recorder lives.
const LOCK_CHECKS: Duration = Duration::from_secs(1);

/// How a recording stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is being recorded.
    Recorded,
    /// It has ended in order.
    Ended,
    /// Its recorder is gone and has not ended it.
    Abandoned,
}

/// The session's folder.
#[derive(Debug)]
pub(super) struct Folders {
    dir: PathBuf,
    manifest: Manifest,
    /// Which file the manifest was read from.
    stamp: (u64, u64),
    known: BTreeSet<u32>,
    standing: Standing,
    next_check: Instant,
}

impl Folders {
    /// # Errors
    /// [`QueryError`] if there is no manifest, or none that can be read.
    pub(super) fn open(dir: &Path) -> Result<Self, QueryError> {
        let mut folders = Self {
            dir: dir.to_owned(),
            manifest: Manifest::default(),
            stamp: (0, 0),
            known: BTreeSet::new(),
            standing: Standing::Recorded,
            next_check: Instant::now(),
        };
        folders.look()?;
        Ok(folders)
    }

    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Reads the manifest again if it was replaced, and says whether it was.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn look(&mut self) -> Result<bool, QueryError> {
        // First: what is written by a recorder that is gone now, was written before the rest is looked at.
        let lives = self.recorder_lives();
        let path = self.dir.join(MANIFEST_FILE);
        let data = fs::metadata(&path).map_err(|source| QueryError::Io { path, source })?;
        let stamp = (data.ino(), data.mtime_nsec().cast_unsigned() ^ (data.mtime().cast_unsigned() << 30));
        let replaced = stamp != self.stamp;
        if replaced {
            self.manifest = Manifest::read(&self.dir).map_err(ada_format::read::ReadError::from)?;
            self.stamp = stamp;
        }
        self.standing = match self.manifest.session.status {
            SessionStatus::Recording if lives => Standing::Recorded,
            SessionStatus::Recording => Standing::Abandoned,
            SessionStatus::Complete | SessionStatus::Recovered => Standing::Ended,
        };
        Ok(replaced)
    }

    /// The folders that were not there before, in the order of their ordinals.
    ///
    /// # Errors
    /// [`QueryError::Io`] if the session's folder cannot be read.
    pub(super) fn appeared(&mut self) -> Result<Vec<(u32, PathBuf, Tail)>, QueryError> {
        let failed = |source| QueryError::Io { path: self.dir.clone(), source };
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_prefix("thread_")).and_then(|id| id.parse().ok());
            ids.extend(id.filter(|id| !self.known.contains(id)));
        }
        let mut found = Vec::new();
        for id in ids {
            let path = thread_folder(&self.dir, id).join(INDEX_FILE);
            if let Some(tail) = Tail::open(&path)? {
                self.known.insert(id);
                found.push((id, path, tail));
            }
        }
        Ok(found)
    }

    fn recorder_lives(&mut self) -> bool {
        if self.standing == Standing::Recorded && Instant::now() >= self.next_check {
            self.next_check = Instant::now() + LOCK_CHECKS;
            return is_recorded(&self.dir);
        }
        self.standing == Standing::Recorded
    }
}

/// Whether a recorder is at work on the session in `dir`: it holds the lock. If that may not be looked at, it is believed to
/// be.
#[must_use]
pub fn is_recorded(dir: &Path) -> bool {
    match File::open(dir.join(LOCK_FILE)) {
        Ok(lock) => lock.try_lock_shared().is_err(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}
