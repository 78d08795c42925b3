//! What a recording waits for: a signal, the end of its targets, its duration, a failure; and what it does meanwhile.
//!
//! Invariant: the first signal ends the recording in order, the second ends this process at once (the session can then
//! be recovered).

use std::{
    io::{self, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ada_user::{
    clock,
    control::{Command, Control},
    launch::{Ended, Launched},
    session::{ProcessEnd, TraceSession},
};
use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

use super::{status::StatusLine, tell};

/// Time between updates of the status line.
const STATUS: Duration = Duration::from_millis(200);
/// Time of the first look at the manifest: a launched command may not live long.
const FIRST_REFRESH: Duration = Duration::from_millis(5);
/// The least time, once the recording is under way, between renewals of the manifest, and how many times longer than the last one took: with many threads it
/// grows large, and it is synced to the disk.
const REFRESH: Duration = Duration::from_millis(200);
/// The same where the manifest has to be written before something can be deleted.
const REFRESH_ROTATING: Duration = Duration::from_millis(40);
/// See [`REFRESH`].
const REFRESH_SHARE: u32 = 10;
/// Time after the first signal from which on a second one counts.
const SECOND_SIGNAL: Duration = Duration::from_millis(200);

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Ctrl-C, SIGTERM or SIGHUP.
    Signal,
    /// Somebody asked for it over the control socket.
    Asked,
    /// All targets have exited.
    TargetsEnded,
    /// The time is over.
    Duration,
    /// Events can no longer be written.
    Failure,
}

/// The things that can end a recording.
#[derive(Debug)]
pub(super) struct Watch {
    signals: UnixStream,
    /// Becomes readable by SIGUSR1, which marks.
    marks: UnixStream,
    control: Option<Control>,
    /// Once set, a signal ends this process in its handler.
    armed: Arc<AtomicBool>,
    targets: Vec<(u32, OwnedFd)>,
    /// The processes that are recorded from the start.
    first: Vec<u32>,
    launched: Option<(u32, Launched)>,
    ended: Option<Ended>,
    deadline: Option<Instant>,
    duration: Option<Duration>,
}

impl Watch {
    /// Begins to watch signals and `pids`.
    pub(super) fn new(pids: &[u32], duration: Option<Duration>) -> Result<Self> {
        let armed = Arc::new(AtomicBool::new(false));
        let signals = watch_signals(&armed).context("cannot watch for signals")?;
        let marks = watch_marks().context("cannot watch for SIGUSR1")?;
        let targets = pids.iter().map(|pid| Ok((*pid, open_process(*pid)?))).collect::<Result<_>>()?;
        let first = pids.to_vec();
        let (control, launched, ended, deadline) = (None, None, None, None);
        Ok(Self { signals, marks, control, armed, targets, first, launched, ended, deadline, duration })
    }

    /// Where marks go from now on, in a recording with a flight recorder.
    pub(super) fn marks_go_to(&mut self, control: Control) {
        self.control = Some(control);
    }

    /// The first target is a command of ours, which has begun.
    pub(super) fn launched(&mut self, launched: Launched) {
        self.launched = self.targets.first().map(|(pid, _)| (*pid, launched));
    }

    /// How the launched command ended, if it did.
    pub(super) fn ended_command(&mut self) -> Option<Ended> {
        if self.ended.is_none()
            && let Some((_, launched)) = &self.launched
        {
            self.ended = launched.try_wait();
        }
        self.ended
    }

    /// Waits until something ends the recording; meanwhile keeps the status line and the manifest up to date.
    pub(super) fn run(&mut self, session: &mut TraceSession, status: &mut StatusLine) -> Result<Reason> {
        let started = Instant::now();
        self.deadline = self.duration.map(|duration| started + duration);
        let mut interval = FIRST_REFRESH;
        let longest = if session.rotates() { REFRESH_ROTATING } else { REFRESH };
        let mut refresh = started + interval;
        loop {
            let ready = self.poll(earlier(self.deadline, refresh.min(Instant::now() + STATUS)))?;
            self.note_ended(&ready, session);
            if ready.mark {
                status.clear();
                self.mark();
            }
            if ready.signal {
                self.arm_second();
                return Ok(Reason::Signal);
            }
            if session.stop_asked() {
                return Ok(Reason::Asked);
            }
            self.watch_followed(session);
            if self.targets.is_empty() {
                return Ok(Reason::TargetsEnded);
            }
            if session.failed() {
                return Ok(Reason::Failure);
            }
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(Reason::Duration);
            }
            if now >= refresh {
                // A disk that is full shows in the events first; the manifest of before is still good.
                let _ = session.refresh();
                interval = longest.min(interval * 2);
                refresh = Instant::now() + interval.max(now.elapsed() * REFRESH_SHARE);
            }
            status.update(session, started.elapsed());
        }
    }

    /// Any number of signals since the last time is one mark; or one word about what is missing for it.
    fn mark(&mut self) {
        while self.marks.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        match &self.control {
            Some(control) => control.tell(Command::Mark { text: "SIGUSR1".to_owned() }),
            None => tell(
                "ada-trace: SIGUSR1 marks nothing in a recording without a flight recorder: start it with --trigger or --pre-roll\n",
            ),
        }
    }

    /// Once the targets have ended: those that they left behind, if such are recorded. None of them can have made another
    /// one unseen, for it would be among them.
    fn watch_followed(&mut self, session: &TraceSession) {
        if !self.targets.is_empty() {
            return;
        }
        let live = session.live_processes().into_iter().filter(|pid| !self.first.contains(pid));
        // One that cannot be opened has just ended.
        self.targets = live.filter_map(|pid| Some((pid, open_process(pid).ok()?))).collect();
    }

    /// Waits for a signal, the end of the targets or the duration, with nothing to do meanwhile.
    pub(super) fn wait(&mut self) -> Result<()> {
        let deadline = self.duration.map(|duration| Instant::now() + duration);
        loop {
            let ready = self.poll(earlier(deadline, Instant::now() + STATUS))?;
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if ready.mark {
                self.mark();
            }
            if ready.signal || over || !ready.ended.is_empty() {
                return Ok(());
            }
        }
    }

    /// From a moment after the first signal on, another one means it. Not at once: timeout(1) and a terminal that closes
    /// send theirs twice.
    fn arm_second(&self) {
        let armed = Arc::clone(&self.armed);
        std::thread::spawn(move || {
            std::thread::sleep(SECOND_SIGNAL);
            // Relaxed: nothing else depends on it.
            armed.store(true, Ordering::Relaxed);
        });
    }

    fn poll(&self, until: Instant) -> Result<Ready> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.marks, PollFlags::IN)];
        fds.extend(self.targets.iter().map(|(_, pidfd)| PollFd::new(pidfd, PollFlags::IN)));
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for events"),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let signal = fds.first().is_some_and(is_ready);
        let mark = fds.get(1).is_some_and(is_ready);
        let ended = fds.iter().skip(2).zip(&self.targets).filter(|(fd, _)| is_ready(fd));
        Ok(Ready { signal, mark, ended: ended.map(|(_, (pid, _))| *pid).collect() })
    }

    fn note_ended(&mut self, ready: &Ready, session: &mut TraceSession) {
        for pid in &ready.ended {
            let mut end = ProcessEnd { time_ns: clock::boottime_ns(), ..ProcessEnd::default() };
            if self.launched.as_ref().is_some_and(|(launched, _)| launched == pid) {
                match self.ended_command() {
                    Some(Ended::Exited(code)) => end.exit_code = Some(code),
                    Some(Ended::Killed(signal)) => end.signal = Some(signal),
                    None => {}
                }
            }
            session.process_ended(*pid, end);
        }
        self.targets.retain(|(pid, _)| !ready.ended.contains(pid));
    }
}

/// What a wait has brought.
struct Ready {
    signal: bool,
    mark: bool,
    ended: Vec<u32>,
}

/// Each signal makes the stream readable; once `armed`, it ends the process in its handler.
fn watch_signals(armed: &Arc<AtomicBool>) -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal)) {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(armed))?;
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    // A file size limit is to be an error of the write, not the end of the recorder.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    Ok(reader)
}

/// SIGUSR1 makes the stream readable, and is no end of this process from here on, whether or not anything is marked.
fn watch_marks() -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGUSR1, writer)?;
    Ok(reader)
}

/// Whether this process was started with the signal ignored, as nohup(1) does: then it stays so.
pub(super) fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// The next thing that is due.
fn earlier(a: Option<Instant>, b: Instant) -> Instant {
    a.map_or(b, |a| a.min(b))
}

fn open_process(pid: u32) -> Result<OwnedFd> {
    let id = Pid::from_raw(pid.cast_signed());
    let pidfd = id.map(|id| pidfd_open(id, PidfdFlags::empty()));
    match pidfd {
        Some(Ok(pidfd)) => Ok(pidfd),
        Some(Err(error)) if error != rustix::io::Errno::SRCH => {
            Err(error).with_context(|| format!("cannot watch process {pid}"))
        }
        _ => anyhow::bail!("there is no process {pid}; `ps` lists those that run"),
    }
}
