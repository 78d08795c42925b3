//! The thread that listens at a session's socket and passes on what clients ask.
//!
//! Invariant: no client keeps another waiting by what it does not say, however many say nothing: the one that has been silent
//! longest gives way. All wait while one is answered: for the pump, and that not for ever, and while a new trigger's functions
//! are looked up, which is done in this thread.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::{
    Control, ControlError,
    connection::Connection,
    protocol::{Reply, Wish},
    socket::Listener,
};

/// Clients at the same time.
const MAX_CLIENTS: usize = 8;
/// Who has said nothing for so long, and takes no answer, gives way to another one; until then, that one waits.
const SILENCE: Duration = Duration::from_secs(1);
/// Time until somebody is let in again after that has failed.
const BREATHER: Duration = Duration::from_millis(50);

/// Listens until it is dropped, which also removes the socket.
#[derive(Debug)]
pub struct ControlServer {
    thread: Option<JoinHandle<()>>,
    end: Arc<OwnedFd>,
}

impl ControlServer {
    /// Listens in the session folder `dir`, which this process has locked; to be called once privileges are dropped, as the
    /// socket is this user's. Commands go to `control`; the wish to end the recording sets `stop`.
    ///
    /// # Errors
    /// [`ControlError::Bind`].
    pub fn start(dir: &Path, control: Control, stop: Arc<AtomicBool>) -> Result<Self, ControlError> {
        let failed = |source| ControlError::Bind { path: dir.to_owned(), source };
        let listener = Listener::bind(dir).map_err(failed)?;
        let end = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
        let end = Arc::new(end);
        let mut service =
            Service { listener, end: Arc::clone(&end), clients: Vec::new(), full_until: None, control, stop };
        let thread = std::thread::Builder::new().name("ada-control".to_owned());
        let thread = thread.spawn(move || service.run()).map_err(failed)?;
        Ok(Self { thread: Some(thread), end })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // An eventfd's counter cannot overflow by one, and a panic of the thread has been told.
        let _ = rustix::io::write(&*self.end, &1u64.to_ne_bytes());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Service {
    listener: Listener,
    end: Arc<OwnedFd>,
    clients: Vec<Connection>,
    /// Nobody is let in before that.
    full_until: Option<Instant>,
    control: Control,
    stop: Arc<AtomicBool>,
}

impl Service {
    fn run(&mut self) {
        while let Some(ready) = self.wait() {
            let (control, stop) = (&self.control, &self.stop);
            let mut clients = ready.clients.into_iter();
            self.clients.retain_mut(|client| match clients.next() {
                Some(true) => client.turn(&mut |line| answer(line, control, stop)),
                _ => true,
            });
            // Last: who has just spoken is not silent.
            if ready.newcomer && self.has_room() {
                self.let_in();
            }
        }
    }

    /// What there is to do; `None` once it is over.
    fn wait(&self) -> Option<Ready> {
        let of = |client| {
            let wanted = if Connection::is_writing(client) { PollFlags::OUT } else { PollFlags::IN };
            PollFd::from_borrowed_fd(client.stream.as_fd(), wanted)
        };
        let closed_for = self.closed_for();
        let newcomers = if closed_for.is_none() { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(&*self.end, PollFlags::IN), PollFd::new(&self.listener.socket, newcomers)];
        fds.extend(self.clients.iter().map(of));
        let timeout = closed_for.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Some(Ready::default()),
            Err(_) => return None,
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        if ready.next() == Some(true) {
            return None;
        }
        Some(Ready { newcomer: ready.next() == Some(true), clients: ready.collect() })
    }

    /// For how long nobody is let in.
    fn closed_for(&self) -> Option<Duration> {
        let until = self.full_until.filter(|_| self.clients.len() >= MAX_CLIENTS)?;
        Some(until.saturating_duration_since(Instant::now())).filter(|time| !time.is_zero())
    }

    /// Whether there is a place for one more; there is none while all have said something lately.
    fn has_room(&mut self) -> bool {
        let until = self.longest_silent().map(|(_, heard)| heard + SILENCE);
        self.full_until = until.filter(|until| *until > Instant::now());
        self.full_until.is_none()
    }

    /// Who has to give way if one more comes, and since when nothing was heard of it.
    fn longest_silent(&self) -> Option<(usize, Instant)> {
        let heard = self.clients.iter().map(|client| client.heard).enumerate();
        heard.min_by_key(|(_, heard)| *heard).filter(|_| self.clients.len() >= MAX_CLIENTS)
    }

    fn let_in(&mut self) {
        match self.listener.accept() {
            Ok(Some(stream)) => {
                // Only now: nobody goes for one that is not let in.
                if let Some((index, _)) = self.longest_silent() {
                    self.clients.remove(index);
                }
                self.clients.push(Connection::new(stream));
            }
            Ok(None) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // Too many open files, say: whoever waits stays, and the next poll would return at once.
            Err(_) => std::thread::sleep(BREATHER),
        }
    }
}

#[derive(Default)]
struct Ready {
    newcomer: bool,
    /// In the order of the clients.
    clients: Vec<bool>,
}

fn answer(line: &[u8], control: &Control, stop: &AtomicBool) -> Reply {
    match Wish::parse(line) {
        Ok(Wish::Command(command)) => control.ask(command),
        Ok(Wish::AddTrigger(trigger)) => control.add_trigger(*trigger),
        Ok(Wish::Stop) => {
            // Relaxed: whoever sees it only ends the recording.
            stop.store(true, Ordering::Relaxed);
            Reply::Stopping
        }
        Err(reply) => reply,
    }
}
