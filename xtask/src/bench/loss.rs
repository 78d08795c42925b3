//! The second half of `bench hit`: is every event kept when every core does nothing but call the traced function?
//!
//! Invariant: called × 2 = recorded + lost, or the run is an error: nothing may vanish uncounted.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::fixture::{Fixture, Ran};
use super::tracer::{Place, Seen, Tracer};
use super::{Options, hit, report};

/// A push is emulated, a 5-byte nop becomes a call on newer kernels: the fastest probe there is.
const FUNCTIONS: [&str; 2] = ["f_push", "f_nop"];

/// One recording at full speed.
#[derive(Clone, Debug)]
pub(super) struct Run {
    function: &'static str,
    threads: usize,
    seconds: f64,
    ran: Ran,
    seen: Seen,
    memory: Option<u64>,
}

/// Records on every core but one, and on every core.
pub(super) fn measure(place: &Place, options: &Options) -> Result<Vec<Run>> {
    let cores = std::thread::available_parallelism()?.get();
    let mut runs = Vec::new();
    for function in FUNCTIONS {
        for threads in [cores.saturating_sub(1).max(1), cores] {
            println!("{function} at full speed on {threads} of {cores} cores for {} s", options.loss.as_secs());
            runs.push(run(place, options, function, threads)?);
        }
    }
    Ok(runs)
}

fn run(place: &Place, options: &Options, function: &'static str, threads: usize) -> Result<Run> {
    let mut fixture = Fixture::start(&mut hit::plain(place), function, options.loss, threads)?;
    let running = Tracer::Record.attach(place, &mut fixture, function)?;
    let ran = fixture.go()?;
    let memory = running.peak_memory();
    let seen = running.stop(place)?;
    fixture.end()?;
    let run = Run { function, threads, seconds: options.loss.as_secs_f64(), ran, seen, memory };
    if seen.events + seen.lost != ran.calls * 2 {
        bail!(
            "{} calls, but {} events recorded and {} lost: some vanished uncounted",
            ran.calls,
            seen.events,
            seen.lost
        );
    }
    Ok(run)
}

/// The runs as a table.
pub(super) fn table(runs: &[Run]) -> String {
    let header = ["at full speed", "threads", "s", "calls × 2", "recorded", "lost", "M events/s", "peak memory, MiB"];
    report::table(&header.map(str::to_owned), &runs.iter().map(Run::row).collect::<Vec<_>>())
}

impl Run {
    /// Events that were lost, as ada-trace says.
    pub(super) fn lost(&self) -> u64 {
        self.seen.lost
    }

    /// Threads that called.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    fn rate(&self) -> f64 {
        self.seen.events as f64 / self.seconds / 1e6
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.function.to_owned(),
            self.threads.to_string(),
            format!("{:.0}", self.seconds),
            (self.ran.calls * 2).to_string(),
            self.seen.events.to_string(),
            self.seen.lost.to_string(),
            format!("{:.2}", self.rate()),
            self.memory.map_or_else(String::new, |bytes| (bytes >> 20).to_string()),
        ]
    }

    /// The run as kept in docs/bench.
    pub(super) fn json(&self) -> Value {
        json!({
            "function": self.function, "threads": self.threads, "seconds": self.seconds, "calls": self.ran.calls,
            "ns_per_call": self.ran.ns, "recorded": self.seen.events, "lost": self.seen.lost, "peak_memory": self.memory,
        })
    }
}
