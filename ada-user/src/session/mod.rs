//! A recording from start to stop: the library behind `ada-trace`, for whoever wants to embed it.
//!
//! ```text
//! start: folder, lock ─▶ attach ─▶ first manifest ─▶ privileges dropped ─▶ pump thread
//! stop:  detach (the pump goes on) ─▶ last drain ─▶ files finalised ─▶ final manifest
//! ```
//!
//! Invariant: from the moment `start` returns, the folder can be recovered, whatever happens to this process.

mod chronicle;
mod output;
mod priority;

use std::{
    io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, Release},
    },
    thread::JoinHandle,
    time::Duration,
};

use ada_format::{manifest::ManifestError, session::SessionError};

pub use self::chronicle::ProcessEnd;
use self::{chronicle::Chronicle, priority::Priority};
use crate::{
    backend::{AttachError, Backend, Running, Waker},
    collect::{Books, Demux, Ledger, Pump, Span},
    plan::Plan,
    privileges::{self, Invoker},
    process::ProcessInfo,
};

/// The folder, below the current one, of sessions that are given none.
pub const DEFAULT_ROOT: &str = "ada_traces";

/// What a recording needs besides the plan.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Folder of the session, absent or empty. `None`: `ada_traces/session_YYYYMMDD_HHMMSS/pid_XXXXX` here.
    pub output: Option<PathBuf>,
    /// Whom the files belong to and whose privileges the recording goes on with. `None`: no change.
    pub invoker: Option<Invoker>,
    /// Processes of which more is known than /proc tells yet: commands that wait at their gate.
    pub processes: Vec<ProcessInfo>,
    /// Only events at a call depth below this are written.
    pub max_depth: Option<NonZeroU32>,
}

/// Why a recording could not be started or brought to its end.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The probes could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The folder cannot be used.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The manifest cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Something about the folder.
    #[error("cannot {what} {}: {source}", path.display())]
    Output {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The invoking user may not enter the folder.
    #[error("user {uid}, for whom ada-trace records, may not write to {}; choose another folder with -o", path.display())]
    NotTheirs {
        /// The user.
        uid: u32,
        /// The folder.
        path: PathBuf,
    },
    /// Privileges could not be given up.
    #[error("cannot become user {uid}: {source}")]
    Privileges {
        /// The user.
        uid: u32,
        /// The system's reason.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start the collector's thread: {0}")]
    Thread(io::Error),
}

/// A recording that is under way.
///
/// Dropping it stops it like [`TraceSession::stop`], but tells nothing.
pub struct TraceSession {
    books: Arc<Books>,
    span: Arc<Span>,
    /// Detaches when dropped.
    probes: Option<Box<dyn Send>>,
    waker: Waker,
    pump: Option<JoinHandle<Result<(), AttachError>>>,
    chronicle: Chronicle,
    revision: u64,
    folder: output::Folder,
    note: Option<String>,
}

/// How far a recording is.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Calls, returns and lifecycle events taken from the rings so far.
    pub delivered: u64,
    /// The rest, as of the last tick (every 40 ms).
    pub ledger: Ledger,
}

/// What a recording came to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The session's folder.
    pub dir: PathBuf,
    /// Its books.
    pub ledger: Ledger,
    /// Length of the recording.
    pub duration: Duration,
    /// Whether nothing was lost.
    pub complete: bool,
}

impl TraceSession {
    /// Attaches `plan` to the processes `pids` and begins to record.
    ///
    /// With an invoker in the options, this thread gives up root's privileges.
    ///
    /// # Errors
    /// [`TraceError`]; nothing stays attached and no folder is left behind then.
    pub fn start(
        backend: impl Backend<Running: 'static>,
        plan: &Plan,
        pids: &[u32],
        options: &SessionOptions,
    ) -> Result<Self, TraceError> {
        allow_many_files();
        let mut folder = output::Folder::create(options, pids)?;
        let mut chronicle = Chronicle::begin(plan, pids, &options.processes);
        let mut running = backend.attach(plan, pids)?;
        let note = running.note();
        chronicle.attached();
        let span = Arc::new(Span::begin());
        let books = Arc::<Books>::default();
        chronicle.manifest(&Ledger::default(), None).write_atomic(folder.path())?;
        folder.reserve()?;
        let priority = Priority::raise();
        folder.give_to(options.invoker.as_ref())?;
        let probes: Option<Box<dyn Send>> = running.take_probes().map(|probes| Box::new(probes) as _);
        let waker = running.waker();
        let demux = Demux::new(folder.path().to_owned(), plan, running.loss_gauge(), Arc::clone(&span))
            .no_deeper(options.max_depth);
        let pump = Pump::new(running, demux, Arc::clone(&books));
        let pump = Some(priority.while_raised(|| spawn(pump))?);
        folder.keep();
        Ok(Self { books, span, probes, waker, pump, chronicle, revision: 0, folder, note })
    }

    /// The session's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// What the backend has to say about how it records, if there is anything to know.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// How far the recording is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { delivered: self.books.events.load(Relaxed), ledger: self.books.ledger().clone() }
    }

    /// Whether events can no longer be written (the disk is full, …): time to stop.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.books.failed.load(Relaxed) || self.pump.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Brings the manifest up to date if threads or processes came or went. Call it every second or so.
    ///
    /// # Errors
    /// If it cannot be written; the former one is still there.
    pub fn refresh(&mut self) -> Result<(), TraceError> {
        let ledger = self.books.ledger().clone();
        self.chronicle.note_execs(&ledger);
        let located = self.chronicle.locate_modules();
        if located || ledger.revision != self.revision {
            self.chronicle.manifest(&ledger, None).write_atomic(self.folder.path())?;
            self.revision = ledger.revision;
        }
        Ok(())
    }

    /// Notes the end of a traced process.
    pub fn process_ended(&mut self, pid: u32, end: ProcessEnd) {
        self.chronicle.process_ended(pid, end);
    }

    /// Detaches, writes what is left, finalises.
    ///
    /// # Errors
    /// [`TraceError`] if the losses could not be read or the manifest not be written; the events are finalised even so.
    pub fn stop(mut self) -> Result<Summary, TraceError> {
        self.detach();
        let pumped = self.end_pump();
        let mut ledger = self.books.ledger().clone();
        if let Err(error) = &pumped {
            ledger.failure.get_or_insert_with(|| error.to_string());
        }
        self.chronicle.note_execs(&ledger);
        self.chronicle.locate_modules();
        let manifest = self.chronicle.manifest(&ledger, Some(self.folder.path()));
        self.folder.release_reserve();
        let (complete, duration) = (manifest.session.complete, self.chronicle.duration());
        manifest.write_atomic(self.folder.path())?;
        pumped?;
        Ok(Summary { dir: self.folder.path().to_owned(), ledger, duration, complete })
    }

    /// Stops and removes the session: what was to be recorded never began.
    pub fn discard(mut self) {
        self.detach();
        let _ = self.end_pump();
        self.folder.discard();
    }

    /// Ends the recording's span, then takes the probes away. The kernel waits until no program runs any more; the pump
    /// goes on draining meanwhile.
    fn detach(&mut self) {
        if self.probes.is_some() {
            self.span.end();
            self.chronicle.ends();
        }
        self.probes = None;
    }

    fn end_pump(&mut self) -> Result<(), AttachError> {
        // Release: pairs with the pump's acquire; the probes are gone, so all their records are there.
        self.books.last.store(true, Release);
        self.waker.wake();
        let Some(pump) = self.pump.take() else { return Ok(()) };
        let panicked = |_| Err(AttachError::Object("the collector's thread ended in a panic".to_owned()));
        pump.join().unwrap_or_else(panicked)
    }
}

impl std::fmt::Debug for TraceSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TraceSession").field("dir", &self.dir()).finish_non_exhaustive()
    }
}

impl Drop for TraceSession {
    fn drop(&mut self) {
        self.detach();
        let _ = self.end_pump();
    }
}

/// Each live thread of the target takes a file, or two: as many as the hard limit allows.
fn allow_many_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    // With the soft limit it may still do.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

fn spawn(pump: Pump<impl Running + 'static>) -> Result<JoinHandle<Result<(), AttachError>>, TraceError> {
    let thread = std::thread::Builder::new().name("ada-pump".to_owned());
    thread.spawn(move || pump.run()).map_err(TraceError::Thread)
}

/// Gives up root's privileges for the invoker's, once everything that needs them is done.
fn drop_privileges(invoker: &Invoker, dir: &Path) -> Result<(), TraceError> {
    let uid = invoker.uid;
    privileges::drop_to(invoker).map_err(|source| TraceError::Privileges { uid, source })?;
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(dir, access).map_err(|_| TraceError::NotTheirs { uid, path: dir.to_owned() })
}
