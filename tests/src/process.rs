//! Programs that a test starts: their output in files, their end waited for, and none left behind.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::wait;

/// A running program with a pipe to its stdin. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    files: PathBuf,
}

/// A program that ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

impl Process {
    /// Starts `command`; its output goes to files in `folder`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command, folder: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only uniqueness matters.
        let files = folder.join(format!("process-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let child = command
            .stdin(Stdio::piped())
            .stdout(File::create(files.with_extension("out")).expect("a file for stdout"))
            .stderr(File::create(files.with_extension("err")).expect("a file for stderr"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, files }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a line.
    ///
    /// # Panics
    /// If it does not read any more.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe to stdin");
        writeln!(stdin, "{line}").expect("the program reads");
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a running program");
    }

    /// What it has written to stdout so far.
    #[must_use]
    pub fn out(&self) -> String {
        read(&self.files.with_extension("out"))
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn err(&self) -> String {
        read(&self.files.with_extension("err"))
    }

    /// Waits until it has written the line `line` to stdout.
    ///
    /// # Panics
    /// If it ends before, or never does.
    pub fn said(&mut self, line: &str) {
        wait::until(&format!("it says {line:?}"), || {
            let ended = !self.running();
            let said = self.out().lines().any(|each| each == line);
            assert!(said || !ended, "ended without saying {line:?}: {}", self.err());
            said.then_some(())
        });
    }

    /// Whether it has not ended.
    ///
    /// # Panics
    /// If the kernel does not say.
    pub fn running(&mut self) -> bool {
        self.child.try_wait().expect("waitpid").is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        let status = wait::until("the program ends", || self.child.try_wait().expect("waitpid"));
        Ended { status, out: self.out(), err: self.err() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

impl Ended {
    /// Checks that it ended with success.
    ///
    /// # Panics
    /// If not, with what it said.
    #[must_use]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Checks that it ended with this exit status.
    ///
    /// # Panics
    /// If not, with what it said.
    #[must_use]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}; stderr: {}; stdout: {}", self.status, self.err, self.out);
        self
    }

    /// Checks that a signal ended it.
    ///
    /// # Panics
    /// If not, with what it said.
    #[must_use]
    pub fn killed_by(self, signal: Signal) -> Self {
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{}; stderr: {}", self.status, self.err);
        self
    }
}

/// A process that is not this one's child (a target that a recorder launched): killed when dropped.
#[derive(Debug)]
pub struct Stray(Pid);

impl Stray {
    /// Takes charge of process `pid`.
    ///
    /// # Panics
    /// If `pid` is no process id.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 1).expect("a process id");
        Self(Pid::from_raw(pid).expect("a process id"))
    }

    /// Whether it still runs (and is no zombie).
    #[must_use]
    pub fn running(&self) -> bool {
        let stat = read(Path::new(&format!("/proc/{}/stat", self.0.as_raw_pid())));
        let state = stat.rsplit(") ").next().unwrap_or_default().chars().next();
        state.is_some_and(|state| state != 'Z' && state != 'X')
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).expect("a running program");
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        if self.running() {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }
}

/// The child of process `pid`.
///
/// # Panics
/// If it never has one.
#[must_use]
pub fn child_of(pid: u32) -> u32 {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let read = || fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok();
    wait::until("the process has a child", read)
}

/// A child whose output nobody wants: killed and reaped when dropped.
#[derive(Debug)]
pub struct Owned(Child);

impl Owned {
    /// Takes charge of `child`.
    #[must_use]
    pub fn new(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs `command` to its end.
pub fn run(command: &mut Command, folder: &Path) -> Ended {
    Process::start(command, folder).end()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
