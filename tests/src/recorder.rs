//! Running `ada-trace`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::fixture::build_folder;
use crate::process::{Ended, Process};
use crate::scratch::Scratch;
use crate::session::Session;
use crate::wait;

/// The command under test: `ADA_TRACE_BIN`, or the one that cargo built beside these tests.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn ada_trace() -> PathBuf {
    let named = std::env::var_os("ADA_TRACE_BIN").map(PathBuf::from);
    let path = named.unwrap_or_else(|| build_folder().join("ada-trace"));
    assert!(path.is_file(), "{} does not exist; `cargo build -p ada-user` makes it", path.display());
    path
}

/// Runs `ada-trace` with `arguments` to its end.
pub fn ada<I: IntoIterator<Item: AsRef<OsStr>>>(scratch: &Scratch, arguments: I) -> Ended {
    crate::process::run(Command::new(ada_trace()).args(arguments), scratch.path())
}

/// How probes are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// As `ada-trace` chooses.
    Default,
    /// One perf-event link per probe, as on kernels before 6.6.
    Perf,
}

/// Every way that is tested.
pub const ATTACHES: [Attach; 2] = [Attach::Default, Attach::Perf];

/// A recording to be started: quiet, into a session folder of its own, which does not exist yet.
#[derive(Debug)]
pub struct Trace<'a> {
    scratch: &'a Scratch,
    command: Command,
    folder: PathBuf,
}

/// A recording under way.
#[derive(Debug)]
pub struct Recorder {
    /// The program.
    pub process: Process,
    /// The session folder.
    pub folder: PathBuf,
}

impl<'a> Trace<'a> {
    /// Records the functions that `specs` name.
    pub fn new<I: IntoIterator<Item: AsRef<str>>>(scratch: &'a Scratch, specs: I) -> Self {
        Self::by(Command::new(ada_trace()), scratch, specs)
    }

    /// Records by a program, with arguments, that runs `ada-trace` somewhere else (`unshare`, `nsenter`).
    ///
    /// # Panics
    /// If `runner` is empty.
    pub fn under<I: IntoIterator<Item: AsRef<str>>>(runner: &[&str], scratch: &'a Scratch, specs: I) -> Self {
        let mut command = Command::new(runner[0]);
        command.args(&runner[1..]).arg(ada_trace());
        Self::by(command, scratch, specs)
    }

    /// Records by a command that ends in `ada-trace`.
    pub fn by<I: IntoIterator<Item: AsRef<str>>>(mut command: Command, scratch: &'a Scratch, specs: I) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only uniqueness matters.
        let folder = scratch.join(format!("session-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        command.arg("-q").arg("-o").arg(&folder);
        for spec in specs {
            command.arg("-e").arg(spec.as_ref());
        }
        Self { scratch, command, folder }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn inside(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Chooses the way to attach.
    #[must_use]
    pub fn attach(self, attach: Attach) -> Self {
        match attach {
            Attach::Default => self,
            Attach::Perf => self.args(["--attach", "perf"]),
        }
    }

    /// Attaches to process `pid`; returns when every probe is there.
    #[must_use]
    pub fn pid(self, pid: u32) -> Recorder {
        self.arg("-p").arg(pid.to_string()).start().recording()
    }

    /// Launches `program` with `arguments`.
    #[must_use]
    pub fn launch<I: IntoIterator<Item: AsRef<OsStr>>>(self, program: &Path, arguments: I) -> Recorder {
        self.arg("--").arg(program).args(arguments).start()
    }

    /// Starts as it stands.
    #[must_use]
    pub fn start(mut self) -> Recorder {
        let process = Process::start(&mut self.command, self.scratch.path());
        Recorder { process, folder: self.folder }
    }
}

impl Recorder {
    /// Waits until it records: then, and not before, the manifest appears.
    ///
    /// # Panics
    /// If it ends before.
    #[must_use]
    pub fn recording(mut self) -> Self {
        let manifest = self.folder.join("manifest.json");
        wait::until("ada-trace records", || {
            let ended = !self.process.running();
            let exists = manifest.exists();
            assert!(exists || !ended, "ada-trace ended before it recorded: {}", self.process.err());
            exists.then_some(())
        });
        self
    }

    /// Waits for its end, which must be a success, and reads the session.
    #[must_use]
    pub fn session(self) -> Session {
        self.session_after(0)
    }

    /// Waits for its end with exit status `code`, and reads the session.
    #[must_use]
    pub fn session_after(self, code: i32) -> Session {
        let folder = self.folder.clone();
        drop(self.end().code(code));
        Session::read(&folder)
    }

    /// Waits for its end.
    #[must_use]
    pub fn end(self) -> Ended {
        self.process.end()
    }
}

/// `exe:NAME` for each name.
#[must_use]
pub fn exe(functions: &[&str]) -> Vec<String> {
    functions.iter().map(|function| format!("exe:{function}")).collect()
}

/// `PATH:NAME`.
#[must_use]
pub fn in_file(path: &Path, function: &str) -> String {
    let mut spec = OsString::from(path);
    spec.push(":");
    spec.push(function);
    spec.into_string().expect("a path in UTF-8")
}
