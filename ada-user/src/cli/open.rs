//! Opening what was given as a session, with a hint where it is none.
//!
//! Invariant: every error names the folder as it was typed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ada_format::manifest::{MANIFEST_FILE, ManifestError, SessionStatus};
use ada_format::read::{BrokenThread, ReadError, SessionReader};
use ada_format::session::{self, thread_folder};
use ada_format::write::{DETAIL_FILE, INDEX_FILE};
use ada_query::live::is_recorded;
use ada_user::session::DEFAULT_ROOT;
use anyhow::{Result, anyhow};

/// The session that was named, or the newest of those in the default folder.
pub(super) fn chosen(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let sessions = session::list(Path::new(DEFAULT_ROOT)).unwrap_or_default();
    let newest = sessions.into_iter().next_back();
    newest.map(|newest| newest.path).ok_or_else(|| anyhow!("there is no session below {DEFAULT_ROOT}: name a folder"))
}

/// Opens the session in `dir`.
pub(super) fn open(dir: &Path) -> Result<SessionReader> {
    SessionReader::open(dir).map_err(|error| match error {
        ReadError::Manifest(ManifestError::Read { source, .. }) if is_no_session(&source) => no_session(dir),
        error => error.into(),
    })
}

/// Fails, unless there is something in `dir` that can be recovered.
pub(super) fn check_recoverable(dir: &Path) -> Result<()> {
    if dir.join(MANIFEST_FILE).exists() || has_threads(dir) { Ok(()) } else { Err(no_session(dir)) }
}

/// The threads that cannot be read; without those that a recorder has only just begun.
pub(super) fn broken(session: &SessionReader) -> impl Iterator<Item = &BrokenThread> {
    let recording = session.manifest().session.status == SessionStatus::Recording;
    session.broken().iter().filter(move |thread| !(recording && is_empty(&thread.error)))
}

/// The threads of a finished session whose files have lost their ends, and what is to be said of each.
pub(super) fn cut(session: &SessionReader) -> Vec<(u32, String)> {
    let manifest = session.manifest();
    if manifest.session.status == SessionStatus::Recording {
        return Vec::new();
    }
    let mut cut = Vec::new();
    for entry in &manifest.threads {
        let Some(thread) = session.thread(entry.id) else { continue };
        let (found, expected) = (thread.index().events().len() as u64, entry.event_count);
        let folder = thread_folder(session.dir(), entry.id);
        // Where losses were, the disk may have been full.
        let lacks_end = manifest.session.complete && thread.index().footer().is_none();
        if found < expected {
            let path = folder.join(INDEX_FILE);
            cut.push((entry.id, format!("{} was cut: {found} of {expected} events are there", path.display())));
        } else if lacks_end && found == expected {
            let path = folder.join(INDEX_FILE);
            cut.push((entry.id, format!("{} was cut behind its last event: its checksum is gone", path.display())));
        } else if manifest.session.complete && thread.detail().is_some_and(|detail| detail.footer().is_none()) {
            let path = folder.join(DETAIL_FILE);
            cut.push((entry.id, format!("{} was cut: some events have lost their detail", path.display())));
        }
    }
    cut
}

/// Says on stderr if nobody records a session any more, though it has not ended.
pub(super) fn tell_abandoned(session: &SessionReader) {
    if session.manifest().session.status == SessionStatus::Recording && !is_recorded(session.dir()) {
        let dir = session.dir().display();
        eprintln!(
            "ada-trace: the recorder of {dir} was killed: what it wrote until then is read; `ada-trace recover {dir}` ends the session"
        );
    }
}

fn is_empty(error: &ReadError) -> bool {
    match error {
        ReadError::TooShort { .. } => true,
        ReadError::Open { source, .. } => source.kind() == ErrorKind::NotFound,
        _ => false,
    }
}

fn is_no_session(source: &std::io::Error) -> bool {
    matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn no_session(dir: &Path) -> anyhow::Error {
    let name = dir.display();
    if let Err(error) = fs::read_dir(dir) {
        return anyhow!("there is no session {name} ({error}): give the folder that holds its {MANIFEST_FILE}");
    }
    if has_threads(dir) {
        return anyhow!("{name} has threads but no {MANIFEST_FILE}: `ada-trace recover {name}` makes one");
    }
    let below = session::list(dir).unwrap_or_default();
    match below.as_slice() {
        [] => anyhow!("{name} is no session: it holds no {MANIFEST_FILE}"),
        [only] => anyhow!("{name} is no session, but holds one: give {}", only.path.display()),
        [.., latest] => {
            let (count, latest) = (below.len(), latest.path.display());
            anyhow!("{name} is no session, but holds {count}: give one of them, such as {latest}")
        }
    }
}

fn has_threads(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with("thread_")))
}

#[cfg(test)]
mod tests {
    use ada_format::manifest::Manifest;

    use super::*;

    fn error_of(dir: &Path) -> String {
        let error = open(dir).unwrap_err().to_string();
        assert!(error.contains(dir.to_str().unwrap()), "{error}");
        error
    }

    #[test]
    fn a_folder_that_is_no_session_gets_a_hint() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        assert!(error_of(&dir.join("nowhere")).starts_with("there is no session"));
        assert!(error_of(dir).contains("holds no manifest.json"));
        assert!(check_recoverable(dir).is_err());

        let one = dir.join("session_1/pid_1");
        fs::create_dir_all(&one).unwrap();
        Manifest::default().write_atomic(&one).unwrap();
        assert!(open(&one).is_ok());
        assert!(error_of(dir).ends_with(&format!("but holds one: give {}", one.display())));

        let two = dir.join("session_2/pid_2");
        fs::create_dir_all(two.join("thread_0")).unwrap();
        assert!(error_of(&two).contains("recover"));
        assert!(check_recoverable(&two).is_ok());
        Manifest::default().write_atomic(&two).unwrap();
        assert!(error_of(dir).contains("holds 2"));

        let file = dir.join("file");
        fs::write(&file, "").unwrap();
        assert!(error_of(&file).starts_with("there is no session"));
        fs::write(one.join(MANIFEST_FILE), "{").unwrap();
        assert!(error_of(&one).contains("is not a manifest"));
    }
}
