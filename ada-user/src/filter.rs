//! Which calls of the chosen functions a recording leaves out, before they are written.
//!
//! Invariant: a call and its return are kept or left out together.

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::Path,
    time::Duration,
};

use ada_format::wire;

use crate::plan::{Function, Plan, ProbeReport, Returns, Skipped};

/// What is left out. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Only these threads are recorded, by their ids in the tracer's pid namespace; empty: all.
    pub threads: Vec<u32>,
    /// Only calls that took at least that long.
    pub min_duration: Option<Duration>,
    /// One call in so many, chosen at random.
    pub sample: Option<NonZeroU32>,
    /// A function that is called more often, per second, is muted for the rest of the recording.
    pub max_rate: Option<NonZeroU64>,
    /// Only events at a call depth below this.
    pub max_depth: Option<NonZeroU32>,
}

/// Why a recording cannot be filtered as asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FilterError {
    /// A thread is not there.
    #[error("thread {tid} belongs to none of the targets; `ls /proc/{pid}/task` lists the threads of process {pid}")]
    NoSuchThread {
        /// The thread.
        tid: u32,
        /// One of the targets.
        pid: u32,
    },
    /// A minimum duration, and nothing that could be timed.
    #[error(
        "--min-duration times calls by their returns, and none can be recorded here ({why}); leave it out, or try --returns ret"
    )]
    Untimed {
        /// Why the returns of one of the functions are not recorded.
        why: &'static str,
    },
}

impl Filters {
    /// Checks that each of the threads belongs to one of the processes `pids`.
    ///
    /// # Errors
    /// [`FilterError::NoSuchThread`].
    pub fn check_threads(&self, pids: &[u32]) -> Result<(), FilterError> {
        let is_there = |tid: &u32| pids.iter().any(|pid| Path::new(&format!("/proc/{pid}/task/{tid}")).exists());
        match (self.threads.iter().find(|tid| !is_there(tid)), pids) {
            (Some(tid), [pid, ..]) => Err(FilterError::NoSuchThread { tid: *tid, pid: *pid }),
            _ => Ok(()),
        }
    }

    /// Moves what cannot be timed from the plan's functions to those it skips, if there is a minimum duration.
    ///
    /// # Errors
    /// [`FilterError::Untimed`] if nothing would be left.
    pub fn leave_out_untimed(&self, plan: &mut Plan) -> Result<(), FilterError> {
        if self.min_duration.is_none() {
            return Ok(());
        }
        let untimed: Vec<Function> = plan.functions.extract_if(.., |f| !f.returns.are_recorded()).collect();
        for function in &untimed {
            let Returns::NotRecorded(why) = function.returns else { continue };
            if plan.functions.is_empty() {
                return Err(FilterError::Untimed { why });
            }
            plan.probes.iter_mut().for_each(|report| skip(report, function, why));
        }
        Ok(())
    }

    /// The part that the kernel programs do.
    pub(crate) fn wire(&self, plan: &Plan) -> wire::Filter {
        let min_duration = self.min_duration.unwrap_or_default().as_nanos();
        let returns = plan.functions.iter().any(|function| function.returns.are_recorded());
        let by_call = self.min_duration.is_some() || self.sample.is_some() || self.max_rate.is_some();
        wire::Filter {
            min_duration_ns: u64::try_from(min_duration).unwrap_or(u64::MAX),
            max_rate: self.max_rate.map_or(0, NonZeroU64::get),
            sample: self.sample.map_or(0, NonZeroU32::get),
            threads: u32::from(!self.threads.is_empty()),
            frames: u32::from(returns && by_call),
            any: u32::from(by_call || !self.threads.is_empty()),
        }
    }
}

fn skip(report: &mut ProbeReport, function: &Function, why: &str) {
    let before = report.functions.len();
    report.functions.retain(|id| *id != function.id);
    if report.functions.len() < before {
        let why = format!("its calls cannot be timed for --min-duration: {why}");
        report.skipped.push(Skipped { symbol: function.name.clone(), why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{FunctionId, ModuleId};

    fn function(index: u32, returns: Returns) -> Function {
        Function {
            id: FunctionId::new(ModuleId(0), index),
            name: format!("f{index}"),
            demangled: None,
            offset: 0,
            address: 0,
            size: 1,
            probe_offset: 0,
            first_instruction: String::new(),
            returns,
        }
    }

    fn plan(functions: Vec<Function>) -> Plan {
        let ids = functions.iter().map(|function| function.id).collect();
        let report = ProbeReport { spec: "exe:f*".to_owned(), functions: ids, skipped: Vec::new() };
        Plan { modules: Vec::new(), functions, probes: vec![report] }
    }

    fn timed() -> Filters {
        Filters { min_duration: Some(Duration::from_micros(50)), ..Filters::default() }
    }

    #[test]
    fn what_cannot_be_timed_is_skipped() {
        let mut plan = plan(vec![function(0, Returns::NotRecorded("it jumps")), function(1, Returns::Probe)]);
        let all = plan.clone();
        Filters::default().leave_out_untimed(&mut plan).unwrap();
        assert_eq!(plan, all);
        timed().leave_out_untimed(&mut plan).unwrap();
        assert_eq!(plan.functions, [function(1, Returns::Probe)]);
        assert_eq!(plan.probes[0].functions, [FunctionId::new(ModuleId(0), 1)]);
        let [skipped] = &plan.probes[0].skipped[..] else { panic!("{:?}", plan.probes) };
        assert!(skipped.symbol == "f0" && skipped.why.ends_with("it jumps"), "{skipped:?}");
    }

    #[test]
    fn nothing_to_time_is_refused() {
        let mut plan = plan(vec![function(0, Returns::NotRecorded("it jumps"))]);
        assert_eq!(timed().leave_out_untimed(&mut plan), Err(FilterError::Untimed { why: "it jumps" }));
    }

    #[test]
    fn threads_of_other_processes_are_refused() {
        let own = std::process::id();
        let filters = |tid| Filters { threads: vec![tid], ..Filters::default() };
        assert_eq!(filters(own).check_threads(&[own]), Ok(()));
        assert_eq!(filters(1).check_threads(&[own]), Err(FilterError::NoSuchThread { tid: 1, pid: own }));
    }

    #[test]
    fn frames_are_kept_only_where_returns_have_to_follow_calls() {
        let (with, without) = (plan(vec![function(0, Returns::Probe)]), plan(vec![]));
        let sampled = Filters { sample: NonZeroU32::new(3), ..Filters::default() };
        assert_eq!(sampled.wire(&with), wire::Filter { sample: 3, frames: 1, any: 1, ..wire::Filter::NONE });
        assert_eq!(sampled.wire(&without).frames, 0);
        assert_eq!(timed().wire(&with).min_duration_ns, 50_000);
        assert_eq!(Filters::default().wire(&with), wire::Filter::NONE);
        let one_thread = Filters { threads: vec![7], ..Filters::default() };
        assert_eq!(one_thread.wire(&with), wire::Filter { threads: 1, any: 1, ..wire::Filter::NONE });
    }
}
