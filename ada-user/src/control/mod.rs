//! Steering a recording from outside: over a socket in the session's folder, which only its owner may use.
//!
//! ```text
//! ada-trace mark ──line of JSON──▶ socket ─▶ server thread ──ControlRequest──▶ pump: does it
//!                ◀──line of JSON──                         ◀──── Reply ──────
//! ```
//!
//! Invariant: the pump never waits for a client, nor for the server, which looks up a new trigger's functions in its own thread
//! before it asks.

mod client;
mod connection;
mod protocol;
mod server;
mod socket;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use crate::{
    backend::Waker,
    collect::{Arming, Known},
    trigger::Trigger,
};

pub use self::{
    client::Client,
    protocol::{Reply, Request, Status, TriggerInfo},
    server::ControlServer,
    socket::{SOCKET_FILE, remove_stale},
};

/// How long the pump may take for an answer: it may be waiting for a slow disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a recording is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Keep the details around this moment.
    Mark {
        /// Why, in the user's words; it may be empty.
        text: String,
    },
    /// Arm a trigger: [`Control::add_trigger`].
    AddTrigger(Box<Arming>),
    /// Disarm the trigger with that number.
    RemoveTrigger(u32),
    /// List the armed triggers.
    ListTriggers,
    /// Tell how the recording stands.
    Status,
}

/// A command and where its answer goes. Dropped without one, it is answered by an error.
#[derive(Debug)]
pub struct ControlRequest {
    /// What to do.
    pub command: Command,
    /// Takes one answer. That nobody waits for it any more is no error.
    pub reply: Sender<Reply>,
}

/// Hands commands to the pump.
#[derive(Debug, Clone)]
pub struct Control {
    requests: Sender<ControlRequest>,
    waker: Waker,
    known: Arc<Known>,
}

impl Control {
    /// A handle for those who ask, and where the pump finds what they ask. `waker` ends the pump's wait; triggers choose
    /// among what is `known`.
    #[must_use]
    pub(crate) fn new(waker: Waker, known: Arc<Known>) -> (Self, Receiver<ControlRequest>) {
        let (requests, receiver) = channel();
        (Self { requests, waker, known }, receiver)
    }

    /// Has a trigger armed and returns the answer. Its functions are looked up here: the pump has no time for that.
    #[must_use]
    pub fn add_trigger(&self, trigger: Trigger) -> Reply {
        self.ask(Command::AddTrigger(Box::new(self.known.arming(trigger))))
    }

    /// Has a command done and returns the answer.
    #[must_use]
    pub fn ask(&self, command: Command) -> Reply {
        let (reply, answer) = channel();
        if self.requests.send(ControlRequest { command, reply }).is_err() {
            return Reply::ended();
        }
        self.waker.wake();
        match answer.recv_timeout(PATIENCE) {
            Ok(reply) => reply,
            Err(RecvTimeoutError::Disconnected) => Reply::ended(),
            Err(RecvTimeoutError::Timeout) => Reply::error("the recorder is too busy to answer; ask again"),
        }
    }

    /// Has a command done and does not wait for it.
    pub fn tell(&self, command: Command) {
        let (reply, _) = channel();
        // A recording that has ended does nothing any more.
        if self.requests.send(ControlRequest { command, reply }).is_ok() {
            self.waker.wake();
        }
    }
}

/// Why a recording cannot be steered.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The recorder cannot make its socket.
    #[error("cannot make the control socket in {}: {source}", path.display())]
    Bind {
        /// The session's folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Nobody listens.
    #[error("nothing is being recorded in {}: `ada-trace info` tells how a session stands", path.display())]
    NotRecording {
        /// The session's folder.
        path: PathBuf,
    },
    /// The socket may not be used.
    #[error("the recording in {} belongs to another user: only they and root may steer it (sudo)", path.display())]
    NotYours {
        /// The session's folder.
        path: PathBuf,
    },
    /// Something else.
    #[error("cannot reach the recorder of {}: {source}", path.display())]
    Connect {
        /// The session's folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The recorder answers something else, or nothing.
    #[error("the recorder of {} gave no answer that this ada-trace understands ({why}): is it of the same version?", path.display())]
    Answer {
        /// The session's folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}
