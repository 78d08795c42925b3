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
    collect::{Books, go_on},
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

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Attached>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes them out; nothing is stopped any more.
    pub(super) fn take(&self) -> Option<Box<dyn Attached>> {
        let mut probes = self.lock().take();
        if let Some(probes) = &mut probes {
            probes.hold(false);
        }
        probes
    }
}

/// What the thread works with.
pub(super) struct Grower {
    pub(super) follower: Follower,
    pub(super) probes: Probes,
    pub(super) books: Arc<Books>,
    pub(super) waker: Waker,
    /// Processes that are stopped; ends with the pump.
    pub(super) held: Receiver<u32>,
}

impl Grower {
    /// Has processes stopped from now on, and looks at them until the pump ends.
    pub(super) fn spawn(mut self) -> Result<JoinHandle<()>, TraceError> {
        let probes = self.probes.clone();
        let thread = std::thread::Builder::new().name("ada-grower".to_owned());
        let thread = thread.spawn(move || self.run()).map_err(TraceError::Thread)?;
        probes.lock().iter_mut().for_each(|probes| probes.hold(true));
        Ok(thread)
    }

    fn run(&mut self) {
        while let Ok(pid) = self.held.recv() {
            let _held = Held(pid);
            self.look(pid);
        }
    }

    fn look(&mut self, pid: u32) {
        if self.probes.lock().is_none() {
            return;
        }
        let Some(new) = self.follower.program(pid) else { return };
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
    /// Only after a panic is there anything left.
    fn drop(&mut self) {
        self.probes.lock().iter_mut().for_each(|probes| probes.hold(false));
        self.held.try_iter().for_each(go_on);
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
        skipped: report.functions.iter().filter_map(|id| skipped(*id)).collect(),
    };
    Plan { probes: new.probes.iter().map(report).collect(), ..Plan::default() }
}
