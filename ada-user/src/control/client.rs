//! The other end: asking the recorder of a session for something.
//!
//! Invariant: a recorder that does not answer is an error after a while, not a hang.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ControlError, PATIENCE,
    protocol::{MAX_LINE, Reply, Request},
    socket::connect_to,
};

/// How long an answer may take: longer than the recorder waits for its pump.
const ANSWER: Duration = PATIENCE.saturating_mul(2);
/// The longest answer: a list of many triggers.
const MAX_ANSWER: u64 = 16 << 20;

/// A connection to the recorder of a session.
#[derive(Debug)]
pub struct Client {
    dir: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the recorder of the session in `dir`.
    ///
    /// # Errors
    /// [`ControlError`] if there is none, or none that this user may talk to.
    pub fn connect(dir: &Path) -> Result<Self, ControlError> {
        let path = dir.to_owned();
        let stream = connect_to(dir).map_err(|source| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused => {
                ControlError::NotRecording { path: path.clone() }
            }
            ErrorKind::PermissionDenied => ControlError::NotYours { path: path.clone() },
            _ => ControlError::Connect { path: path.clone(), source },
        })?;
        let patient = |source| ControlError::Connect { path: path.clone(), source };
        stream.set_read_timeout(Some(ANSWER)).map_err(patient)?;
        stream.set_write_timeout(Some(ANSWER)).map_err(patient)?;
        Ok(Self { dir: path, stream: BufReader::new(stream) })
    }

    /// The session's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Asks and returns the answer, which may be [`Reply::Error`].
    ///
    /// # Errors
    /// [`ControlError::Answer`] if there is none, or none that can be understood.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ControlError> {
        let line = request.line();
        if line.len() > MAX_LINE {
            return Ok(Reply::error(format!("this is too long: a request has at most {} KiB", MAX_LINE >> 10)));
        }
        let answer = self.exchange(&line).map_err(|error| self.unintelligible(&error))?;
        if answer.is_empty() {
            return Err(self.unintelligible(&"it hung up; only the session's owner and root may steer it"));
        }
        serde_json::from_str(&answer).map_err(|error| self.unintelligible(&error))
    }

    fn exchange(&mut self, line: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        (&mut self.stream).take(MAX_ANSWER).read_line(&mut answer)?;
        Ok(answer)
    }

    fn unintelligible(&self, why: &dyn ToString) -> ControlError {
        ControlError::Answer { path: self.dir.clone(), why: why.to_string() }
    }
}
