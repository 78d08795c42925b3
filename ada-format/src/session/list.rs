//! Finding sessions under a folder.
//!
//! Invariant: reads the head of each manifest only, never functions or thread files.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::SessionError;
use crate::manifest::{MANIFEST_FILE, ManifestError, Session, SessionStatus};

/// How deep under the folder sessions are looked for: `ada_traces/session_…/pid_…` is 2 deep.
const DEPTH: u32 = 3;

/// A session that was found.
#[derive(Debug)]
pub struct SessionEntry {
    /// Its folder.
    pub path: PathBuf,
    /// How it stands and when it started, or why its manifest cannot be read.
    pub session: Result<Session, ManifestError>,
}

impl SessionEntry {
    /// How it stands, if its manifest can be read.
    #[must_use]
    pub fn status(&self) -> Option<SessionStatus> {
        self.session.as_ref().ok().map(|session| session.status)
    }

    /// When it started (RFC 3339), if its manifest can be read.
    #[must_use]
    pub fn started_at(&self) -> Option<&str> {
        self.session.as_ref().ok().map(|session| session.started_at.as_str())
    }
}

/// The sessions in `root`, which may be one itself, in the order they started; those with an unreadable manifest come
/// first.
///
/// # Errors
/// [`SessionError::Io`] if `root` cannot be read. Folders below it that cannot be read are passed over.
pub fn list(root: &Path) -> Result<Vec<SessionEntry>, SessionError> {
    fs::read_dir(root).map_err(SessionError::io("read", root))?;
    let mut found = Vec::new();
    collect(root, DEPTH, &mut found);
    found.sort_by(|a, b| (a.started_at(), &a.path).cmp(&(b.started_at(), &b.path)));
    Ok(found)
}

fn collect(dir: &Path, depth: u32, found: &mut Vec<SessionEntry>) {
    if dir.join(MANIFEST_FILE).exists() {
        found.push(SessionEntry { path: dir.to_owned(), session: read_head(dir) });
        return;
    }
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // Links are not followed: a session found twice, or a loop, helps nobody.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), depth - 1, found);
        }
    }
}

/// The part of a manifest that a list shows.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    session: Session,
}

fn read_head(dir: &Path) -> Result<Session, ManifestError> {
    crate::manifest::read_json::<Head>(&dir.join(MANIFEST_FILE)).map(|head| head.session)
}
