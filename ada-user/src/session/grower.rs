//! The thread that lets a recording grow: it looks at the program that a stopped process is about to begin, attaches what
//! is new in it, and lets the process go on.
//!
//! Invariant: a process that was stopped goes on, whatever becomes of the rest.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Receiver},
    thread::JoinHandle,
};

use super::TraceError;
use crate::{
    backend::{Attached, Waker},
    collect::{Books, Stopped, go_on},
    follow::Follower,
    plan::{Plan, ProbeReport, Skipped},
};

/// The probes of a recording, until they are taken out to be detached.
#[derive(Clone)]
pub(super) struct Probes(Arc<Mutex<Option<Box<dyn Attached>>>>);

impl Probes {
    pub(super) fn new(probes: Option<Box<dyn Attached>>) -> Self {
        Self(Arc::new(Mutex::new(probes)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Attached>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes them out; nothing is stopped any more.
    pub(super) fn take(&self) -> Option<Box<dyn Attached>> {
        self.hold(false);
        self.lock().take()
    }

    pub(super) fn hold(&self, hold: bool) {
        self.lock().iter_mut().for_each(|probes| probes.hold(hold));
    }
}

/// What the thread works with.
pub(super) struct Grower {
    pub(super) follower: Follower,
    pub(super) probes: Probes,
    pub(super) books: Arc<Books>,
    pub(super) waker: Waker,
    /// Processes that are stopped; ends with the pump.
    pub(super) held: Receiver<Stopped>,
    /// Processes that may be stopped while nobody looks yet.
    pub(super) at_risk: Vec<u32>,
}

impl Grower {
    /// Watches the loaders, which needs privileges. Processes are stopped only once somebody looks at them
    /// ([`Probes::hold`]).
    pub(super) fn begin(mut self) -> Self {
        self.watch_loaders();
        self
    }

    /// Looks at those that are stopped until the pump ends.
    pub(super) fn spawn(mut self) -> Result<JoinHandle<()>, TraceError> {
        let thread = std::thread::Builder::new().name("ada-grower".to_owned());
        thread.spawn(move || self.run()).map_err(TraceError::Thread)
    }

    /// Watches the loaders that were met since the last call.
    fn watch_loaders(&mut self) {
        for (path, offset) in self.follower.new_loaders() {
            // Without, what a library of that program has is not recorded; its other functions are.
            let _ = self.probes.lock().as_mut().map(|probes| probes.watch_loader(&path, offset));
        }
    }

    fn run(&mut self) {
        self.at_risk.clear();
        while let Ok(stopped) = self.held.recv() {
            let _held = Held(stopped.pid());
            self.look(stopped);
        }
    }

    fn look(&mut self, stopped: Stopped) {
        if self.probes.lock().is_none() {
            return;
        }
        let new = match stopped {
            Stopped::AtExec(pid) => self.follower.program(pid),
            Stopped::AtLoad(pid) => self.follower.libraries(pid),
        };
        self.watch_loaders();
        let Some(new) = new else { return };
        // The pump has to know how returns are seen before it sees the first call.
        if !self.books.announce(&new, &self.waker) {
            return;
        }
        match self.probes.lock().as_mut().map(|probes| probes.extend(&new)) {
            Some(Ok(refusals)) => {
                let mut new = new;
                refusals.iter().for_each(|refusal| new.refuse(refusal));
                self.books.add(new);
            }
            Some(Err(error)) => self.books.add(refused(&new, &error.to_string())),
            None => {}
        }
    }
}

impl Drop for Grower {
    /// Only after a panic, or if the recording does not come about, is there anything to do.
    fn drop(&mut self) {
        self.probes.hold(false);
        self.at_risk.iter().for_each(|pid| go_on(*pid));
        self.held.try_iter().for_each(|stopped| go_on(stopped.pid()));
    }
}

/// A process that goes on when this is dropped.
struct Held(u32);

impl Drop for Held {
    fn drop(&mut self) {
        go_on(self.0);
    }
}

/// What the manifest says of functions that could not be probed.
fn refused(new: &Plan, why: &str) -> Plan {
    let name = |id| new.functions.iter().find(|function| function.id == id).map(|function| function.name.clone());
    let skipped = |id| name(id).map(|symbol| Skipped { symbol, why: why.to_owned() });
    let report = |report: &ProbeReport| ProbeReport {
        spec: report.spec.clone(),
        functions: Vec::new(),
        excluded: report.excluded,
        nameless: 0,
        skipped: report.functions.iter().filter_map(|id| skipped(*id)).collect(),
    };
    Plan { probes: new.probes.iter().map(report).collect(), ..Plan::default() }
}
