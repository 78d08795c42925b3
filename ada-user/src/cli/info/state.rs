//! How a session stands: its manifest says so, except whether a recorder that did not finish it is still alive.
//!
//! Invariant: nothing is written; the question is asked by a shared lock that is given back at once.

use std::fs::{File, TryLockError};
use std::path::Path;

use ada_format::manifest::{Session, SessionStatus};
use ada_format::session::LOCK_FILE;

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Finished, with everything in it.
    Complete,
    /// Finished, but events were lost or could not be written.
    Incomplete,
    /// Being recorded.
    Recording,
    /// Its recorder is gone.
    Killed,
    /// Its recorder may or may not be gone: we may not look.
    Unknown,
    /// Its recorder was killed, and it was recovered.
    Recovered,
}

impl State {
    /// How the session in `dir` stands.
    pub(super) fn of(dir: &Path, session: &Session) -> Self {
        match session.status {
            SessionStatus::Complete if session.complete => Self::Complete,
            SessionStatus::Complete => Self::Incomplete,
            SessionStatus::Recovered => Self::Recovered,
            SessionStatus::Recording => Self::of_unfinished(dir),
        }
    }

    fn of_unfinished(dir: &Path) -> Self {
        match File::open(dir.join(LOCK_FILE)).map(|file| file.try_lock_shared()) {
            Ok(Ok(())) => Self::Killed,
            Ok(Err(TryLockError::WouldBlock)) => Self::Recording,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::Killed,
            Ok(Err(TryLockError::Error(_))) | Err(_) => Self::Unknown,
        }
    }

    /// One word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Complete | Self::Incomplete => "complete",
            Self::Recording => "recording",
            Self::Killed => "killed",
            Self::Unknown => "unfinished",
            Self::Recovered => "recovered",
        }
    }

    /// One line.
    pub(super) fn line(self, dir: &Path) -> String {
        let (word, dir) = (self.word(), dir.display());
        match self {
            Self::Complete => format!("{word}, nothing lost"),
            Self::Incomplete => format!("{word}, but not every event is in it"),
            Self::Recording => format!("{word}: still under way"),
            Self::Killed => format!("{word}: the recorder was killed; run ada-trace recover {dir}"),
            Self::Unknown => format!("{word}: either recording, or the recorder was killed ({dir}/{LOCK_FILE} tells)"),
            Self::Recovered => format!("{word}: the recorder was killed; its last moments may be missing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_tells_whether_the_recorder_lives() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        let session = Session::default();
        assert_eq!(State::of(dir, &session), State::Killed);
        let lock = ada_format::session::lock(dir).unwrap();
        assert_eq!(State::of(dir, &session), State::Recording);
        drop(lock);
        std::fs::write(dir.join(LOCK_FILE), "").unwrap();
        assert_eq!(State::of(dir, &session), State::Killed);
        drop(ada_format::session::lock(dir).unwrap());
        let session = Session { status: SessionStatus::Complete, ..session };
        assert_eq!(State::of(dir, &session), State::Incomplete);
        assert_eq!(State::of(dir, &Session { complete: true, ..session }), State::Complete);
    }
}
