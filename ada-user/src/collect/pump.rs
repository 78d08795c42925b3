//! The thread that moves events from a backend into files until it is told to end.
//!
//! Invariant: what a quiet target did is with the operating system within 100 ms, however little it was.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use super::{demux::Demux, ledger::Ledger, life::Life};
use crate::{
    backend::{AttachError, Losses, Running, Waker},
    clock,
    control::ControlRequest,
    plan::Plan,
};

/// The longest wait for events; the kernel wakes the pump earlier when there are many.
const POLL: Duration = Duration::from_millis(20);
/// Time between flushes, which are also the ticks of the ledger.
const TICK: Duration = Duration::from_millis(40);
/// After so many events in one go there are probably more: do not wait.
const BUSY: usize = 1 << 14;

/// What the pump shares with those who steer it and look on.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// Events delivered so far, lifecycle events included.
    pub(crate) events: AtomicU64,
    /// Set once the probes are gone: deliver what remains and end.
    pub(crate) last: AtomicBool,
    /// Set by the pump when it can no longer write.
    pub(crate) failed: AtomicBool,
    /// The rest, as of the last tick. The pump never waits for it: whoever holds it may be a thread of low priority.
    ledger: Mutex<Ledger>,
    /// What happened to processes up to the ledger's tick and was not yet taken.
    lives: Mutex<Vec<Life>>,
    /// Folders that the ledger, as of its tick, does not have any more and that are to be deleted.
    condemned: Mutex<Vec<u32>>,
    /// Functions that are about to be probed as well.
    news: Mutex<News>,
    /// Set while the pump has not taken note of all of them.
    has_news: AtomicBool,
    /// Tells that the pump took note of some.
    noted: Condvar,
    /// What was added to the recording and not yet taken.
    additions: Mutex<Vec<Plan>>,
}

#[derive(Debug, Default)]
struct News {
    plans: Vec<Plan>,
    /// The pump takes note of nothing any more.
    over: bool,
}

impl Books {
    /// The ledger as of the last tick.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A panic elsewhere does not make the numbers wrong.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what happened to processes since the last call, up to a tick.
    pub(crate) fn take_lives(&self) -> Vec<Life> {
        std::mem::take(&mut *self.lives.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the folders that are to be deleted once a manifest is written by a ledger that is looked at after this.
    pub(crate) fn take_condemned(&self) -> Vec<u32> {
        std::mem::take(&mut *self.condemned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the pump of functions that will be called, and waits until it knows. False if it has ended.
    pub(crate) fn announce(&self, plan: &Plan, waker: &Waker) -> bool {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.plans.push(plan.clone());
        // Release: pairs with the pump's acquire, which then finds the plan under the lock.
        self.has_news.store(true, Ordering::Release);
        waker.wake();
        let unknown = |news: &mut News| !news.plans.is_empty() && !news.over;
        let news = self.noted.wait_while(news, unknown).unwrap_or_else(PoisonError::into_inner);
        !news.over
    }

    /// Notes what was added to the recording.
    pub(crate) fn add(&self, addition: Plan) {
        self.additions.lock().unwrap_or_else(PoisonError::into_inner).push(addition);
    }

    /// Takes what was added since the last call.
    pub(crate) fn take_additions(&self) -> Vec<Plan> {
        std::mem::take(&mut *self.additions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands the pump what was announced; with `over`, nothing more will be taken note of.
    fn take_news(&self, over: bool) -> Vec<Plan> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: under the lock.
        self.has_news.store(false, Ordering::Relaxed);
        news.over |= over;
        self.noted.notify_all();
        std::mem::take(&mut news.plans)
    }

    /// Publishes the ledger if nobody is looking at the last one; the next tick will. True if that was done.
    fn publish(&self, ledger: &Ledger) -> bool {
        match self.ledger.try_lock() {
            Ok(mut published) => published.clone_from(ledger),
            Err(TryLockError::Poisoned(published)) => published.into_inner().clone_from(ledger),
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }
}

/// A backend, where its events go, and the books.
pub(crate) struct Pump<R> {
    running: R,
    demux: Demux,
    books: Arc<Books>,
    losses: Losses,
    ticked: Instant,
    requests: Receiver<ControlRequest>,
}

impl<R: Running> Pump<R> {
    pub(crate) fn new(running: R, demux: Demux, books: Arc<Books>, requests: Receiver<ControlRequest>) -> Self {
        Self { running, demux, books, losses: Losses::default(), ticked: Instant::now(), requests }
    }

    /// Runs until [`Books::last`] is set and everything is on disk.
    ///
    /// Whatever happens, the files are finalised and a failure is in the books.
    pub(crate) fn run(mut self) -> Result<(), AttachError> {
        let served = self.serve();
        let finished = self.finish(served.as_ref().err());
        served.and(finished)
    }

    fn serve(&mut self) -> Result<(), AttachError> {
        let mut busy = false;
        loop {
            if !busy {
                self.running.wait(POLL);
            }
            // Acquire: pairs with the release after the probes were detached, so that their last records are seen.
            let last = self.books.last.load(Ordering::Acquire);
            busy = self.turn(last)? >= BUSY;
            if last {
                return Ok(());
            }
        }
    }

    fn turn(&mut self, last: bool) -> Result<usize, AttachError> {
        // Acquire: see `announce`.
        if self.books.has_news.load(Ordering::Acquire) {
            self.books.take_news(false).iter().for_each(|plan| self.demux.extend(plan));
        }
        let count = self.running.drain(last, &mut self.demux);
        while let Ok(ControlRequest { command, reply }) = self.requests.try_recv() {
            // Whoever asked may be gone.
            let _ = reply.send(self.demux.obey(command, clock::boottime_ns()));
        }
        // Relaxed: a number to look at.
        self.books.events.fetch_add(count as u64, Ordering::Relaxed);
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            self.tick()?;
        }
        Ok(count)
    }

    fn tick(&mut self) -> Result<(), AttachError> {
        self.demux.tick(clock::boottime_ns());
        self.demux.flush();
        self.running.losses(&mut self.losses)?;
        self.demux.note_losses(&self.losses);
        // Relaxed: whoever sees it only ends the recording, and reads the reason under the ledger's lock.
        self.books.failed.store(self.demux.failed(), Ordering::Relaxed);
        self.demux.rotate(clock::boottime_ns());
        self.tell_lives();
        if self.books.publish(self.demux.ledger()) {
            self.tell_condemned();
        }
        Ok(())
    }

    /// After the ledger: whoever takes them finds one that does not have them.
    fn tell_condemned(&mut self) {
        let mut condemned = self.books.condemned.lock().unwrap_or_else(PoisonError::into_inner);
        self.demux.tell_condemned(&mut condemned);
    }

    /// Whoever takes them holds the lock for a moment only, without doing anything else.
    fn tell_lives(&mut self) {
        let mut lives = self.books.lives.lock().unwrap_or_else(PoisonError::into_inner);
        self.demux.tell_lives(&mut lives);
    }

    fn finish(&mut self, failed: Option<&AttachError>) -> Result<(), AttachError> {
        let losses = self.tick();
        self.demux.finish(clock::boottime_ns());
        self.tell_lives();
        let mut ledger = self.demux.ledger().clone();
        if let Some(error) = failed.or(losses.as_ref().err()) {
            ledger.failure.get_or_insert_with(|| error.to_string());
        }
        *self.books.ledger() = ledger;
        self.tell_condemned();
        losses
    }
}

impl<R> Drop for Pump<R> {
    /// Nobody waits for a pump that has ended, not even in a panic.
    fn drop(&mut self) {
        self.books.take_news(true);
    }
}
