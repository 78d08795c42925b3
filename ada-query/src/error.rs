//! Why a question could not be answered.
//!
//! Invariant: every variant names the file or the text that is at fault.

use std::io;
use std::path::{Path, PathBuf};

use ada_format::read::ReadError;

/// Why a question could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The session or a part of it is damaged, or is none.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The system refused to read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is shorter than it was when it was opened.
    #[error("{} was cut while it was read: event {event} of {events} is gone", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The first event that may be missing.
        event: u64,
        /// Events that were there.
        events: u64,
    },
    /// A thread's folder cannot be read.
    #[error("{} cannot be read: {why}", folder.display())]
    Broken {
        /// The folder.
        folder: PathBuf,
        /// The reason.
        why: String,
    },
    /// A text is no pattern for names.
    #[error(
        "'{text}' is no pattern for function names ({why}); write a glob such as 'mem*' or a regular expression such as '/^mem(cpy|set)$/'"
    )]
    Pattern {
        /// As typed.
        text: String,
        /// What its parser said.
        why: String,
    },
    /// No function of the session has such a name.
    #[error("no function of this session is called '{text}'")]
    NoFunction {
        /// As typed.
        text: String,
    },
    /// No thread of the session has this ordinal.
    #[error("this session has no thread {id}")]
    NoThread {
        /// The ordinal.
        id: u32,
    },
    /// No process of the session has this id.
    #[error("this session has no process {pid}")]
    NoProcess {
        /// The process id.
        pid: u32,
    },
}

impl QueryError {
    /// For a failed read of `path` that asked for `event` and those after it.
    pub(crate) fn reading(path: &Path, event: u64, events: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated { path: path.to_owned(), event, events },
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}
