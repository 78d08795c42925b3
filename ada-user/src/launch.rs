//! Starts a command that waits at a gate, so that its first instruction is already probed.
//!
//! The child is a fork of this process until it executes the command, and shares its libraries; probes on those are in
//! place by then. So between "ready" and execve it makes system calls by hand and calls no function of any library:
//! what is recorded is the command, nothing before it.

mod raw;

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitOptions, waitpid},
};

use crate::privileges::Invoker;

/// A command and what it is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The file to execute.
    pub program: PathBuf,
    /// All arguments, the name first.
    pub args: Vec<OsString>,
    /// The environment.
    pub env: Vec<(OsString, OsString)>,
}

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No such program.
    #[error("{} is not a program in PATH; give its path", .0.display())]
    NotFound(PathBuf),
    /// An argument or variable holds a zero byte.
    #[error("an argument of the command contains a zero byte")]
    ZeroByte,
    /// The system refused.
    #[error("cannot run {}: {source}", program.display())]
    Refused {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// How a launched command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl Ended {
    /// The exit status a shell would report: 128+N for signal N.
    #[must_use]
    pub fn status(self) -> u8 {
        let status = match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => 128 + signal,
        };
        u8::try_from(status & 0xff).unwrap_or(u8::MAX)
    }
}

impl Command {
    /// Finds the program as a shell would, and takes over this process's environment, as `invoker`'s where there is one.
    ///
    /// # Errors
    /// [`LaunchError::NotFound`].
    pub fn new(words: &[OsString], invoker: Option<&Invoker>) -> Result<Self, LaunchError> {
        let name = words.first().map_or(OsStr::new(""), OsString::as_os_str);
        let program = find(name).ok_or_else(|| LaunchError::NotFound(PathBuf::from(name)))?;
        let mut env: Vec<(OsString, OsString)> = env::vars_os().collect();
        if let Some(invoker) = invoker {
            set_account(&mut env, invoker);
        }
        Ok(Self { program, args: words.to_vec(), env })
    }

    /// Starts the command up to the gate, as `invoker` where there is one.
    ///
    /// # Errors
    /// [`LaunchError`] if it cannot be started.
    pub fn start(&self, invoker: Option<&Invoker>) -> Result<Gated, LaunchError> {
        let refused = |source| LaunchError::Refused { program: self.program.clone(), source };
        let image = Image::new(self)?;
        let (gate_out, gate_in) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| refused(error.into()))?;
        let (news_out, news_in) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| refused(error.into()))?;
        let identity = invoker.map(|invoker| Identity { uid: invoker.uid, gid: invoker.gid, groups: invoker.groups() });
        // SAFETY: what follows in the child is `child` alone, which calls only async-signal-safe functions.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(gate_in);
            child(&image, identity.as_ref(), gate_out.as_raw_fd(), news_in.as_raw_fd());
        }
        let Some(pid) = Pid::from_raw(pid.max(0)) else { return Err(refused(io::Error::last_os_error())) };
        drop((gate_out, news_in));
        let gate = Some(gate_in);
        let gated = Gated { pid, unreaped: true, gate, news: news_out, program: self.program.clone() };
        gated.await_ready()?;
        Ok(gated)
    }
}

/// A command that waits to be let go. Dropping it instead ends it before it has begun.
#[derive(Debug)]
pub struct Gated {
    pid: Pid,
    /// Nobody has waited for it yet, and nobody else will.
    unreaped: bool,
    /// Closing it sends the child away.
    gate: Option<OwnedFd>,
    news: OwnedFd,
    program: PathBuf,
}

impl Gated {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Lets it execute the command.
    ///
    /// # Errors
    /// [`LaunchError::Refused`] with the reason if that fails.
    pub fn release(mut self) -> Result<Launched, LaunchError> {
        let gate = self.gate.take().ok_or_else(|| self.refused(io::ErrorKind::BrokenPipe.into()))?;
        rustix::io::write(&gate, b"g").map_err(|error| self.refused(error.into()))?;
        match self.read_news().map_err(|error| self.refused(error))? {
            // The descriptor was closed by execve.
            None => {
                self.unreaped = false;
                Ok(Launched { pid: self.pid })
            }
            Some(code) => Err(self.refused(io::Error::from_raw_os_error(code))),
        }
    }

    fn await_ready(&self) -> Result<(), LaunchError> {
        match self.read_news().map_err(|error| self.refused(error))? {
            Some(0) => Ok(()),
            Some(code) => Err(self.refused(io::Error::from_raw_os_error(code))),
            None => Err(self.refused(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn refused(&self, source: io::Error) -> LaunchError {
        LaunchError::Refused { program: self.program.clone(), source }
    }

    fn read_news(&self) -> io::Result<Option<i32>> {
        let mut code = [0; 4];
        let length = rustix::io::retry_on_intr(|| rustix::io::read(&self.news, &mut code))?;
        Ok((length == 4).then(|| i32::from_ne_bytes(code)))
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        self.gate = None;
        if self.unreaped {
            let _ = rustix::io::retry_on_intr(|| waitpid(Some(self.pid), WaitOptions::empty()));
        }
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Launched {
    pid: Pid,
}

impl Launched {
    /// How it ended, if it has.
    #[must_use]
    pub fn try_wait(&self) -> Option<Ended> {
        let (_, status) = rustix::io::retry_on_intr(|| waitpid(Some(self.pid), WaitOptions::NOHANG)).ok()??;
        let exited = status.exit_status().map(Ended::Exited);
        exited.or_else(|| status.terminating_signal().map(Ended::Killed))
    }
}

struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// Everything execve needs, made before the fork.
struct Image {
    program: CString,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl Image {
    fn new(command: &Command) -> Result<Self, LaunchError> {
        let zero = |_| LaunchError::ZeroByte;
        let program = CString::new(command.program.as_os_str().as_bytes()).map_err(zero)?;
        let mut strings = Vec::new();
        for arg in &command.args {
            strings.push(CString::new(arg.as_bytes()).map_err(zero)?);
        }
        for (name, value) in &command.env {
            let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
            strings.push(CString::new(pair).map_err(zero)?);
        }
        let pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        let (args, env) = pointers.split_at(command.args.len());
        let terminated = |part: &[*const libc::c_char]| part.iter().copied().chain([std::ptr::null()]).collect();
        Ok(Self { program, argv: terminated(args), envp: terminated(env), _strings: strings })
    }
}

/// The life of the child up to the command.
fn child(image: &Image, identity: Option<&Identity>, gate: RawFd, news: RawFd) -> ! {
    let code = match prepare(identity) {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    };
    raw::write_code(news, code);
    if code == 0 && raw::read_byte(gate) {
        let code = raw::execve(image.program.as_ptr(), image.argv.as_ptr(), image.envp.as_ptr());
        raw::write_code(news, code);
    }
    raw::exit(127)
}

/// Before "ready": becomes the user, and undoes what Rust's runtime and the caller did to signals.
fn prepare(identity: Option<&Identity>) -> io::Result<()> {
    // SAFETY: async-signal-safe calls with valid arguments.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    let Some(Identity { uid, gid, groups }) = identity else { return Ok(()) };
    raw::set_groups(groups)?;
    raw::set_ids(libc::SYS_setresgid, *gid)?;
    raw::set_ids(libc::SYS_setresuid, *uid)
}

/// The program that a shell would run for `name`.
fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    if name.is_empty() {
        return None;
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// sudo leaves root's account, or a mixture, in the environment.
fn set_account(env: &mut Vec<(OsString, OsString)>, invoker: &Invoker) {
    let mut set = |name: &str, value: OsString| {
        env.retain(|(existing, _)| existing != name);
        env.push((OsString::from(name), value));
    };
    if let Some(home) = &invoker.home {
        set("HOME", home.clone().into_os_string());
    }
    if let Some(name) = &invoker.name {
        let name = OsString::from_vec(name.as_bytes().to_vec());
        set("USER", name.clone());
        set("LOGNAME", name);
    }
}
