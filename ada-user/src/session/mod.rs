//! A recording from start to stop: the library behind `ada-trace`, for whoever wants to embed it.
//!
//! ```text
//! start: folder, lock ─▶ attach ─▶ first manifest ─▶ privileges dropped ─▶ pump thread
//! stop:  detach (the pump goes on) ─▶ last drain ─▶ files finalised ─▶ final manifest
//! ```
//!
//! Invariant: from the moment `start` returns, the folder can be recovered, whatever happens to this process.

mod chronicle;
mod grower;
mod mapped;
mod output;
mod priority;
mod processes;

use std::{
    io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, Release},
        },
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use ada_format::{
    manifest::ManifestError,
    session::{self, SessionError},
};

use self::{
    chronicle::Chronicle,
    grower::{Grower, Probes},
    priority::Priority,
};
use crate::{
    backend::{AttachError, Backend, LiveGauge, Running, Waker},
    collect::{Books, Demux, Known, Ledger, Pump, Rotation, Span, flight::FlightOptions},
    control::{Control, ControlServer},
    follow::Wanted,
    plan::Plan,
    privileges::{self, Invoker},
    process::ProcessInfo,
    trigger::Trigger,
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
    /// What to look for in programs that followed processes execute, where the backend follows; it needs those of this
    /// tracer's own mount namespace to predict which libraries they will load.
    pub follow: Option<Wanted>,
    /// Only events at a call depth below this are written.
    pub max_depth: Option<NonZeroU32>,
    /// Details are written only around triggers.
    pub flight: Option<Flight>,
    /// Only the newest events are kept.
    pub rotation: Rotation,
}

/// A flight recorder that is asked for.
#[derive(Debug, Clone)]
pub struct Flight {
    /// What is kept, and in how much memory.
    pub options: FlightOptions,
    /// What fires.
    pub triggers: Vec<Trigger>,
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
    /// Detached when dropped.
    probes: Probes,
    grower: Option<JoinHandle<()>>,
    waker: Waker,
    live: Option<LiveGauge>,
    pump: Option<JoinHandle<Result<(), AttachError>>>,
    chronicle: Chronicle,
    revision: u64,
    /// Folders that no manifest names any more once the next one is written, and that are to be deleted then.
    condemned: Vec<u32>,
    rotates: bool,
    folder: output::Folder,
    note: Option<String>,
    control: Control,
    /// Set by whoever asks over the socket that the recording end.
    stop: Arc<AtomicBool>,
    server: Option<ControlServer>,
}

/// How far a recording is.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Calls, returns and lifecycle events taken from the rings so far.
    pub delivered: u64,
    /// The rest, as of the last tick (every 40 ms).
    pub ledger: Ledger,
}

/// How a traced process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessEnd {
    /// When, `CLOCK_BOOTTIME` in nanoseconds.
    pub time_ns: u64,
    /// Its exit status, where it is known and the process exited.
    pub exit_code: Option<i32>,
    /// The signal that killed it, where that is known.
    pub signal: Option<i32>,
}

impl ProcessEnd {
    /// The end of a process at `time_ns` with `status`, as wait(2) gives it.
    #[must_use]
    pub fn of_status(time_ns: u64, status: i32) -> Self {
        let signal = Some(status & 0x7f).filter(|signal| *signal != 0);
        let exit_code = if signal.is_none() { Some(status >> 8 & 0xff) } else { None };
        Self { time_ns, exit_code, signal }
    }
}

/// What a recording came to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The session's folder.
    pub dir: PathBuf,
    /// Its books.
    pub ledger: Ledger,
    /// What was probed in the end.
    pub plan: Plan,
    /// Length of the recording.
    pub duration: Duration,
    /// For how long before its end everything is there, if what was before is not.
    pub kept: Option<Duration>,
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
        chronicle.attached(running.refusals(), running.adopted());
        let span = Arc::new(Span::begin());
        let books = Arc::<Books>::default();
        let probes = Probes::new(running.take_probes().map(|probes| Box::new(probes) as _));
        let (waker, live) = (running.waker(), running.live_gauge());
        let (sender, held) = mpsc::channel();
        let wanted = options.follow.clone().filter(|wanted| wanted.may_grow(plan));
        let grower = wanted.map(|wanted| {
            let (follower, books, at_risk) = (chronicle.follower(wanted, plan), Arc::clone(&books), pids.to_vec());
            Grower { follower, probes: probes.clone(), books, waker: waker.clone(), held, at_risk }.begin()
        });
        let priority = Priority::raise();
        folder.give_to(options.invoker.as_ref(), grower.is_some())?;
        let known = Arc::new(if options.flight.is_some() { chronicle.known() } else { Known::default() });
        let mut demux = Demux::new(folder.path().to_owned(), chronicle.plan(), running.loss_gauge(), Arc::clone(&span))
            .no_deeper(options.max_depth)
            .keeping(options.rotation)
            .around_triggers(options.flight.as_ref(), &known);
        demux.tell_held(sender);
        let (control, requests) = Control::new(waker.clone(), known);
        let pump = Pump::new(running, demux, Arc::clone(&books), requests);
        let (grower, pump) = priority.while_raised(|| {
            let grower = grower.map(Grower::spawn).transpose()?;
            Ok::<_, TraceError>((grower, Some(spawn(pump)?)))
        })?;
        probes.hold(grower.is_some());
        folder.keep();
        let mut session = Self {
            books,
            span,
            probes,
            grower,
            waker,
            live,
            pump,
            chronicle,
            revision: 0,
            condemned: Vec::new(),
            rotates: options.rotation.asked(),
            folder,
            note,
            control,
            stop: Arc::default(),
            server: None,
        };
        session.serve();
        session.announced()
    }

    /// Listens for those who want to steer the recording. Without, it goes on, and the note says so.
    fn serve(&mut self) {
        match ControlServer::start(self.folder.path(), self.control.clone(), Arc::clone(&self.stop)) {
            Ok(server) => self.server = Some(server),
            Err(error) => {
                let note = self.note.take().map_or_else(String::new, |note| format!("{note}; "));
                self.note = Some(format!("{note}{error}"));
            }
        }
    }

    /// Writes the first manifest, by which others know that the recording has begun. Only now that the rings are being emptied:
    /// with many functions it takes longer than they would last.
    fn announced(self) -> Result<Self, TraceError> {
        let manifest = self.chronicle.manifest(&Ledger::default(), None);
        let written = manifest.write_atomic(self.folder.path()).map_err(TraceError::from);
        match written.and_then(|()| self.folder.reserve()) {
            Ok(()) => Ok(self),
            Err(error) => {
                self.discard();
                Err(error)
            }
        }
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

    /// By which others steer the recording.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Whether somebody has asked that the recording end.
    #[must_use]
    pub fn stop_asked(&self) -> bool {
        // Relaxed: nothing else depends on it.
        self.stop.load(Relaxed)
    }

    /// How far the recording is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { delivered: self.books.events.load(Relaxed), ledger: self.books.ledger().clone() }
    }

    /// The processes that are recorded and live, where new ones are followed; otherwise none.
    #[must_use]
    pub fn live_processes(&self) -> Vec<u32> {
        self.live.as_ref().map_or(Vec::new(), |live| live())
    }

    /// Whether events can no longer be written (the disk is full, …): time to stop.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.books.failed.load(Relaxed) || self.pump.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Whether only the newest events are kept.
    #[must_use]
    pub fn rotates(&self) -> bool {
        self.rotates
    }

    /// Brings the manifest up to date if threads or processes came or went, then deletes what is not to be kept. Call it every
    /// second or so; with a [`Rotation`] more often, for the session is larger than it should be until then.
    ///
    /// # Errors
    /// If it cannot be written; the former one is still there. If something cannot be deleted; the next call tries again.
    pub fn refresh(&mut self) -> Result<(), TraceError> {
        // Before the ledger, which is then without them.
        self.condemned.extend(self.books.take_condemned());
        let ledger = self.books.ledger().clone();
        // Before the additions: a process for which something was added has not ended before that.
        let lives = self.books.take_lives();
        let grown = self.chronicle.extend(self.books.take_additions());
        self.chronicle.note_lives(lives, &ledger);
        let located = self.chronicle.locate_modules();
        if grown || located || ledger.revision != self.revision {
            self.chronicle.manifest(&ledger, None).write_atomic(self.folder.path())?;
            self.revision = ledger.revision;
        }
        self.delete_condemned()
    }

    /// Deletes the folders that the manifest does not name any more.
    fn delete_condemned(&mut self) -> Result<(), TraceError> {
        let mut result = Ok(());
        self.condemned.retain(|folder| match session::delete_thread(self.folder.path(), *folder) {
            Ok(()) => false,
            Err(error) => {
                result = Err(TraceError::Session(error));
                true
            }
        });
        result
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
        self.condemned.extend(self.books.take_condemned());
        let mut ledger = self.books.ledger().clone();
        if let Err(error) = &pumped {
            ledger.failure.get_or_insert_with(|| error.to_string());
        }
        self.chronicle.extend(self.books.take_additions());
        self.chronicle.note_lives(self.books.take_lives(), &ledger);
        self.chronicle.locate_modules();
        let manifest = self.chronicle.manifest(&ledger, Some(self.folder.path()));
        self.folder.release_reserve();
        let (complete, duration) = (manifest.session.complete, self.chronicle.duration());
        manifest.write_atomic(self.folder.path())?;
        self.delete_condemned()?;
        pumped?;
        let (plan, kept) = (self.chronicle.plan().clone(), self.chronicle.kept(&ledger));
        Ok(Summary { dir: self.folder.path().to_owned(), ledger, plan, duration, kept, complete })
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
        let probes = self.probes.take();
        if probes.is_some() {
            self.span.end();
            self.chronicle.ends();
        }
        drop(probes);
    }

    fn end_pump(&mut self) -> Result<(), AttachError> {
        self.server = None;
        // Release: pairs with the pump's acquire; the probes are gone, so all their records are there.
        self.books.last.store(true, Release);
        self.waker.wake();
        let Some(pump) = self.pump.take() else { return Ok(()) };
        let panicked = |_| Err(AttachError::Object("the collector's thread ended in a panic".to_owned()));
        let pumped = pump.join().unwrap_or_else(panicked);
        // It ends with the pump, once every process that was stopped goes on. Its panic would have done no harm.
        let _ = self.grower.take().map(JoinHandle::join);
        pumped
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

/// Whether this process may be told by the kernel what others map, by which also those are located that live for a moment.
pub(crate) fn hears_mappings() -> bool {
    mapped::MappingLog::open().is_some()
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
fn drop_privileges(invoker: &Invoker, signals: bool, dir: &Path) -> Result<(), TraceError> {
    let uid = invoker.uid;
    privileges::drop_to(invoker, signals).map_err(|source| TraceError::Privileges { uid, source })?;
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(dir, access).map_err(|_| TraceError::NotTheirs { uid, path: dir.to_owned() })
}
